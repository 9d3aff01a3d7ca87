"""HTTP/1.1 for a server: from bytes to an Exchange, one at a time for each connection. Source: RFC 9112.

Raw asyncio on httptools' parser (llhttp). It is our own because a request costs a third of what it costs on uvicorn,
whose task, event and cycle for each request our handlers do not need: docs/adr/0005-own-http-server.md.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Coroutine, Iterable
from typing import Any, cast

import httptools

from autoglm.core.errors import CrossOrigin, HeadTooLarge, HubError, InvalidHttp, TooManyConnections, WrongHost
from autoglm.gateway.exchange import Exchange, head_bytes, next_request_id
from autoglm.gateway.head import Head
from autoglm.gateway.hosts import Hosts, is_origin_of
from autoglm.gateway.house import House
from autoglm.gateway.problems import problem_response
from autoglm.gateway.stall import Stall
from autoglm.gateway.upgrade import is_websocket, without_offers

MAX_HEAD_BYTES = 64 * 1024
"""For a head; and for trailers, or the framing of chunks, at a stretch."""
MAX_UNSENT_BYTES = 64 * 1024
NEW_S = 2.0
"""So young a connection keeps its place in a crowd: its request is still on the way."""
LEAST_BYTES_PER_S = 256
"""Of a body, on the whole: less than the slowest satellite link that carries HTTP."""
_SINGLE = frozenset((b"host", b"authorization", b"dpop", b"content-type", b"cookie"))
"""Of these a proxy may take the first, where this hub takes the last."""


class HttpConnection(asyncio.Protocol):
    """One client. Who stops in the middle of a request is answered 408 by the server's round (see server.Server)."""

    __slots__ = (
        "_began_s", "_body_bytes", "_came_bytes", "_head_bytes", "_headers", "_house", "_is_advancing", "_is_in_head",
        "_is_in_message", "_is_lost", "_is_reading_paused", "_parser", "_partial_head", "_peer", "_queue",
        "_receiving", "_refusal", "_stall", "_unsent", "_unsent_bytes", "_url", "_writable", "heard_s",
        "is_write_paused", "on_url", "running", "transport",
    )  # fmt: skip

    def __init__(self, house: House) -> None:
        self._house = house
        self._parser: httptools.HttpRequestParser | None = None
        self._url: list[bytes] = []
        self._headers: dict[bytes, bytes] = {}
        self.on_url = self._url.append  # a method of a C type costs no Python frame
        self._peer = ""
        self._head_bytes = self._body_bytes = self._came_bytes = 0
        self._began_s = 0.0
        """When the message that is coming began, or the connection where none has; its bytes since: `_came_bytes`."""
        self._partial_head = b""
        """What came of a head so far, where it is not whole yet."""
        self._is_in_head = self._is_in_message = False
        self._is_advancing = self._is_lost = self._is_reading_paused = False
        self._queue: deque[Exchange] = deque()
        """Requests that wait behind the one that runs (pipelining)."""
        self._refusal: HubError | None = None
        """What is said, once the requests before it are answered; nothing is read any more."""
        self._receiving: Exchange | None = None
        """Whose body is coming."""
        self._unsent: list[bytes] = []
        self._unsent_bytes = 0
        self._writable: asyncio.Future[None] | None = None
        self._stall = Stall()
        self.running: Exchange | None = None
        """The newest request that was started."""
        self.is_write_paused = False
        self.heard_s = 0.0
        """When data came last, or a response was complete; the house's clock."""
        self.transport: asyncio.Transport

    # --- the connection -------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._house.connections.add(self)
        self.heard_s = self._began_s = self._house.now_s
        peer = transport.get_extra_info("peername")
        self._peer = str(peer[0]) if isinstance(peer, tuple) else ""

    def connection_lost(self, error: Exception | None) -> None:
        self._house.connections.discard(self)
        self._is_lost = True
        self._queue.clear()
        self._parser = None
        self.is_write_paused = False
        self._wake_writer()
        if self.running is not None and not self.running.is_complete:
            self.running.leave()

    def eof_received(self) -> None:
        """Whoever ends its side has left; what was written in this turn may still reach it."""
        self.flush()

    def shutdown(self) -> None:
        """No further requests: close now, or after the one that runs."""
        if self.running is None or self.running.is_complete:
            self.close()
        else:
            self.running.is_keep_alive = False

    def client(self, headers: dict[bytes, bytes]) -> str:
        """The address that a request with these headers comes from; empty where it has none (a Unix socket)."""
        proxies = self._house.proxies
        return self._peer if proxies is None else proxies.client(self._peer, headers)

    @property
    def _is_free(self) -> bool:
        """True when the next request may start."""
        return self.running is None or self.running.is_complete

    @property
    def is_unused(self) -> bool:
        """True until the first byte of the first request."""
        return self.running is None and not self._is_in_message

    @property
    def is_idle(self) -> bool:
        """True between two requests."""
        return self.running is not None and self.running.is_complete and not self._is_in_head

    @property
    def has_partial_head(self) -> bool:
        """True from a request's first byte to the end of its headers."""
        return self._is_in_head

    @property
    def has_partial_body(self) -> bool:
        """True when the request that runs waits for the rest of its body."""
        running = self.running
        if running is None or running.is_complete or self._is_reading_paused:
            return False
        return running is self._receiving

    def is_too_slow(self, now_s: float, patience_s: float) -> bool:
        """True when a head takes longer than that, or a body comes by less than LEAST_BYTES_PER_S on the whole.

        A byte a minute is never silent for long, and would hold its place for days (slowloris).
        """
        lasts_s = now_s - self._began_s
        if lasts_s <= patience_s:
            return False
        return self._is_in_head or (self.has_partial_body and self._came_bytes < lasts_s * LEAST_BYTES_PER_S)

    @property
    def held_since_s(self) -> float | None:
        """From when on nobody in particular holds the place; None where somebody was verified, or is being served."""
        if self.transport.is_closing():
            return None
        running = self.running
        if running is None:
            return self._began_s
        if running.principal is not None or not running.is_complete:
            return None
        return self._began_s if self._is_in_head else self.heard_s

    # --- in -------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        self.heard_s = self._house.now_s
        if self._refusal is not None:
            return  # what follows garbage is garbage
        if not self._is_in_message and not self.is_write_paused and self._is_free and not self._queue:
            size = data.find(b"\r\n\r\n") + 4
            head = self._house.known_heads.find(data[:size])
            if head is not None and len(data) - size == head.length:
                self._start(Exchange(self, head, data[size:]))
                return
        self._parse(data)

    def _parse(self, data: bytes) -> None:
        if self._parser is None:
            self._parser = httptools.HttpRequestParser(self)
            # Else a request that says "close" and comes with others would not even be answered itself.
            self._parser.set_dangerous_leniencies(lenient_data_after_close=True)
        is_fresh, queued, self._body_bytes = not self._is_in_message, len(self._queue), 0
        receiving = self._receiving
        self._came_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            is_alone = len(self._queue) == queued and (is_fresh or self._partial_head)
            self._upgrade(self._partial_head + data if is_alone else b"")
            return
        except httptools.HttpParserError:
            if not self.transport.is_closing():
                self.refuse(InvalidHttp("see RFC 9112"))
            return
        if self._is_framing_too_long(len(data)):
            self.refuse(HeadTooLarge(MAX_HEAD_BYTES))
            return
        if not self._is_in_head:
            self._partial_head = b""
        elif is_fresh or self._partial_head:
            self._partial_head += data
        if is_fresh and not self._is_in_message and len(self._queue) == queued + 1:
            self._house.known_heads.add(data, self._queue[-1].head, self._body_bytes)
        if receiving is not None:
            receiving.wake()
        self._advance()

    def _is_framing_too_long(self, size_bytes: int) -> bool:
        """Counts what came of a head, of trailers or of chunks' lengths without a byte of a body."""
        if not self._is_in_message or (self._body_bytes and not self._is_in_head):
            self._head_bytes = 0
            return False
        if not self._is_in_head:
            self._headers.clear()  # of trailers, which say nothing that anybody here wants to know
        self._head_bytes += size_bytes
        return self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing()

    # Called by the parser:

    def on_message_begin(self) -> None:
        self._is_in_message = self._is_in_head = True
        self._began_s, self._came_bytes = self._house.now_s, 0
        self._url.clear()
        self._headers.clear()

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name in self._headers and name in _SINGLE:
            raise ValueError("a header is there twice that readers could understand differently: RFC 9112, section 3.2")
        self._headers[name] = value

    def on_headers_complete(self) -> None:
        parser = self._parser
        assert parser is not None
        self._is_in_head = False
        if parser.should_upgrade():
            return  # HttpParserUpgrade follows
        headers, version = self._headers, parser.get_http_version()
        self._headers = {}  # trailers must not change what was said
        if version not in ("1.0", "1.1") or (version == "1.1" and b"host" not in headers):
            raise ValueError("RFC 9112, sections 2.3 and 3.2")
        head = Head(
            parser.get_method().decode("ascii"), b"".join(self._url), headers,
            is_keep_alive=parser.should_keep_alive(), is_old=version == "1.0",
        )  # fmt: skip
        head.is_for_us = self._is_for_us(head)
        self._receiving = Exchange(self, head)
        if head.method in ("GET", "HEAD"):
            self._receiving.ignore_body()
        self._queue.append(self._receiving)

    def _is_for_us(self, head: Head) -> bool:
        """A browser adds no Authorization by itself: whoever shows one has the key, under whatever name he calls."""
        return head.authority is None or b"authorization" in head.headers or self._house.hosts.has(head.authority)

    def on_body(self, part: bytes) -> None:
        self._body_bytes += len(part)
        if self._receiving is not None:
            self._receiving.take(part)

    def on_message_complete(self) -> None:
        self._is_in_message = False
        if self._receiving is not None:
            self._receiving.has_whole_body = True
            self._receiving = None

    # --- one after the other --------------------------------------------------------------------------

    def _advance(self) -> None:
        """Start what may start. A loop, because requests that are answered at once would call each other."""
        if self._is_advancing:
            return
        self._is_advancing = True
        try:
            while self._queue and not self.is_write_paused and self._is_free:
                self._start(self._queue.popleft())
        finally:
            self._is_advancing = False
        if self._queue:
            self.pause_reading()
        elif self.running is not None and self.running.has_whole_body:
            self.resume_reading()  # nothing more is expected, but the client's departure must be seen

    def _start(self, exchange: Exchange) -> None:
        self.running = exchange
        house = self._house
        if len(house.connections) > house.max_connections and not make_room(house.connections, house.now_s):
            exchange.is_keep_alive = False
            house.begin(exchange, TooManyConnections(house.max_connections))
        else:
            house.begin(exchange, None)

    def spawn(self, exchange: Exchange, work: Coroutine[Any, Any, None]) -> None:
        """Called by the exchange."""
        task = asyncio.get_running_loop().create_task(self._run(exchange, work))
        self._house.tasks.add(task)
        task.add_done_callback(self._house.tasks.discard)

    async def _run(self, exchange: Exchange, work: Coroutine[Any, Any, None]) -> None:
        """A response that was begun and cannot be ended is cut off, so that the client sees it."""
        try:
            await work
        finally:
            exchange.on_leave = None
            if not exchange.is_complete and not exchange.has_left:
                self.close()

    def completed(self, exchange: Exchange) -> None:
        """The exchange's response is out. Called by the exchange."""
        if not exchange.is_keep_alive:
            self.close()
        if self.transport.is_closing():
            self._queue.clear()
            return
        self.heard_s = self._house.now_s  # from now on it is idle
        if self._is_reading_paused:
            self.resume_reading()
        if self._queue:
            self._advance()
        elif self._refusal is not None:
            self._refuse_now(self._refusal)

    # --- out ------------------------------------------------------------------------------------------

    @property
    def date_line(self) -> bytes:
        return self._house.date_line

    @property
    def hosts(self) -> Hosts:
        return self._house.hosts

    @property
    def answer_lines(self) -> bytes:
        return self._house.answer_lines

    def write(self, data: bytes) -> None:
        """Goes out with the end of the loop's turn, or now if it is much: then the client's pace counts."""
        self._unsent.append(data)
        self._unsent_bytes += len(data)
        if self._unsent_bytes > MAX_UNSENT_BYTES:
            self.flush()
        elif len(self._unsent) == 1:
            self._house.turn.add(self)

    def flush(self) -> None:
        unsent, self._unsent, self._unsent_bytes = self._unsent, [], 0
        if unsent and not self._is_lost:
            self.transport.write(unsent[0] if len(unsent) == 1 else b"".join(unsent))

    def close(self) -> None:
        """Close once all that was written has gone out."""
        self.flush()
        self.transport.close()

    def ask_for_body(self) -> None:
        """RFC 9110, section 15.2.1."""
        self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def refuse(self, error: HubError) -> None:
        """Answer what is no (complete) request, and close the connection. Requests before it are answered first."""
        broken, self._receiving = self._receiving, None
        self._parser = None
        self._refusal = error
        if broken is not None and broken in self._queue:
            self._queue.remove(broken)
        if broken is not None and broken is self.running:
            self._break_off(broken, error)
        elif self._queue or not self._is_free:
            self._advance()
        elif broken is not None:
            self.running = broken
            broken.is_keep_alive = False
            self._house.begin(broken, error)
        else:
            self._refuse_now(error)

    def _break_off(self, exchange: Exchange, error: HubError) -> None:
        """The request that runs will never be whole."""
        if exchange.status:  # it has its answer, or part of one: nothing can be said any more
            self.close()
        else:
            exchange.is_keep_alive = False
            exchange.respond_problem(error)
        exchange.leave()

    def _refuse_now(self, error: HubError) -> None:
        request_id = next_request_id()
        status, headers, body = problem_response(error, request_id)
        headers += [(b"content-length", b"%d" % len(body)), (b"connection", b"close")]
        self.write(head_bytes(status, self.answer_lines, headers, request_id) + body)
        self.close()

    def pause_writing(self) -> None:
        self.is_write_paused = True

    def resume_writing(self) -> None:
        self.is_write_paused = False
        self._wake_writer()
        self._advance()

    async def writable(self) -> None:
        """Returns when the client takes data again, or has left."""
        if self._writable is None:
            self._writable = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._writable)

    def _wake_writer(self) -> None:
        writable, self._writable = self._writable, None
        if writable is not None and not writable.done():
            writable.set_result(None)

    def has_stalled(self, now_s: float, patience_s: float) -> bool:
        """True when the client has taken nothing for so long of what waits for it."""
        return self._stall.lasts(
            is_waiting=self.is_write_paused or self.transport.is_closing(),
            waiting_bytes=self.transport.get_write_buffer_size(), now_s=now_s, patience_s=patience_s,
        )  # fmt: skip

    def pause_reading(self) -> None:
        if not self._is_reading_paused and not self.transport.is_closing():
            self._is_reading_paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if self._is_reading_paused and not self.transport.is_closing():
            self._is_reading_paused = False
            self._began_s, self._came_bytes = self._house.now_s, 0  # the pause was not the client's
            self.transport.resume_reading()

    # --- WebSocket ------------------------------------------------------------------------------------

    def _upgrade(self, data: bytes) -> None:
        """RFC 6455, section 4.2; an offer of anything else is ignored.

        data: since the beginning of the head; empty when that is not known, as other requests came before it.
        """
        parser, headers = self._parser, self._headers
        assert parser is not None
        if not is_websocket(headers):
            ignoring = without_offers(data)
            if ignoring == data:
                self.refuse(InvalidHttp("the only upgrade here is to a WebSocket"))
                return
            self._parser, self._partial_head, self._is_in_message = None, b"", False
            self._parse(ignoring)
            return
        if self._queue or not self._is_free:
            self.refuse(InvalidHttp("a WebSocket begins when the requests before it are answered"))
            return
        if len(self._house.connections) > self._house.max_connections:
            self.refuse(TooManyConnections(self._house.max_connections))
            return
        try:
            handshake = self._handshake(parser, headers)
            socket = self._house.upgrade(self.transport, handshake, self.client(headers))
        except (WrongHost, CrossOrigin) as error:
            self.refuse(error)
            return
        except (ValueError, httptools.HttpParserError) as error:
            self.refuse(InvalidHttp(f"the handshake of a WebSocket is wrong: {error}"))
            return
        self._house.connections.discard(self)
        self._parser = None
        self.flush()
        self.transport.set_protocol(socket)

    def _handshake(self, parser: httptools.HttpRequestParser, headers: dict[bytes, bytes]) -> bytes:
        """The request's head, spelled as WebSockets want it. Raises ValueError, WrongHost, CrossOrigin."""
        if parser.get_http_version() != "1.1" or b"host" not in headers:
            raise ValueError("it needs HTTP/1.1 and a Host (RFC 6455, section 4.2.1)")
        if not headers.keys().isdisjoint((b"content-length", b"transfer-encoding")):
            raise ValueError("it has a body")
        head = Head("GET", b"".join(self._url), headers, is_keep_alive=True, is_old=False)
        if not self._is_for_us(head):
            raise WrongHost((head.authority or b"").decode("latin-1"))
        origin = headers.get(b"origin")
        if origin is not None and b"authorization" not in headers and not is_origin_of(origin, headers[b"host"]):
            raise CrossOrigin(origin.decode("latin-1"))
        query = b"?" + head.query if head.query else b""
        lines = b"".join([b"%b: %b\r\n" % header for header in headers.items()])
        return b"%b %b%b HTTP/1.1\r\n%b\r\n" % (parser.get_method(), head.raw_path, query, lines)


def make_room(connections: Iterable[asyncio.Protocol], now_s: float) -> bool:
    """Close a twentieth of the connections that nobody in particular holds, the oldest first. False: there are none.

    Whoever holds all places with connections that ask for nothing must not keep out those who ask.
    """
    waiting = [
        (since_s, id(connection), connection)
        for connection in connections
        if isinstance(connection, HttpConnection)
        and (since_s := connection.held_since_s) is not None
        and now_s - since_s >= NEW_S
    ]
    for _, _, connection in heapq.nsmallest(max(1, len(waiting) // 20), waiting):
        connection.transport.abort()
    return bool(waiting)
