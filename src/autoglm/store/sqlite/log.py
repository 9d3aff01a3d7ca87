"""The Log on SQLite: appends go to the writer, reads come from the tail in memory or else from disk."""

import sqlite3
from collections.abc import Sequence
from functools import partial
from heapq import merge
from operator import itemgetter

from autoglm.core.clock import now_ms
from autoglm.core.ports import Appended, NewRecord, Record, Waiter
from autoglm.store.sqlite.appender import Appender
from autoglm.store.sqlite.readers import Readers
from autoglm.store.sqlite.tail import Tail
from autoglm.store.sqlite.writer import Writer

_READ_BYTES = 16 * 1024 * 1024

_BY_SUBJECT = """
    SELECT log.seq, log.id, log.time_ms, log.expires_at_ms, log.body
    FROM log_subject CROSS JOIN log ON log.seq = log_subject.seq
    WHERE log_subject.subject = ? AND log_subject.seq > ? AND (log.expires_at_ms IS NULL OR log.expires_at_ms > ?)
    ORDER BY log_subject.seq
"""
_Row = tuple[int, str, int, int | None, bytes]
_seq = itemgetter(0)
_BY_ID = "SELECT seq, id, time_ms, expires_at_ms, body FROM log WHERE id = ?"


class SqliteLog:
    """Implements `core.ports.Log`."""

    def __init__(self, writer: Writer, appender: Appender, tail: Tail, readers: Readers) -> None:
        self._writer, self._appender, self._tail, self._readers = writer, appender, tail, readers

    async def append(self, record: NewRecord) -> Appended:
        return (await self._writer.submit(self._appender, (record,)))[0]

    async def append_all(self, records: Sequence[NewRecord]) -> list[Appended]:
        if not records:
            return []
        return await self._writer.submit(self._appender, tuple(records))

    def hand_in(self, record: NewRecord, waiter: Waiter[Sequence[Appended]]) -> None:
        self._writer.hand_in(self._appender, (record,), waiter)

    async def read(self, subject: str, *, after: int = 0, limit: int = 100) -> list[Record]:
        return await self._read((subject,), after, limit)

    async def read_last(self, subject: str, *, limit: int = 100) -> list[Record]:
        return await self._readers.run(partial(_read_last, subject=subject, limit=limit))

    async def next(self, *subjects: str, after: int, limit: int = 100, timeout_s: float) -> list[Record]:
        while after < self._tail.floor:
            published = self._tail.last_seq
            records = await self._read(subjects, after, limit)
            if records:
                return records
            # The disk had nothing up to here. What was committed since is in the tail, unless that moved on
            # meanwhile: then read again.
            after = published
        # From here to the wait nothing is awaited, so no record can come in between.
        records = self._tail.read(subjects, after, limit)
        if records or timeout_s <= 0:
            return records
        return await self._tail.wait(subjects, after, limit, timeout_s)

    async def get(self, id: str) -> Record | None:
        return self._tail.get(id) or await self._readers.run(partial(_get, id=id))

    async def last_seq(self) -> int:
        return self._tail.last_seq

    async def _read(self, subjects: tuple[str, ...], after: int, limit: int) -> list[Record]:
        if after >= self._tail.floor:
            return self._tail.read(subjects, after, limit)
        return await self._readers.run(partial(_read, subjects=subjects, after=after, limit=limit))


def _read(db: sqlite3.Connection, *, subjects: tuple[str, ...], after: int, limit: int) -> list[Record]:
    """Merges the subjects by seq, each record once. Stops at 16 MiB of bodies, but not before the first record."""
    now = now_ms()
    cursors = [db.execute(f"{_BY_SUBJECT} ASC", (subject, after, now)) for subject in subjects]
    records: list[Record] = []
    size_bytes = 0
    for row in merge(*cursors, key=_seq):
        if records and records[-1].seq == row[0]:
            continue
        size_bytes += len(row[-1])
        if len(records) >= limit or (records and size_bytes > _READ_BYTES):
            break
        records.append(_record(row))
    for cursor in cursors:  # an open one holds its snapshot, and with it the write-ahead log
        cursor.close()
    return records


def _read_last(db: sqlite3.Connection, *, subject: str, limit: int) -> list[Record]:
    """Stops at 16 MiB of bodies, but not before the newest record."""
    cursor = db.execute(f"{_BY_SUBJECT} DESC LIMIT ?", (subject, 0, now_ms(), limit))
    records: list[Record] = []
    size_bytes = 0
    for row in cursor:
        size_bytes += len(row[-1])
        if records and size_bytes > _READ_BYTES:
            break
        records.append(_record(row))
    cursor.close()  # an open one holds its snapshot, and with it the write-ahead log
    return records[::-1]


def _get(db: sqlite3.Connection, *, id: str) -> Record | None:
    row = db.execute(_BY_ID, (id,)).fetchone()
    return None if row is None else _record(row)


def _record(row: _Row) -> Record:
    seq, id, time_ms, expires_at_ms, body = row
    return Record(seq=seq, id=id, time_ms=time_ms, expires_at_ms=expires_at_ms, body=body)
