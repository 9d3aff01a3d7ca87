"""The outbox: takes up what the mailbox stored for channels, in lanes that share a vendor's limit.

A lane that is stopped stops nobody else; a message that fails stops nobody behind it but its own thread.
What is waiting is in the log. In memory are numbers; on disk, beside the log, how far the outbox has come.
"""

from collections import Counter
from collections.abc import Mapping
from functools import partial

import anyio
import msgspec
import structlog
from anyio.abc import TaskGroup

from autoglm.channels.bookmark import Bookmark, Cursor
from autoglm.channels.early import EarlyReports
from autoglm.channels.ends import Ends
from autoglm.channels.outbox import attempts
from autoglm.channels.outbox.carrier import Carrier, LastTry, OnEnd, Outgoing
from autoglm.channels.outbox.dead_letters import DeadLetters
from autoglm.channels.outbox.driver import BROKEN_STORE_S, Driver
from autoglm.channels.outbox.lane import Lane
from autoglm.channels.outbox.letter import target_of
from autoglm.channels.outbox.subjects import OUTBOX, subject_of_channel
from autoglm.channels.outbox.windows import Key, Windows
from autoglm.channels.settings import OutboxSettings
from autoglm.core.clock import monotonic_s
from autoglm.core.envelope import State, decode_envelope
from autoglm.core.errors import HubError
from autoglm.core.ports import Blobs, KeyValue, Log, Record

MAX_LANES = 5_000
"""Lanes with work. While there are more, a channel gets no further ones, but for its LEAST_LANES."""
LEAST_LANES = 100
"""Of each channel, so that the many targets of one that is down hold up no other."""
_MAX_OPEN = 2_000
_DRAIN_LOOK_S = 0.02
_MAX_REST_S = 3_600.0
_PAGE = 500
_PRIMED_ATTEMPTS = 5_000

log = structlog.get_logger()


class LaneState(msgspec.Struct, frozen=True, kw_only=True):
    """A lane as an operator sees it."""

    channel: str
    target: str
    """Empty for a lane of all of the channel's targets."""
    waiting: int
    """In memory; `has_more` says that there are further ones in the log."""
    has_more: bool
    running: int
    paused_s: float
    """Nothing goes out before then; 0 when it is not paused."""
    next_try_s: float
    """Until the next attempt, where all that waits has failed for now; 0 where something could go at once."""
    code: str
    reason: str
    reason_zh: str


def _nobody_counts(channel: str, state: State, took_s: float) -> None:
    """For a hub without metrics."""


