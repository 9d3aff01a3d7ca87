"""What a token says, and the only form in which it may be said."""

import re
import secrets
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from autoglm.auth.scopes import MAX_SCOPES, flaw
from autoglm.core.address import MAX_ADDRESS, MEMBER_PATTERN

_LAST_S = 253_402_300_799  # the year 9999
_is_subject = re.compile(rf"(?:{MEMBER_PATTERN[1:-1]}|site:[A-Za-z0-9][A-Za-z0-9._-]{{0,63}})").fullmatch

Name = Annotated[str, Meta(min_length=1, max_length=128)]
Seconds = Annotated[int, Meta(ge=0, le=_LAST_S)]
Thumbprint = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_-]{43}\Z")]
JwtId = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9._~-]{16,128}\Z")]
PolicyVersion = Annotated[int, Meta(ge=0, le=2**53 - 1)]


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """Times in milliseconds of the Unix epoch; on the wire they are whole seconds."""

    issuer: str
    subject: str
    """The holder's address: `device:press-7`, `user:alice`, `site:ward-3`."""
    audience: str
    """The name of the hub's site."""
    issued_at_ms: int
    not_before_ms: int | None = None
    ends_at_ms: int
    jti: str
    scopes: tuple[str, ...]
    jkt: str | None
    """Thumbprint of the key whose proof must come along. None: a bearer token, which only a shared secret may make."""
    policy_version: int
    """Of the policy snapshot by which it was issued; 0 without one."""
    kid: str = ""
    """Of the key that signed it: no claim, but found out by verifying."""
    is_shared_secret: bool = False
    """True: whoever can verify it could have made it."""
    limit: tuple[str, ...] | None = None
    """What its holder may do at most, roles included, as its issuer's pin says; None for this hub's own tokens."""


class _Confirmation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """RFC 7800; RFC 9449, section 6.1."""

    jkt: Thumbprint


class _Wire(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """RFC 7519, section 4.1; RFC 9068, section 2.2. `pv` is our own: the policy version."""

    iss: Name
    sub: Annotated[str, Meta(max_length=MAX_ADDRESS)]
    aud: Name
    iat: Seconds
    exp: Seconds
    jti: JwtId
    scope: str
    cnf: _Confirmation | UnsetType = UNSET
    pv: PolicyVersion | UnsetType = UNSET
    nbf: Seconds | UnsetType = UNSET


def new_jti() -> str:
    return secrets.token_urlsafe(16)


def payload_of(claims: Claims) -> dict[str, object]:
    """Parts of a second are cut off."""
    payload: dict[str, object] = {
        "iss": claims.issuer, "sub": claims.subject, "aud": claims.audience, "iat": claims.issued_at_ms // 1000,
        "exp": claims.ends_at_ms // 1000, "jti": claims.jti, "scope": " ".join(claims.scopes),
        "cnf": {"jkt": claims.jkt}, "pv": claims.policy_version,
    }  # fmt: skip
    if claims.not_before_ms is not None:
        payload["nbf"] = claims.not_before_ms // 1000
    return payload


def claims_of(payload: dict[str, object], kid: str, *, is_shared_secret: bool = False) -> Claims:
    """is_shared_secret: then `cnf` and `pv` may be left out. Raises ValueError, which names no value."""
    wire = msgspec.convert(payload, _Wire)
    if not is_shared_secret and (wire.cnf is UNSET or wire.pv is UNSET):
        raise ValueError("cnf and pv are wanted")
    if wire.exp <= wire.iat:
        raise ValueError("exp must be later than iat")
    if _is_subject(wire.sub) is None:
        raise ValueError("sub must be an address such as 'device:press-7'")
    return Claims(
        issuer=wire.iss, subject=wire.sub, audience=wire.aud, issued_at_ms=wire.iat * 1000,
        not_before_ms=None if isinstance(wire.nbf, UnsetType) else wire.nbf * 1000, ends_at_ms=wire.exp * 1000,
        jti=wire.jti, scopes=_scopes(wire.scope), jkt=None if isinstance(wire.cnf, UnsetType) else wire.cnf.jkt,
        policy_version=0 if isinstance(wire.pv, UnsetType) else wire.pv, kid=kid, is_shared_secret=is_shared_secret,
    )  # fmt: skip


def _scopes(scope: str) -> tuple[str, ...]:
    """Unknown ones are refused, not ignored: a word that means nothing today may mean much in a later version."""
    scopes = tuple(scope.split(" "))
    if len(scopes) > MAX_SCOPES or len(set(scopes)) != len(scopes):
        raise ValueError(f"scope must be at most {MAX_SCOPES} different scopes with one blank between them")
    if (wrong := flaw(scopes)) is not None:
        raise ValueError(wrong)
    return scopes
