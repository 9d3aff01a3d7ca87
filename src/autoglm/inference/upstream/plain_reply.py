"""A reply on one of our own connections."""

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from autoglm.core.errors import HubError, UpstreamFailed
from autoglm.core.ports import Sink
from autoglm.inference.upstream.reply import Reply

if TYPE_CHECKING:
    from autoglm.inference.upstream.connection import Connection


class PlainReply(Reply):
    """Shares its list of parts with the connection until the body is complete."""

    __slots__ = ("_connection", "_error", "_parts", "_sink", "_waiter")

    def __init__(
        self, instance: str, status: int, headers: Mapping[str, str], connection: "Connection", parts: list[bytes]
    ) -> None:
        self.instance = instance
        self.status = status
        self.headers = headers
        self.complete = False
        self._connection: Connection | None = connection
        self._parts = parts
        self._waiter: asyncio.Future[None] | None = None
        self._error: HubError | None = None
        self._sink: Sink | None = None

    async def chunk(self) -> bytes | None:
        while not self._parts:
            if self.complete:
                return None
            if self._error is not None:
                raise self._error
            await self._wait()
        return self._taken()

    def _taken(self) -> bytes:
        parts = self._parts
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        if self._connection is not None:
            self._connection.on_taken()
        return data

    async def forward(self, sink: Sink) -> None:
        """As its parent's, but without waking a task for each chunk: `arrived` gives them on as they come."""
        while True:
            await sink.keep_pace()
            if self._parts:
                sink.take(self._taken())
            elif self.complete:
                return
            elif self._error is not None:
                raise self._error
            else:
                self._sink = sink
                try:
                    await self._wait()
                finally:
                    self._sink = None

    def arrived(self) -> None:
        """Some of the body came. Called by the connection."""
        sink = self._sink
        if sink is None or sink.is_slow:
            self.wake()
            return
        try:
            sink.take(self._taken())
        except Exception as error:  # noqa: BLE001  # it belongs to whoever waits in `forward`, not to the connection
            self._fail_waiter(error)

    def body_if_complete(self) -> bytes | None:
        if not self.complete:
            return None
        if len(self._parts) != 1:
            self._parts = [b"".join(self._parts)]
        return self._parts[0]

    async def aclose(self) -> None:
        self.drop()

    def drop(self) -> None:
        connection, self._connection = self._connection, None
        self._parts = []
        if connection is not None:
            self.fail(UpstreamFailed(self.instance, "its answer was closed before the end"))
            connection.abort()

    def finish(self, parts: list[bytes]) -> None:
        """The connection saw the end of the body; `parts` are unread and the reply's own from now on."""
        self._parts = parts
        self.complete = True
        self._connection = None

    def fail(self, error: HubError) -> None:
        """The connection broke; what arrived before can still be read."""
        self._error = error
        self._connection = None
        self.wake()

    def wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _fail_waiter(self, error: Exception) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)

    async def _wait(self) -> None:
        assert self._waiter is None, "a reply has one reader"
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        except BaseException:  # cancelled, or the waiting coroutine was thrown away
            self.drop()
            raise
        finally:
            self._waiter = None
