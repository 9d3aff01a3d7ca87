"""Access tokens: a JWS that says who may do what at which hub until when, bound to the key of its holder.

Header: exactly `alg`, `kid`, `typ`. Sources: RFC 9068 (`at+jwt`), RFC 7800 (`cnf`), RFC 8725 (good practice).
"""

import msgspec

from autoglm.auth.scopes import common
from autoglm.auth.tokens.claims import Claims, claims_of, payload_of
from autoglm.auth.tokens.compact import MAX_BYTES, read
from autoglm.auth.tokens.limit import Limit
from autoglm.auth.tokens.pins import Pin, Pins
from autoglm.auth.tokens.signing import SigningKey
from autoglm.core.errors import InvalidField, TokenRefused

TYPE = "at+jwt"
_MEMBERS = (frozenset({"alg", "kid", "typ"}),)


def issue(key: SigningKey, claims: Claims) -> str:
    """A token of these claims, in whole seconds. Raises InvalidField for what no hub would take."""
    payload = payload_of(claims)
    try:
        claims_of(payload, key.kid)
    except ValueError as error:
        raise InvalidField("token", str(error)) from None
    token = key.compact({"kid": key.kid, "typ": TYPE}, payload)
    if len(token) > MAX_BYTES:
        raise InvalidField("token", f"it has {len(token)} bytes, and {MAX_BYTES} are the limit; give fewer scopes")
    return token


def verify(token: bytes, pins: Pins, *, audience: str, now_ms: int, skew_ms: int, max_ttl_ms: int) -> Claims:
    """What a good token says. Raises TokenRefused. Whether it or its holder was revoked is the caller's to ask.

    skew_ms: by which the clock of the issuer may differ. max_ttl_ms: the longest time from `iat` to `exp`.
    """
    claims, pin = verified(token, pins, audience=audience, max_ttl_ms=max_ttl_ms)
    check_times(claims, pin, now_ms, skew_ms)
    return claims


def verified(token: bytes, pins: Pins, *, audience: str, max_ttl_ms: int) -> tuple[Claims, Pin]:
    """All but the times, which change while a token is in use, and the key that signed it. Raises TokenRefused."""
    compact = read(token, what="token", algorithm="Ed25519", typ=TYPE, members=_MEMBERS)
    pin = pins.get(compact.header["kid"])
    if not pin.public_key.has_signed(compact.signing_input, compact.signature):
        raise TokenRefused("bad_signature")
    try:
        claims = claims_of(compact.payload, pin.kid)
    except ValueError:
        raise TokenRefused("malformed") from None
    check_bounds(claims, pin.issuer, audience, max_ttl_ms)
    return claims if pin.limit is None else _limited(claims, pin.limit), pin


def _limited(claims: Claims, limit: Limit) -> Claims:
    """What counts of it here: scopes beyond the limit are cut off. Raises TokenRefused for an address beyond it."""
    if not limit.speaks_for(claims.subject):
        raise TokenRefused("wrong_subject")
    return msgspec.structs.replace(claims, scopes=common(claims.scopes, limit.scopes), limit=limit.scopes)


def check_bounds(claims: Claims, issuer: str, audience: str, max_ttl_ms: int) -> None:
    """Raises TokenRefused."""
    if claims.issuer != issuer:
        raise TokenRefused("wrong_issuer")
    if claims.audience != audience:
        raise TokenRefused("wrong_audience")
    if claims.ends_at_ms - claims.issued_at_ms > max_ttl_ms:
        raise TokenRefused("too_long_lived")


def check_times(claims: Claims, pin: Pin | None, now_ms: int, skew_ms: int) -> None:
    """pin: of the key that signed it, which may end as well. Raises TokenRefused."""
    if pin is not None:
        pin.check(now_ms)
    if now_ms - skew_ms >= claims.ends_at_ms:
        raise TokenRefused("expired")
    if now_ms + skew_ms < max(claims.issued_at_ms, claims.not_before_ms or 0):
        raise TokenRefused("not_yet")
