"""A TCP relay in front of a server on 127.0.0.1 whose wire a test can cut and mend."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from anyio.abc import SocketAttribute, SocketStream


class Relay:
    """Forwards bytes both ways. After `cut` all connections break, and new ones end at once, until `mend`."""

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.port = 0
        self._is_cut = False
        self._connections: set[anyio.CancelScope] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cut(self) -> None:
        self._is_cut = True
        self.drop()

    def drop(self) -> None:
        """Break what is connected; new connections are let through."""
        for scope in self._connections:
            scope.cancel()

    def mend(self) -> None:
        self._is_cut = False

    async def handle(self, client: SocketStream) -> None:
        async with client:
            if self._is_cut:
                return
            with anyio.CancelScope() as scope:
                self._connections.add(scope)
                try:
                    await self._forward(client)
                finally:
                    self._connections.discard(scope)

    async def _forward(self, client: SocketStream) -> None:
        try:
            server = await anyio.connect_tcp("127.0.0.1", self.target_port)
        except OSError:
            return
        async with server, anyio.create_task_group() as tasks:
            tasks.start_soon(_copy, client, server)
            await _copy(server, client)
            tasks.cancel_scope.cancel()


async def _copy(source: SocketStream, sink: SocketStream) -> None:
    """Until either side ends; a server that has ended its side has nothing more to say to this client."""
    try:
        async for data in source:
            await sink.send(data)
    except (anyio.BrokenResourceError, anyio.ClosedResourceError):
        return


@asynccontextmanager
async def relay_to(port: int) -> AsyncIterator[Relay]:
    relay = Relay(port)
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0)
    relay.port = listener.extra(SocketAttribute.local_port)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, relay.handle)
        try:
            yield relay
        finally:
            tasks.cancel_scope.cancel()
