"""Proofs of possession: the holder of a token signs each request with the key that the token is bound to.

A JWS of its own. Header: exactly `alg`, `typ`, `jwk`. Beyond RFC 9449 (DPoP) it must name the body's hash (`bh`), so
that nobody between can exchange the body.
"""

import hashlib
import hmac
from typing import Annotated, NamedTuple

import msgspec
from msgspec import UNSET, Meta, UnsetType

from autoglm.auth.tokens.claims import JwtId, Seconds, new_jti
from autoglm.auth.tokens.compact import decode_base64url, encode_base64url, read
from autoglm.auth.tokens.public_key import PublicKey
from autoglm.auth.tokens.signing import SigningKey
from autoglm.auth.tokens.target import MAX_URL, Target
from autoglm.core.errors import InvalidField, TokenRefused

TYPE = "dpop+jwt"
_MEMBERS = (frozenset({"alg", "typ", "jwk"}),)

Sha256 = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_-]{43}\Z")]
"""As base64url."""


class _Wire(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    jti: JwtId
    htm: Annotated[str, Meta(min_length=1, max_length=32)]
    htu: Annotated[str, Meta(min_length=1, max_length=MAX_URL)]
    iat: Seconds
    ath: Sha256
    bh: Sha256
    nonce: Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_-]{1,128}\Z")] | UnsetType = UNSET


class VerifiedProof(NamedTuple):
    jkt: str
    jti: str
    body_sha256: bytes
    """Of the body that the proof is for; compare when the body is there, by `body_matches`."""
    iat_ms: int
    nonce: str | None


def make_proof(
    key: SigningKey, *, method: str, url: str, token: str, body: bytes = b"", now_ms: int, nonce: str | None = None,
    jti: str | None = None,
) -> str:  # fmt: skip
    """For one request, now. url: as it is called; for a connection, the hub's audience. jti: a fresh one if absent."""
    payload: dict[str, object] = {
        "jti": jti or new_jti(), "htm": method, "htu": url.partition("#")[0].partition("?")[0], "iat": now_ms // 1000,
        "ath": sha256_text(token.encode()), "bh": sha256_text(body),
    }  # fmt: skip
    if nonce is not None:
        payload["nonce"] = nonce
    return key.compact({"typ": TYPE, "jwk": key.public.jwk}, payload)


def verify_proof(
    proof: bytes, *, target: Target, token: bytes, jkt: str, now_ms: int, skew_ms: int, window_ms: int
) -> VerifiedProof:  # fmt: skip
    """What a good proof says. Raises TokenRefused. Its nonce, and whether it was used before, are the caller's to ask.

    jkt: of the token's `cnf`. Good is `iat` from `now_ms - window_ms` to `now_ms + skew_ms`.
    """
    compact = read(proof, what="proof", algorithm="Ed25519", typ=TYPE, members=_MEMBERS)
    try:
        public_key = PublicKey.from_jwk(compact.header["jwk"])
        wire = msgspec.convert(compact.payload, _Wire)
        body_sha256 = decode_base64url(wire.bh.encode())
    except (InvalidField, ValueError):
        raise TokenRefused("malformed", "proof") from None
    # All that is cheap comes before the signature.
    if not hmac.compare_digest(public_key.thumbprint, jkt):
        raise TokenRefused("wrong_key", "proof")
    if not target.is_named_by(wire.htm, wire.htu):
        raise TokenRefused("wrong_request", "proof")
    if not hmac.compare_digest(wire.ath, sha256_text(token)):
        raise TokenRefused("wrong_token", "proof")
    iat_ms = wire.iat * 1000
    if iat_ms < now_ms - window_ms:
        raise TokenRefused("expired", "proof")
    if iat_ms > now_ms + skew_ms:
        raise TokenRefused("not_yet", "proof")
    if not public_key.has_signed(compact.signing_input, compact.signature):
        raise TokenRefused("bad_signature", "proof")
    nonce = None if isinstance(wire.nonce, UnsetType) else wire.nonce
    return VerifiedProof(public_key.thumbprint, wire.jti, body_sha256, iat_ms, nonce)


def body_matches(body_sha256: bytes, body: bytes) -> bool:
    return hmac.compare_digest(hashlib.sha256(body).digest(), body_sha256)


def sha256_text(data: bytes) -> str:
    """As base64url."""
    return encode_base64url(hashlib.sha256(data).digest())
