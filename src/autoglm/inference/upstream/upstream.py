"""What a client of an instance offers, and the choice of the client."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from autoglm.core.ports import Line, Waiter
from autoglm.inference.upstream.endpoint import Endpoint
from autoglm.inference.upstream.plain import PlainUpstream
from autoglm.inference.upstream.reply import Reply
from autoglm.inference.upstream.secure import SecureUpstream


class Upstream(Protocol):
    """Sends requests to one instance. `path` is below the base URL: `/chat/completions`.

    `headers`: a mapping, or lines made by `header_lines`, which saves checking them anew for each request.
    Both calls return once the head of the reply is there. They raise UpstreamFailed, and UpstreamTimeout after
    first_byte_timeout_s (the endpoint's own when None) of silence. When the caller is cancelled, the connection closes.

    A connection that was used before may be closed by the instance in the very moment of the next request. If so, and
    no byte of a reply came, the request is sent once more, on a new connection; never otherwise. RFC 9110 (section
    9.2.2) asks for a reason before a POST is repeated: a completion changes nothing at the instance, so the worst case
    is one that had begun to generate when it broke down, and the same work paid twice.
    """

    async def post(
        self,
        path: str,
        body: bytes,
        headers: Mapping[str, str] | bytes = b"",
        *,
        content_type: str = "application/json",
        first_byte_timeout_s: float | None = None,
        is_retry: bool = False,
    ) -> Reply:
        """is_retry: it was sent once already, on a connection that proved stale."""
        ...

    def launch(self, path: str, body: bytes, waiter: Waiter[Any]) -> Line | None:
        """POST JSON now, on a connection that waits for work; `waiter` is told of the reply's head, or why none comes
        (StaleConnection: see above). None, and nothing is sent, when there is no such connection.
        """
        ...

    async def get(
        self, path: str, headers: Mapping[str, str] | bytes = b"", *, first_byte_timeout_s: float | None = None
    ) -> Reply: ...

    @property
    def heard_s(self) -> float:
        """See `core.ports.Backend`."""
        ...

    async def aclose(self) -> None:
        """Close all connections; replies that are still read break off with UpstreamFailed."""
        ...


def open_upstream(endpoint: Endpoint, on_hang_up: Callable[[], None] | None = None) -> Upstream:
    """The lean client for plain HTTP, aiohttp for TLS and proxies. No I/O yet.

    on_hang_up: called when the instance ends a connection that waits for work. Over plain HTTP only.
    """
    if endpoint.origin.is_tls or endpoint.proxy is not None:
        return SecureUpstream(endpoint)
    return PlainUpstream(endpoint, on_hang_up)
