"""Hands what came in to the inbox, and acknowledges to the broker only what the inbox has on disk."""

import random
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import anyio
import structlog
from anyio.abc import TaskGroup

from autoglm.channels.adapters.mqtt.incoming import Arrival
from autoglm.core.errors import HubError
from autoglm.core.tasks import one_task_group

log = structlog.get_logger()

QUEUE_MESSAGES = 1000
QUEUE_BYTES = 32 << 20
PARALLEL = 32
"""Messages on their way into the inbox at a time: those of one topic one after another."""
FIRST_PAUSE_S = 0.2
MAX_PAUSE_S = 30.0
_KNOWN = 2048
"""Messages remembered by their packet's identifier: more than may be without an acknowledgement (`inflight_max`)."""

Take = Callable[[Arrival], Awaitable[None]]


@dataclass(eq=False)
class _Line:
    """What waits of one topic."""

    topic: str
    waiting: deque[Arrival] = field(default_factory=deque)
    pause_s: float = 0.0
    """Of the next try; 0 while all goes well."""


class Intake:
    """Bounded: beyond QUEUE_MESSAGES or QUEUE_BYTES, what came at QoS 0 is dropped and counted, and `is_full` asks the
    link to read no more, so that the broker keeps the rest. A message that the inbox refuses for now is tried again
    and holds up its own topic only; it stays unacknowledged, and with it at most `inflight_max` at the broker.
    """

    def __init__(self, acknowledge: Callable[[Arrival], None], resume: Callable[[], None]) -> None:
        """acknowledge: sends the PUBACK, or does nothing when the message's connection is gone. resume: there is room
        again.
        """
        self._acknowledge = acknowledge
        self._resume = resume
        self._lines: dict[str, _Line] = {}
        self._ready: deque[_Line] = deque()
        self._count_ready = anyio.Semaphore(0)
        self._messages = self._bytes = 0
        self._known: OrderedDict[int, Arrival] = OrderedDict()
        self._unacknowledged: deque[Arrival] = deque()
        self.dropped = 0

    @property
    def is_full(self) -> bool:
        return self._messages >= QUEUE_MESSAGES or self._bytes >= QUEUE_BYTES

    def begin_session(self) -> None:
        """The broker knows nothing of earlier ones: its packets' identifiers begin anew."""
        self._known.clear()

    def put(self, arrival: Arrival) -> None:
        """From the event loop. A message that the broker repeats, and that this process has, is not taken twice."""
        if arrival.qos == 0:
            if self.is_full:
                self._drop()
                return
        elif (earlier := self._known.get(arrival.mid)) is not None and _is_same(earlier, arrival):
            earlier.connection = arrival.connection
            if earlier.is_taken:
                self._acknowledge(earlier)
            return
        else:
            self._remember(arrival)
            self._unacknowledged.append(arrival)
        self._messages += 1
        self._bytes += len(arrival.payload)
        if (line := self._lines.get(arrival.topic)) is None:
            line = self._lines[arrival.topic] = _Line(arrival.topic)
            self._make_ready(line)
        line.waiting.append(arrival)

    async def run(self, take: Take) -> None:
        """Until cancelled; what is on its way then comes again in the next run, under the same id."""
        self._ready = deque(self._lines.values())
        self._count_ready = anyio.Semaphore(len(self._ready), fast_acquire=True)
        async with one_task_group() as tasks:
            for _ in range(PARALLEL):
                tasks.start_soon(self._work, take, tasks)

    async def _work(self, take: Take, tasks: TaskGroup) -> None:
        while True:
            line = await self._next()
            if await _is_taken(line.waiting[0], take):
                self._finish(line)
            else:
                line.pause_s = min(MAX_PAUSE_S, 2 * line.pause_s) or FIRST_PAUSE_S
                self._flush()
                tasks.start_soon(self._pause, line)

    async def _next(self) -> _Line:
        await self._count_ready.acquire()
        return self._ready.popleft()

    async def _pause(self, line: _Line) -> None:
        await anyio.sleep(random.uniform(line.pause_s / 2, line.pause_s))  # noqa: S311  # spreads load, keeps no secret
        self._make_ready(line)

    def _make_ready(self, line: _Line) -> None:
        self._ready.append(line)
        self._count_ready.release()

    def _finish(self, line: _Line) -> None:
        was_full = self.is_full
        arrival = line.waiting.popleft()
        self._messages -= 1
        self._bytes -= len(arrival.payload)
        arrival.is_taken = True
        arrival.payload = b""  # its digest is enough to know it by
        line.pause_s = 0.0
        if line.waiting:
            self._make_ready(line)
        else:
            del self._lines[line.topic]
        if arrival.qos:
            if arrival in self._unacknowledged:
                self._flush()
            else:
                self._acknowledge(arrival)
        if was_full and not self.is_full:
            self._resume()

    def _flush(self) -> None:
        """PUBACKs go out in the order of the PUBLISH packets (MQTT 5.0, section 4.6), save that those behind a message
        that cannot be taken do not wait for it, nor for what waits behind it.
        """
        while self._unacknowledged:
            first = self._unacknowledged[0]
            if first.is_taken:
                self._acknowledge(first)
            elif (line := self._lines.get(first.topic)) is None or not line.pause_s:
                return
            self._unacknowledged.popleft()

    def _remember(self, arrival: Arrival) -> None:
        self._known[arrival.mid] = arrival
        self._known.move_to_end(arrival.mid)
        if len(self._known) > _KNOWN:
            self._known.popitem(last=False)

    def _drop(self) -> None:
        self.dropped += 1
        if self.dropped == 1 or self.dropped % 1000 == 0:
            log.warning("mqtt_messages_dropped", qos=0, dropped=self.dropped)


async def _is_taken(arrival: Arrival, take: Take) -> bool:
    try:
        await take(arrival)
    except HubError as error:
        log.warning("mqtt_message_not_taken", topic=arrival.topic[:200], code=error.code)
        return False
    except Exception:  # one message's outer edge: it stays with the broker, and the others go on
        log.exception("mqtt_intake_failed", topic=arrival.topic[:200])
        return False
    return True


def _is_same(earlier: Arrival, arrival: Arrival) -> bool:
    return arrival.is_repeated and earlier.digest == arrival.digest
