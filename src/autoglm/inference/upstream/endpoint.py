"""Where an instance is, how to speak to it, and how long to wait: checked once, so that requests need not be."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

from pydantic import SecretStr

from autoglm.core.errors import InvalidField, SettingsError
from autoglm.version import __version__

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2: token
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")  # section 5.5: visible characters, blanks, obs-text
_KEY = re.compile(r"[\x21-\x7e]+")
_PATH = re.compile(r"/[\x21\x22\x24-\x7e]*")  # no blank, no control character, no fragment

# They frame the message or say who asks; a second one would contradict the first.
_RESERVED = frozenset({
    "accept-encoding", "connection", "content-length", "content-type", "expect", "host", "keep-alive",
    "proxy-authorization", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
})  # fmt: skip


class Origin(NamedTuple):
    """The parts of a base URL."""

    is_tls: bool
    host: str
    """A name in ASCII, an IPv4 address, or an IPv6 address without brackets."""
    port: int
    path: str
    """What each path is put behind: empty or `/v1`, without a slash at its end."""

    @property
    def place(self) -> str:
        """`host:port`, with brackets around an IPv6 address."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def host_header(self) -> str:
        """The port is left out where it is the scheme's own (RFC 9110, section 7.2)."""
        place = self.place
        return place.removesuffix(f":{self.port}") if self.port == (443 if self.is_tls else 80) else place


@dataclass(frozen=True, kw_only=True, eq=False)
class Endpoint:
    """One instance's address with all that a client of it needs. Secrets never show in its repr.

    Raises SettingsError, naming the instance, for each URL, key, header or proxy that cannot be sent safely.
    """

    name: str
    """The instance, as errors name it."""
    base_url: str = field(repr=False)
    api_key: SecretStr | None = None
    """Sent as `Authorization: Bearer KEY`."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Sent with each request."""
    connect_timeout_s: float = 5.0
    """For a connection: a free one of the pool, or name, TCP, proxy and TLS together."""
    first_byte_timeout_s: float = 600.0
    """Silence until the head of the reply; sending a large body counts as progress."""
    read_timeout_s: float = 300.0
    """Silence between two parts of the body."""
    idle_s: float = 30.0
    """An unused connection is closed after it."""
    max_connections: int = 256
    """Requests beyond it wait for a free connection, first come, first served."""
    proxy: str | None = field(default=None, repr=False)
    """`http(s)://[user:password@]host:port`; TLS goes through CONNECT, plain HTTP as absolute-form requests."""
    verify: bool = True
    """False trusts any certificate."""
    ca_file: Path | None = None
    """PEM bundle of authorities to trust instead of the system's."""
    origin: Origin = field(init=False)

    def __post_init__(self) -> None:
        problems = []
        for check in (self._read_origin, self._check_key, self._check_proxy, self._check_headers):
            try:
                check()
            except InvalidField as error:
                problems.append(f"instance {self.name!r}: {error}")
        if problems:
            raise SettingsError(problems)

    def _read_origin(self) -> None:
        object.__setattr__(self, "origin", _parse_origin(self.base_url))

    def _check_key(self) -> None:
        if self.api_key is not None and not _KEY.fullmatch(self.api_key.get_secret_value()):
            raise InvalidField("api_key", "is empty or holds a blank, a line break or a character outside ASCII")

    def _check_proxy(self) -> None:
        if self.proxy is not None:
            _check_proxy(self.proxy)

    def _check_headers(self) -> None:
        if self.api_key is not None and any(name.lower() == "authorization" for name in self.headers):
            raise InvalidField("headers.Authorization", "contradicts api_key; set one of the two")
        header_lines(self.headers)

    @property
    def fixed_headers(self) -> dict[str, str]:
        """What each request carries beside the lines that frame it."""
        fixed = {"User-Agent": f"autoglm-hub/{__version__}"}
        if self.api_key is not None:
            fixed["Authorization"] = f"Bearer {self.api_key.get_secret_value()}"
        given = {name.lower() for name in self.headers}
        return {name: value for name, value in fixed.items() if name.lower() not in given} | dict(self.headers)

    def target(self, path: str) -> str:
        """The request target for a path below the base URL. Raises InvalidField where it cannot stand in a request."""
        if not _PATH.fullmatch(path):
            raise InvalidField("path", f"{path[:80]!r} is no path in ASCII that starts with '/'")
        return self.origin.path + path


def header_lines(headers: Mapping[str, str]) -> bytes:
    """`Name: value` lines, each with its line end, as `post` and `get` take them. Raises InvalidField."""
    for name in headers:
        if name.lower() in _RESERVED:
            raise InvalidField(f"headers.{name[:80]}", "is set by the hub itself")
    return b"".join(header_line(name, value) for name, value in headers.items())


def header_line(name: str, value: str) -> bytes:
    """Raises InvalidField; the value stays out of its message, for it may be a secret."""
    if not _NAME.fullmatch(name):
        raise InvalidField("headers", f"{name[:80]!r} is no header name")
    if not _VALUE.fullmatch(value):
        raise InvalidField(f"headers.{name}", "holds a line break, a control character or one outside Latin-1")
    return f"{name}: {value.strip()}\r\n".encode("latin-1")


def _parse_origin(url: str) -> Origin:
    parts, port = _split(url, "base_url")
    if parts.scheme not in ("http", "https"):
        raise InvalidField("base_url", "is no http(s) address")
    if parts.username is not None:
        raise InvalidField("base_url", "holds a user name; put the key into api_key")
    if parts.query or parts.fragment:
        raise InvalidField("base_url", "ends in a query or a fragment; give the address up to and with /v1")
    path = parts.path.rstrip("/")
    if path and not _PATH.fullmatch(path):
        raise InvalidField("base_url", "has a path with blanks or characters outside ASCII")
    is_tls = parts.scheme == "https"
    try:
        host = (parts.hostname or "").encode("idna").decode()
    except UnicodeError as error:
        raise InvalidField("base_url", "has a host name that cannot be written in ASCII") from error
    return Origin(is_tls, host, port or (443 if is_tls else 80), path)


def _check_proxy(url: str) -> None:
    parts, _ = _split(url, "proxy")
    if parts.scheme not in ("http", "https"):
        raise InvalidField("proxy", "is no http(s) address; other kinds of proxies are not spoken")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise InvalidField("proxy", "has more than host and port")


def _split(url: str, field: str) -> tuple[SplitResult, int | None]:
    """Every refusal is worded here: urlsplit's own messages may quote a password."""
    if not re.fullmatch(r"[\x21-\x7e\xa0-\U0010ffff]+", url):
        raise InvalidField(field, "holds a blank, a line break or a control character")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidField(field, "has a host or a port that cannot be read") from error
    if not parts.hostname:
        raise InvalidField(field, "names no host; it looks like http://127.0.0.1:8000/v1")
    return parts, port
