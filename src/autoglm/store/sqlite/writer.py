"""The one thread that writes: group commit.

Callers queue operations; the thread takes all that wait, runs them in one transaction, syncs once, and wakes all
callers with one call into the event loop. Raw asyncio futures, because each microsecond here is paid per message: with
128 callers and 300 B, 45k appends/s, 82% of a bare loop of executemany and COMMIT (2 cores, fsync of 0.2 ms).
"""

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

import structlog

from autoglm.core.errors import HubError, QueueFull, StorageFull, StoreBroken
from autoglm.core.ports import Waiter
from autoglm.store.sqlite.connection import store_error

_BATCH_OPERATIONS = 512
_GATHERED_OPERATIONS = 256
_GATHER_S = 0.01
_RETRY_AFTER_S = 1.0

log = structlog.get_logger(part="store")

Item_contra = TypeVar("Item_contra", contravariant=True)
Result_co = TypeVar("Result_co", covariant=True)
News = TypeVar("News")


class Participant(Protocol[Item_contra, Result_co, News]):
    """One kind of operation. The writer calls it with all operations of that kind in a batch."""

    def load(self, db: sqlite3.Connection) -> None:
        """Read from `db` what is kept in memory between batches; runs at the start and after each rollback."""
        ...

    def apply(
        self, db: sqlite3.Connection, items: Sequence[Item_contra]
    ) -> tuple[Sequence[Result_co | HubError], News]:
        """Run in the writer's thread, inside the transaction. One outcome for each item, in their order.

        An item that fails by itself has its HubError as outcome and must have written nothing; an exception that is
        raised instead rolls the batch back.
        """
        ...

    def publish(self, news: News) -> None:
        """Run in the event loop once the batch is on disk, in the order of commits, before callers wake."""
        ...


class Leader(Participant[Item_contra, Result_co, News], Protocol[Item_contra, Result_co, News]):
    """Takes part in each transaction while it has a backlog: nothing goes to disk before that does."""

    @property
    def backlog(self) -> int: ...

    def committed(self) -> None:
        """Run in the writer's thread once a transaction is on disk, whether it took part or not."""
        ...


_Operation = tuple[Participant[Any, Any, Any], Any, Waiter[Any]]
_Committed = list[tuple[Participant[Any, Any, Any], Any, Sequence[_Operation], Sequence[Any]]]


