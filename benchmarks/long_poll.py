"""Many readers that wait for their messages, in a process of their own, and a sender that times the way to them.

`python -m benchmarks.long_poll` reads one order (a line of JSON) from stdin, prints a line once all readers have asked,
then sends, prints a line with the delays, and waits for the end of stdin with all readers still asking.

Raw asyncio sockets: with a thousand connections an HTTP client would cost more than the hub.
"""

import asyncio
import random
import sys
from contextlib import suppress
from typing import BinaryIO, cast

import msgspec
import uvloop

from benchmarks.samples import now_s

SENDERS = 8
DRAIN_S = 10.0


class Order(msgspec.Struct, frozen=True, kw_only=True):
    port: int
    key: str
    readers: int
    messages: int = 0
    """How many to send, each to a random reader."""
    per_s: float = 1.0


class Delays(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds from the first byte of each POST to the last of the answer that brings the message."""

    seconds: list[float]
    lost: int


class _Http(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self) -> None:
        self._received = b""
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        if not separator or len(body) < _length(head):
            return
        self._received = b""
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_result(head.split(b" ", 2)[1] + b"\n" + body)

    def connection_lost(self, error: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError("the hub closed the connection"))

    async def ask(self, request: bytes) -> bytes:
        """The body of the answer. Raises ConnectionError when it is no 2xx."""
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        status, _, body = (await self._answer).partition(b"\n")
        if not status.startswith(b"2"):
            raise ConnectionError(f"the hub answered {status.decode()}: {body[:300].decode()}")
        return body


def _length(head: bytes) -> int:
    lowered = head.lower()
    start = lowered.index(b"content-length:") + 15
    return int(lowered[start:].split(b"\r", 1)[0])


class _Message(msgspec.Struct):
    id: str


class _Page(msgspec.Struct):
    messages: list[_Message]
    next: int


class _Bench:
    def __init__(self, order: Order) -> None:
        self._order = order
        self._sent_s: dict[str, float] = {}
        self._delays_s: list[float] = []
        self._asking = 0
        self.all_ask = asyncio.Event()
        self._all_arrived = asyncio.Event()

    async def connect(self) -> _Http:
        _, protocol = await asyncio.get_running_loop().create_connection(_Http, "127.0.0.1", self._order.port)
        return protocol

    async def read(self, number: int, after: int) -> None:
        """One reader: ask, take the time, ask on."""
        connection = await self.connect()
        self._asking += 1
        if self._asking == self._order.readers:
            self.all_ask.set()
        while True:
            target = f"/api/messages?to=user:reader-{number}&after={after}&wait=60"
            page = msgspec.json.decode(await connection.ask(self._request("GET", target, b"")), type=_Page)
            arrived_s = now_s()
            after = page.next
            for message in page.messages:
                self._delays_s.append(arrived_s - self._sent_s.pop(message.id))
            if len(self._delays_s) == self._order.messages:
                self._all_arrived.set()

    async def send(self) -> Delays:
        """Messages at an even rate, whether or not the ones before have arrived."""
        idle: asyncio.Queue[_Http] = asyncio.Queue()
        for _ in range(SENDERS):
            idle.put_nowait(await self.connect())
        chooser = random.Random(1)
        started_s = now_s()
        async with asyncio.TaskGroup() as tasks:
            for number in range(self._order.messages):
                await asyncio.sleep(started_s + number / self._order.per_s - now_s())
                tasks.create_task(self._send_one(idle, number, chooser.randrange(self._order.readers)))
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                await self._all_arrived.wait()
        return Delays(seconds=self._delays_s, lost=len(self._sent_s))

    async def _send_one(self, idle: "asyncio.Queue[_Http]", number: int, reader: int) -> None:
        connection = await idle.get()
        id = f"delay-{number}"
        body = msgspec.json.encode({"id": id, "to": f"user:reader-{reader}", "content": f"message {number}"})
        self._sent_s[id] = now_s()
        await connection.ask(self._request("POST", "/api/messages", body))
        idle.put_nowait(connection)

    def _request(self, method: str, target: str, body: bytes) -> bytes:
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        head = f"{method} {target} HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer {self._order.key}\r\n{length}\r\n"
        return head.encode() + body


async def _run(order: Order, out: BinaryIO) -> None:
    bench = _Bench(order)
    async with asyncio.TaskGroup() as tasks:  # the first reader that fails ends all, and its error is in the log
        readers = [tasks.create_task(bench.read(number, 0)) for number in range(order.readers)]
        await bench.all_ask.wait()
        _print(out, b"{}")
        if order.messages:
            _print(out, msgspec.json.encode(await bench.send()))
        await asyncio.to_thread(sys.stdin.buffer.read)
        for reader in readers:
            reader.cancel()


def _print(out: BinaryIO, line: bytes) -> None:
    out.write(line + b"\n")
    out.flush()


def main() -> None:
    order = msgspec.json.decode(sys.stdin.buffer.readline(), type=Order)
    uvloop.run(_run(order, sys.stdout.buffer))


if __name__ == "__main__":
    main()
