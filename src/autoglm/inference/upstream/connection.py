"""One HTTP/1.1 connection to an instance: writes a request, parses the reply, one exchange at a time.

Raw asyncio, and fields instead of closures: this is the measured path of each request.
"""

import asyncio
import os
import socket
from collections.abc import Callable, Mapping
from math import inf
from typing import Any, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from autoglm.core.errors import HubError, UpstreamFailed, UpstreamTimeout
from autoglm.core.ports import Waiter
from autoglm.core.turn import Turn
from autoglm.inference.upstream.plain_reply import PlainReply

HEAD_LIMIT_BYTES = 64 * 1024
"""For one reply's head, 1xx heads before it included; and for chunk extensions or trailers at a stretch."""
BUFFER_LIMIT_BYTES = 256 * 1024
"""Unread bytes of a body beyond which the socket is not read any more; one read may go over it."""
COPY_LIMIT_BYTES = 64 * 1024
"""Up to here head and body go out in one write; a copy is cheaper than a second system call."""
SLICE_BYTES = 256 * 1024

# A machine that vanished says nothing more: found out after 60 s, instead of after a first byte's patience.
_KEEPALIVE = (
    ((socket.SOL_SOCKET, socket.SO_KEEPALIVE), 1),
    ((socket.IPPROTO_TCP, socket.TCP_KEEPIDLE), 30),
    ((socket.IPPROTO_TCP, socket.TCP_KEEPINTVL), 10),
    ((socket.IPPROTO_TCP, socket.TCP_KEEPCNT), 3),
)


class StaleConnection(Exception):
    """A connection that was used before ended before any byte of the reply: the request may be sent once more."""


class _Surplus(Exception):
    """Bytes after the end of a reply."""


class _Names(dict[bytes, str]):
    """Header names in lower case. Instances repeat a few dozen names, so they are decoded once."""

    def __missing__(self, raw: bytes) -> str:
        name = raw.decode("latin-1").lower()
        if len(self) < 1024:
            self[raw] = name
        return name


_names = _Names()


