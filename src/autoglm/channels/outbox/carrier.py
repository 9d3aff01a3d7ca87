"""Carries one message, or a digest of several, to its channel: one attempt, noted before and after."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import NamedTuple

import anyio
import structlog

from autoglm.channels.backoff import pause_s
from autoglm.channels.channel import Cannot, Channel, Parcel
from autoglm.channels.delivery import Delivery, Words, permanent, transient
from autoglm.channels.early import EarlyReports
from autoglm.channels.ends import Ends
from autoglm.channels.outbox.ages import Ages
from autoglm.channels.outbox.attempts import answer_record, attempt_record, find
from autoglm.channels.outbox.dead_letters import DeadLetters
from autoglm.channels.outbox.lane import Lane, Tried
from autoglm.channels.outbox.letter import (
    Letter,
    given_up,
    has_expired,
    never_twice,
    receipt_of,
    size_bytes,
    with_reason,
)
from autoglm.channels.receipts import ends_sending
from autoglm.channels.settings import ChannelSettings, OutboxSettings
from autoglm.channels.slow_links import time_for_s
from autoglm.channels.tickets import ticket_record
from autoglm.core.clock import monotonic_s, now_ms
from autoglm.core.crash import crash
from autoglm.core.envelope import State, decode_envelope
from autoglm.core.errors import QueueFull, StorageFull, StoreBroken
from autoglm.core.ports import Blobs, Log, Record

log = structlog.get_logger()

_FULL_DISK_S = 2.0
_NOT_WRITTEN = (StorageFull, QueueFull, StoreBroken)
"""StoreBroken: such as an I/O error, which may be gone in a moment."""
_EARLY_S = 30.0
"""So long an early report waits for a disk that takes nothing."""
_PAUSES_S = {"throttled": (30.0, 600.0), "auth": (60.0, 900.0)}
"""By class of failure, the first and the longest pause of the whole lane."""
_TRIP = 3
"""So many attempts in turn that fail for now: the vendor is down, not the message bad, and the lane pauses."""
_LONGEST_TRIP_S = 60.0
_STATES: dict[str, State] = {"accepted": "sent", "delivered": "delivered", "read": "read", "permanent": "failed"}


class Outgoing(NamedTuple):
    """A channel with its settings."""

    channel: Channel
    settings: ChannelSettings


class LastTry(NamedTuple):
    """What the newest request to a channel, or the newest check of it, showed."""

    at_s: float
    """Monotonic."""
    is_up: bool
    """False: the vendor is out of reach, or lets the hub in no more."""


OnEnd = Callable[[str, State, float], object]
"""Is told of each message that is settled: its channel, how it ended, seconds since the hub took it."""


class Carrier:
    def __init__(
        self, store: Log, blobs: Blobs, ends: Ends, dead: DeadLetters, settings: OutboxSettings,
        *, early: EarlyReports, on_end: OnEnd,
    ) -> None:  # fmt: skip
        self._log = store
        self._blobs = blobs
        self._ends = ends
        self._dead = dead
        self._early = early
        self._settings = settings
        self._on_end = on_end
        self.ages = Ages()
        self.is_stopping = False
        """No further request goes out: what was begun goes back to its lane."""
        self.counts: dict[tuple[str, str], int] = {}
        """Attempts by (channel, how they ended)."""
        self.tries: dict[str, LastTry] = {}
        """By channel."""

    def is_given_up(self, seq: int, time_ms: int, outgoing: Outgoing, *, in_s: float = 0.0) -> bool:
        """Whether what the hub took at time_ms is too old now, or will be in in_s."""
        return self.ages.is_over(seq, time_ms, outgoing.settings.give_up_after_s, in_s=in_s)

    async def letter(self, lane: Lane, seq: int, outgoing: Outgoing | None) -> Letter | None:
        """A message that the lane has begun; None when there is nothing to do for it: then it is settled."""
        record = await self._record(lane, seq)
        if record is None:
            lane.settle(seq)
            return None
        envelope = decode_envelope(record.body)
        tried = lane.tried.get(seq)
        letter = Letter(seq, envelope, record.time_ms, tried or Tried())
        if tried is None and seq <= self.ages.start_seq:
            known = await find(self._log, envelope.id)
            if known.is_settled:
                lane.settle(seq)
                return None
            letter = letter._replace(tried=known.tried)
            if known.doubt is not None and not await self._is_tried_again(lane, letter, known.doubt, outgoing):
                return None
        return letter

    async def time_of(self, lane: Lane, seq: int) -> int | None:
        """When the hub took a message, in milliseconds of the Unix epoch; None when it is in the log no more."""
        record = await self._record(lane, seq)
        return None if record is None else record.time_ms

    async def _record(self, lane: Lane, seq: int) -> Record | None:
        """None when it has expired, or retention took it."""
        found = await self._log.read(lane.subject, after=seq - 1, limit=1)
        return found[0] if found and found[0].seq == seq else None

    async def _is_tried_again(self, lane: Lane, letter: Letter, doubt: Delivery, outgoing: Outgoing | None) -> bool:
        """What an earlier run had begun: write down that nobody knows how it ended. False when that is its end."""
        if outgoing is not None and outgoing.settings.on_doubt == "fail":
            await self.give_up(lane, letter, never_twice(doubt))
            return False
        await self._written(partial(self._log.append, receipt_of(letter, "queued", doubt, now_ms())))
        return True

    async def carry(self, lane: Lane, letter: Letter, outgoing: Outgoing) -> None:
        """Compose and send it, all parts that the vendor has not yet."""
        async with self._ends.carried(letter.envelope.id):
            if await self._has_ended(letter):
                lane.settle(letter.seq)
            elif parcels := await self._composed(lane, letter, outgoing):
                await self._send_parts(lane, letter, parcels, outgoing)

    async def _composed(self, lane: Lane, letter: Letter, outgoing: Outgoing) -> Sequence[Parcel]:
        """Nothing where that fails: then it is settled."""
        try:
            if parcels := outgoing.channel.compose(letter.envelope, letter.target):
                return parcels
            words = Words("the channel's adapter makes nothing of this message", "渠道适配器未能由该消息生成内容")
            failure = permanent("empty", words)
        except Cannot as error:
            failure = error.delivery
        except Exception as error:  # noqa: BLE001  # an adapter's bug must not stop the lane
            log.error("compose_crashed", channel=lane.channel, error=crash(error))
            words = Words("the channel's adapter failed on this message", "渠道适配器处理该消息时出错")
            failure = permanent("crashed", words)
        await self._settle(lane, letter, failure, [])
        return ()

    async def _send_parts(self, lane: Lane, letter: Letter, parcels: Sequence[Parcel], outgoing: Outgoing) -> None:
        tried = letter.tried
        first = min(tried.parts, len(parcels) - 1)  # of larger parts after a change of the settings
        extra_s = time_for_s(await size_bytes(letter.envelope, self._blobs))
        for part in range(first, len(parcels)):
            if has_expired(letter):
                lane.settle(letter.seq)  # the mailbox says so
                return
            gives_way = part > first and lane.gives_way(monotonic_s(), letter.envelope.priority)
            place_s = None if gives_way else self._starts(lane)
            if place_s is None:
                lane.put_back(letter.seq, tried._replace(parts=part))
                return
            letter = letter._replace(tried=tried._replace(attempts=tried.attempts + 1, parts=part))
            if not await self._note(lane, [letter], part, place_s):
                return
            began_s = monotonic_s()
            delivery = await self._send(outgoing.channel, parcels[part], f"{letter.envelope.id}.{part}", extra_s)
            if delivery.outcome in ("retry", "permanent"):
                await self._failed(lane, [letter], delivery, outgoing, began_s)
                return
            if part + 1 < len(parcels):
                await self._note_answer(lane, letter, delivery, part)
                continue
            self._worked(lane, delivery)
            await self._settle(lane, letter, delivery, [delivery.ticket] if delivery.ticket else [])
            await self._report_early(lane, delivery)

    def _starts(self, lane: Lane) -> float | None:
        """Take a place for a request that goes out now; monotonic. None: the hub stops, or there are no places left."""
        now_s = monotonic_s()
        if self.is_stopping or lane.window.wait_s(now_s) > 0:
            return None
        lane.window.take(now_s)
        return now_s

    async def carry_digest(self, lane: Lane, letters: Sequence[Letter], parcel: Parcel, outgoing: Outgoing) -> None:
        """Send several messages as one."""
        async with self._ends.carried(*(letter.envelope.id for letter in letters)):
            ended = [letter for letter in letters if await self._has_ended(letter)]
            for letter in ended:
                lane.settle(letter.seq)
            place_s = None if ended else self._starts(lane)
            if place_s is not None:
                await self._send_digest(lane, letters, parcel, outgoing, place_s)
                return
            for letter in letters:  # those that are left make another digest
                if letter not in ended:
                    lane.put_back(letter.seq, letter.tried)

    async def _send_digest(
        self, lane: Lane, letters: Sequence[Letter], parcel: Parcel, outgoing: Outgoing, place_s: float
    ) -> None:
        number = 1 + max(letter.tried.attempts for letter in letters)
        letters = [letter._replace(tried=Tried(attempts=number)) for letter in letters]
        if not await self._note(lane, letters, 0, place_s):
            return
        began_s = monotonic_s()
        delivery = await self._send(outgoing.channel, parcel, f"{letters[0].envelope.id}.digest-{number}")
        if delivery.outcome == "permanent":  # one of them is to blame: each by itself
            ends = [receipt_of(letter, "queued", delivery, now_ms()) for letter in letters]
            await self._written(partial(self._log.append_all, ends))  # after a crash none of them is in doubt
            for letter in letters:
                lane.retry(letter.seq, 0.0, Tried(attempts=number, is_alone=True))
            self._count(lane, delivery)
            return
        if delivery.outcome == "retry":
            await self._failed(lane, letters, delivery, outgoing, began_s)
            return
        self._worked(lane, delivery)
        count = len(letters)
        words = Words(f"it went out in a digest of {count} messages", f"已合并在 {count} 条消息的摘要中发出")
        tickets = [delivery.ticket] if delivery.ticket else []
        for letter in letters:
            await self._settle(lane, letter, with_reason(delivery, words), tickets)
            tickets = []  # it is the first one's: the attempt says which others went with it
        await self._report_early(lane, delivery)

    async def give_up(self, lane: Lane, letter: Letter, delivery: Delivery) -> None:
        """It goes to the dead letters, unless it has ended otherwise."""
        async with self._ends.carried(letter.envelope.id):
            if await self._has_ended(letter):
                lane.settle(letter.seq)
            else:
                await self._settle(lane, letter, delivery, [])

    async def _has_ended(self, letter: Letter) -> bool:
        """Its time is over, which the mailbox writes down, or was over when a wrong clock said so; or the vendor has
        reported that a part will not arrive.
        """
        if letter.envelope.expires_at is None and letter.tried.parts == 0:  # it ends here only, and nothing is read
            return False
        return has_expired(letter) or any(ends_sending(step) for step in await self._ends.steps(letter.envelope.id))

    # --- one attempt ---

    async def _note(self, lane: Lane, letters: Sequence[Letter], part: int, place_s: float) -> bool:
        """Write down that a request goes out now. False: it does not, since without the note it could go out twice."""
        ids = tuple(letter.envelope.id for letter in letters)
        number = letters[0].tried.attempts
        try:
            await self._log.append(attempt_record(ids, lane.channel, letters[0].target, number=number, part=part))
        except _NOT_WRITTEN:
            lane.window.give_back(place_s)
            for letter in letters:
                lane.retry(letter.seq, monotonic_s() + _FULL_DISK_S, letter.tried)
            return False
        return True

    async def _note_answer(self, lane: Lane, letter: Letter, delivery: Delivery, part: int) -> None:
        """Write down that the vendor has this part, and its ticket: the next may wait for its limit."""
        id = letter.envelope.id
        records = [answer_record(id, lane.channel, letter.target, number=letter.tried.attempts, part=part)]
        if delivery.ticket:
            records.append(ticket_record(lane.channel, delivery.ticket, id))
        await self._written(partial(self._log.append_all, records))
        await self._report_early(lane, delivery)

    async def _report_early(self, lane: Lane, delivery: Delivery) -> None:
        """What the vendor said of this ticket before it was noted."""
        for report in self._early.take(lane.channel, delivery.ticket) if delivery.ticket else ():
            with anyio.move_on_after(_EARLY_S, shield=True):  # it is nowhere else, also where the hub ends now
                await self._written(report)

    async def _send(self, channel: Channel, parcel: Parcel, key: str, extra_s: float = 0.0) -> Delivery:
        """extra_s: for the files in it, whose link may be slow."""
        try:
            with anyio.fail_after(self._settings.attempt_timeout_s + extra_s):
                return await channel.send(parcel, key)
        except TimeoutError:
            words = Words("no answer in time; it may have been delivered", "等待应答超时，消息可能已送达")
            return transient("timeout", words, is_in_doubt=True)
        except Exception as error:  # noqa: BLE001  # an adapter's bug must not stop the lane
            log.error("send_crashed", error=crash(error))
            words = Words("the channel's adapter failed; it may have been delivered", "渠道适配器出错，消息可能已送达")
            return transient("crashed", words, is_in_doubt=True)

    def _worked(self, lane: Lane, delivery: Delivery) -> None:
        self._count(lane, delivery)
        lane.failures, lane.pause_code = 0, ""

    def _count(self, lane: Lane, delivery: Delivery) -> None:
        key = (lane.channel, delivery.failure or delivery.outcome)
        self.counts[key] = self.counts.get(key, 0) + 1
        self.tries[lane.channel] = LastTry(monotonic_s(), delivery.failure not in ("transient", "auth"))

    # --- what became of it ---

    async def _failed(
        self, lane: Lane, letters: Sequence[Letter], delivery: Delivery, outgoing: Outgoing, began_s: float
    ) -> None:
        """One request for these messages failed, for now or for ever. began_s: when it went out; monotonic."""
        self._count(lane, delivery)
        now_s = monotonic_s()
        if delivery.outcome == "permanent":
            lane.failures = 0  # the vendor answers
        else:
            if not lane.failures or began_s >= lane.failed_s:  # else it went out beside one that failed: nothing new
                lane.failures += 1
            lane.failed_s = now_s
            self._pause(lane, delivery, now_s)
        if delivery.is_in_doubt and outgoing.settings.on_doubt == "fail":
            delivery = never_twice(delivery)
        for letter in letters:
            if delivery.outcome == "permanent":
                await self._settle(lane, letter, delivery, [])
                continue
            due_s = now_s + self._message_pause_s(letter, delivery)  # the lane's own pause holds beside it
            rest_s = max(lane.paused_until_s, due_s) - now_s
            if self.is_given_up(letter.seq, letter.time_ms, outgoing, in_s=rest_s):
                await self._settle(lane, letter, given_up(delivery, outgoing.settings.give_up_after_s), [])
                continue
            receipt = receipt_of(letter, "queued", delivery, now_ms() + round(1000 * rest_s))
            await self._written(partial(self._log.append, receipt))
            lane.retry(letter.seq, due_s, letter.tried)

    def _message_pause_s(self, letter: Letter, delivery: Delivery) -> float:
        if delivery.failure != "transient":
            return 0.0  # the lane's pause counts
        wait_s = pause_s(letter.tried.attempts, self._settings.first_retry_s, self._settings.max_retry_s)
        return max(wait_s, delivery.retry_after_s or 0.0)

    def _pause(self, lane: Lane, delivery: Delivery, now_s: float) -> None:
        lane.pause_code, lane.pause_reason = delivery.code, delivery.reason
        if delivery.failure in _PAUSES_S:
            first_s, longest_s = _PAUSES_S[delivery.failure]
            wait_s = delivery.retry_after_s
            if wait_s is None:
                wait_s = pause_s(lane.failures, first_s, longest_s)
            if delivery.failure == "auth":
                log.warning("channel_unauthorized", channel=lane.channel, target=lane.target, code=delivery.code)
        elif lane.failures >= _TRIP:
            longest_s = min(_LONGEST_TRIP_S, self._settings.max_retry_s)
            wait_s = pause_s(lane.failures - _TRIP + 1, self._settings.first_retry_s, longest_s)
        else:
            return
        lane.paused_until_s = max(lane.paused_until_s, now_s + wait_s)

    async def _settle(self, lane: Lane, letter: Letter, delivery: Delivery, tickets: Sequence[str]) -> None:
        """Write down how it ended, while `Ends` has it; nothing is left to do."""
        state = _STATES[delivery.outcome]
        records = [ticket_record(lane.channel, ticket, letter.envelope.id) for ticket in tickets]
        if state != "failed" and await self._has_failed_in_part(letter):
            state = "failed"  # it is written down, with the vendor's reason
        else:
            records.insert(0, receipt_of(letter, state, delivery))
        if delivery.outcome == "permanent":
            # Before the receipt: a crash between the two has it tried again, and none is missing.
            attempts = letter.tried.attempts
            await self._written(partial(self._dead.put, letter.envelope, delivery, attempts))
            log.warning(
                "message_undeliverable", channel=lane.channel, envelope_id=letter.envelope.id, code=delivery.code,
            )  # fmt: skip
        await self._written(partial(self._log.append_all, records))
        lane.settle(letter.seq)
        self._on_end(lane.channel, state, max(0.0, (now_ms() - letter.time_ms) / 1000))

    async def _has_failed_in_part(self, letter: Letter) -> bool:
        """The vendor has reported meanwhile that an earlier part will not arrive."""
        if letter.tried.parts == 0:
            return False
        return any(step.state == "failed" for step in await self._ends.steps(letter.envelope.id))

    async def _written(self, write: Callable[[], Awaitable[object]]) -> None:
        """The request has gone out: how it ended must be written down, however long the disk takes nothing."""
        while True:
            try:
                await write()
                return
            except _NOT_WRITTEN as error:
                log.warning("receipt_delayed", reason=str(error))
                await anyio.sleep(_FULL_DISK_S)
