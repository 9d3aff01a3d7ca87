"""What a proof is for: a request over HTTP, or the opening of a connection."""

import re
from typing import Literal, NamedTuple, Protocol

from autoglm.core.errors import InvalidField

ConnectionMethod = Literal["WEBSOCKET", "MQTT", "RTC"]
"""Stands as `htm` in proofs for connections; no method of HTTP has such a name."""
MAX_URL = 2048
_split_url = re.compile(r"(https?)://([^/?#@\s]+)(/[^?#\s]*)?(?:[?#]\S*)?", re.IGNORECASE).fullmatch
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


class Target(Protocol):
    def is_named_by(self, htm: str, htu: str) -> bool: ...


class RequestTarget(NamedTuple):
    method: str
    path: str
    """As it stands in the request's line, percent signs and all; a query is ignored."""
    origins: frozenset[str]
    """By which the hub is called, in the form of `normal_origin`; never taken from the request's Host header."""

    def is_named_by(self, htm: str, htu: str) -> bool:
        """RFC 9449, section 4.3, checks 8 and 9: query and fragment do not count."""
        if htm != self.method or (found := _split_url(htu)) is None:
            return False
        is_ours = _origin(found[1], found[2]) in self.origins
        return is_ours and (found[3] or "/") == (self.path.partition("?")[0] or "/")


class ConnectionTarget(NamedTuple):
    method: ConnectionMethod
    audience: str

    def is_named_by(self, htm: str, htu: str) -> bool:
        return htm == self.method and htu == self.audience


def normal_origin(origin: str) -> str:
    """`https://Hub.example:443/` becomes `https://hub.example` (RFC 3986, section 6.2). Raises InvalidField."""
    found = _split_url(origin) if len(origin) <= MAX_URL else None
    if found is None or found[3] not in (None, "/") or "?" in origin or "#" in origin:
        raise InvalidField("origins", f"{origin[:80]!r} is no origin such as 'https://hub.example:8600'")
    return _origin(found[1], found[2])


def _origin(scheme: str, host: str) -> str:
    scheme = scheme.lower()
    return f"{scheme}://{host.lower().removesuffix(_DEFAULT_PORTS[scheme])}"
