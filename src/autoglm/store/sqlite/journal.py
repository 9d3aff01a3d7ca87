"""The Journal on SQLite: one chain in hub.db, written before all else that waits.

The writer puts what was handed in at the head of its next transaction, whosever that is. So no record can be on disk
whose entry, handed in before it, is not: not after a kill, and not on a disk that was full for a while.
"""

import hashlib
import sqlite3
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import anyio

from autoglm.core.errors import HubError, NotFound, QueueFull, StoreBroken
from autoglm.core.ports import JournalEnd, JournalEntry, JournalFilter, NewJournalEntry
from autoglm.store.sqlite.connection import open_reader, store_error
from autoglm.store.sqlite.folder import DATABASE_NAME
from autoglm.store.sqlite.readers import Answer, Readers
from autoglm.store.sqlite.rows import RowInsert
from autoglm.store.sqlite.schema import SCHEMA_VERSION, schema_version
from autoglm.store.sqlite.writer import Writer

_MAX_WAITING = 20_000
"""About 20 MB: what a full disk may hold up."""
_RETRY_AFTER_S = 1.0
_COLUMN_NAMES = "seq, digest, at_ms, kind, action, outcome, body, who, salt, personal"
_INSERT = RowInsert(f"INSERT INTO journal ({_COLUMN_NAMES}) VALUES", 10)
# A file that somebody changed may hold values of any type in any column, and has to be read to be found out.
_SELECT = """
    SELECT seq, CAST(coalesce(digest, '') AS BLOB), CAST(coalesce(at_ms, 0) AS INTEGER),
        CAST(coalesce(kind, '') AS TEXT), CAST(coalesce(action, '') AS TEXT), CAST(coalesce(outcome, '') AS TEXT),
        CAST(coalesce(body, '') AS BLOB), CAST(who AS TEXT), CAST(salt AS BLOB), CAST(personal AS BLOB)
    FROM journal
"""
_ERASE = "UPDATE journal SET who = NULL, salt = NULL, personal = NULL WHERE seq BETWEEN ? AND ? AND salt IS NOT NULL"

_Row = tuple[int, bytes, int, str, str, str, bytes, str | None, bytes | None, bytes | None]
_Waiting = tuple[NewJournalEntry, Sequence[tuple[int, int]]]


class JournalWriter:
    """A participant, the writer's leading one: an item writes nothing of its own, it waits for what waits before it."""

    def __init__(self, published: Callable[[JournalEnd], None]) -> None:
        self._publish = published
        self._waiting: deque[_Waiting] = deque()
        self._taken: list[_Waiting] = []
        """In the transaction that runs, or in one that was rolled back."""
        self._end = JournalEnd()

    def add(self, entry: NewJournalEntry, erases: Sequence[tuple[int, int]]) -> None:
        """In the event loop."""
        self._waiting.append((entry, erases))

    @property
    def backlog(self) -> int:
        return len(self._waiting) + len(self._taken)

    def load(self, db: sqlite3.Connection) -> None:
        self._end = read_end(db)

    def apply(self, db: sqlite3.Connection, items: Sequence[None]) -> tuple[list[None], JournalEnd]:
        taken, waiting = self._taken, self._waiting
        while waiting:  # the event loop appends meanwhile; only this thread takes
            taken.append(waiting.popleft())
        rows: list[object] = []
        runs: list[tuple[int, int]] = []
        seq, digest = self._end.seq, self._end.digest
        for entry, erases in taken:
            seq += 1
            body = b'%b,"seq":%d,"prev":"%b"}' % (entry.body[:-1], seq, digest.hex().encode())
            digest = hashlib.sha256(body).digest()
            rows += (
                seq, digest, entry.at_ms, entry.kind, entry.action, entry.outcome, body, entry.who, entry.salt,
                entry.personal,
            )  # fmt: skip
            runs += [(first, min(last, seq - 1)) for first, last in erases]
        if rows:
            _INSERT.run(db, rows)
        if runs:
            _erase(db, runs)
        self._end = JournalEnd(seq, digest)
        return [None] * len(items), self._end

    def committed(self) -> None:
        """In the writer's thread, once the transaction is on disk."""
        self._taken.clear()

    def publish(self, news: JournalEnd) -> None:
        self._publish(news)


