"""The key of a request as the clients of ntfy and Apprise send it: as a Bearer, as a password, or in the query.

Source: docs.ntfy.sh/publish, "Authentication"; RFC 7617 (Basic).
"""

import base64
import binascii
from collections.abc import Mapping

from autoglm.auth.authenticator import Authenticator
from autoglm.auth.principal import Principal
from autoglm.core.errors import Unauthorized
from autoglm.gateway.exchange import Exchange

_IN_QUERY = ("auth", "authorization")


def identify(exchange: Exchange, auth: Authenticator, query: Mapping[str, str]) -> Principal:
    """Whose request it is; counts against the key's limit. Raises Unauthorized, TooManyFailures, RateLimited."""
    authorization = exchange.headers.get(b"authorization")
    named = next((query[name] for name in _IN_QUERY if query.get(name)), None)
    if named is not None:
        authorization = _decoded(named)
    scheme, _, value = (authorization or b"").strip().partition(b" ")
    is_basic = scheme.lower() == b"basic"
    client = exchange.client
    principal = auth.by_key(_password(value), client) if is_basic else auth.by_header(authorization, client)
    exchange.admit(principal, auth)
    return principal


def _password(value: bytes) -> bytes:
    """Of `user:password`; the user's name where there is no password, as with `curl -u KEY:`."""
    user, _, password = _decoded(value.strip().decode("latin-1")).partition(b":")
    return password or user


def _decoded(text: str) -> bytes:
    """Base64 of either alphabet, padded or not. Raises Unauthorized."""
    try:
        padded = text.rstrip("=").translate({ord("-"): "+", ord("_"): "/"})
        return base64.b64decode(padded + "=" * (-len(padded) % 4), validate=True)
    except (binascii.Error, ValueError):  # ValueError: not ASCII
        raise Unauthorized("the credentials are not base64, as Basic and ?auth= have them") from None