class Writer:
    """Owns the writing connection and its thread. Made and used in one event loop."""

    def __init__(
        self,
        db: sqlite3.Connection,
        path: Path,
        participants: Sequence[Participant[Any, Any, Any]],
        *,
        max_queued_operations: int,
        leader: Leader[Any, Any, Any] | None = None,
    ) -> None:
        """leader: one of the participants."""
        self._db = db
        self._path = path
        self._participants = participants
        self._leader = leader
        self._max_queued = max_queued_operations
        self._queue: SimpleQueue[list[_Operation]] = SimpleQueue()
        """An empty list says that no more will come."""
        self._gathered: list[_Operation] = []
        self._counted = 0
        """How many of the gathered were there at the end of the last turn."""
        self._hand_over_s = 0.0
        self._queued = 0
        """Operations whose waiters were not told yet."""
        self._loop = asyncio.get_running_loop()
        self._is_open = False
        self._is_full = False
        # A daemon: a process whose event loop died without closing the store must still be able to end.
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)

    def start(self) -> None:
        for participant in self._participants:
            participant.load(self._db)
        self._is_open = True
        self._thread.start()

    def submit(
        self, participant: Participant[Item_contra, Result_co, Any], item: Item_contra
    ) -> "asyncio.Future[Result_co]":
        """Queue an operation; the future has its result once it is on disk.

        Raises QueueFull when too many wait. A caller that is cancelled meanwhile does not know whether its
        operation took place. The future raises StorageFull, StoreBroken, or what the participant answered.
        """
        future: asyncio.Future[Result_co] = self._loop.create_future()
        self.hand_in(participant, item, future)
        return future

    def hand_in(
        self, participant: Participant[Item_contra, Result_co, Any], item: Item_contra, waiter: Waiter[Result_co]
    ) -> None:
        """As `submit`, for whoever needs no future of his own."""
        if not self._is_open:
            raise StoreBroken(str(self._path), "it is closed")
        if self._queued >= self._max_queued:
            raise QueueFull(self._max_queued, _RETRY_AFTER_S)
        self._queued += 1
        if not self._gathered:
            self._hand_over_s = self._loop.time() + _GATHER_S
            self._loop.call_soon(self._hand_over)
        self._gathered.append((participant, item, waiter))

    def _hand_over(self) -> None:
        """To the thread, once a turn of the loop has brought nothing more, or after a while.

        A batch has costs of its own (its sync, the pages it touches, the fight with the loop for the interpreter's
        lock): 132 us of CPU a message with 128 senders, against 104 when they are written together.
        """
        gathered = self._gathered
        is_growing, self._counted = len(gathered) > self._counted, len(gathered)
        has_time = len(gathered) < _GATHERED_OPERATIONS and self._loop.time() < self._hand_over_s
        if is_growing and has_time and self._is_open:
            self._loop.call_soon(self._hand_over)
            return
        self._counted = 0
        if gathered:
            self._queue.put(gathered)
            self._gathered = []

    @property
    def is_open(self) -> bool:
        return self._is_open

    def refuse(self) -> None:
        """Take no more operations; the thread ends after those that wait."""
        if self._is_open:
            self._is_open = False
            self._hand_over()
            self._queue.put([])

    def join(self) -> None:
        """Wait for the thread to end. Blocks; call it outside of the event loop."""
        self._thread.join()

    # --- in the writer's thread ---------------------------------------------------------------------

    def _run(self) -> None:
        queue = self._queue
        is_last = False
        while not is_last:
            operations = queue.get()
            is_last = not operations
            while not is_last and len(operations) < _BATCH_OPERATIONS and queue.qsize():
                more = queue.get()  # this thread alone takes from the queue, so it does not block
                is_last = not more
                operations += more
            for start in range(0, len(operations), _BATCH_OPERATIONS):
                self._commit(operations[start : start + _BATCH_OPERATIONS])
        if self._leader is not None and self._leader.backlog:
            self._commit([])

    def _commit(self, operations: Sequence[_Operation]) -> None:
        try:
            committed = self._transaction(operations)
        except sqlite3.OperationalError as error:
            self._fail(operations, store_error(error, self._path))
        except Exception as error:  # noqa: BLE001  # the thread's outer edge: whatever it is goes to the caller
            if len(operations) == 1:
                self._fail(operations, store_error(error, self._path) if isinstance(error, sqlite3.Error) else error)
                return
            # One operation holds a value that SQLite does not take; alone, each meets only its own error.
            for operation in operations:
                self._commit([operation])
        else:
            if self._is_full:
                self._is_full = False
                self._say(log.info, "storage_recovered")
            self._call(self._deliver, committed)

    def _transaction(self, operations: Sequence[_Operation]) -> _Committed:
        by_participant: dict[Participant[Any, Any, Any], list[_Operation]] = {}
        for operation in operations:
            by_participant.setdefault(operation[0], []).append(operation)
        leader = self._leader
        if leader is not None and leader.backlog:
            by_participant.setdefault(leader, [])
        db = self._db
        try:
            db.execute("BEGIN IMMEDIATE")
            committed: _Committed = []
            for participant, group in by_participant.items():
                outcomes, news = participant.apply(db, [operation[1] for operation in group])
                committed.append((participant, news, group, outcomes))
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            for participant in self._participants:
                participant.load(db)
            raise
        if leader is not None:
            leader.committed()
        return committed

    def _fail(self, operations: Sequence[_Operation], error: Exception) -> None:
        self._call(self._deliver_error, operations, error)  # first: the log may be on the same full disk
        if not isinstance(error, StorageFull):
            self._say(log.error, "batch_failed", operations=len(operations), error=str(error))
        elif not self._is_full:
            self._is_full = True
            self._say(log.error, "storage_full", operations=len(operations))

    def _call(self, function: Any, *arguments: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:  # the loop was closed without closing the store: nobody is left to be told
            self._say(log.warning, "event_loop_gone")

    def _say(self, log_line: Callable[..., object], event: str, **fields: object) -> None:
        """A log that cannot be written, on the same full disk for one, must not end the thread: all writes would wait
        for ever."""
        with contextlib.suppress(Exception):
            log_line(event, path=str(self._path), **fields)

    # --- in the event loop --------------------------------------------------------------------------

    def _deliver(self, committed: _Committed) -> None:
        for participant, news, operations, outcomes in committed:
            participant.publish(news)
            self._queued -= len(operations)
            for operation, outcome in zip(operations, outcomes, strict=True):
                waiter = operation[2]
                if waiter.done():  # its caller was cancelled
                    continue
                if isinstance(outcome, HubError):
                    waiter.set_exception(outcome)
                else:
                    waiter.set_result(outcome)

    def _deliver_error(self, operations: Sequence[_Operation], error: Exception) -> None:
        self._queued -= len(operations)
        for _, _, waiter in operations:
            if not waiter.done():
                waiter.set_exception(error)
