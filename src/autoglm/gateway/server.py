"""Listens and serves: uvicorn with our request path, the console's files, and a shutdown that cuts nobody off."""

import asyncio
import contextlib
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import structlog
import uvicorn
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.flow_control import service_unavailable
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from autoglm.core.clock import monotonic_s
from autoglm.core.errors import HeadTooLarge, HubError, InvalidHttp, RequestTimeout, TooManyConnections, UnknownPath
from autoglm.gateway.access import AccessLog
from autoglm.gateway.exchange import (
    HAS_LEFT,
    ON_LEAVE,
    SEND_WHOLE,
    ClientLeft,
    Exchange,
    Headers,
    Receive,
    Scope,
    Send,
    next_request_id,
)
from autoglm.gateway.metrics import Metrics
from autoglm.gateway.openai import APIS, OpenAIGateway
from autoglm.gateway.problems import problem_response
from autoglm.gateway.router import Router, answer_without_handler
from autoglm.gateway.settings import GatewaySettings
from autoglm.gateway.websocket import SocketGateway

log = structlog.get_logger()

COPY_LIMIT_BYTES = 64 * 1024
"""Up to here head and body go out in one write; a copy is cheaper than a second system call."""
IDLE_S = 75.0
MAX_HEAD_BYTES = 64 * 1024
SILENT_S = 60.0
"""How long a client may pause within a request, or before its first one."""
_ROUND_TICKS = 50  # uvicorn ticks ten times a second

_PAGE_HEADERS = [
    (
        b"content-security-policy",
        b"default-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; object-src 'none'; "
        b"base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cache-control", b"no-cache"),
]
_NO_PAGE = """<!doctype html><meta charset="utf-8"><title>AutoGLM Hub</title>
<h1>AutoGLM Hub is running</h1>
<p>The console's page is not built. Run <code>make up</code> in the project's folder, or use
<code>autoglm ask</code>.</p>
<p>控制台页面尚未构建。请在项目目录运行 <code>make up</code>，或使用 <code>autoglm ask</code>。</p>
""".encode()


