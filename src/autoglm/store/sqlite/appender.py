"""Writes records: the log's part in the writer's transaction. Few statements for many records.

Each statement lets go of the interpreter's lock and has to win it back from the event loop, so a batch runs a
handful of statements with many rows each, not a handful per row.
"""

import sqlite3
from collections.abc import Sequence

import msgspec

from autoglm.core.clock import now_ms
from autoglm.core.errors import DuplicateId, HubError
from autoglm.core.ports import Appended, NewRecord, Record
from autoglm.store.sqlite.rows import RowInsert
from autoglm.store.sqlite.tail import Filed, Tail

_COLUMNS = 8
# OR ROLLBACK, because no row can clash (all ids were looked up): it spares the statement journal, which copies each
# page that a statement of many rows changes (4.5 us a record, against 0.8).
_INSERT = RowInsert(
    "INSERT OR ROLLBACK INTO log (seq, id, digest, time_ms, expires_at_ms, end_bytes, subjects, body) VALUES", _COLUMNS
)
_FIND = """
    SELECT id, digest, seq FROM log WHERE id IN (SELECT value FROM json_each(?1))
    UNION ALL
    SELECT id, digest, seq FROM seen WHERE id IN (SELECT value FROM json_each(?1))
"""
_FILE_UNDER_SUBJECTS = """
    INSERT OR ROLLBACK INTO log_subject (subject, seq)
    SELECT subject.value, log.seq FROM log CROSS JOIN json_each(log.subjects) AS subject WHERE log.seq > ?
"""

_encode = msgspec.json.Encoder().encode


class Appender:
    """A participant whose items are records that are appended all or none, and whose results are `Appended`."""

    def __init__(self, tail: Tail) -> None:
        self._tail = tail
        self._seq = 0
        self._end_bytes = 0

    def load(self, db: sqlite3.Connection) -> None:
        self._seq = last_seq(db)
        row = db.execute("SELECT end_bytes FROM log ORDER BY seq DESC LIMIT 1").fetchone()
        self._end_bytes = row[0] if row else 0

    def apply(
        self, db: sqlite3.Connection, items: Sequence[Sequence[NewRecord]]
    ) -> tuple[list[list[Appended] | HubError], list[Filed]]:
        wanted = _encode([record.id for records in items for record in records]).decode()
        known: dict[str, tuple[bytes, int]] = {id: (digest, seq) for id, digest, seq in db.execute(_FIND, (wanted,))}
        time_ms = now_ms()
        first_seq = self._seq
        rows: list[object] = []
        filed: list[Filed] = []
        outcomes: list[list[Appended] | HubError] = []
        for records in items:
            mark = len(filed), self._seq, self._end_bytes
            outcome = []
            for record in records:
                found = known.get(record.id)
                if found is None:
                    outcome.append(self._take(record, time_ms, rows, filed))
                    known[record.id] = record.digest, self._seq
                elif found[0] == record.digest:
                    outcome.append(Appended(found[1], False))
                else:
                    # All or none: what this item has brought so far was not written yet.
                    start, self._seq, self._end_bytes = mark
                    for taken, _ in filed[start:]:
                        del known[taken.id]
                    del filed[start:], rows[start * _COLUMNS :]
                    outcomes.append(DuplicateId(record.id))
                    break
            else:
                outcomes.append(outcome)
        if filed:
            _INSERT.run(db, rows)
            db.execute(_FILE_UNDER_SUBJECTS, (first_seq,))
        return outcomes, filed

    def publish(self, news: list[Filed]) -> None:
        self._tail.extend(news)

    def _take(self, new: NewRecord, time_ms: int, rows: list[object], filed: list[Filed]) -> Appended:
        self._seq = seq = self._seq + 1
        self._end_bytes += len(new.body)
        subjects = new.subjects if len(new.subjects) == 1 else tuple(dict.fromkeys(new.subjects))
        expires_at_ms = new.expires_at_ms
        rows += (
            seq, new.id, new.digest, time_ms, expires_at_ms, self._end_bytes, _encode(subjects).decode(), new.body
        )  # fmt: skip
        record = Record(seq=seq, id=new.id, time_ms=time_ms, expires_at_ms=expires_at_ms, body=new.body)
        filed.append((record, subjects))
        return Appended(seq, True)


def last_seq(db: sqlite3.Connection) -> int:
    """The highest number ever given, also when its record is gone; 0 for a log that never had one."""
    row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'log'").fetchone()
    return row[0] if row else 0
