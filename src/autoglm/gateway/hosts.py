"""By which names this hub is called, so that a stranger's page cannot pass for one of its own.

DNS rebinding: a page of evil.example has its name lead to this hub, and its script then reads the hub's answers as its
own. Sources: RFC 9110, sections 7.2 and 15.5.20 (421); Fetch Metadata (W3C); OWASP, "CSRF Prevention".
"""

import re
import socket
from collections.abc import Iterable, Mapping
from ipaddress import ip_address

_AUTHORITY = re.compile(rb"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9_.-]{1,253})(?::([0-9]{1,5}))?")
_USUAL_PORTS = {b"http": b"80", b"https": b"443"}


class Hosts:
    """What `has` is true of: numeric addresses, names that no stranger can own, and those that the settings name."""

    def __init__(self, names: Iterable[str] = (), *, are_all: bool = False) -> None:
        """names: beside this machine's own; `.example.org` stands for all below it.

        are_all: with TLS a stranger's name gets no further than the certificate.
        """
        machine = socket.gethostname().lower()
        given = [name.lower().rstrip(".") for name in names]
        self._names = {machine, f"{machine}.local", *(name for name in given if not name.startswith("."))}
        self._endings = tuple(name for name in given if name.startswith("."))
        self._are_all = are_all

    def has(self, authority: bytes) -> bool:
        """authority: of the request's target, or its Host: `hub.example:8600`, `[::1]`."""
        parts = _AUTHORITY.fullmatch(authority)
        if parts is None:
            return False
        if self._are_all or authority[:1] == b"[":
            return True
        name = parts[1].decode("ascii").lower().rstrip(".")
        # Names of one label are not given out in the public DNS (ICANN, SAC053); `localhost` is one, too.
        if "." not in name or name in self._names or name.endswith((".localhost", *self._endings)):
            return True
        return _is_numeric(name)


def _is_numeric(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def same_origin(headers: Mapping[bytes, bytes], hosts: Hosts) -> bool:
    """Whether a request that a cookie vouches for comes from this hub's own page.

    headers: names in lower case. To be asked for each method that changes something, and for the handshake of a
    WebSocket: browsers add the cookie whoever made them ask. Says no where nothing tells, which no browser does.
    """
    host = headers.get(b"host", b"")
    if not hosts.has(host):
        return False
    site = headers.get(b"sec-fetch-site")
    if site is not None and site != b"same-origin":
        return False
    origin = headers.get(b"origin")
    if origin is None:
        return site is not None
    return is_origin_of(origin, host)


def is_origin_of(origin: bytes, host: bytes) -> bool:
    """Whether a page of this origin (RFC 6454) came from this Host. A proxy in between may have taken TLS off."""
    scheme, separator, authority = origin.partition(b"://")
    port = _USUAL_PORTS.get(scheme)
    theirs, ours = _AUTHORITY.fullmatch(authority), _AUTHORITY.fullmatch(host)
    if not separator or port is None or theirs is None or ours is None:
        return False
    return theirs[1].lower() == ours[1].lower() and (theirs[2] or port) == (ours[2] or port)
