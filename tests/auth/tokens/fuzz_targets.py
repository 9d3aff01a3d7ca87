"""What fuzzers call: bytes of any kind, wherever a stranger's bytes are read. Only TokenRefused may come of them."""

import contextlib

from auth.tokens.forge import DAY_MS, DEVICE, HUB, NOW_MS, PINS, SITE, SKEW_MS, header, payload, signed, token
from auth.tokens.runs import ORIGIN, PATH, WINDOW_MS, a_run, proof_header, proof_payload
from autoglm.auth.tokens.challenge import Challenge, is_password, parse_password, password
from autoglm.auth.tokens.proof import verify_proof
from autoglm.auth.tokens.shared_secret import SharedSecret
from autoglm.auth.tokens.target import RequestTarget
from autoglm.auth.tokens.token import verify
from autoglm.core.errors import TokenRefused

_TOKEN = token()
_TARGET = RequestTarget("POST", PATH, frozenset({ORIGIN}))
_SHARED = SharedSecret(bytes(range(64)), "shared")


def fuzz_token(data: bytes) -> None:
    """data: a token, a proof, a password; and, signed by the right key so that it is looked into, their JSON."""
    _as_token(data)
    _as_token(signed(header(), data))
    _as_token(signed(data, payload()))
    _as_proof(data)
    _as_proof(signed(proof_header(), data, DEVICE))
    _as_proof(signed(data, proof_payload(_TOKEN), DEVICE))
    _as_connection(data)
    with contextlib.suppress(TokenRefused):
        _SHARED.verify(data, audience=SITE, now_ms=NOW_MS, skew_ms=SKEW_MS, max_ttl_ms=DAY_MS)


def _as_token(compact: bytes) -> None:
    with contextlib.suppress(TokenRefused):
        claims = verify(compact, PINS, audience=SITE, now_ms=NOW_MS, skew_ms=SKEW_MS, max_ttl_ms=DAY_MS)
        assert claims.kid == HUB.kid
        assert claims.audience == claims.issuer == SITE
        "".join((claims.subject, claims.jti, *claims.scopes)).encode()  # can be written down


def _as_proof(compact: bytes) -> None:
    with contextlib.suppress(TokenRefused):
        found = verify_proof(
            compact, target=_TARGET, token=_TOKEN.encode(), jkt=DEVICE.kid, now_ms=NOW_MS, skew_ms=SKEW_MS,
            window_ms=WINDOW_MS,
        )  # fmt: skip
        assert found.jkt == DEVICE.kid
        assert len(found.body_sha256) == 32


def _as_connection(data: bytes) -> None:
    run = a_run()
    if is_password(data):
        with contextlib.suppress(TokenRefused):
            assert password(*(part.decode("latin-1") for part in parse_password(data))).encode("latin-1") == data
    with contextlib.suppress(TokenRefused):
        run.verify_password(data, NOW_MS)
    with contextlib.suppress(TokenRefused):
        run.verify_answer(data, data, Challenge("MQTT"), NOW_MS)
    with contextlib.suppress(TokenRefused):
        run.verify(data, data, "POST", PATH, NOW_MS)
    with contextlib.suppress(TokenRefused):
        run.verify(b"DPoP " + _TOKEN.encode(), data, "POST", PATH, NOW_MS)


SEEDS = (
    _TOKEN.encode(), signed(proof_header(), proof_payload(_TOKEN), DEVICE), b"", b".", b"e30.e30.AA", b"{}",
    b'{"a":1,"a":1}',
    _TOKEN.encode() + b"~" + _TOKEN.encode(),
)  # fmt: skip
