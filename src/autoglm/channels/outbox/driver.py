"""A driver keeps one lane going: begins what may begin, alone or in a digest, and rests until something changes."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager

import anyio
import structlog
from anyio.abc import TaskGroup

from autoglm.channels.channel import Cannot, Limits, Parcel
from autoglm.channels.delivery import Words, permanent, transient
from autoglm.channels.outbox import digest
from autoglm.channels.outbox.carrier import Carrier, Outgoing
from autoglm.channels.outbox.lane import URGENT, Lane, Tried
from autoglm.channels.outbox.letter import Letter, given_up
from autoglm.channels.outbox.quiet import quiet_for_s
from autoglm.channels.settings import QuietHours
from autoglm.core.clock import monotonic_s, now_ms
from autoglm.core.crash import crash
from autoglm.core.envelope import Envelope
from autoglm.core.errors import HubError

_SWEEP_S = 60.0
_MAX_REST_S = 3_600.0
BROKEN_STORE_S = 5.0
"""What needed the store and failed is tried again after that: reading needs space, too, where SQLite maps its index."""
_MAX_DIGEST = 60
_UNTRIED = Tried()

log = structlog.get_logger()


class Driver:
    """`run` in a task; `wake` it when something has come into the lane."""

    def __init__(
        self, lane: Lane, outgoing: Outgoing | None, limits: Limits | None, carrier: Carrier,
        refill: Callable[[Lane], Awaitable[None]],
    ) -> None:  # fmt: skip
        """outgoing, limits: None when the settings have no such channel any more. refill: from the log, if need be."""
        self.lane = lane
        self._outgoing = outgoing
        self._parallel = 1 if limits is None else limits.parallel
        self._digest_bytes = 0 if limits is None else limits.digest_bytes
        self._carrier = carrier
        self._refill = refill
        self._changed = anyio.Event()

    def wake(self) -> None:
        self._changed.set()

    async def run(self, end: Callable[[], None]) -> None:
        """Until nothing is left in the lane. `end` is called then, before anything else can put something into it."""
        swept_s = monotonic_s()
        async with anyio.create_task_group() as tasks:
            while True:
                self._changed = anyio.Event()
                try:
                    await self._refill(self.lane)
                    if self.lane.is_idle:
                        end()
                        return
                    now_s = monotonic_s()
                    if now_s - swept_s > _SWEEP_S:
                        swept_s = now_s
                        await self._sweep()
                    if await self._start(tasks, now_s):
                        continue
                    rest_s = self._rest_s(now_s)
                except HubError as error:
                    log.error("lane_not_read", channel=self.lane.channel, reason=str(error))
                    rest_s = BROKEN_STORE_S
                with anyio.move_on_after(rest_s):
                    await self._changed.wait()

    async def _start(self, tasks: TaskGroup, now_s: float) -> bool:
        """Begin one request, if one may begin now."""
        lane = self.lane
        if self._is_busy() or now_s < lane.paused_until_s or lane.window.wait_s(now_s) > 0:
            return False
        quiet = self._quiet()
        from_priority = quiet.from_priority if quiet is not None and quiet_for_s(quiet, now_ms()) > 0 else 0
        if self._outgoing is not None and from_priority == 0 and self._wants_digest(self._outgoing, now_s):
            packed = await self._pack(self._outgoing, now_s)
            if packed is not None:
                tasks.start_soon(self._carry_digest, self._outgoing, *packed)
                return True
        seq = lane.pop(now_s, from_priority=from_priority)
        if seq is None:
            return False
        tasks.start_soon(self._carry, seq)
        return True

    async def _carry(self, seq: int) -> None:
        lane = self.lane
        with self._begun([seq]):
            letter = await self._carrier.letter(lane, seq, self._outgoing)
            if letter is None:
                return
            if self._outgoing is None:
                words = Words(
                    f"the settings have no channel {lane.channel!r} any more", f"配置中已没有渠道 {lane.channel!r}"
                )
                await self._carrier.give_up(lane, letter, permanent("channel_removed", words))
                return
            await self._carrier.carry(lane, letter, self._outgoing)

    async def _carry_digest(self, outgoing: Outgoing, letters: list[Letter], parcel: Parcel) -> None:
        with self._begun([letter.seq for letter in letters]):
            await self._carrier.carry_digest(self.lane, letters, parcel, outgoing)

    @contextmanager
    def _begun(self, seqs: Sequence[int]) -> Iterator[None]:
        """When the store fails, these are tried again later: they are safe there."""
        lane = self.lane
        try:
            yield
        except HubError as error:
            log.error("attempt_not_made", channel=lane.channel, reason=str(error))
            for seq in lane.running.keys() & seqs:
                lane.retry(seq, monotonic_s() + BROKEN_STORE_S, None)  # the log may know what an earlier run has sent
        finally:
            self.wake()

    def _is_busy(self) -> bool:
        """Nothing more can begin before something ends."""
        parallel = 1 if self.lane.failures else self._parallel  # one shows whether the vendor is back
        return self._carrier.is_stopping or len(self.lane.running) >= parallel

    def _quiet(self) -> QuietHours | None:
        return None if self._outgoing is None else self._outgoing.settings.quiet

    def _rest_s(self, now_s: float) -> float:
        """How long nothing can begin unless something changes."""
        lane = self.lane
        waits = [_MAX_REST_S]
        if lane.paused_until_s > now_s:
            waits.append(lane.paused_until_s - now_s)
        if (window_s := lane.window.wait_s(now_s)) > 0:
            waits.append(window_s)
        if (due_s := lane.next_due_s()) < float("inf") and not self._is_busy():
            waits.append(max(0.0, due_s - now_s, lane.paused_until_s - now_s, window_s))
        if (quiet_s := quiet_for_s(self._quiet(), now_ms())) > 0:
            waits.append(quiet_s)
        if lane.waiting > len(lane.running):
            waits.append(_SWEEP_S)
        return max(0.001, min(waits))

    # --- digests ---

    def _wants_digest(self, outgoing: Outgoing, now_s: float) -> bool:
        """The last place before a pause, and more than one message for it."""
        return (
            outgoing.settings.overflow == "digest"
            and self._digest_bytes > 0
            and self.lane.window.room(now_s) == 1
            and self.lane.ready_count(now_s) > 1
        )

    async def _pack(self, outgoing: Outgoing, now_s: float) -> tuple[list[Letter], Parcel] | None:
        """The messages of a digest, which run now, and the digest; None when none is to be made."""
        lane = self.lane
        seqs = lane.ready(now_s, _MAX_DIGEST)
        if (known := lane.tried.get(seqs[0], _UNTRIED)).is_alone or known.parts:
            return None
        lane.take(set(seqs))
        letters: list[Letter] = []
        with self._begun(seqs):
            for seq in seqs:
                if (letter := await self._carrier.letter(lane, seq, outgoing)) is not None:
                    letters.append(letter)
        letters = [letter for letter in letters if letter.seq in lane.running]
        fitting = [
            letter for letter in letters
            if letter.target == letters[0].target  # one of an account's is no reader of what others get
            and not letter.tried.is_alone and digest.fits_a_digest(letter.envelope, self._digest_bytes)
        ]  # fmt: skip
        is_urgent_first = bool(letters) and letters[0].envelope.priority >= URGENT
        packed = None if is_urgent_first else digest.packed([one.envelope for one in fitting], self._digest_bytes)
        together = [] if packed is None else fitting[: packed[1]]
        parcels = [] if packed is None else _composed(outgoing, packed[0], together[0].target)
        if len(parcels) != 1:
            together = []
        for letter in letters:
            if letter not in together:
                lane.put_back(letter.seq, letter.tried)
        return (together, parcels[0]) if together else None

    # --- what is too old ---

    async def _sweep(self) -> None:
        """While a lane is paused nothing is tried; what is too old is given up all the same."""
        lane, outgoing = self.lane, self._outgoing
        if outgoing is None or monotonic_s() >= lane.paused_until_s:
            return
        for seq in sorted(lane.ready(monotonic_s(), lane.waiting)):
            time_ms = await self._carrier.time_of(lane, seq)
            if time_ms is None:
                continue
            if not self._carrier.is_given_up(seq, time_ms, outgoing):
                return  # the further ones are younger
            lane.take({seq})
            with self._begun([seq]):
                letter = await self._carrier.letter(lane, seq, outgoing)
                if letter is not None:
                    last = transient(lane.pause_code, lane.pause_reason)
                    await self._carrier.give_up(lane, letter, given_up(last, outgoing.settings.give_up_after_s))


def _composed(outgoing: Outgoing, envelope: Envelope, target: str) -> Sequence[Parcel]:
    """A digest in the vendor's form; none where that fails: then each message by itself tells why."""
    try:
        return outgoing.channel.compose(envelope, target)
    except Cannot:
        return []
    except Exception as error:  # noqa: BLE001  # an adapter's bug must not stop the lane
        log.error("compose_crashed", channel=outgoing.settings.name, error=crash(error))
        return []
