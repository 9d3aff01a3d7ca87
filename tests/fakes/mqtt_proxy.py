"""Stands between a client and a real broker, and answers in the broker's place what a healthy one does not."""

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Coroutine
from typing import Any, Self, TypeVar

from fakes.vendor import Fault

T = TypeVar("T")

_PUBACK_CODES: dict[Fault, int] = {"throttled": 151, "transient": 131, "permanent": 153}
_CONNACK_CODES: dict[Fault, int] = {"auth": 135, "server_error": 136}
"""MQTT 5.0, section 2.4."""


class MqttProxy:
    """`with MqttProxy(port) as proxy:`, where port is the broker's. MQTT 5 only.

    throttled, transient, permanent: the next PUBLISH is refused by its PUBACK. auth, server_error: all connections end,
    and the next CONNECT is refused. silent: the next PUBLISH arrives, and its PUBACK is kept back; cut: it arrives, and
    the connection ends.
    """

    def __init__(self, broker_port: int) -> None:
        self._broker_port = broker_port
        self._faults: deque[Fault] = deque()
        self._refusals: deque[int] = deque()
        self._swallowed: set[bytes] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="mqtt-proxy")
        self.has_cut = False
        """Connections ended since it was last set to False."""
        self.publishes: list[bytes] = []
        """The packets PUBLISH from clients."""
        self.unsubscribes: list[bytes] = []
        """The packets UNSUBSCRIBE from clients."""
        self.unsuback_code: int | None = None
        """What the broker is made to say to each filter of an UNSUBSCRIBE."""
        self.forgets = False
        """The next PUBLISH is answered by a PUBREC, as by a broker that is killed before it has saved it."""
        self.pubrecs_to_cut = 0
        """So many times the connection ends when the client has a PUBREC."""
        self.cuts_unsubscribe = False
        """The connection ends before the broker has the next UNSUBSCRIBE."""

    def misbehave(self, fault: Fault) -> None:
        if fault in _CONNACK_CODES:
            self._refusals.append(_CONNACK_CODES[fault])
            self.cut()
        else:
            self._faults.append(fault)

    def cut(self) -> None:
        self.has_cut = bool(self._writers)
        self._call(self._cut())

    async def _cut(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = self._call(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    def stop(self) -> None:
        """Nobody listens any more."""
        if not self._loop.is_running():
            return
        self.cut()
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def _end(self) -> None:
        self._server.close()
        mine = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in mine:
            task.cancel()
        await asyncio.gather(*mine, return_exceptions=True)

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        broker_reader, broker_writer = await asyncio.open_connection("127.0.0.1", self._broker_port)
        self._writers |= {writer, broker_writer}
        back = asyncio.create_task(self._to_client(broker_reader, writer))
        try:
            await self._to_broker(reader, broker_writer, writer)
            if not broker_writer.is_closing():
                broker_writer.write_eof()
            await back
        finally:
            back.cancel()
            for each in (writer, broker_writer):
                self._writers.discard(each)
                each.close()

    async def _to_broker(
        self, reader: asyncio.StreamReader, broker: asyncio.StreamWriter, client: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                head, body = await _packet(reader)
                kind = head[0] & 0xF0
                if kind == 0x10 and self._refusals:
                    client.write(bytes((0x20, 3, 0, self._refusals.popleft(), 0)))
                    await client.drain()
                    client.close()
                    return
                fault = self._faults.popleft() if kind == 0x30 and self._faults else None
                if kind == 0x30:
                    self.publishes.append(head + body)
                    size = int.from_bytes(body[:2], "big")
                    mid = body[2 + size : 4 + size]
                if kind == 0xA0:
                    self.unsubscribes.append(head + body)
                    if self.cuts_unsubscribe:
                        self.cuts_unsubscribe = False
                        broker.close()
                        client.transport.abort()
                        return
                if kind == 0x30 and self.forgets:
                    self.forgets = False
                    client.write(bytes((0x50, 2, *mid)))
                    await client.drain()
                    broker.close()
                    client.close()
                    return
                if fault in _PUBACK_CODES:
                    answer = 0x50 if head[0] & 0x06 == 0x04 else 0x40  # PUBREC at QoS 2, else PUBACK
                    client.write(bytes((answer, 4, *mid, _PUBACK_CODES[fault], 0)))
                    continue
                if fault == "silent":
                    self._swallowed.add(mid)
                broker.write(head + body)
                await broker.drain()
                if fault == "cut":
                    broker.close()  # after what it was sent
                    client.transport.abort()
                    return

    async def _to_client(self, broker: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                head, body = await _packet(broker)
                if head[0] & 0xF0 == 0x40 and body[:2] in self._swallowed:
                    self._swallowed.discard(body[:2])
                    continue
                if head[0] & 0xF0 == 0xB0 and self.unsuback_code is not None:
                    begins = 3 + body[2]  # after the packet id and the properties, which are short
                    body = body[:begins] + bytes([self.unsuback_code]) * (len(body) - begins)
                client.write(head + body)
                await client.drain()
                if head[0] & 0xF0 == 0x50 and self.pubrecs_to_cut:
                    self.pubrecs_to_cut -= 1
                    client.close()
                    return


async def _packet(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """(fixed header, the rest). Source: MQTT 5.0, section 2.1."""
    head = await reader.readexactly(2)
    size, shift = head[-1] & 0x7F, 7
    while head[-1] & 0x80:
        head += await reader.readexactly(1)
        size |= (head[-1] & 0x7F) << shift
        shift += 7
    return head, await reader.readexactly(size)
