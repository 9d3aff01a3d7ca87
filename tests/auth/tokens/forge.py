"""Good tokens for the tests, and the means to make bad ones that are signed all the same."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from autoglm.auth.tokens.claims import Claims
from autoglm.auth.tokens.compact import encode_base64url
from autoglm.auth.tokens.pins import Pin, Pins
from autoglm.auth.tokens.signing import SigningKey
from autoglm.auth.tokens.token import issue, verify
from autoglm.core.errors import TokenRefused

SITE = "ward-3"
NOW_MS = 1_790_000_000_000
TTL_MS = 900_000
SKEW_MS = 60_000
DAY_MS = 86_400_000
# The same in each process, as names of tests are made of them.
HUB, DEVICE, STRANGER = (SigningKey(Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)) for seed in (1, 2, 3))
PINS = Pins([Pin(HUB.public, SITE)])

Json = dict[str, Any]


def claims(**changes: Any) -> Claims:
    good: Json = {
        "issuer": SITE, "subject": "device:press-7", "audience": SITE, "issued_at_ms": NOW_MS,
        "ends_at_ms": NOW_MS + TTL_MS, "jti": "jti-of-this-token", "scopes": ("send:message", "model:use:glm-*"),
        "jkt": DEVICE.kid, "policy_version": 7,
    }  # fmt: skip
    return Claims(**good | changes)


def token(**changes: Any) -> str:
    return issue(HUB, claims(**changes))


def header(**changes: Any) -> Json:
    return {"alg": "Ed25519", "kid": HUB.kid, "typ": "at+jwt"} | changes


def payload(**changes: Any) -> Json:
    return {
        "iss": SITE, "sub": "device:press-7", "aud": SITE, "iat": NOW_MS // 1000, "exp": (NOW_MS + TTL_MS) // 1000,
        "jti": "jti-of-this-token", "scope": "send:message", "cnf": {"jkt": DEVICE.kid}, "pv": 7,
    } | changes  # fmt: skip


def without(members: Json, name: str) -> Json:
    return {key: value for key, value in members.items() if key != name}


def as_json(part: Json | bytes) -> bytes:
    return part if isinstance(part, bytes) else json.dumps(part).encode()


def signed(head: Json | bytes, body: Json | bytes, key: SigningKey = HUB) -> bytes:
    """A JWS whose signature is right, whatever its parts say."""
    text = f"{encode_base64url(as_json(head))}.{encode_base64url(as_json(body))}"
    return f"{text}.{encode_base64url(key.sign(text.encode()))}".encode()


def resigned(first: bytes, second: bytes, key: SigningKey = HUB) -> bytes:
    """The same of parts that are encoded already, well or not."""
    text = first + b"." + second
    return text + b"." + encode_base64url(key.sign(text)).encode()


def stray_bits(part: bytes) -> bytes:
    """The same bytes, with another last letter: its lowest bits are not used."""
    letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    changed = part[:-1] + letters[letters.index(part[-1:]) + 1 :][:1]
    assert len(part) % 4 != 0
    return changed


def padded(members: bytes) -> bytes:
    """base64url of JSON, made long enough to have bits that are not used."""
    while len(members) % 3 == 0:
        members = b" " + members
    return encode_base64url(members).encode()


def spliced(members: bytes, extra: bytes) -> bytes:
    """With these members before its own."""
    return b"{" + extra + b"," + members[1:]


def check(compact: bytes, *, pins: Pins = PINS, now_ms: int = NOW_MS) -> Claims:
    return verify(compact, pins, audience=SITE, now_ms=now_ms, skew_ms=SKEW_MS, max_ttl_ms=DAY_MS)


def refusal(call: Callable[[], object]) -> str:
    """Why it is refused."""
    with pytest.raises(TokenRefused) as raised:
        call()
    return raised.value.reason


def token_refusal(compact: bytes, **circumstances: Any) -> str:
    return refusal(lambda: check(compact, **circumstances))
