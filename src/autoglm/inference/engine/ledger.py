"""Keeps what was decided and what came of it, and folds it into what the engine has learned.

The events lie in the log. What is learned is a fold over them in their order, in the running hub as after a restart; a
snapshot only shortens the start, and keeps what retention has removed since.
"""

import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import msgspec
import structlog

from autoglm.core.clock import now_ms
from autoglm.core.errors import HubError, NotFound, PayloadTooLarge, QueueFull, StorageFull, StoreBroken
from autoglm.core.ports import Appended, Blobs, KeyValue, Log, Record
from autoglm.inference.decision import Decision, Feedback, Outcome
from autoglm.inference.engine.account import (
    SUBJECT,
    Account,
    Concluded,
    Event,
    Judged,
    account_of,
    read_events,
    record_of,
    subject_of,
    subject_of_tenant,
)
from autoglm.inference.engine.retries import Judgeable

if TYPE_CHECKING:
    from autoglm.inference.engine.lessons import Lessons

log = structlog.get_logger()

SNAPSHOT = "engine/snapshot"
_SNAPSHOT_EVENTS = 2_000
"""After so many events a new snapshot is worth its writing."""
_PAGE = 1_000
_MAX_OPEN = 20_000
"""Decisions whose requests run; more are not remembered, and learned from all the same."""
_MAX_SNAPSHOT_BYTES = 64 << 20


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Where the state after the event `seq` lies."""

    seq: int
    sha256: str
    """Empty while the first one is being written."""
    is_ours: bool = True
    """False when the blob was there before it was written: somebody else may need it."""
    stale: tuple[str, ...] = ()
    """Blobs of ours that are to go: one that is noted before it is written, so that a hub that is killed before its own
    row is there finds it, or the one before. Never more than one."""


class _Appending:
    """Is told when an event is on disk. Satisfies `core.ports.Waiter`."""

    __slots__ = ("_event", "_ledger", "_then")

    def __init__(self, ledger: "Ledger", event: Event, then: "_Then | None" = None) -> None:
        self._ledger, self._event, self._then = ledger, event, then

    def done(self) -> bool:
        return False

    def cancelled(self) -> bool:
        return False

    def set_result(self, result: Sequence[Appended], /) -> None:
        self._ledger.written(self._event)
        if result[0].is_new:
            self._ledger.appended(result[0].seq, self._event)
        if self._then is not None:
            self._then.end(None)

    def set_exception(self, error: Exception, /) -> None:
        self._ledger.written(self._event)
        if self._then is not None:
            self._then.end(error)
        else:
            self._ledger.lost += 1
            log.warning("decision_not_kept", reason=str(error))


class _Then:
    """Waits for the end of an append."""

    def __init__(self) -> None:
        self._over = anyio.Event()
        self._error: Exception | None = None

    def end(self, error: Exception | None) -> None:
        self._error = error
        self._over.set()

    async def wait(self) -> None:
        await self._over.wait()
        if self._error is not None:
            raise self._error


class Ledger:
    """`run` in a task; until it has folded the past, `lessons` is None."""

    def __init__(self, log: Log, keyvalue: KeyValue, blobs: Blobs, load: Callable[[bytes | None], "Lessons"]) -> None:
        """load: makes the learned state, of a snapshot or anew; imports numpy, so it is called in a thread.

        Raises HubError for a snapshot that it cannot read.
        """
        self._log, self._keyvalue, self._blobs = log, keyvalue, blobs
        self._load = load
        self._open: dict[str, Decision] = {}
        self._writing: dict[str, Concluded] = {}
        """Ends that are on their way to the disk: who asks at once shall find them."""
        self._early: list[tuple[int, Event]] = []
        """Events that were written while the past was being folded."""
        self._seq = 0
        """The newest event that has been folded."""
        self._unsaved = 0
        self._is_due = anyio.Event()
        self.lessons: Lessons | None = None
        self.lost = 0
        """Events that could not be written, since the start."""

    # --- what happens ---

    def opened(self, decision: Decision) -> None:
        """A request is on its way by this decision."""
        if len(self._open) < _MAX_OPEN:
            self._open[decision.id] = decision

    def concluded(self, decision: Decision, outcome: Outcome) -> None:
        """A request came to its end. Returns at once; the event is written with others soon."""
        self._open.pop(decision.id, None)
        event = self._writing[decision.id] = Concluded(decision=decision, outcome=outcome)
        self._hand_in(event)

    def written(self, event: Event) -> None:
        """An event is on disk, or lost."""
        if isinstance(event, Concluded):
            self._writing.pop(event.decision.id, None)

    def judge(self, judged: Judgeable, quality: float, source: str) -> None:
        """Keep a judgement of the hub's own. Returns at once."""
        self._hand_in(_judgement(judged, quality, source))

    async def judged(self, judged: Judgeable, quality: float, source: str) -> None:
        """Keep a judgement; returns once it is on disk. Raises StorageFull, QueueFull, StoreBroken."""
        event = _judgement(judged, quality, source)
        then = _Then()
        self._log.hand_in(record_of(event), _Appending(self, event, then))
        await then.wait()

    def _hand_in(self, event: Event) -> None:
        waiter = _Appending(self, event)
        try:
            self._log.hand_in(record_of(event), waiter)
        except (QueueFull, StoreBroken) as error:
            waiter.set_exception(error)

    # --- what is known ---

    async def account(self, id: str) -> Account:
        """Raises NotFound for a decision that never was, or that retention has removed."""
        ending, decision = self._writing.get(id), self._open.get(id)  # its request may end while the log is read
        events = read_events(await self._log.read(subject_of(id), limit=_PAGE))
        account = account_of(events if ending is None else [ending, *events])
        if account is not None:
            return account
        if decision is None:
            raise NotFound("decision", id[:64])
        return Account(decision=decision)

    async def last(self, limit: int) -> list[Record]:
        """The newest events on disk, oldest first; `read_events` reads them."""
        return await self._log.read_last(SUBJECT, limit=limit)

    async def recent(self, limit: int) -> list[Event]:
        """The newest events, oldest first, with the ends that are on their way to the disk."""
        return await self._read_last(SUBJECT, limit, list(self._writing.values()))

    async def recent_of(self, tenant: str, limit: int) -> list[Event]:
        """The newest ends of this tenant's requests, oldest first, with those that are on their way to the disk."""
        coming = [end for end in self._writing.values() if end.decision.tenant == tenant]
        return await self._read_last(subject_of_tenant(tenant), limit, coming)

    async def _read_last(self, subject: str, limit: int, coming: Sequence[Concluded]) -> list[Event]:
        events = await anyio.to_thread.run_sync(read_events, await self._log.read_last(subject, limit=limit))
        there = {event.decision.id for event in events if isinstance(event, Concluded)}  # written while this was read
        return [*events, *(end for end in coming if end.decision.id not in there)][-limit:]

    # --- what is learned ---

    def appended(self, seq: int, event: Event) -> None:
        """An event is on disk. Called in the order of the log."""
        if self.lessons is None:
            self._early.append((seq, event))
        elif seq > self._seq:
            self._fold(self.lessons, seq, event)

    def _fold(self, lessons: "Lessons", seq: int, event: Event) -> None:
        lessons.take(event)
        self._seq = seq
        self._unsaved += 1
        if self._unsaved >= _SNAPSHOT_EVENTS:
            self._is_due.set()

    async def run(self) -> None:
        """Fold the past, then save the state from time to time, and once more when cancelled.

        A task of its own: a hub that cannot learn serves by the order of its settings.
        """
        try:
            await self._learn()
        except Exception:  # the task's edge
            self.lessons = None
            log.exception("engine_not_learning")

    async def _learn(self) -> None:
        lessons = await self._restored()
        while records := await self._log.read(SUBJECT, after=self._seq, limit=_PAGE):
            await anyio.to_thread.run_sync(_take_all, lessons, records)
            self._seq = records[-1].seq
            self._unsaved += len(records)
            if self._early and self._early[0][0] <= self._seq:
                break  # what came since is in memory: who reads on might chase new events for ever
        early, self._early = self._early, []
        for seq, event in early:
            if seq > self._seq:
                self._fold(lessons, seq, event)
        self.lessons = lessons
        log.info("engine_ready", events=lessons.events)
        try:
            while True:
                await self._is_due.wait()
                self._is_due = anyio.Event()
                await self._try_to_save(lessons)
        finally:
            with anyio.CancelScope(shield=True):
                if self._unsaved:
                    await self._try_to_save(lessons)

    async def _restored(self) -> "Lessons":
        entry = await self._keyvalue.get(SNAPSHOT)
        if entry is not None:
            try:
                snapshot = msgspec.json.decode(entry.value, type=Snapshot)
                with contextlib.suppress(StorageFull, QueueFull, StoreBroken):  # the next save does it
                    snapshot = await self._swept(snapshot)
                if not snapshot.sha256:  # the first one was not finished
                    return await anyio.to_thread.run_sync(self._load, None)
                state = b"".join([chunk async for chunk in self._blobs.read(snapshot.sha256)])
                lessons = await anyio.to_thread.run_sync(self._load, state)
            except (HubError, msgspec.DecodeError, UnicodeDecodeError) as error:
                # Of another version, damaged, or gone: what the log still has is learned anew.
                log.warning("engine_snapshot_not_used", reason=str(error))
            else:
                self._seq = snapshot.seq
                return lessons
        return await anyio.to_thread.run_sync(self._load, None)

    async def _try_to_save(self, lessons: "Lessons") -> None:
        try:
            await self._save(lessons)
        except (StorageFull, QueueFull, StoreBroken, PayloadTooLarge) as error:  # the log has it all
            log.warning("engine_snapshot_not_saved", reason=str(error))

    async def _save(self, lessons: "Lessons") -> None:
        """Write a new snapshot and remove the one before. Killed at any step, what is left over goes at the next start.

        The store counts no references. A blob that was there before ours was written is never removed; one of the same
        bytes that somebody else writes later would be.
        """
        entry = await self._keyvalue.get(SNAPSHOT)
        before = await self._swept(_row_of(entry.value) if entry is not None else _NONE)
        seq, state, self._unsaved = self._seq, lessons.state(), 0
        sha256 = (await anyio.to_thread.run_sync(hashlib.sha256, state)).hexdigest()
        is_same = sha256 == before.sha256
        is_ours = before.is_ours if is_same else await self._blobs.size(sha256) is None
        if is_ours and not is_same:
            await self._put(msgspec.structs.replace(before, stale=(sha256,)))
        await self._blobs.put(_once(state), max_bytes=_MAX_SNAPSHOT_BYTES)  # also the same: that mends a damaged one
        stale = (before.sha256,) if before.sha256 and before.is_ours and not is_same else ()
        await self._swept(await self._put(Snapshot(seq=seq, sha256=sha256, is_ours=is_ours, stale=stale)))

    async def _swept(self, snapshot: Snapshot) -> Snapshot:
        """Without what is stale, which is gone then."""
        if not snapshot.stale:
            return snapshot
        for sha256 in snapshot.stale:
            if sha256 != snapshot.sha256:
                await self._blobs.delete(sha256)
        return await self._put(msgspec.structs.replace(snapshot, stale=()))

    async def _put(self, snapshot: Snapshot) -> Snapshot:
        await self._keyvalue.put(SNAPSHOT, msgspec.json.encode(snapshot))
        return snapshot


_NONE = Snapshot(seq=0, sha256="")


def _row_of(snapshot: bytes) -> Snapshot:
    """That of no snapshot for a row that cannot be read."""
    try:
        return msgspec.json.decode(snapshot, type=Snapshot)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _NONE


def _judgement(judged: Judgeable, quality: float, source: str) -> Judged:
    feedback = Feedback(decision=judged.id, time_ms=now_ms(), quality=quality, source=source)
    return Judged(feedback=feedback, features=judged.features, arm=judged.arm)


def _take_all(lessons: "Lessons", records: Sequence[Record]) -> None:
    for event in read_events(records):
        lessons.take(event)


async def _once(state: bytes) -> AsyncIterator[bytes]:
    yield state