class Outbox:
    """`run` in a task. Channels are the caller's to close."""

    def __init__(
        self, store: Log, keyvalue: KeyValue, blobs: Blobs, channels: Mapping[str, Outgoing], settings: OutboxSettings,
        *, on_end: OnEnd = _nobody_counts,
    ) -> None:  # fmt: skip
        self._log = store
        self._channels = channels
        self.dead_letters = DeadLetters(keyvalue)
        self.ends = Ends(store)
        """To be shared with the mailbox."""
        self.early_reports = EarlyReports()
        """To be shared with those who take the vendors' reports."""
        self._carrier = Carrier(
            store, blobs, self.ends, self.dead_letters, settings, early=self.early_reports, on_end=on_end
        )  # fmt: skip
        self._windows = Windows()
        self._drivers: dict[Key, Driver] = {}
        """Of the lanes with work."""
        self._read_seq = 0
        self._lane_counts: Counter[str] = Counter()
        """By channel."""
        self._parked: dict[str, int] = {}
        """By channel that has no more lanes, the number from which on its messages are in the log only."""
        self._unparking: set[str] = set()
        self._bookmark = Bookmark(keyvalue, "outbox/cursor", self._cursor)

    @property
    def counts(self) -> dict[tuple[str, str], int]:
        """Attempts by (channel, how they ended)."""
        return self._carrier.counts

    @property
    def tries(self) -> Mapping[str, LastTry]:
        """What the newest request to each channel showed."""
        return self._carrier.tries

    @property
    def crowded(self) -> tuple[str, ...]:
        """The channels some of whose messages wait in the log for a lane."""
        return tuple(sorted(self._parked))

    def states(self) -> list[LaneState]:
        now_s = monotonic_s()
        return [_state(driver.lane, now_s) for _, driver in sorted(self._drivers.items())]

    def hurry(self, channel: str | None = None) -> int:
        """Try what waits now: an operator has put something right. Returns how many lanes that were."""
        found = [driver for key, driver in self._drivers.items() if channel in (None, key[0])]
        for driver in found:
            driver.lane.hurry()
            driver.wake()
        return len(found)

    async def drain(self, within_s: float) -> None:
        """Begin nothing more, and wait for the answers to what is on its way; what waits for a limit waits on."""
        self._carrier.is_stopping = True
        with anyio.move_on_after(within_s):
            while any(driver.lane.running for driver in self._drivers.values()):  # noqa: ASYNC110  # at the end of a run
                await anyio.sleep(_DRAIN_LOOK_S)
        await self._bookmark.save()

    async def run(self) -> None:
        """Carry out what there is and what comes, until cancelled."""
        cursor = await self._bookmark.load()
        self._read_seq = cursor.upto
        self._carrier.ages.start_seq = await self._log.last_seq()
        self._windows.recall(await attempts.recent(self._log, _PRIMED_ATTEMPTS), self._channels)
        async with anyio.create_task_group() as tasks:
            try:
                for seq in cursor.open:
                    records = await self._log.read(OUTBOX, after=seq - 1, limit=1)
                    if records and records[0].seq == seq:
                        self._take(records[0], tasks)
                tasks.start_soon(self._bookmark.save_often)
                await self._follow(tasks)
            finally:
                tasks.cancel_scope.cancel()

    async def _follow(self, tasks: TaskGroup) -> None:
        while True:
            try:
                records = await self._log.next(OUTBOX, after=self._read_seq, limit=_PAGE, timeout_s=_MAX_REST_S)
            except HubError as error:
                log.error("outbox_not_read", reason=str(error))
                await anyio.sleep(BROKEN_STORE_S)
                continue
            for record in records:
                self._carrier.ages.mark(record.seq)
                self._take(record, tasks)
                self._read_seq = record.seq

    def _take(self, record: Record, tasks: TaskGroup) -> None:
        envelope = decode_envelope(record.body)
        channel, target = target_of(envelope)
        if channel in self._parked:
            return
        outgoing = self._channels.get(channel)
        limits = None if outgoing is None else outgoing.channel.limits(target)
        is_account = limits is not None and limits.per == "channel"
        key = (channel, "" if is_account else target)
        if (driver := self._drivers.get(key)) is None:
            if len(self._drivers) >= MAX_LANES and self._lane_counts[channel] >= LEAST_LANES:
                self._parked[channel] = record.seq
                return
            subject = subject_of_channel(channel) if is_account else f"to:{envelope.to}"
            lane = Lane(channel, key[1], subject, self._windows.open(key, limits))
            driver = self._drivers[key] = Driver(lane, outgoing, limits, self._carrier, self._refill)
            self._lane_counts[channel] += 1
            tasks.start_soon(driver.run, partial(self._end, key, tasks))
        driver.lane.add(record.seq, envelope.priority, envelope.thread)
        driver.wake()

    def _end(self, key: Key, tasks: TaskGroup) -> None:
        """Nothing is left in a lane. Its limit is remembered after that, and others may have its place."""
        self._windows.close(key, self._drivers.pop(key).lane.window)
        self._lane_counts[key[0]] -= 1
        for channel in self._parked.keys() - self._unparking:
            if self._has_room(channel):
                self._unparking.add(channel)
                tasks.start_soon(self._unpark, channel, tasks)

    def _has_room(self, channel: str) -> bool:
        """For half of all lanes, so that the log is not read again for each."""
        return len(self._drivers) <= MAX_LANES // 2 or self._lane_counts[channel] <= LEAST_LANES // 2

    async def _unpark(self, channel: str, tasks: TaskGroup) -> None:
        """Take up what was left in the log, as far as there are lanes."""
        while (start := self._parked.get(channel)) is not None:
            upto = self._read_seq  # what comes while this reads is left in the log, too
            try:
                records = await self._log.read(subject_of_channel(channel), after=start - 1, limit=_PAGE)
            except HubError as error:
                log.error("outbox_not_read", reason=str(error))
                await anyio.sleep(BROKEN_STORE_S)
                continue
            found = [record for record in records if record.seq <= upto]
            del self._parked[channel]
            for record in found:
                self._take(record, tasks)
                if channel in self._parked:
                    break
            else:
                if found or self._read_seq > upto:
                    self._parked[channel] = (found[-1].seq if found else upto) + 1
                continue
            break
        self._unparking.discard(channel)

    async def _refill(self, lane: Lane) -> None:
        while (start := lane.begin_refill()) is not None:
            upto = self._taken_upto(lane)  # what is taken up while this reads may be missing, and was left in the log
            records = await self._log.read(lane.subject, after=start - 1, limit=_PAGE)
            found = [(record.seq, decode_envelope(record.body)) for record in records if record.seq <= upto]
            # A short page of large messages may be followed by others: only an empty one is the end.
            left = found[-1][0] + 1 if found else upto + 1 if self._taken_upto(lane) > upto else None
            lane.refill([(seq, envelope.priority, envelope.thread) for seq, envelope in found], left=left)

    def _taken_upto(self, lane: Lane) -> int:
        parked = self._parked.get(lane.channel)
        return self._read_seq if parked is None else min(parked - 1, self._read_seq)

    def _cursor(self) -> Cursor:
        lanes = [driver.lane for driver in self._drivers.values()]
        open_seqs = sorted(seq for lane in lanes for seq in lane.open_seqs())
        lefts = [lane.left for lane in lanes if lane.left is not None]
        left = min([*lefts, *self._parked.values()], default=None)
        upto = self._read_seq if left is None else min(left - 1, self._read_seq)
        if len(open_seqs) > _MAX_OPEN:
            upto = min(upto, open_seqs[_MAX_OPEN] - 1)
        return Cursor(upto=upto, open=tuple(seq for seq in open_seqs if seq <= upto))


def _state(lane: Lane, now_s: float) -> LaneState:
    paused_s = max(0.0, lane.paused_until_s - now_s)
    due_s = lane.next_due_s() if not lane.ready_count(now_s) else float("inf")
    next_try_s = max(paused_s, due_s - now_s) if due_s < float("inf") else paused_s
    return LaneState(
        channel=lane.channel, target=lane.target, waiting=lane.waiting, has_more=lane.left is not None,
        running=len(lane.running), paused_s=paused_s, next_try_s=next_try_s, code=lane.pause_code,
        reason=lane.pause_reason.en if lane.pause_code else "",
        reason_zh=lane.pause_reason.zh if lane.pause_code else "",
    )  # fmt: skip
