"""Eight receivers of webhooks on loopback, which count what they are given and misbehave by a seed.

The first half deduplicates by `webhook-id`, as the Standard Webhooks specification asks of receivers; the others take
everything. Of the requests some are throttled, some fail for now (half of these after the message was taken, by cutting
the connection: what the sender cannot know), and some messages are refused each time.
"""

import asyncio
import random
from collections import Counter
from contextlib import suppress
from typing import NamedTuple

COUNT = 8
DEDUPLICATING = 4
_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
_THROTTLED = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n"
_BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
_REFUSED = b"HTTP/1.1 422 Unprocessable Content\r\nContent-Length: 0\r\n\r\n"


class Faults(NamedTuple):
    """Shares of the requests, and of the messages for the last."""

    throttled: float = 0.0
    transient: float = 0.0
    permanent: float = 0.0


class Receiver:
    """One channel's far end. `taken` has how often each message was processed."""

    def __init__(self, number: int, faults: Faults, seed: int) -> None:
        self.deduplicates = number < DEDUPLICATING
        self.taken: Counter[str] = Counter()
        self.refused: set[str] = set()
        self.starts_s: list[float] = []
        """Of all requests."""
        self.port = 0
        self._faults = faults
        self._chance = random.Random(seed * 1000 + number)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def listen(self) -> None:
        """Again at the same port after `vanish`."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, backlog=1000)
        self.port = self._server.sockets[0].getsockname()[1]

    async def vanish(self) -> None:
        """Nobody listens there any more, and connections are cut."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in tuple(self._writers):
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
                await reader.readexactly(int(_field(head, "content-length")))
                answer = self._answer(_field(head, "webhook-id"))
                if not answer:
                    writer.transport.abort()
                    break
                writer.write(answer)
        writer.close()
        self._writers.discard(writer)

    def _answer(self, id: str) -> bytes:
        """Nothing: the connection is cut."""
        self.starts_s.append(asyncio.get_running_loop().time())
        faults, drawn = self._faults, self._chance.random()
        if random.Random(id).random() < faults.permanent:  # by the message, so that it is refused each time
            self.refused.add(id)
            return _REFUSED
        if drawn < faults.throttled:
            return _THROTTLED
        if drawn < faults.throttled + faults.transient / 2:
            return _BUSY
        if not (self.deduplicates and id in self.taken):
            self.taken[id] += 1
        return b"" if drawn < faults.throttled + faults.transient else _OK

    def most_in(self, seconds: float) -> int:
        """The most requests in any stretch of so many seconds."""
        most = start = 0
        for end, at_s in enumerate(self.starts_s):
            while self.starts_s[start] <= at_s - seconds:
                start += 1
            most = max(most, end - start + 1)
        return most


def _field(head: str, name: str) -> str:
    return head.partition(f"\r\n{name}: ")[2].partition("\r\n")[0]
