"""The head of a request: method, path and headers, parsed once for as often as a client repeats it."""

from functools import lru_cache
from urllib.parse import unquote

from httptools import parse_url

_MAX_CACHED = 64  # bytes of a target: the fixed paths
_MAX_KNOWN = 1024
_MAX_KNOWN_BYTES = 2048
_MAX_SEEN = 16_384


class Head:
    """What a request's first lines say. Shared by all requests that have the same: never change one.

    Raises HttpParserInvalidURLError, UnicodeDecodeError, ValueError when the target is none.
    """

    __slots__ = (
        "authority", "headers", "is_for_us", "is_keep_alive", "is_old", "length", "method", "path", "query", "raw_path",
    )  # fmt: skip

    def __init__(
        self, method: str, target: bytes, headers: dict[bytes, bytes], *, is_keep_alive: bool, is_old: bool
    ) -> None:
        """headers: by their names in lower case; when a name comes twice, the last one counts. is_old: HTTP/1.0."""
        self.method = method
        parsed = _parsed(target) if len(target) <= _MAX_CACHED else _parse(target)
        self.raw_path, self.path, self.query, named = parsed
        self.authority = headers.get(b"host") if named is None else named
        """The host that the request is for; None where it does not say (HTTP/1.0). RFC 9112, section 3.2.2."""
        self.is_for_us = True
        """False when a page of strangers may have sent it, who had their name lead to this hub: see hosts."""
        self.headers = headers
        self.is_keep_alive = is_keep_alive and not is_old
        self.is_old = is_old
        announced = headers.get(b"content-length")
        # The parser refuses what is over 64 bits, but not thousands of zeros before it.
        self.length = None if announced is None else int(announced[-20:])
        """The announced length of the body, in bytes."""

    @property
    def expects_continue(self) -> bool:
        """True when the client sends the body only once it is asked to (RFC 9110, section 10.1.1)."""
        return not self.is_old and self.headers.get(b"expect", b"").lower() == b"100-continue"


def _parse(target: bytes) -> tuple[bytes, str, bytes, bytes | None]:
    """(path as it came, path, query, host and port where they are part of it) of a request's target."""
    url = parse_url(target)
    if url.path is None:
        raise ValueError("the target of the request is no path")
    path = url.path.decode("ascii")
    named = None
    if url.host is not None:
        host = b"[%b]" % url.host if b":" in url.host else url.host
        named = host if url.port is None else b"%b:%d" % (host, url.port)
    return url.path, unquote(path) if "%" in path else path, url.query or b"", named


_parsed = lru_cache(256)(_parse)


class KnownHeads:
    """Heads by their exact bytes. A program sends the same one again and again: it need not be parsed again.

    The same bytes at the start of a message mean the same to the parser, which keeps nothing from one message to the
    next. Only what it has accepted twice gets in here, and only where nothing but the announced length frames the body.
    """

    def __init__(self) -> None:
        self._heads: dict[bytes, Head] = {}
        self._seen: set[int] = set()
        """Hashes of heads that came once: many never come again, and are not worth a place."""
        self.find = self._heads.get

    def add(self, data: bytes, head: Head, body_bytes: int) -> None:
        """data: one whole request as the parser took it, alone, with a body of `body_bytes`."""
        size = data.find(b"\r\n\r\n") + 4
        # Were the head to end elsewhere, at bare line feeds for one, then the body would have another length.
        if size > _MAX_KNOWN_BYTES or head.length != body_bytes or len(data) != size + body_bytes:
            return
        if not head.is_keep_alive or not head.headers.keys().isdisjoint(_SPECIAL):
            return
        key = data[:size]
        if hash(key) not in self._seen:
            if len(self._seen) >= _MAX_SEEN:
                self._seen.clear()
            self._seen.add(hash(key))
            return
        if len(self._heads) >= _MAX_KNOWN:  # lengths and ids vary: the memory must not grow with them
            self._heads.clear()
        self._heads[key] = head


_SPECIAL = (b"expect", b"transfer-encoding", b"upgrade")
