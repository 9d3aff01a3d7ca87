"""A vendor that pushes by a WebSocket which the channel opens: a real server, which knows what nobody has confirmed."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Iterable
from http import HTTPStatus
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request as HandshakeRequest
from websockets.http11 import Response

from eventually import until


class PushServer:
    """`async with` listens; derive from it what a vendor's frames are. A ticket of `tickets` opens one connection."""

    refused_with = HTTPStatus.BAD_REQUEST
    """Of a handshake with another path, or without such a ticket."""

    def __init__(self, path: str, tickets: set[str]) -> None:
        self._path, self._tickets = path, tickets
        self._server: Server | None = None
        self._numbers = itertools.count(1)
        self.port = 0
        """Kept from the first start on."""
        self.connections: list[ServerConnection] = []
        self.refusal: dict[str, str] = {}
        """The headers with which handshakes are refused."""
        self.wrong: list[str] = []
        """What a client did against the protocol."""

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
        assert not self.wrong, self.wrong

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}{self._path}"

    async def start(self) -> None:
        self._server = await serve(self._served, "127.0.0.1", self.port, process_request=self._admit)
        self.port = next(iter(self._server.sockets)).getsockname()[1]

    async def stop(self) -> None:
        """Cut all connections, and listen no more."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    async def say(self, raw: bytes | str) -> None:
        await self.connections[-1].send(raw)

    def unconfirmed(self) -> Iterable[bytes | str]:
        """The frames that a new connection brings again."""
        raise NotImplementedError

    def heard(self, raw: bytes | str) -> None:
        """What a client says."""
        raise NotImplementedError

    def _admit(self, connection: ServerConnection, request: HandshakeRequest) -> Response | None:
        place = urlsplit(request.path)
        (ticket,) = parse_qs(place.query).get("ticket", [""])
        if self.refusal or place.path != self._path or ticket not in self._tickets:
            refused = connection.respond(self.refused_with, "refused")
            for name, value in self.refusal.items():
                refused.headers[name] = value
            return refused
        self._tickets.remove(ticket)
        return None

    async def _served(self, connection: ServerConnection) -> None:
        self.connections.append(connection)
        try:
            for frame in list(self.unconfirmed()):
                await connection.send(frame)
            async for raw in connection:
                self.heard(raw)
        except ConnectionClosed:
            pass
        finally:
            self.connections.remove(connection)


@contextlib.asynccontextmanager
async def listening(channel: Any, inbox: Any, server: PushServer) -> AsyncIterator[None]:
    """The channel's `run`, connected."""
    task = asyncio.create_task(channel.run(inbox))
    try:
        await until(lambda: server.connections or task.done())
        yield
        assert not task.done(), "run ended by itself"
    finally:
        task.cancel()
        await asyncio.wait([task])