class SqliteJournal:
    """Implements `core.ports.Journal`. Lives in the event loop."""

    def __init__(self, readers: Readers, path: Path, end: JournalEnd) -> None:
        self.participant = JournalWriter(self._published)
        self.failure: HubError | None = None
        self._readers = readers
        self._path = path
        self._end = end
        self._writer: Writer | None = None
        self._is_nudged = False
        self._grown = anyio.Event()

    def start(self, writer: Writer) -> None:
        """The writer is made with this journal's participant."""
        self._writer = writer

    def hand_in(self, entry: NewJournalEntry, *, erases: Sequence[tuple[int, int]] = ()) -> None:
        if self._writer is None or not self._writer.is_open:
            raise StoreBroken(str(self._path), "it is closed")
        if self.participant.backlog >= _MAX_WAITING:
            raise self.failure or QueueFull(self.participant.backlog, _RETRY_AFTER_S)
        self.participant.add(entry, erases)
        if not self._is_nudged:
            self._nudge(self._writer)

    async def flush(self) -> None:
        if self._writer is None:
            raise StoreBroken(str(self._path), "it is closed")
        try:
            await self._writer.submit(self.participant, None)
        except HubError as error:
            self.failure = error
            raise
        self.failure = None

    def last(self) -> JournalEnd:
        return self._end

    async def read(self, *, after: int = 0, limit: int = 1000) -> list[JournalEntry]:
        return await self._readers.run(partial(read_page, after=after, limit=limit))

    async def wait(self, *, after: int, timeout_s: float) -> bool:
        with anyio.move_on_after(timeout_s):
            while self._end.seq <= after:
                await self._grown.wait()
        return self._end.seq > after

    async def find(
        self, wanted: JournalFilter, *, after: int = 0, before: int | None = None, limit: int = 100,
        newest_first: bool = False,
    ) -> list[JournalEntry]:  # fmt: skip
        search = partial(find, wanted=wanted, after=after, before=before, limit=limit, newest_first=newest_first)
        return await self._readers.run(search)

    def _nudge(self, writer: Writer) -> None:
        """See to it that a transaction comes."""
        try:
            writer.hand_in(self.participant, None, self)
        except QueueFull:
            return  # so many others wait that one will; the next entry tries again
        self._is_nudged = True

    # --- the waiter of its own nudges -----------------------------------------------------------------

    def done(self) -> bool:
        return False

    def cancelled(self) -> bool:
        return False

    def set_result(self, _: None) -> None:
        self._is_nudged = False
        self.failure = None
        if self.participant.backlog and self._writer is not None and self._writer.is_open:
            self._nudge(self._writer)  # what was handed in while that transaction ran

    def set_exception(self, error: Exception) -> None:
        self._is_nudged = False
        self.failure = error if isinstance(error, HubError) else StoreBroken(str(self._path), str(error))

    def _published(self, end: JournalEnd) -> None:
        if end.seq != self._end.seq:
            self._end = end
            self._grown.set()
            self._grown = anyio.Event()


def _erase(db: sqlite3.Connection, runs: Sequence[tuple[int, int]]) -> None:
    """And write zeros where it was, which SQLite else leaves to the next row that comes to lie there."""
    before = db.execute("PRAGMA secure_delete").fetchone()[0]
    db.execute("PRAGMA secure_delete = ON").fetchone()
    try:
        for run in runs:
            db.execute(_ERASE, run)
    finally:
        db.execute(f"PRAGMA secure_delete = {before}").fetchone()


def read_end(db: sqlite3.Connection) -> JournalEnd:
    row = db.execute("SELECT seq, digest FROM journal ORDER BY seq DESC LIMIT 1").fetchone()
    return JournalEnd(*row) if row else JournalEnd()