class Connection(asyncio.Protocol):
    """`deadline_s` is compared with the loop's clock by its owner's sweep, which then calls `expire`."""

    __slots__ = (
        "_buffered_bytes",
        "_head_bytes",
        "_instance",
        "_is_ended",
        "_is_head_only",
        "_is_paused",
        "_is_sent",
        "_is_write_paused",
        "_keeps_alive",
        "_loop",
        "_on_idle",
        "_on_lost",
        "_parser",
        "_parts",
        "_raw_headers",
        "_read_timeout_s",
        "_refusal",
        "_reply",
        "_silence_s",
        "_transport",
        "_turn",
        "_unsent",
        "_waiter",
        "_writable",
        "deadline_s",
        "is_lost",
        "is_reused",
        "on_body",
        "on_header",
    )

    def __init__(
        self,
        instance: str,
        read_timeout_s: float,
        on_idle: Callable[["Connection"], None],
        on_lost: Callable[["Connection"], None],
        turn: Turn,
    ) -> None:
        """on_idle: the reply is complete and the connection can take another request. on_lost: it never will."""
        self._instance = instance
        self._read_timeout_s = read_timeout_s
        self._on_idle = on_idle
        self._on_lost = on_lost
        self._turn = turn
        self._unsent = b""
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._waiter: Waiter[Any] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._reply: PlainReply | None = None
        self._refusal = ""
        self._silence_s = inf
        self._head_bytes = self._buffered_bytes = 0
        self._is_ended = self._is_head_only = self._is_paused = self._is_write_paused = False
        self._is_sent = self._keeps_alive = False
        self.deadline_s = inf
        self.is_lost = self.is_reused = False
        # The parser calls both for each header and each HTTP chunk; bound to C methods they cost no Python frame.
        self._raw_headers: dict[bytes, bytes] = {}
        self._parts: list[bytes] = []
        self.on_header = self._raw_headers.__setitem__
        self.on_body = self._parts.append
        self._parser = HttpResponseParser(self)

    # --- the request ----------------------------------------------------------------------------------

    async def ask(self, head: bytes, body: bytes, silence_s: float, is_head_only: bool = False) -> PlainReply:
        """Send one request; the reply once its head is there. Raises StaleConnection, UpstreamFailed, UpstreamTimeout.

        silence_s: from now, or from the last progress of a large body, to the head.
        """
        transport = self._transport
        if self.is_lost or transport is None:
            raise self._lost_before_reply()
        waiter: asyncio.Future[PlainReply] = self._loop.create_future()
        self._begin(waiter, silence_s)
        self._is_head_only = is_head_only
        try:
            if len(body) <= COPY_LIMIT_BYTES:
                self._write(head + body)
                self._is_sent = True
            else:
                await self._send_large(transport, waiter, head, body)
            return await waiter
        except BaseException:
            if self._waiter is waiter:
                self.abort()
            elif waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                waiter.result().drop()
            raise

    def launch(self, request: bytes, silence_s: float, waiter: Waiter[Any]) -> None:
        """As `ask`, but nobody waits: `waiter` is told. Only for a connection that is idle."""
        self._begin(waiter, silence_s)
        self._write(request)
        self._is_sent = True

    def _write(self, data: bytes) -> None:
        """Goes out with the end of the loop's turn."""
        self._unsent = data
        self._turn.add(self)

    def flush(self) -> None:
        if self._unsent and self._transport is not None:
            self._transport.write(self._unsent)
        self._unsent = b""

    def _begin(self, waiter: Waiter[Any], silence_s: float) -> None:
        self._waiter = waiter
        self._head_bytes = 0
        self._is_ended = self._is_sent = self._is_head_only = False
        self._silence_s = silence_s
        self.deadline_s = self._loop.time() + silence_s

    async def _send_large(
        self, transport: asyncio.Transport, waiter: "asyncio.Future[PlainReply]", head: bytes, body: bytes
    ) -> None:
        """Write in slices, as fast as the instance takes them, until it has all or has answered without the rest."""
        transport.write(head)
        rest = memoryview(body)
        while rest:
            transport.write(rest[:SLICE_BYTES])
            rest = rest[SLICE_BYTES:]
            while self._is_write_paused and not self.is_lost and not _is_refusal(waiter):
                self._writable = self._loop.create_future()
                try:
                    await self._writable
                finally:
                    self._writable = None
            if self.is_lost or transport.is_closing() or _is_refusal(waiter):
                return
            self.deadline_s = self._loop.time() + (self._silence_s if self._waiter is waiter else self._read_timeout_s)
        self._is_sent = True
        if self._is_paused:
            self.deadline_s = inf

    def pause_writing(self) -> None:
        self._is_write_paused = True

    def resume_writing(self) -> None:
        self._is_write_paused = False
        self._wake_writer()

    def _wake_writer(self) -> None:
        writable = self._writable
        if writable is not None and not writable.done():
            writable.set_result(None)

    # --- the reply ------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        reply = self._reply
        if reply is None:
            if self._waiter is None:  # nothing was asked: never let these bytes answer the next request
                self.abort()
                return
            if self._unsent:  # nothing was sent yet: these bytes answer nothing
                self._fail(StaleConnection())
                return
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_LIMIT_BYTES:
                self._receive_long(data)
                return
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            if not self._is_ended:
                self._fail(UpstreamFailed(self._instance, self._refusal or f"it sent no valid HTTP: {error}"))
                return
            self._keeps_alive = False
        if reply is None:
            reply = self._reply
            if reply is None:
                return
            self._deliver(reply)
        elif self._is_ended:
            self._finish(reply)
            reply.wake()
        elif self._parts:
            self._head_bytes = 0
            self._expect_more(len(data))
            reply.arrived()
        else:
            self._receive_framing(len(data))

    def _receive_long(self, data: bytes) -> None:
        """Let the parser see no more than the limit before the head ends; what follows the head is not limited."""
        allowed = len(data) - (self._head_bytes - HEAD_LIMIT_BYTES)
        self._head_bytes -= len(data)
        if allowed:
            self.data_received(data[:allowed])
        if self._waiter is not None:
            self._fail(UpstreamFailed(self._instance, f"the head of its answer is over {HEAD_LIMIT_BYTES} bytes"))
        elif not self.is_lost:
            self.data_received(data[allowed:])

    def _receive_framing(self, size_bytes: int) -> None:
        """Chunk extensions and trailers, which the parser keeps until their line ends: limited as a head is."""
        self._raw_headers.clear()
        self._head_bytes += size_bytes
        if self._head_bytes > HEAD_LIMIT_BYTES:
            self._fail(UpstreamFailed(self._instance, f"it sent {HEAD_LIMIT_BYTES} bytes of framing without a body"))
        else:
            self._expect_more(0)

    def on_message_begin(self) -> None:
        if self._is_ended:
            raise _Surplus

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        raw = self._raw_headers
        if status >= 200:
            headers = {_names[name]: value.decode("latin-1") for name, value in raw.items()}
            self._reply = PlainReply(self._instance, status, headers, self, self._parts)
            if self._is_head_only:  # the parser waits for a body that will not come, so this is its last exchange
                self._is_ended, self._keeps_alive = True, False
        elif status == 101:
            self._refusal = "it answered 101 Switching Protocols, which nobody asked for"
            raise _Surplus
        raw.clear()

    def on_message_complete(self) -> None:
        if self._reply is not None:  # a 1xx head is a message of its own
            self._is_ended = True
            self._keeps_alive = not self._is_head_only and self._parser.should_keep_alive()

    def _deliver(self, reply: PlainReply) -> None:
        """The head is complete, and often all of the body with it."""
        waiter, self._waiter = self._waiter, None
        assert waiter is not None
        if self._is_ended:
            self._finish(reply)
        elif waiter.cancelled():
            self.abort()
        else:
            self._expect_more(self._head_bytes if self._parts else 0)
        if not waiter.done():
            waiter.set_result(reply)
        self._wake_writer()

    def _expect_more(self, size_bytes: int) -> None:
        self._buffered_bytes += size_bytes  # framing included: an upper bound will do
        self.deadline_s = self._loop.time() + self._read_timeout_s
        if self._buffered_bytes > BUFFER_LIMIT_BYTES and not self._is_paused:
            assert self._transport is not None
            self._is_paused = True
            self._transport.pause_reading()
            if self._is_sent:
                self.deadline_s = inf  # the reader is slow now, not the instance

    @property
    def heard_s(self) -> float:
        """When the last part of a reply came that is not at its end; by the loop's clock, -inf when there is none."""
        is_reading = self._reply is not None and self.deadline_s < inf
        return self.deadline_s - self._read_timeout_s if is_reading else -inf

    def on_taken(self) -> None:
        """The reader took all that was buffered."""
        self._buffered_bytes = 0
        if self._is_paused:
            self._resume()
            self.deadline_s = self._loop.time() + self._read_timeout_s

    def _resume(self) -> None:
        self._is_paused = False
        if self._transport is not None:
            self._transport.resume_reading()

    def _finish(self, reply: PlainReply) -> None:
        self._reply = None
        reply.finish(self._parts.copy())
        self._parts.clear()
        self._raw_headers.clear()  # trailers
        self._buffered_bytes = 0
        if self._is_paused:
            self._resume()
        if self._keeps_alive and self._is_sent and not self.is_lost:
            self.is_reused = True
            self._on_idle(self)
        else:
            self._wake_writer()
            self.abort()

    def rest(self, idle_s: float) -> None:
        """Nobody needs it now; after idle_s its owner's sweep closes it."""
        self.deadline_s = self._loop.time() + idle_s

    # --- the end --------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        connected = transport.get_extra_info("socket")
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for option, value in _KEEPALIVE:
            connected.setsockopt(*option, value)

    def eof_received(self) -> None:
        self._hang_up(None)

    def connection_lost(self, error: Exception | None) -> None:
        if error is not None and self._waiter is not None:
            self._read_last_words()
        self._hang_up(error)
        self._transport = None

    def _read_last_words(self) -> None:
        """An instance that refuses a large body and closes makes our writes fail, while its reply waits in the socket.

        Both loops close the socket only after `connection_lost`.
        """
        assert self._transport is not None
        try:
            data = os.read(self._transport.get_extra_info("socket").fileno(), HEAD_LIMIT_BYTES)
        except OSError:
            return
        if data:
            self.data_received(data)

    def expire(self) -> None:
        """The deadline passed: in silence before the head, within the body, or without any request."""
        if self._waiter is not None:
            self._fail(UpstreamTimeout(self._instance, "answer", self._silence_s))
        elif self._reply is not None:
            self._fail(UpstreamTimeout(self._instance, "further part of its answer", self._read_timeout_s))
        else:
            self.abort()

    def abort(self) -> None:
        """Close the socket now, whatever is still to be written or read. Tells nobody but the owner."""
        self._reply = self._waiter = None
        self._unsent = b""
        self.deadline_s = inf
        if not self.is_lost:
            self.is_lost = True
            self._on_lost(self)
            if self._transport is not None:
                self._transport.abort()

    def close(self, why: str) -> None:
        """Abort, and tell whoever waits for a reply."""
        self._fail(UpstreamFailed(self._instance, why))

    def _hang_up(self, error: Exception | None) -> None:
        reply, waiter = self._reply, self._waiter
        if waiter is not None:
            self._fail(self._lost_before_reply())
        elif reply is None:
            self.abort()
        elif error is None and _ends_by_closing(reply.headers):
            self._keeps_alive = False
            self._finish(reply)
            reply.wake()
        else:
            self._fail(UpstreamFailed(self._instance, "it closed the connection in the middle of its answer"))

    def _lost_before_reply(self) -> UpstreamFailed | StaleConnection:
        if self._head_bytes and self._waiter is not None:
            return UpstreamFailed(self._instance, "it closed the connection within the head of its answer")
        if self.is_reused:
            return StaleConnection()
        return UpstreamFailed(self._instance, "it closed the connection before answering")

    def _fail(self, error: HubError | StaleConnection) -> None:
        waiter, reply = self._waiter, self._reply
        self.abort()
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)
        if reply is not None and isinstance(error, HubError):
            reply.fail(error)
        self._wake_writer()


def _is_refusal(waiter: "asyncio.Future[PlainReply]") -> bool:
    """The instance answered without having read the whole body, and does not want the rest: 413 and the like."""
    return waiter.done() and (waiter.cancelled() or waiter.exception() is not None or waiter.result().status >= 300)


def _ends_by_closing(headers: Mapping[str, str]) -> bool:
    """RFC 9112, section 6.3: neither a length nor a final chunked coding."""
    coding = headers.get("transfer-encoding")
    return "content-length" not in headers if coding is None else not coding.strip().lower().endswith("chunked")
