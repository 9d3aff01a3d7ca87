"""Good proofs for the tests, and what one run of a hub has to verify them."""

from typing import Any

from auth.tokens.forge import DAY_MS, DEVICE, NOW_MS, PINS, SITE, SKEW_MS, Json
from autoglm.auth.tokens.nonce import Nonces
from autoglm.auth.tokens.proof import make_proof, sha256_text
from autoglm.auth.tokens.replay import ReplayMemory
from autoglm.auth.tokens.request import RequestVerifier
from autoglm.auth.tokens.shared_secret import SharedSecret
from autoglm.auth.tokens.signing import SigningKey
from autoglm.auth.tokens.verifier import TokenVerifier

ORIGIN = "https://hub.example:8600"
PATH = "/api/messages"
WINDOW_MS = 120_000


def proof_header(**changes: Any) -> Json:
    return {"alg": "Ed25519", "typ": "dpop+jwt", "jwk": DEVICE.public.jwk} | changes


def proof_payload(of: str, **changes: Any) -> Json:
    return {
        "jti": "jti-of-this-proof", "htm": "POST", "htu": ORIGIN + PATH, "iat": NOW_MS // 1000,
        "ath": sha256_text(of.encode()), "bh": sha256_text(b"body"),
    } | changes  # fmt: skip


def proof(of: str, key: SigningKey = DEVICE, **changes: Any) -> bytes:
    good: Json = {"method": "POST", "url": ORIGIN + PATH, "token": of, "body": b"body", "now_ms": NOW_MS}
    return make_proof(key, **good | changes).encode()


class Monotonic:
    """Seconds that the test moves."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def a_run(
    started_ms: int = NOW_MS - 3_600_000, *, monotonic: Monotonic | None = None,
    shared_secret: SharedSecret | None = None, max_entries: int = 1000,
) -> RequestVerifier:  # fmt: skip
    """All that one run of the hub has; by default it has been up for an hour."""
    return RequestVerifier(
        TokenVerifier(PINS, audience=SITE, skew_ms=SKEW_MS, max_ttl_ms=DAY_MS),
        ReplayMemory(window_ms=WINDOW_MS, skew_ms=SKEW_MS, max_entries=max_entries),
        Nonces(60.0, monotonic or Monotonic()),
        origins=frozenset({ORIGIN}), started_ms=started_ms, window_ms=WINDOW_MS, shared_secret=shared_secret,
    )  # fmt: skip
