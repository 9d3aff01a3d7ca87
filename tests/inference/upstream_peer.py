"""A server that behaves as a test tells it to, and a proxy, on real sockets."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

import anyio
import pytest

from scripted_model import stop_listening

LOOPS = [
    pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
    pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
]
"""For a module's own `anyio_backend` fixture: the two loops differ in flow control and in closing."""


PATIENCE = {"connect_timeout_s": 5.0, "first_byte_timeout_s": 10.0, "read_timeout_s": 10.0}
"""Options of an endpoint with which a test that goes wrong fails instead of hanging."""


class Line:
    """One connection, as its script sees it."""

    def __init__(self, peer: "Peer", reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.peer, self.reader, self.writer = peer, reader, writer
        self.number = len(peer.lines)
        self.is_closed = asyncio.Event()
        """Set when the client closed the connection."""

    async def head(self) -> bytes:
        return await self.reader.readuntil(b"\r\n\r\n")

    async def request(self) -> bytes:
        """Head and body of the next request, which the peer also keeps."""
        head = await self.head()
        lines = [line.partition(b": ") for line in head.lower().split(b"\r\n")]
        length = next((int(value) for name, _, value in lines if name == b"content-length"), 0)
        whole = head + await self.reader.readexactly(length)
        self.peer.requests.append(whole)
        return whole

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def closed(self) -> None:
        """Return when the client has closed, whatever it still sends."""
        with suppress(OSError):
            while await self.reader.read(65536):
                pass
        self.is_closed.set()


Script = Callable[[Line], Awaitable[None]]


class Peer:
    """Runs one script per connection, in turn; the last one serves all further connections. A script's end closes."""

    def __init__(self, *scripts: Script, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self._scripts, self._tls, self._host = scripts, tls, host
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self._failures: list[Exception] = []
        self.lines: list[Line] = []
        self.requests: list[bytes] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accepted, self._host, 0, ssl=self._tls, limit=1 << 20)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await stop_listening(self._server)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0)  # the loop closes aborted sockets in its next round
        if error is None and self._failures:
            raise self._failures[0]

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Noted here: a task that is cancelled before its first step would leave the transport open."""
        self._writers.append(writer)
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = Line(self, reader, writer)
        self.lines.append(line)
        script = self._scripts[min(line.number, len(self._scripts) - 1)]
        try:
            await script(line)
        except (OSError, asyncio.IncompleteReadError):
            line.is_closed.set()  # the client went away in the middle: tests look at what it saw
        except asyncio.CancelledError:
            pass
        except Exception as error:  # noqa: BLE001  # raised again by __aexit__, in the test
            self._failures.append(error)
        finally:
            writer.transport.abort()


async def until(claim: Callable[[], object], within_s: float = 3.0) -> None:
    """Wait for a state of sockets or pools, which announce it to nobody."""
    with anyio.fail_after(within_s):
        while not claim():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def ok(body: bytes = b"ok", *lines: bytes) -> bytes:
    """A complete reply."""
    return b"\r\n".join((b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(body), *lines, b"", body))


def answers(*replies: bytes) -> Script:
    """One reply for each request, the last one again and again, until the client closes."""

    async def script(line: Line) -> None:
        for index in range(1 << 30):
            await line.request()
            await line.send(replies[min(index, len(replies) - 1)])

    return script


def says(data: bytes) -> Script:
    """Send this for the first request, then close properly."""

    async def script(line: Line) -> None:
        await line.request()
        await line.send(data)
        line.writer.close()
        await line.writer.wait_closed()

    return script


async def silent(line: Line) -> None:
    """Take the request, never answer."""
    await line.closed()


def proxy(status: bytes = b"200 Connection established") -> Script:
    """An HTTP proxy that knows CONNECT: http://127.0.0.1 only, no checks."""

    async def script(line: Line) -> None:
        head = await line.head()
        line.peer.requests.append(head)
        await line.send(b"HTTP/1.1 %b\r\n\r\n" % status)
        if not status.startswith(b"200"):
            return
        host, _, port = head.split()[1].decode().rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            both = asyncio.create_task(_relay(line.reader, writer)), asyncio.create_task(_relay(reader, line.writer))
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)
            line.writer.close()
            await line.writer.wait_closed()
        finally:
            writer.transport.abort()

    return script


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError, RuntimeError):  # uvloop raises the latter for a transport that is closed
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
