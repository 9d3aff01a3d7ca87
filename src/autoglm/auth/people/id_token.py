"""Verifies an OpenID provider's ID token. Pure, apart from the time.

Sources: OpenID Connect Core 1.0, section 3.1.3.7; RFC 8725, section 3 (algorithms fixed, no `none`, no shared secrets).
"""

import base64
import hmac
import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from autoglm.core.errors import LoginRefused

LEEWAY_S = 60
_MAX_TIME_S = 2**40
_MAX_TOKEN = 32_768
_KEY_TYPES = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}

Claims = dict[str, Any]
Jwk = dict[str, Any]


def header_of(token: str) -> tuple[str, str | None]:
    """(alg, kid) as the token claims. Raises LoginRefused."""
    if len(token) > _MAX_TOKEN or token.count(".") != 2:
        raise LoginRefused
    header = json_object(_decoded(token.split(".", 1)[0]))
    alg, kid = header.get("alg"), header.get("kid")
    if not isinstance(alg, str) or not (kid is None or isinstance(kid, str)) or "crit" in header:
        raise LoginRefused
    return alg, kid


def key_for(keys: Sequence[Jwk], alg: str, kid: str | None) -> Jwk | None:
    """The one key that may have made this signature; None when there is none, or more than one.

    The token's own `jwk`, `jku` and `x5u` are never looked at, and no key is tried that the `kid` does not name.
    """
    fitting = [
        key
        for key in keys
        if key.get("kty") == _KEY_TYPES.get(alg[:2]) and key.get("use", "sig") == "sig" and key.get("alg", alg) == alg
        and (kid is None or key.get("kid") == kid)
    ]  # fmt: skip
    return fitting[0] if len(fitting) == 1 else None


def verified_claims(token: str, key: Jwk, alg: str) -> Claims:
    """Raises LoginRefused when the signature is not this key's."""
    from joserfc import jws
    from joserfc.errors import JoseError
    from joserfc.jwk import import_key

    try:
        signed = jws.deserialize_compact(token, import_key(key), algorithms=[alg])
    except (JoseError, ValueError, TypeError, KeyError):  # a hostile key provokes more than JoseErrors
        raise LoginRefused from None
    return json_object(signed.payload)


def check_claims(claims: Claims, *, issuer: str, client_id: str, nonce: str | None, now_ms: int) -> str:
    """The subject. Raises LoginRefused. nonce: None for a refreshed token, which may lack it."""
    audience = claims.get("aud")
    audiences = [audience] if isinstance(audience, str) else audience if isinstance(audience, list) else []
    now_s, subject = now_ms / 1000, claims.get("sub")
    is_right = (
        claims.get("iss") == issuer
        and client_id in audiences
        and (claims.get("azp") == client_id or ("azp" not in claims and len(audiences) == 1))
        and now_s - LEEWAY_S < _number(claims, "exp")
        and _number(claims, "iat") < now_s + LEEWAY_S
        and isinstance(subject, str) and 0 < len(subject) <= 255
        and (nonce is None or hmac.compare_digest(str(claims.get("nonce")).encode(), nonce.encode()))
    )  # fmt: skip
    if not is_right:
        raise LoginRefused
    return str(subject)


def json_object(data: bytes) -> dict[str, Any]:
    """Raises LoginRefused."""
    try:
        found = msgspec.json.decode(data)
    except (ValueError, RecursionError):
        raise LoginRefused from None
    if not isinstance(found, dict):
        raise LoginRefused
    return found


def proven_ms(claims: Claims) -> int:
    """When the person logged in at the provider; 0 where it does not say."""
    auth_time = _number(claims, "auth_time")
    return int(auth_time * 1000) if 0 <= auth_time <= _MAX_TIME_S else 0


def _number(claims: Claims, name: str) -> float:
    """Not a number (which is neither before nor after anything) where there is none."""
    value = claims.get(name)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else math.nan


def _decoded(part: str) -> bytes:
    try:
        return base64.b64decode(part.encode("ascii") + b"=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raise LoginRefused from None


def texts(claims: Mapping[str, Any], name: str) -> list[str]:
    """A claim that is a text or a list of texts; empty for all else."""
    value = claims.get(name)
    values = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    return [text for text in values if isinstance(text, str)]