class HubProtocol(HttpToolsProtocol):
    """uvicorn's protocol, and what it leaves open.

    A request learns at once that its client has left: no task has to wait for it. Heads have a limit. Who stops in the
    middle of a request is answered 408 by `Server`'s round. What is refused here is refused as everywhere, with problem
    details and a request id.
    """

    running: RequestResponseCycle | None = None
    """The newest request that was started; `cycle` may be one that waits behind it (pipelining)."""
    heard_s = 0.0
    """When data came last."""
    _head_bytes = 0
    _stalled_s = 0.0
    """When the client last took something, as far as the rounds saw."""
    _stalled_bytes = -1

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self.heard_s = self.loop.time()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        cycle = self.running
        self.pipeline.clear()
        if cycle is not None and not cycle.response_complete:
            _leave(cycle)

    def data_received(self, data: bytes) -> None:
        self.heard_s = self.loop.time()
        if b"h2c" in data and (self.has_partial_head or not self.cycle or not self.cycle.more_body):
            data = _without_h2c(data)
        super().data_received(data)
        if self.has_partial_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
                self.refuse(HeadTooLarge(MAX_HEAD_BYTES))
        else:
            self._head_bytes = 0

    @property
    def is_unused(self) -> bool:
        """True until the first byte of the first request."""
        return not self.scope

    @property
    def has_partial_head(self) -> bool:
        """True from a request's first byte to the end of its headers."""
        return not self.is_unused and (not self.cycle or self.cycle.scope is not self.scope)

    @property
    def has_partial_body(self) -> bool:
        """True when the request that runs waits for the rest of its body."""
        cycle = self.running
        return cycle is not None and cycle.more_body and not cycle.response_complete and not self.flow.read_paused

    def refuse(self, error: HubError) -> None:
        """Answer what is no (complete) request, and close the connection."""
        running = self.running
        if running is None or running.response_complete or not running.response_started:
            request_id = next_request_id()
            status, headers, body = problem_response(error, request_id)
            headers.append((b"content-length", b"%d" % len(body)))
            headers.append((b"x-request-id", request_id.encode()))
            headers.append((b"connection", b"close"))
            lines = b"".join(b"%b: %b\r\n" % header for header in headers)
            self.transport.write(b"%b%b\r\n%b" % (STATUS_LINE[status], lines, body))
        self.transport.close()
        if running is not None and not running.response_complete:
            _leave(running)

    def send_whole(self, status: int, headers: Headers, body: bytes) -> bool:
        """Send head and body in one write: one system call and one wake-up of the client less (10 of 68 us a request).

        False when it has to go uvicorn's way: the client is slow or gone, or the body is too long to copy.
        """
        cycle = self.running
        if cycle is None or cycle.response_started or cycle.disconnected or self.flow.write_paused:
            return False
        if len(body) > COPY_LIMIT_BYTES or cycle.scope["method"] == "HEAD":
            return False
        headers = [*self.server_state.default_headers, *headers]
        if (b"connection", b"close") in headers:
            cycle.keep_alive = False
        elif not cycle.keep_alive:
            headers.append((b"connection", b"close"))
        lines = b"".join([b"%b: %b\r\n" % header for header in headers])
        if lines.count(b"\n") != len(headers) or lines.count(b"\r") != len(headers):
            raise ValueError("a line break in a header")
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        self.transport.write(b"%b%b\r\n%b" % (STATUS_LINE[status], lines, body))
        cycle.message_event.set()
        if not cycle.keep_alive:
            self.transport.close()
        cycle.on_response()
        return True

    def on_response_complete(self) -> None:
        """As uvicorn's, without its timer for each response: `Server`'s round closes idle connections."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.heard_s = self.loop.time()  # from now on it is idle
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())

    @property
    def is_idle(self) -> bool:
        """True between two requests."""
        return self.running is not None and self.running.response_complete and not self.has_partial_head

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled_s = self.loop.time()

    def has_stalled(self, now_s: float) -> bool:
        """True when the client has taken nothing for SILENT_S of what waits for it: it holds a slot for nothing."""
        if not self.flow.write_paused:
            return False
        waiting_bytes = self.transport.get_write_buffer_size()
        if waiting_bytes != self._stalled_bytes:
            self._stalled_bytes, self._stalled_s = waiting_bytes, now_s
        return now_s - self._stalled_s >= SILENT_S

    def send_400_response(self, msg: str) -> None:
        self.refuse(InvalidHttp("see RFC 9112"))

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self.running = cycle
        cast(Scope, cycle.scope)[SEND_WHOLE] = self.send_whole
        super()._start_asgi_task(cycle, cast(ASGI3Application, self._busy) if app is service_unavailable else app)

    async def _busy(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, receive, send)
        await exchange.respond_problem(TooManyConnections(self.limit_concurrency or 0))


_is_h2c = re.compile(rb"(?im)^upgrade(?=:[ \t]*h2c[ \t]*\r?$)")


def _without_h2c(data: bytes) -> bytes:
    """The parser would take the body of a request that offers HTTP/2 (Java's HttpClient does) for HTTP/2 itself.

    RFC 9110, section 7.8: a server may ignore the offer.
    """
    head, end, rest = data.partition(b"\r\n\r\n")
    return _is_h2c.sub(b"x-offer", head) + end + rest


def _leave(cycle: RequestResponseCycle) -> None:
    """Let the request's task end: nobody reads its answer any more."""
    cycle.disconnected = True
    cycle.message_event.set()
    scope = cast(Scope, cycle.scope)
    scope[HAS_LEFT] = True
    callback: Callable[[], object] | None = scope.get(ON_LEAVE)
    if callback is not None:
        callback()


class SocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket, which reads on only while the client does: each ping would become a pong in memory."""

    def pause_writing(self) -> None:
        super().pause_writing()
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.read_paused and not self.transport.is_closing():
            self.transport.resume_reading()


class Gateway:
    """The ASGI application."""

    def __init__(  # noqa: PLR0917  # the composition root hands over each part once
        self,
        openai: OpenAIGateway,
        router: Router,
        sockets: SocketGateway,
        metrics: Metrics,
        access: AccessLog,
        page: Path,
    ) -> None:
        """page: the folder of the built console; may be missing."""
        self._openai = openai
        self._router = router
        self._sockets = sockets
        self._metrics = metrics
        self._access = access
        self._page = page
        self._files = StaticFiles(directory=page, html=True, check_dir=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._sockets.handle(scope, receive, send)
            return
        exchange = Exchange(scope, receive, send)
        try:
            await self._serve(exchange)
        except HubError as error:
            await self._refuse(exchange, error)
        except ClientLeft:
            exchange.status = exchange.status or 499
        except asyncio.CancelledError:
            if not exchange.has_left:
                raise
            exchange.status = exchange.status or 499  # nginx's code for a client that did not wait
        except Exception:
            log.exception("request_failed", request_id=exchange.request_id, path=exchange.path[:200])
            if exchange.status:
                raise  # uvicorn closes the connection, so that the client sees the cut
            await self._refuse(exchange, HubError("an error of the hub itself; its log has it under the request's id"))
        scope.pop(ON_LEAVE, None)
        scope.pop(SEND_WHOLE, None)  # it leads back to the scope; the garbage collector would have to find that
        took_s = monotonic_s() - exchange.started_s
        self._metrics.observe(exchange, took_s)
        self._access.add(exchange, took_s)

    async def _serve(self, exchange: Exchange) -> None:
        path = exchange.path
        if path in APIS:
            exchange.route = path
            if exchange.scope["method"] == "POST":
                await self._openai.handle(exchange)
            else:
                await answer_without_handler(["POST"], exchange)(exchange, {})
        elif path.startswith(("/api/", "/v1/")) or path in ("/healthz", "/readyz", "/metrics", "/openapi.json"):
            handler, variables = self._router.find(exchange)
            await handler(exchange, variables)
        else:
            await self._serve_page(exchange)

    async def _refuse(self, exchange: Exchange, error: HubError) -> None:
        if exchange.status:
            return  # the response has begun; nothing can be said any more
        exchange.route = exchange.route or "(none)"
        await exchange.respond_problem(error)

    async def _serve_page(self, exchange: Exchange) -> None:
        exchange.route = "/"
        if exchange.scope["method"] not in ("GET", "HEAD"):
            if exchange.path not in ("/", "/index.html"):
                raise UnknownPath(exchange.path[:200])
            await answer_without_handler(["GET"], exchange)(exchange, {})
            return
        if exchange.path in ("/", "/index.html") and not (self._page / "index.html").exists():
            await exchange.respond(200, _NO_PAGE, [(b"content-type", b"text/html; charset=utf-8"), *_PAGE_HEADERS])
            return

        async def send(message: dict[str, object]) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]  # type: ignore[assignment]  # ASGI says that it is an int
                headers = message["headers"]
                message["headers"] = [*headers, *_PAGE_HEADERS, (b"x-request-id", exchange.request_id.encode())]  # type: ignore[misc]
            await exchange.send(message)

        try:
            await self._files(exchange.scope, exchange.receive, send)  # type: ignore[arg-type]  # plain ASGI
        except (HTTPException, ValueError):  # a NUL in the path is a ValueError of the file system's calls
            raise UnknownPath(exchange.path[:200]) from None


class Server(uvicorn.Server):
    """uvicorn's server without its own signal handlers: the hub decides when to stop. Sends silent clients away."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()
        """Set once the hub takes connections."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    async def on_tick(self, counter: int) -> bool:
        if counter % _ROUND_TICKS == 0:
            self._send_silent_away(asyncio.get_running_loop().time())
        return await super().on_tick(counter)

    def _send_silent_away(self, now_s: float) -> None:
        """A peer that lost its power in the middle of a request never says so, and would hold its place for ever."""
        for connection in tuple(self.server_state.connections):
            if not isinstance(connection, HubProtocol):
                continue
            if connection.has_stalled(now_s):
                connection.transport.abort()
            if now_s - connection.heard_s < SILENT_S:
                continue
            if connection.has_partial_head or connection.has_partial_body:
                connection.refuse(RequestTimeout(SILENT_S))
            elif connection.is_unused or (connection.is_idle and now_s - connection.heard_s > IDLE_S):
                connection.transport.close()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def bind(settings: GatewaySettings) -> socket.socket:
    """A listening socket, so that the port is known before anything is served. Raises OSError."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((settings.host, settings.port))
        listener.listen(1024)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def make_server(app: Gateway, settings: GatewaySettings) -> Server:
    """A server that `serve(sockets=[...])` runs; set `should_exit` to begin its shutdown."""
    certificate, key = settings.tls_certificate_file, settings.tls_key_file
    config = uvicorn.Config(
        cast(ASGI3Application, app),
        http=HubProtocol,
        ws=SocketProtocol,
        ws_per_message_deflate=False,  # frames are short, and its buffers would cost each connection more than the rest
        ws_max_size=settings.max_body_bytes,
        ws_ping_interval=20.0,
        ws_ping_timeout=20.0,
        lifespan="off",
        access_log=False,
        proxy_headers=False,  # nothing here reads the client's address
        log_config=None,
        server_header=False,
        limit_concurrency=settings.max_connections,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=max(1, round(settings.drain_s)),
        backlog=1024,
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )
    return Server(config)