def read_page(db: sqlite3.Connection, *, after: int, limit: int) -> list[JournalEntry]:
    """Those behind `after`, oldest first."""
    rows = db.execute(f"{_SELECT} WHERE seq > ? ORDER BY seq LIMIT ?", (after, limit)).fetchall()
    return [_entry(row) for row in rows]


def find(
    db: sqlite3.Connection, *, wanted: JournalFilter, after: int = 0, before: int | None = None, limit: int = 100,
    newest_first: bool = False,
) -> list[JournalEntry]:  # fmt: skip
    """Those with after < seq < before that fit."""
    conditions = ["seq > ?"]
    values: list[object] = [after]
    for column, names in (("kind", wanted.kinds), ("action", wanted.actions), ("outcome", wanted.outcomes)):
        if names:
            conditions.append(f"{column} IN ({', '.join('?' * len(names))})")
            values += names
    if wanted.kinds and "decision" not in wanted.kinds:
        conditions.append("kind != 'decision'")  # so that the partial index fits
    for condition, value in (
        ("seq < ?", before), ("who = ?", wanted.who), ("at_ms >= ?", wanted.since_ms), ("at_ms < ?", wanted.until_ms)
    ):  # fmt: skip
        if value is not None:
            conditions.append(condition)
            values.append(value)
    if wanted.text:
        conditions.append("(CAST(body AS TEXT) LIKE ? ESCAPE '\\' OR CAST(personal AS TEXT) LIKE ? ESCAPE '\\')")
        values += [f"%{_escaped(wanted.text)}%"] * 2
    order = "DESC" if newest_first else "ASC"
    rows = db.execute(f"{_SELECT} WHERE {' AND '.join(conditions)} ORDER BY seq {order} LIMIT ?", (*values, limit))
    return [_entry(row) for row in rows.fetchall()]


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _entry(row: _Row) -> JournalEntry:
    seq, digest, at_ms, kind, action, outcome, body, who, salt, personal = row
    return JournalEntry(
        seq=seq, digest=digest, at_ms=at_ms, kind=kind, action=action, outcome=outcome, body=body, who=who, salt=salt,
        personal=personal,
    )  # fmt: skip


class JournalReader:
    """Reads the journal of a folder from outside, also while a hub works in it. Blocks."""

    def __init__(self, db: sqlite3.Connection, path: Path) -> None:
        self._db, self._path = db, path

    def end(self) -> JournalEnd:
        return self._run(read_end)

    def read(self, *, after: int = 0, limit: int = 1000) -> list[JournalEntry]:
        return self._run(partial(read_page, after=after, limit=limit))

    def find(
        self, wanted: JournalFilter, *, after: int = 0, before: int | None = None, limit: int = 100,
        newest_first: bool = False,
    ) -> list[JournalEntry]:  # fmt: skip
        """As `Journal.find`."""
        search = partial(find, wanted=wanted, after=after, before=before, limit=limit, newest_first=newest_first)
        return self._run(search)

    def _run(self, query: Callable[[sqlite3.Connection], Answer]) -> Answer:
        try:
            return query(self._db)
        except sqlite3.Error as error:
            raise store_error(error, self._path) from error


@contextmanager
def open_journal(data_dir: Path) -> Iterator[JournalReader]:
    """Raises NotFound when there is no store, StoreBroken for one that has no journal yet, or of a newer version."""
    path = data_dir / DATABASE_NAME
    if not path.exists():
        raise NotFound("store", str(data_dir))
    db = open_reader(path)
    db.text_factory = partial(str, encoding="utf-8", errors="replace")
    try:
        reader = JournalReader(db, path)
        found = reader._run(schema_version)
        if found != SCHEMA_VERSION:
            raise StoreBroken(
                str(path), f"its schema has version {found}, not {SCHEMA_VERSION}; start the hub once with this version"
            )
        yield reader
    finally:
        db.close()
