"""Listens and serves: uvicorn's life cycle and WebSockets, our own HTTP, and a shutdown that cuts nobody off."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Iterator
from typing import cast

import uvicorn
from uvicorn._types import ASGI3Application
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.frames import Frame

from autoglm.core.clock import monotonic_s
from autoglm.core.errors import RequestTimeout
from autoglm.gateway.front import Front
from autoglm.gateway.hosts import Hosts
from autoglm.gateway.house import House
from autoglm.gateway.http1 import HttpConnection
from autoglm.gateway.proxies import Proxies
from autoglm.gateway.settings import GatewaySettings
from autoglm.gateway.stall import Stall
from autoglm.gateway.tls import GatewayTls
from autoglm.gateway.websocket import ADMIT, CLIENT, STRANGER_BYTES, SocketGateway

IDLE_S = 75.0
SILENT_S = 60.0
"""How long a client may pause within a request, or before its first one."""
_LAST_WORDS_S = 1.0
_MOST_FRAGMENTS = 1000
_TICKS_PER_S = 10  # uvicorn's
_ROUND_TICKS = 50


class SocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket, which reads on only while the client does: each ping would become a pong in memory.

    Until it is admitted (see websocket.SocketGateway) its messages must be short: anybody may connect.
    """

    def __init__(self, config: uvicorn.Config, server_state: ServerState, client: str) -> None:
        super().__init__(config, server_state, app_state={})
        self.app_state[ADMIT] = self._admit
        self.app_state[CLIENT] = client
        self._stall = Stall()
        self.conn.max_message_size = min(STRANGER_BYTES, self.config.ws_max_size)

    def _admit(self) -> None:
        self.conn.max_message_size = self.config.ws_max_size

    def handle_cont(self, event: Frame) -> None:
        super().handle_cont(event)
        if len(self.frames) > _MOST_FRAGMENTS:  # empty ones count against no limit of bytes
            self.frames = [b"".join(self.frames)]

    def has_stalled(self, now_s: float, patience_s: float) -> bool:
        """True when the client has taken nothing for so long of what waits for it."""
        return self._stall.lasts(
            is_waiting=not self.writable.is_set() or self.transport.is_closing(),
            waiting_bytes=self.transport.get_write_buffer_size(), now_s=now_s, patience_s=patience_s,
        )  # fmt: skip

    def pause_writing(self) -> None:
        super().pause_writing()
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.read_paused and not self.transport.is_closing():
            self.transport.resume_reading()


_FAREWELL_S = 2.0
"""How long a client may take to answer TLS's goodbye: an open page of a browser must not hold up a stop."""


class Server(uvicorn.Server):
    """uvicorn's server without its signal handlers: the hub decides when to stop. Sends silent clients away."""

    def __init__(self, config: uvicorn.Config, front: Front, settings: GatewaySettings, tls: GatewayTls | None) -> None:
        super().__init__(config)
        self._tls = None if tls is None else tls.context
        self._house = House(
            front.begin, self._upgrade, settings.max_connections,
            hosts=Hosts(settings.hosts, are_all=settings.has_tls),
            proxies=Proxies(settings.trusted_proxies, settings.proxy_header) if settings.trusted_proxies else None,
        )  # fmt: skip
        self._house.connections = cast(set[asyncio.Protocol], self.server_state.connections)
        self._house.tasks = self.server_state.tasks
        self.ready = asyncio.Event()
        """Set once the hub takes connections."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        loop, config = asyncio.get_running_loop(), self.config
        farewell_s = None if self._tls is None else _FAREWELL_S
        self.servers = [
            await loop.create_server(
                lambda: HttpConnection(self._house),
                sock=listener,
                ssl=self._tls,
                backlog=config.backlog,
                ssl_shutdown_timeout=farewell_s,
            )
            for listener in sockets or []
        ]
        self.started = True
        self.ready.set()

    async def on_tick(self, counter: int) -> bool:
        self._house.now_s = monotonic_s()
        if counter % _TICKS_PER_S == 0:
            self._house.set_date(time.time())
        if counter % _ROUND_TICKS == 0:
            self._send_silent_away(self._house.now_s)
        return await super().on_tick(counter)

    def _send_silent_away(self, now_s: float) -> None:
        """A peer that lost its power in the middle of a request never says so, and would hold its place for ever."""
        for connection in tuple(self._house.connections):
            if isinstance(connection, (HttpConnection, SocketProtocol)) and connection.has_stalled(now_s, SILENT_S):
                connection.transport.abort()
            if not isinstance(connection, HttpConnection):
                continue
            if connection.is_too_slow(now_s, SILENT_S):
                connection.refuse(RequestTimeout(SILENT_S, is_slow=True))
                continue
            if now_s - connection.heard_s < SILENT_S:
                continue
            if connection.has_partial_head or connection.has_partial_body:
                connection.refuse(RequestTimeout(SILENT_S))
            elif connection.is_unused or (connection.is_idle and now_s - connection.heard_s > IDLE_S):
                connection.transport.close()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        if tasks := tuple(self._house.tasks):  # they were cancelled: let them say so to their clients
            await asyncio.wait(tasks, timeout=_LAST_WORDS_S)
        for connection in tuple(self._house.connections):
            if isinstance(connection, HttpConnection):
                connection.close()

    def _upgrade(self, transport: asyncio.Transport, head: bytes, client: str) -> asyncio.Protocol:
        protocol = SocketProtocol(self.config, self.server_state, client)
        protocol.connection_made(transport)
        protocol.data_received(head)
        if not protocol.handshake_initiated:  # it says nothing then, and would keep its place for ever
            self._house.connections.discard(protocol)
            raise ValueError("its head is too long, or has too many headers")
        return protocol

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


def make_server(
    front: Front, sockets: SocketGateway, settings: GatewaySettings, tls: GatewayTls | None = None
) -> Server:
    """A server that `serve(sockets=[...])` runs; set `should_exit` to begin its shutdown."""
    config = uvicorn.Config(
        cast(ASGI3Application, sockets.handle),
        interface="asgi3",
        ws=SocketProtocol,
        ws_per_message_deflate=False,  # frames are short, and its buffers would cost each connection more than the rest
        ws_max_size=settings.max_body_bytes,
        ws_ping_interval=20.0,
        ws_ping_timeout=20.0,
        lifespan="off",
        access_log=False,
        proxy_headers=False,  # see proxies
        log_config=None,
        timeout_graceful_shutdown=max(1, round(settings.drain_s)),
        backlog=1024,
    )
    return Server(config, front, settings, tls)
