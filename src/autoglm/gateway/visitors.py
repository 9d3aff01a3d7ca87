"""Whose session a request's cookie is, before anything is done; and the cookies that a browser is given.

A browser adds its cookies whoever made it ask. They count for requests of the hub's own page alone (see hosts), and
only where no `authorization` says otherwise. Sources: RFC 6265bis, sections 4.1.2 and 4.1.3; OWASP, "CSRF Prevention".
"""

from collections.abc import Mapping

from autoglm.auth.authenticator import Authenticator, Shown
from autoglm.auth.people.logins import LoggedIn
from autoglm.core.errors import CrossOrigin, HubError, SessionEnded
from autoglm.gateway.exchange import READING, Exchange
from autoglm.gateway.hosts import Hosts, same_origin

SESSION, DEVICE, TRANSACTION = "autoglm-session", "autoglm-device", "autoglm-oidc"
_HOST = "__Host-"
_MAX_VALUE = 300
_BLANKS = " \t"
OWN_SITES = (b"same-origin", b"none")
_ASKED_BY = (b"empty", b"document")
"""Fetch Metadata's words for what a script asks for, and for what somebody types. Not `image`: a picture in a message
is fetched by whoever reads it.
"""
_PATHS = ("/api/", "/v1/", "/metrics")
"""Elsewhere are the page's files, which are for all, and paths of other programs, which know no cookies."""
_DAY_S = 86_400

Header = tuple[bytes, bytes]


class Visitors:
    """Asked for each request that has a cookie and no `authorization`."""

    def __init__(self, auth: Authenticator, *, has_tls: bool) -> None:
        self._auth = auth
        self._has_tls = has_tls

    async def see(self, exchange: Exchange) -> None:
        """Sets `exchange.visit`: who it is, or why he is nobody. Raises CrossOrigin."""
        headers = exchange.headers
        id = cookie(headers, SESSION, is_secure=self._has_tls or is_secure(headers))
        if id is None or not exchange.path.startswith(_PATHS):
            return
        if exchange.method not in READING:
            check_own_page(headers, exchange.hosts)
        elif (
            headers.get(b"sec-fetch-site", b"none") not in OWN_SITES
            or headers.get(b"sec-fetch-dest", b"empty") not in _ASKED_BY
        ):
            return
        exchange.visit = await self.shown(id)

    async def shown(self, id: str) -> Shown | HubError:
        try:
            return await self._auth.by_session(id)
        except SessionEnded as error:
            return error


def check_own_page(headers: Mapping[bytes, bytes], hosts: Hosts) -> None:
    """Raises CrossOrigin."""
    if not same_origin(headers, hosts):
        raise CrossOrigin(headers.get(b"origin", b"(none)").decode("latin-1"))


def cookie(headers: Mapping[bytes, bytes], name: str, *, is_secure: bool) -> str | None:
    """is_secure: only the one with the prefix, which no other host and no plain connection can have set.

    Of two of one name the first. Blanks and tabs around a name are no part of it, and nothing else is (RFC 6265,
    section 5.2): a name that only looks like the protected one is another.
    """
    wanted = f"{_HOST}{name}" if is_secure else name
    for part in headers.get(b"cookie", b"").decode("latin-1").split(";"):
        found, _, value = part.partition("=")
        if found.strip(_BLANKS) == wanted:
            value = value.strip(_BLANKS)
            return value if 0 < len(value) <= _MAX_VALUE else None
    return None


def session_cookies(entered: LoggedIn, *, is_secure: bool, device_days: int) -> list[Header]:
    """is_secure: the page came by https."""
    cookies = [set_cookie(SESSION, entered.session, is_secure=is_secure)]
    if entered.device:
        cookies.append(set_cookie(DEVICE, entered.device, is_secure=is_secure, max_age_s=device_days * _DAY_S))
    return cookies


def set_cookie(
    name: str, value: str, *, is_secure: bool, max_age_s: int | None = None, same_site: str = "Strict"
) -> Header:  # fmt: skip
    """max_age_s: until the browser closes when absent; 0 takes it away."""
    age = "" if max_age_s is None else f"; Max-Age={max_age_s}"
    prefix, secure = (_HOST, "; Secure") if is_secure else ("", "")
    return b"set-cookie", f"{prefix}{name}={value}; Path=/; HttpOnly; SameSite={same_site}{secure}{age}".encode()


def is_secure(headers: Mapping[bytes, bytes]) -> bool:
    """Whether the page came by https through a proxy that takes TLS off: the browser says so, or the proxy.

    Whoever lies here is taken for a browser without its cookie.
    """
    return headers.get(b"origin", b"").startswith(b"https:") or headers.get(b"x-forwarded-proto") == b"https"
