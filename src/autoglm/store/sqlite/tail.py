"""The newest records in memory, and the readers that wait for the next ones. Lives in the event loop alone.

Raw asyncio futures: a waiting reader costs one future and one timer, and thousands of them wait at a time.
"""

import asyncio
from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from itertools import islice
from operator import attrgetter

from autoglm.core.clock import now_ms
from autoglm.core.errors import HubError
from autoglm.core.ports import Record

Filed = tuple[Record, tuple[str, ...]]
"""A record and its subjects, each named once."""

_RECORD_BYTES = 400
_SUBJECT_BYTES = 150
"""What Python's objects and the indexes take beside the body; rounded up."""
_LONGEST_TIMER_S = 86_400.0

_seq = attrgetter("seq")


class _Waiter:
    __slots__ = ("after", "future", "limit", "subjects")

    def __init__(
        self, subjects: tuple[str, ...], after: int, limit: int, future: "asyncio.Future[list[Record]]"
    ) -> None:
        self.subjects, self.after, self.limit, self.future = subjects, after, limit, future


class Tail:
    """Holds every record with seq > `floor`, by subject and by id; the oldest leave when a bound is reached."""

    def __init__(self, last_seq: int, *, max_records: int, max_bytes: int) -> None:
        self.floor = last_seq
        self.last_seq = last_seq
        self._max_records, self._max_bytes = max_records, max_bytes
        self._filed: deque[Filed] = deque()
        self._by_subject: dict[str, list[Record]] = {}
        self._by_id: dict[str, Record] = {}
        self._size_bytes = 0
        self._waiting: dict[str, set[_Waiter]] = {}

    def read(self, subjects: tuple[str, ...], after: int, limit: int) -> list[Record]:
        """Records of any of the subjects with seq > after, which must be at least `floor`, but for expired ones."""
        found = [
            records[bisect_right(records, after, key=_seq) :]
            for subject in subjects
            if (records := self._by_subject.get(subject)) is not None and records[-1].seq > after
        ]
        return _handed_out(_merge(found), after, limit, now_ms()) if found else []

    def get(self, id: str) -> Record | None:
        return self._by_id.get(id)

    async def wait(self, subjects: tuple[str, ...], after: int, limit: int, timeout_s: float) -> list[Record]:
        """The next records of any of the subjects to be committed; an empty list when none came in time."""
        loop = asyncio.get_running_loop()
        waiter = _Waiter(subjects, after, limit, loop.create_future())
        timer = loop.call_later(min(timeout_s, _LONGEST_TIMER_S), _give_up, waiter.future)
        for subject in subjects:
            self._waiting.setdefault(subject, set()).add(waiter)
        try:
            return await waiter.future
        finally:
            timer.cancel()
            for subject in set(subjects):
                waiting = self._waiting[subject]
                waiting.discard(waiter)
                if not waiting:
                    del self._waiting[subject]

    def extend(self, filed: Sequence[Filed]) -> None:
        """Take in what was committed, in the order of seq, and wake those who wait for it."""
        for entry in filed:
            record, subjects = entry
            self._filed.append(entry)
            self._by_id[record.id] = record
            for subject in subjects:
                known = self._by_subject.get(subject)
                if known is None:
                    self._by_subject[subject] = [record]
                else:
                    known.append(record)
            self._size_bytes += _size_bytes(record, subjects)
        if filed:
            self.last_seq = filed[-1][0].seq
        if self._waiting:
            self._wake(filed)
        while len(self._filed) > self._max_records or self._size_bytes > self._max_bytes:
            self._drop_oldest()

    def drop_through(self, seq: int) -> None:
        """Forget the records up to `seq`: retention removed them."""
        while self._filed and self._filed[0][0].seq <= seq:
            self._drop_oldest()

    def close(self, error: HubError) -> None:
        """Let all who wait fail with `error`."""
        for waiting in self._waiting.values():
            for waiter in waiting:
                if not waiter.future.done():
                    waiter.future.set_exception(error)

    def _wake(self, filed: Sequence[Filed]) -> None:
        wanted: dict[str, list[Record]] = {}
        for record, subjects in filed:
            for subject in subjects:
                if subject in self._waiting:
                    wanted.setdefault(subject, []).append(record)
        now = now_ms()
        for subject in wanted:
            for waiter in self._waiting[subject]:
                if waiter.future.done():
                    continue
                found = [wanted[name] for name in waiter.subjects if name in wanted]
                fresh = _handed_out(_merge(found), waiter.after, waiter.limit, now)
                if fresh:
                    waiter.future.set_result(fresh)

    def _drop_oldest(self) -> None:
        record, subjects = self._filed.popleft()
        del self._by_id[record.id]
        for subject in subjects:
            records = self._by_subject[subject]
            if len(records) == 1:
                del self._by_subject[subject]
            else:
                del records[0]  # the oldest of all is the oldest of each of its subjects
        self._size_bytes -= _size_bytes(record, subjects)
        self.floor = record.seq


def _merge(found: list[list[Record]]) -> list[Record]:
    """One list by seq, each record once; for one list, that list."""
    if len(found) == 1:
        return found[0]
    by_seq = {record.seq: record for records in found for record in records}
    return [by_seq[seq] for seq in sorted(by_seq)]


def _handed_out(records: Sequence[Record], after: int, limit: int, now: int) -> list[Record]:
    fresh = (r for r in records if r.seq > after and (r.expires_at_ms is None or r.expires_at_ms > now))
    return list(islice(fresh, limit))


def _size_bytes(record: Record, subjects: tuple[str, ...]) -> int:
    return len(record.body) + _RECORD_BYTES + _SUBJECT_BYTES * len(subjects)


def _give_up(future: "asyncio.Future[list[Record]]") -> None:
    if not future.done():
        future.set_result([])
