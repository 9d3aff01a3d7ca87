"""Eight receivers on loopback, which count what they are given and misbehave by a seed: webhooks, ntfy, SMS gateways.

The webhooks deduplicate by `webhook-id`, as the Standard Webhooks specification asks of receivers; the others cannot,
and take everything. The SMS gateways say everything with HTTP 200 and a code. Of the requests some are throttled, some
fail for now (half of these after the message was taken, by cutting the connection: what the sender cannot know), and
some messages are refused each time.
"""

import asyncio
import json
import random
import re
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple

COUNT = 8
DEDUPLICATING = 4
_event = re.compile(rb"event (\d+)")


class Form(NamedTuple):
    """What a kind of channel is told, as whole HTTP responses."""

    kind: str
    settings: str
    """TOML of the `[[channel]]`, with {port}."""
    ok: bytes
    throttled: bytes
    busy: bytes
    refused: bytes


def _response(status: int, body: object, head: str = "") -> bytes:
    data = json.dumps(body).encode()
    return f"HTTP/1.1 {status} X\r\n{head}Content-Length: {len(data)}\r\n\r\n".encode() + data


_AT_ONCE = "Retry-After: 0\r\n"
_WEBHOOK = Form(
    "webhook",
    """
allow = ["127.0.0.1"]
[channel.endpoints.far]
url = "http://127.0.0.1:{port}/"
secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
""",
    ok=_response(200, "ok"), throttled=_response(429, "", _AT_ONCE), busy=_response(503, ""),
    refused=_response(422, ""),
)  # fmt: skip
_NTFY = Form(
    "ntfy",
    """
url = "http://127.0.0.1:{port}"
topics = {{ far = {{ topic = "ops" }} }}
""",
    ok=_response(200, {"id": "hwQ2YpKdmg", "event": "message"}),
    throttled=_response(429, {"code": 42901, "http": 429, "error": "limit reached"}, _AT_ONCE),
    busy=_response(503, {}),
    refused=_response(400, {"code": 40009, "http": 400, "error": "invalid request"}),
)
_SMS = Form(
    "http-sms",
    """
url = "http://127.0.0.1:{port}/send"
body = '{{"to": "{{to}}", "text": "{{text}}"}}'
code_path = "code"
numbers = {{ far = "+8613800138000" }}
failures = {{ flow = "throttled", busy = "transient", blocked = "permanent" }}
""",
    ok=_response(200, {"code": 0}), throttled=_response(200, {"code": "flow"}, _AT_ONCE),
    busy=_response(200, {"code": "busy"}), refused=_response(200, {"code": "blocked"}),
)  # fmt: skip
FORMS = (*(_WEBHOOK,) * DEDUPLICATING, *(_NTFY, _SMS) * 2)


class Faults(NamedTuple):
    """Shares of the requests, and of the messages for the last."""

    throttled: float = 0.0
    transient: float = 0.0
    permanent: float = 0.0


class Receiver:
    """One channel's far end. `taken` has how often each event was processed, by its number."""

    def __init__(self, number: int, faults: Faults, seed: int) -> None:
        self.form = FORMS[number]
        self.deduplicates = number < DEDUPLICATING
        self.taken: Counter[int] = Counter()
        self.refused: set[int] = set()
        self.starts_s: list[float] = []
        """Of all requests."""
        self.port = 0
        self._faults = faults
        self._chance = random.Random(seed * 1000 + number)
        self._keys: set[str] = set()
        """Of the messages taken, where the receiver deduplicates."""
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
                body = await reader.readexactly(int(_field(head, "content-length")))
                answer = self.answer(_number(body), _field(head, "webhook-id"))
                if not answer:
                    writer.transport.abort()
                    break
                writer.write(answer)
        writer.close()
        self._writers.discard(writer)

    def answer(self, event: int, key: str) -> bytes:
        """To one request. Nothing: the connection is cut. key: what a receiver that deduplicates knows a message by."""
        self.starts_s.append(asyncio.get_running_loop().time())
        faults, drawn = self._faults, self._chance.random()
        if random.Random(event).random() < faults.permanent:  # by the event, so that it is refused each time
            self.refused.add(event)
            return self.form.refused
        if drawn < faults.throttled:
            return self.form.throttled
        if drawn < faults.throttled + faults.transient / 2:
            return self.form.busy
        if not (self.deduplicates and key in self._keys):
            self._keys.add(key)
            self.taken[event] += 1
        return b"" if drawn < faults.throttled + faults.transient else self.form.ok

    def missing(self, events: Iterable[int]) -> set[int]:
        """Those that were neither taken nor refused."""
        return set(events) - self.taken.keys() - self.refused

    @property
    def duplicates(self) -> int:
        """How often an event was taken again."""
        return self.taken.total() - len(self.taken)

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


def _number(body: bytes) -> int:
    """Of the event that a text tells of: what each request must have."""
    found = _event.search(body)
    assert found is not None, body
    return int(found[1])
