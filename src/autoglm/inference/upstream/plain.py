"""The client for plain HTTP: a pool of our own connections."""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from math import inf
from typing import Any

from autoglm.core.errors import UpstreamFailed, UpstreamTimeout
from autoglm.core.ports import Waiter
from autoglm.core.turn import Turn
from autoglm.inference.upstream.connection import COPY_LIMIT_BYTES, Connection, StaleConnection
from autoglm.inference.upstream.dial import dial
from autoglm.inference.upstream.endpoint import Endpoint, header_line, header_lines
from autoglm.inference.upstream.plain_reply import PlainReply

SWEEP_S = 0.2
"""How far a timeout may be late: one timer for all connections costs less than one for each request."""
_MAX_HEADS = 256
_CLOSED = "this hub has closed its connections"


class PlainUpstream:
    """Satisfies `Upstream`. Connections are kept alive and taken last in, first out, so that surplus ones grow idle."""

    def __init__(self, endpoint: Endpoint, on_hang_up: Callable[[], None] | None = None) -> None:
        self._endpoint = endpoint
        self._on_hang_up = on_hang_up
        self._idle: list[Connection] = []
        self._connections: set[Connection] = set()
        self._slots_used = 0
        """Connections, and attempts at one."""
        self._queue: deque[asyncio.Future[Connection | None]] = deque()
        """Requests without a connection; they are given one, or None for the right to open one."""
        self._sweep_handle: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._is_ours = False
        """We end connections right now, not the instance."""
        self._turn = Turn()
        self._heads: dict[tuple[str, str, str], bytes] = {}
        self._fixed_lines = b"".join(
            (
                header_line("Host", endpoint.origin.host_header),
                header_line("Accept-Encoding", "identity"),  # bytes are forwarded as they come
                header_lines(endpoint.fixed_headers),
            )
        )

    def post(
        self,
        path: str,
        body: bytes,
        headers: Mapping[str, str] | bytes = b"",
        *,
        content_type: str = "application/json",
        first_byte_timeout_s: float | None = None,
        is_retry: bool = False,
    ) -> Coroutine[Any, Any, PlainReply]:
        return self.request(
            "POST", path, body, headers,
            content_type=content_type, first_byte_timeout_s=first_byte_timeout_s, is_retry=is_retry,
        )  # fmt: skip

    def get(
        self, path: str, headers: Mapping[str, str] | bytes = b"", *, first_byte_timeout_s: float | None = None
    ) -> Coroutine[Any, Any, PlainReply]:
        return self.request("GET", path, b"", headers, first_byte_timeout_s=first_byte_timeout_s)

    def launch(self, path: str, body: bytes, waiter: Waiter[Any]) -> Connection | None:
        if not self._idle or len(body) > COPY_LIMIT_BYTES:
            return None
        content_type = "application/json"
        prepared = self._heads.get(("POST", path, content_type)) or self._prepare("POST", path, content_type)
        connection = self._idle.pop()
        connection.launch(b"%b%d\r\n\r\n%b" % (prepared, len(body), body), self._endpoint.first_byte_timeout_s, waiter)
        return connection

    async def request(
        self,
        method: str,
        path: str,
        body: bytes,
        headers: Mapping[str, str] | bytes = b"",
        *,
        content_type: str = "",
        first_byte_timeout_s: float | None = None,
        is_retry: bool = False,
    ) -> PlainReply:
        """content_type: empty for a request without a body."""
        prepared = self._heads.get((method, path, content_type)) or self._prepare(method, path, content_type)
        extra = headers if isinstance(headers, bytes) else header_lines(headers)
        head = b"%b%d\r\n%b\r\n" % (prepared, len(body), extra) if content_type else b"%b%b\r\n" % (prepared, extra)
        silence_s = self._endpoint.first_byte_timeout_s if first_byte_timeout_s is None else first_byte_timeout_s
        if not is_retry:
            connection = self._idle.pop() if self._idle else await self._acquire()
            try:
                return await connection.ask(head, body, silence_s, method == "HEAD")
            except StaleConnection:
                pass  # see Upstream for why one more attempt is safe
        connection = await self._acquire(is_retry=True)
        try:
            return await connection.ask(head, body, silence_s, method == "HEAD")
        except StaleConnection:
            raise UpstreamFailed(self._endpoint.name, "it closed two connections in turn before answering") from None

    @property
    def heard_s(self) -> float:
        return max((connection.heard_s for connection in self._connections), default=-inf)

    async def aclose(self) -> None:
        self._is_closed = self._is_ours = True
        for connection in list(self._connections):
            connection.close(_CLOSED)
        while self._queue:
            _grant(self._queue.popleft(), None)
        if self._sweep_handle is not None:
            self._sweep_handle.cancel()
            self._sweep_handle = None
        await asyncio.sleep(0)  # the loop closes aborted sockets in its next round

    def _prepare(self, method: str, path: str, content_type: str) -> bytes:
        """All of the head up to the length. Raises InvalidField for what cannot stand in one."""
        start = f"{method} {self._endpoint.target(path)} HTTP/1.1\r\n".encode() + self._fixed_lines
        if content_type:
            start += header_line("Content-Type", content_type) + b"Content-Length: "
        if len(self._heads) < _MAX_HEADS:  # paths may hold ids
            self._heads[method, path, content_type] = start
        return start

    # --- the pool -------------------------------------------------------------------------------------

    async def _acquire(self, *, is_retry: bool = False) -> Connection:
        """A retry gets a new connection or, where max_connections are open, one that has just served another."""
        if self._is_closed:
            raise UpstreamFailed(self._endpoint.name, _CLOSED)
        if self._idle and not is_retry:
            return self._idle.pop()
        if self._slots_used < self._endpoint.max_connections:
            self._slots_used += 1
            return await self._open()
        waiter: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        self._queue.append(waiter)
        timeout_s = self._endpoint.connect_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                granted = await waiter
        except BaseException as error:
            if waiter.done() and not waiter.cancelled():  # granted in the moment of giving up: to the next in line
                self._pass_on(waiter.result())
            if isinstance(error, TimeoutError):
                raise UpstreamTimeout(self._endpoint.name, "free connection", timeout_s) from error
            raise
        if granted is None:
            return await self._open()
        return await self._acquire(is_retry=is_retry) if granted.is_lost else granted

    async def _open(self) -> Connection:
        """A new connection in a slot that the caller has taken."""
        try:
            connection = await dial(self._endpoint, self._new_connection)
            if self._is_closed:
                connection.abort()
                raise UpstreamFailed(self._endpoint.name, _CLOSED)
            if connection.is_lost:
                raise UpstreamFailed(self._endpoint.name, "it closed the connection, or spoke before it was asked")
        except BaseException:
            self._free_slot()
            raise
        self._connections.add(connection)
        if self._sweep_handle is None:
            self._sweep_handle = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)
        return connection

    def _new_connection(self) -> Connection:
        return Connection(self._endpoint.name, self._endpoint.read_timeout_s, self._on_idle, self._on_lost, self._turn)

    def _on_idle(self, connection: Connection) -> None:
        connection.rest(self._endpoint.idle_s)
        while self._queue:
            if _grant(self._queue.popleft(), connection):
                return
        self._idle.append(connection)

    def _on_lost(self, connection: Connection) -> None:
        if connection not in self._connections:  # lost while it was opened: `_open` frees the slot
            return
        self._connections.remove(connection)
        is_idle = connection in self._idle
        if is_idle:
            self._idle.remove(connection)
        self._free_slot()
        if is_idle and self._on_hang_up is not None and not self._is_ours:
            self._on_hang_up()

    def _free_slot(self) -> None:
        while self._queue:
            if _grant(self._queue.popleft(), None):
                return
        self._slots_used -= 1

    def _pass_on(self, granted: Connection | None) -> None:
        if granted is None:
            self._free_slot()
        elif not granted.is_lost:
            self._on_idle(granted)

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        self._is_ours = True
        for connection in [one for one in self._connections if one.deadline_s <= now_s]:
            connection.expire()
        self._is_ours = False
        self._sweep_handle = loop.call_later(SWEEP_S, self._sweep) if self._connections else None


def _grant(waiter: "asyncio.Future[Connection | None]", what: Connection | None) -> bool:
    """False when the waiter has given up."""
    if waiter.done():
        return False
    waiter.set_result(what)
    return True
