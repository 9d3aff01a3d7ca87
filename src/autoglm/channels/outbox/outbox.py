"""The outbox: takes up what the mailbox stored for channels, in lanes that share a vendor's limit.

A lane that is stopped stops nobody else; a message that fails stops nobody behind it but its own thread.
What is waiting is in the log. In memory are numbers; on disk, beside the log, how far the outbox has come.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import anyio
import msgspec
import structlog
from anyio.abc import TaskGroup

from autoglm.channels.channel import Cannot, Limits, Parcel
from autoglm.channels.delivery import Words, permanent, transient
from autoglm.channels.ends import Ends
from autoglm.channels.outbox import attempts, digest
from autoglm.channels.outbox.carrier import Carrier, Letter, Outgoing, given_up, target_of
from autoglm.channels.outbox.dead_letters import DeadLetters
from autoglm.channels.outbox.lane import URGENT, Lane, Tried
from autoglm.channels.outbox.quiet import quiet_for_s
from autoglm.channels.outbox.subjects import OUTBOX, subject_of_channel
from autoglm.channels.outbox.window import Window
from autoglm.channels.settings import OutboxSettings
from autoglm.core.clock import monotonic_s, now_ms
from autoglm.core.crash import crash
from autoglm.core.envelope import Envelope, decode_envelope
from autoglm.core.errors import HubError, QueueFull, StorageFull
from autoglm.core.ports import KeyValue, Log, Record

MAX_LANES = 5_000
"""Lanes with work. While there are more, a channel gets no further ones, but for its LEAST_LANES."""
LEAST_LANES = 100
"""Of each channel, so that the many targets of one that is down hold up no other."""
_CURSOR = "outbox/cursor"
_MAX_OPEN = 2_000
_SAVE_S = 5.0
_DRAIN_LOOK_S = 0.02
_SWEEP_S = 60.0
_MAX_REST_S = 3_600.0
_PAGE = 500
_MAX_DIGEST = 60
_PRIMED_ATTEMPTS = 5_000
_UNTRIED = Tried()

log = structlog.get_logger()


class Cursor(msgspec.Struct, frozen=True, kw_only=True):
    """How far the outbox has come."""

    upto: int = 0
    """Everything up to this number is settled, but for:"""
    open: tuple[int, ...] = ()
    version: int = 1


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


class _Lane(NamedTuple):
    lane: Lane
    outgoing: Outgoing | None
    """None when the settings have no such channel any more."""
    parallel: int
    digest_bytes: int


class Outbox:
    """`run` in a task. Channels are the caller's to close."""

    def __init__(
        self, store: Log, keyvalue: KeyValue, channels: Mapping[str, Outgoing], settings: OutboxSettings
    ) -> None:
        self._log = store
        self._keyvalue = keyvalue
        self._channels = channels
        self.dead_letters = DeadLetters(keyvalue)
        self.ends = Ends(store)
        """To be shared with the mailbox."""
        self._carrier = Carrier(store, self.ends, self.dead_letters, settings)
        self._lanes: dict[tuple[str, str], _Lane] = {}
        self._changed: dict[tuple[str, str], anyio.Event] = {}
        self._read_seq = 0
        self._lane_counts: Counter[str] = Counter()
        """By channel."""
        self._parked: dict[str, int] = {}
        """By channel that has no more lanes, the number from which on its messages are in the log only."""
        self._unparking: set[str] = set()
        self._saved: Cursor | None = None
        self._starts: dict[tuple[str, str], tuple[float, tuple[float, ...]]] = {}
        """Of lanes that are not there now, by (channel, target): how long the vendor counts their last attempts, and
        when those were; monotonic."""
        self._prune_at = MAX_LANES
        self._shared: dict[str, Window] = {}
        """By channel."""

    @property
    def counts(self) -> dict[tuple[str, str], int]:
        """Attempts by (channel, how they ended)."""
        return self._carrier.counts

    @property
    def crowded(self) -> tuple[str, ...]:
        """The channels some of whose messages wait in the log for a lane."""
        return tuple(sorted(self._parked))

    def states(self) -> list[LaneState]:
        now_s = monotonic_s()
        return [_state(entry.lane, now_s) for _, entry in sorted(self._lanes.items())]

    def hurry(self, channel: str | None = None) -> int:
        """Try what waits now: an operator has put something right. Returns how many lanes that were."""
        found = [key for key in self._lanes if channel in (None, key[0])]
        for key in found:
            self._lanes[key].lane.hurry()
            self._wake(key)
        return len(found)

    async def drain(self, within_s: float) -> None:
        """Begin nothing more, and wait for the answers to what is on its way; what waits for a limit waits on."""
        self._carrier.is_stopping = True
        with anyio.move_on_after(within_s):
            while any(entry.lane.running for entry in self._lanes.values()):  # noqa: ASYNC110  # at the end of a run
                await anyio.sleep(_DRAIN_LOOK_S)
        await self._save()

    async def run(self) -> None:
        """Carry out what there is and what comes, until cancelled."""
        cursor = await self._load()
        self._read_seq = cursor.upto
        self._carrier.ages.start_seq = await self._log.last_seq()
        await self._prime()
        async with anyio.create_task_group() as tasks:
            try:
                for seq in cursor.open:
                    records = await self._log.read(OUTBOX, after=seq - 1, limit=1)
                    if records and records[0].seq == seq:
                        self._take(records[0], tasks)
                tasks.start_soon(self._save_often)
                await self._follow(tasks)
            finally:
                tasks.cancel_scope.cancel()

    # --- in ---

    async def _follow(self, tasks: TaskGroup) -> None:
        while True:
            records = await self._log.next(OUTBOX, after=self._read_seq, limit=_PAGE, timeout_s=_MAX_REST_S)
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
        if (entry := self._lanes.get(key)) is None:
            if len(self._lanes) >= MAX_LANES and self._lane_counts[channel] >= LEAST_LANES:
                self._parked[channel] = record.seq
                return
            window = Window(() if limits is None else limits.windows, self._shared_by(channel, limits))
            _, starts = self._starts.pop(key, (0.0, ()))
            window.recall(starts)
            subject = subject_of_channel(channel) if is_account else f"to:{envelope.to}"
            entry = _Lane(
                Lane(channel, key[1], subject, window), outgoing,
                1 if limits is None else limits.parallel, 0 if limits is None else limits.digest_bytes,
            )  # fmt: skip
            self._lanes[key] = entry
            self._lane_counts[channel] += 1
            self._changed[key] = anyio.Event()
            entry.lane.add(record.seq, envelope.priority, envelope.thread)
            tasks.start_soon(self._drive, key, entry, tasks)
            return
        entry.lane.add(record.seq, envelope.priority, envelope.thread)
        self._wake(key)

    def _shared_by(self, channel: str, limits: Limits | None) -> Window | None:
        """What all lanes of a channel have together."""
        if limits is None or not limits.shared:
            return None
        return self._shared.setdefault(channel, Window(limits.shared))

    def _has_room(self, channel: str) -> bool:
        """For half of all lanes, so that the log is not read again for each."""
        return len(self._lanes) <= MAX_LANES // 2 or self._lane_counts[channel] <= LEAST_LANES // 2

    async def _unpark(self, channel: str, tasks: TaskGroup) -> None:
        """Take up what was left in the log, as far as there are lanes."""
        while (start := self._parked.get(channel)) is not None:
            upto = self._read_seq  # what comes while this reads is left in the log, too
            records = await self._log.read(subject_of_channel(channel), after=start - 1, limit=_PAGE)
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

    def _wake(self, key: tuple[str, str]) -> None:
        self._changed[key].set()

    # --- out ---

    async def _drive(self, key: tuple[str, str], entry: _Lane, all_tasks: TaskGroup) -> None:
        """Keep one lane going until nothing is left in it. Its limit is remembered after that."""
        lane = entry.lane
        swept_s = monotonic_s()
        async with anyio.create_task_group() as tasks:
            while True:
                self._changed[key] = anyio.Event()
                await self._refill(lane)
                if lane.is_idle:
                    break
                now_s = monotonic_s()
                if now_s - swept_s > _SWEEP_S:
                    swept_s = now_s
                    await self._sweep(entry)
                if not await self._start(key, entry, tasks, now_s):
                    with anyio.move_on_after(self._rest_s(entry, now_s)):
                        await self._changed[key].wait()
            del self._lanes[key], self._changed[key]  # before anything else runs: a message would go to a dead lane
            self._lane_counts[key[0]] -= 1
            self._remember(key, lane.window)
            for channel in self._parked.keys() - self._unparking:
                if self._has_room(channel):
                    self._unparking.add(channel)
                    all_tasks.start_soon(self._unpark, channel, all_tasks)

    def _remember(self, key: tuple[str, str], window: Window) -> None:
        now_s = monotonic_s()
        if (used_for_s := window.used_for_s(now_s)) > 0:
            self._starts[key] = (now_s + used_for_s, window.starts())
        if len(self._starts) > self._prune_at:
            self._starts = {key: entry for key, entry in self._starts.items() if entry[0] > now_s}
            self._prune_at = max(MAX_LANES, 2 * len(self._starts))

    async def _start(self, key: tuple[str, str], entry: _Lane, tasks: TaskGroup, now_s: float) -> bool:
        """Begin one request, if one may begin now."""
        lane = entry.lane
        if self._is_busy(entry) or now_s < lane.paused_until_s or lane.window.wait_s(now_s) > 0:
            return False
        from_priority = self._least_priority(entry)
        if entry.outgoing is not None and from_priority == 0 and self._wants_digest(entry, now_s):
            packed = await self._pack(entry, entry.outgoing, now_s)
            if packed is not None:
                tasks.start_soon(self._carry_digest, key, entry.outgoing, *packed)
                return True
        seq = lane.pop(now_s, from_priority=from_priority)
        if seq is None:
            return False
        tasks.start_soon(self._carry, key, entry, seq)
        return True

    async def _carry(self, key: tuple[str, str], entry: _Lane, seq: int) -> None:
        lane = entry.lane
        try:
            letter = await self._carrier.letter(lane, seq, entry.outgoing)
            if letter is None:
                return
            if entry.outgoing is None:
                words = Words(
                    f"the settings have no channel {lane.channel!r} any more", f"配置中已没有渠道 {lane.channel!r}"
                )
                await self._carrier.give_up(lane, letter, permanent("channel_removed", words))
                return
            await self._carrier.carry(lane, letter, entry.outgoing)
        except HubError as error:  # the store: the message is safe there
            log.error("attempt_not_made", channel=lane.channel, reason=str(error))
            lane.retry(seq, monotonic_s() + _SAVE_S, lane.tried.get(seq) or _UNTRIED)
        finally:
            self._wake(key)

    async def _carry_digest(
        self, key: tuple[str, str], outgoing: Outgoing, letters: list[Letter], parcel: Parcel
    ) -> None:
        try:
            await self._carrier.carry_digest(self._lanes[key].lane, letters, parcel, outgoing)
        finally:
            self._wake(key)

    def _is_busy(self, entry: _Lane) -> bool:
        """Nothing more can begin before something ends."""
        parallel = 1 if entry.lane.failures else entry.parallel  # one shows whether the vendor is back
        return self._carrier.is_stopping or len(entry.lane.running) >= parallel

    def _least_priority(self, entry: _Lane) -> int:
        quiet = None if entry.outgoing is None else entry.outgoing.settings.quiet
        return quiet.from_priority if quiet is not None and quiet_for_s(quiet, now_ms()) > 0 else 0

    def _rest_s(self, entry: _Lane, now_s: float) -> float:
        """How long nothing can begin unless something changes."""
        lane = entry.lane
        quiet = None if entry.outgoing is None else entry.outgoing.settings.quiet
        waits = [_MAX_REST_S]
        if lane.paused_until_s > now_s:
            waits.append(lane.paused_until_s - now_s)
        if (window_s := lane.window.wait_s(now_s)) > 0:
            waits.append(window_s)
        if (due_s := lane.next_due_s()) < float("inf") and not self._is_busy(entry):
            waits.append(max(0.0, due_s - now_s, lane.paused_until_s - now_s, window_s))
        if (quiet_s := quiet_for_s(quiet, now_ms())) > 0:
            waits.append(quiet_s)
        if lane.waiting > len(lane.running):
            waits.append(_SWEEP_S)
        return max(0.001, min(waits))

    # --- digests ---

    def _wants_digest(self, entry: _Lane, now_s: float) -> bool:
        """The last place before a pause, and more than one message for it."""
        outgoing, lane = entry.outgoing, entry.lane
        return (
            outgoing is not None
            and outgoing.settings.overflow == "digest"
            and entry.digest_bytes > 0
            and lane.window.room(now_s) == 1
            and lane.ready_count(now_s) > 1
        )

    async def _pack(self, entry: _Lane, outgoing: Outgoing, now_s: float) -> tuple[list[Letter], Parcel] | None:
        """The messages of a digest, which run now, and the digest; None when none is to be made."""
        lane = entry.lane
        seqs = lane.ready(now_s, _MAX_DIGEST)
        if (known := entry.lane.tried.get(seqs[0], _UNTRIED)).is_alone or known.parts:
            return None
        lane.take(set(seqs))
        letters = [letter for seq in seqs if (letter := await self._carrier.letter(lane, seq, outgoing)) is not None]
        fitting = [
            letter for letter in letters
            if letter.target == letters[0].target  # one of an account's is no reader of what others get
            and not letter.tried.is_alone and digest.fits_a_digest(letter.envelope, entry.digest_bytes)
        ]  # fmt: skip
        is_urgent_first = bool(letters) and letters[0].envelope.priority >= URGENT
        packed = None if is_urgent_first else digest.packed([one.envelope for one in fitting], entry.digest_bytes)
        together = [] if packed is None else fitting[: packed[1]]
        parcels = [] if packed is None else _composed(outgoing, packed[0], together[0].target)
        if len(parcels) != 1:
            together = []
        for letter in letters:
            if letter not in together:
                lane.put_back(letter.seq, letter.tried)
        return (together, parcels[0]) if together else None

    # --- what is left in the log ---

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

    async def _sweep(self, entry: _Lane) -> None:
        """While a lane is paused nothing is tried; what is too old is given up all the same."""
        lane, outgoing = entry.lane, entry.outgoing
        if outgoing is None or monotonic_s() >= lane.paused_until_s:
            return
        for seq in sorted(lane.ready(monotonic_s(), lane.waiting)):
            records = await self._log.read(lane.subject, after=seq - 1, limit=1)
            if not records or records[0].seq != seq:
                continue
            if not self._carrier.is_given_up(seq, records[0].time_ms, outgoing):
                return  # the further ones are younger
            lane.take({seq})
            letter = await self._carrier.letter(lane, seq, outgoing)
            if letter is not None:
                last = transient(lane.pause_code, lane.pause_reason)
                await self._carrier.give_up(lane, letter, given_up(last, outgoing.settings.give_up_after_s))

    # --- restarts ---

    async def _load(self) -> Cursor:
        entry = await self._keyvalue.get(_CURSOR)
        return Cursor() if entry is None else msgspec.json.decode(entry.value, type=Cursor)

    async def _prime(self) -> None:
        """The vendors still count what an earlier run sent."""
        now, now_s = now_ms(), monotonic_s()
        for attempt in await attempts.recent(self._log, _PRIMED_ATTEMPTS):
            outgoing = self._channels.get(attempt.channel)
            if outgoing is None:
                continue
            limits = outgoing.channel.limits(attempt.target)
            age_s = max(0.0, (now - attempt.time) / 1000)
            if (shared := self._shared_by(attempt.channel, limits)) is not None:
                shared.take(now_s - age_s)
            if any(age_s < seconds for _, seconds in limits.windows):
                key = (attempt.channel, "" if limits.per == "channel" else attempt.target)
                _, starts = self._starts.get(key, (0.0, ()))
                longest_s = max(seconds for _, seconds in limits.windows)
                self._starts[key] = (now_s - age_s + longest_s, (*starts, now_s - age_s))

    async def _save_often(self) -> None:
        while True:
            await anyio.sleep(_SAVE_S)
            await self._save()

    async def _save(self) -> None:
        cursor = self._cursor()
        if cursor == self._saved:
            return
        try:
            await self._keyvalue.put(_CURSOR, msgspec.json.encode(cursor))
            self._saved = cursor
        except (StorageFull, QueueFull) as error:
            log.warning("outbox_cursor_delayed", reason=str(error))

    def _cursor(self) -> Cursor:
        lanes = [entry.lane for entry in self._lanes.values()]
        open_seqs = sorted(seq for lane in lanes for seq in lane.open_seqs())
        lefts = [lane.left for lane in lanes if lane.left is not None]
        left = min([*lefts, *self._parked.values()], default=None)
        upto = self._read_seq if left is None else min(left - 1, self._read_seq)
        if len(open_seqs) > _MAX_OPEN:
            upto = min(upto, open_seqs[_MAX_OPEN] - 1)
        return Cursor(upto=upto, open=tuple(seq for seq in open_seqs if seq <= upto))


def _composed(outgoing: Outgoing, envelope: Envelope, target: str) -> Sequence[Parcel]:
    """A digest in the vendor's form; none where that fails: then each message by itself tells why."""
    try:
        return outgoing.channel.compose(envelope, target)
    except Cannot:
        return []
    except Exception as error:  # noqa: BLE001  # an adapter's bug must not stop the lane
        log.error("compose_crashed", channel=outgoing.settings.name, error=crash(error))
        return []


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
