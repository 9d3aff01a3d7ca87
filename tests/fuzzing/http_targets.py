"""HTTP, before anybody is known: requests are the same however their bytes are cut."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, cast

import uvicorn
from uvicorn._types import ASGI3Application
from uvicorn.server import ServerState

from autoglm.core.errors import HubError
from autoglm.core.turn import Turn, Writer
from autoglm.gateway.exchange import Exchange
from autoglm.gateway.hosts import Hosts
from autoglm.gateway.house import House
from autoglm.gateway.http1 import HttpConnection
from autoglm.gateway.server import SocketProtocol
from autoglm.gateway.websocket import STRANGER_BYTES
from fuzzing.target import Target


class _AtOnce(Turn):
    """There is no event loop whose turn could end."""

    def add(self, writer: Writer) -> None:
        writer.flush()


class _Wire(asyncio.Transport):
    """A client that takes everything."""

    def __init__(self) -> None:
        super().__init__()
        self.is_closed = False
        self.sent = b""

    def write(self, data: "bytes | bytearray | memoryview[Any]") -> None:
        self.sent += bytes(data)

    def close(self) -> None:
        self.is_closed = True

    def is_closing(self) -> bool:
        return self.is_closed

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.is_closed = True

    def get_write_buffer_size(self) -> int:
        return 0


class Listener:
    """A server on which each whole request is answered 204, and noted."""

    def __init__(self) -> None:
        self.heard: list[tuple[object, ...]] = []
        self._pending: list[Exchange] = []
        self.house = House(self._begin, self._upgrade, 10, hosts=Hosts())
        self.house.turn = _AtOnce()

    def hear(self, pieces: list[bytes]) -> list[tuple[object, ...]]:
        """The requests that it takes from one connection, in their order."""
        self.heard = []
        wire, connection = _Wire(), HttpConnection(self.house)
        connection.connection_made(wire)
        for piece in pieces:
            if wire.is_closed:
                break
            connection.data_received(piece)
            self._answer_whole()
        connection.connection_lost(None)
        self._pending.clear()
        assert wire.sent.count(b"HTTP/1.1 500") == 0
        return self.heard

    def _begin(self, exchange: Exchange, error: HubError | None) -> None:
        if error is not None:
            exchange.respond_problem(error)
        else:
            self._pending.append(exchange)
            self._answer_whole()

    def _answer_whole(self) -> None:
        while self._pending and self._pending[0].has_whole_body:
            exchange = self._pending.pop(0)
            head = exchange.head
            body = b"" if head.method in ("GET", "HEAD") else exchange.whole_body()
            self.heard.append((head.method, head.raw_path, head.path, head.query, sorted(head.headers.items()), body))
            exchange.respond(204, b"")

    def _upgrade(self, transport: asyncio.Transport, head: bytes, _client: str) -> asyncio.Protocol:
        self.heard.append(("upgrade", head))
        return asyncio.Protocol()


def fuzz_http(data: bytes) -> None:
    """However the bytes are cut on their way, and whether the head was seen before, the requests are the same: what a
    proxy takes for one request must not be two here (RFC 9112, section 11.2).
    """
    listener = Listener()
    whole = listener.hear([data])
    cuts = [[data[at : at + 1] for at in range(len(data))]] if len(data) <= 512 else []
    middle = data.find(b"\r\n\r\n") + 4
    cuts += [[data[:middle], data[middle:]], [data], [data]]
    for pieces in cuts:
        heard = listener.hear([piece for piece in pieces if piece])
        shorter = min(len(whole), len(heard))
        assert heard[:shorter] == whole[:shorter], (whole, heard)
    for further in (data + _NEXT, data + b"x", data[:-1], data.replace(b"\r\n", b"\n", 1)):
        known, unknown = listener.hear([further]), Listener().hear([further])
        assert known == unknown, (known, unknown)


_NEXT = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"
_HTTP = (
    b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /api/messages HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nT: 1\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /b?x=%20y HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /api/ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nContent-Length: 2\r\n"
    b"\r\nok",
    b"POST /a HTTP/1.1\nHost: a\nContent-Length: 7\n\n\r\n\r\nabc",
    b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nok",
    b"GET http://a/b HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /c HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
)
_HTTP_WORDS = (
    b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: identity\r\n", b"Content-Length: 5\r\n", b"\r\n", b"\n",
    b"Content-Length: 0\r\n", b" chunked", b"HTTP/1.0", b"Host: a\r\n", b"0\r\n\r\n", b"5\r\nhello\r\n", b"\t", b"\x0b",
    b"Upgrade: h2c\r\nConnection: Upgrade\r\n", b"Content-Length:5\r\n", b"%00", b"%zz", b"GET /x HTTP/1.1\r\n",
)  # fmt: skip

# --- WebSocket --------------------------------------------------------------------------------------


def fuzz_websocket(data: bytes) -> None:
    """What follows the handshake: frames (RFC 6455, section 5). Each message that comes out is within its limit."""
    asyncio.run(_conversation(data))


async def _conversation(data: bytes) -> None:
    heard: list[str | bytes] = []

    async def application(
        _: MutableMapping[str, Any], receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
        send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ) -> None:  # fmt: skip
        await receive()
        await send({"type": "websocket.accept"})
        while (event := await receive())["type"] == "websocket.receive":
            heard.append(event.get("text") or event.get("bytes") or "")

    config = uvicorn.Config(
        cast(ASGI3Application, application), interface="asgi3", ws=SocketProtocol, ws_per_message_deflate=False,
        ws_ping_interval=None, ws_ping_timeout=None, lifespan="off", log_config=None,
    )  # fmt: skip
    state, wire = ServerState(), _Wire()
    protocol = SocketProtocol(config, state, "")
    protocol.connection_made(wire)
    protocol.data_received(_HANDSHAKE)
    await asyncio.sleep(0)
    protocol.data_received(data)
    protocol.connection_lost(None)
    await asyncio.gather(*state.tasks)
    assert wire.sent.startswith(b"HTTP/1.1 101")
    assert all(len(message) <= STRANGER_BYTES for message in heard)


_HANDSHAKE = _HTTP[4]
_FRAMES = (
    b"\x81\x82\x00\x00\x00\x00{}",
    b"\x01\x81\x01\x02\x03\x04b\x80\x81\x01\x02\x03\x04b\x89\x80\x00\x00\x00\x00",
    b"\x82\xfe\x00\x80\x00\x00\x00\x00" + bytes(128) + b"\x88\x82\x00\x00\x00\x00\x03\xe8",
    b"\x81\xff\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00" + b"x" * 64,
)

TARGETS = (
    Target("http", fuzz_http, _HTTP, words=_HTTP_WORDS),
    Target(
        "websocket", fuzz_websocket, _FRAMES, words=(b"\x80\x80\x00\x00\x00\x00", b"\x81", b"\x88", b"\xfe\xff\xff")
    ),
)
