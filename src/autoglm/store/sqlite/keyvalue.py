"""KeyValue on SQLite. The table keeps one row a key, its newest change, so the history cannot outgrow the keys."""

import asyncio
import builtins
import sqlite3
from collections import deque
from collections.abc import AsyncIterator, Sequence
from functools import partial

from autoglm.core.errors import HubError, RevisionMismatch
from autoglm.core.ports import Change, Entry
from autoglm.store.sqlite.readers import Readers
from autoglm.store.sqlite.writer import Writer

_RECENT_CHANGES = 1024
_RECENT_BYTES = 4 * 1024 * 1024
_PAGE_CHANGES = 256

_Put = tuple[str, bytes | None, int | None]
"""Key, value (None deletes) and the revision that is expected."""


class KeyValueWriter:
    """A participant: writes one change after the other. The result is the new revision, 0 for an idle delete."""

    def __init__(self, recent: "RecentChanges") -> None:
        self._recent = recent
        self._revision = 0

    def load(self, db: sqlite3.Connection) -> None:
        self._revision = last_revision(db)

    def apply(self, db: sqlite3.Connection, items: Sequence[_Put]) -> tuple[list[int | HubError], list[Change]]:
        outcomes: list[int | HubError] = []
        changes: list[Change] = []
        for key, value, expected_revision in items:
            row = db.execute("SELECT revision FROM kv WHERE key = ? AND value IS NOT NULL", (key,)).fetchone()
            found = row[0] if row else 0
            if expected_revision is not None and expected_revision != found:
                outcomes.append(RevisionMismatch(key, expected_revision, found))
            elif value is None and not found:
                outcomes.append(0)
            else:
                self._revision += 1
                db.execute(
                    "INSERT INTO kv (key, value, revision) VALUES (?, ?, ?) "
                    "ON CONFLICT (key) DO UPDATE SET value = excluded.value, revision = excluded.revision",
                    (key, value, self._revision),
                )
                outcomes.append(self._revision)
                changes.append(Change(key=key, value=value, revision=self._revision))
        return outcomes, changes

    def publish(self, news: list[Change]) -> None:
        self._recent.extend(news)


class RecentChanges:
    """Every change with a revision > `floor`, and the watchers that wait for more. Lives in the event loop alone."""

    def __init__(self, last_revision: int) -> None:
        self.floor = self.last_revision = last_revision
        self._changes: deque[Change] = deque()
        self._size_bytes = 0
        self._waiting: dict[asyncio.Future[None], str] = {}

    def read(self, prefix: str, after: int) -> list[Change]:
        """Oldest first. `after` must be at least `floor`."""
        found = []
        for change in reversed(self._changes):
            if change.revision <= after:
                break
            if change.key.startswith(prefix):
                found.append(change)
        return found[::-1]

    async def wait(self, prefix: str) -> None:
        """Returns once a key with this prefix changes."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[future] = prefix
        try:
            await future
        finally:
            del self._waiting[future]

    def extend(self, changes: Sequence[Change]) -> None:
        for change in changes:
            self._changes.append(change)
            self._size_bytes += len(change.value or b"")
            self.last_revision = change.revision
        while len(self._changes) > _RECENT_CHANGES or self._size_bytes > _RECENT_BYTES:
            oldest = self._changes.popleft()
            self._size_bytes -= len(oldest.value or b"")
            self.floor = oldest.revision
        for future, prefix in self._waiting.items():
            if not future.done() and any(change.key.startswith(prefix) for change in changes):
                future.set_result(None)

    def close(self, error: HubError) -> None:
        """Let all who wait fail with `error`."""
        for future in self._waiting:
            if not future.done():
                future.set_exception(error)


class SqliteKeyValue:
    """Implements `core.ports.KeyValue`. A deleted key leaves a tombstone, of which the newest 10,000 are kept.

    A watcher that asks for changes which left memory gets each key's newest change, and the tombstones still kept.
    """

    def __init__(self, writer: Writer, changes: KeyValueWriter, recent: RecentChanges, readers: Readers) -> None:
        self._writer, self._changes, self._recent, self._readers = writer, changes, recent, readers

    async def get(self, key: str) -> Entry | None:
        return await self._readers.run(partial(_get, key=key))

    async def put(self, key: str, value: bytes, *, expected_revision: int | None = None) -> int:
        return await self._writer.submit(self._changes, (key, value, expected_revision))

    async def delete(self, key: str, *, expected_revision: int | None = None) -> bool:
        return await self._writer.submit(self._changes, (key, None, expected_revision)) != 0

    async def list(self, prefix: str = "") -> list[Entry]:
        return await self._readers.run(partial(_list, prefix=prefix))

    async def watch(self, prefix: str = "", *, after: int = 0) -> AsyncIterator[Change]:
        position = after
        while True:
            changes, position = await self._next(prefix, position)
            for change in changes:
                yield change

    async def _next(self, prefix: str, position: int) -> tuple[builtins.list[Change], int]:
        """The changes behind `position`, at least one, and the position behind all that was looked at."""
        recent = self._recent
        while True:
            published = recent.last_revision
            if position >= recent.floor:
                changes = recent.read(prefix, position)
            else:
                changes = await self._readers.run(partial(_changes, prefix=prefix, after=position))
                if len(changes) == _PAGE_CHANGES:  # there may be more before `published`
                    return changes, changes[-1].revision
            position = max(position, published, changes[-1].revision if changes else 0)
            if changes:
                return changes, position
            # While the disk was read more may have come: look again. Else nothing was awaited since the look.
            if position >= recent.last_revision:
                await recent.wait(prefix)


def last_revision(db: sqlite3.Connection) -> int:
    row = db.execute("SELECT max(revision) FROM kv").fetchone()
    return row[0] or 0


def _range(prefix: str) -> tuple[str, tuple[str, ...]]:
    """A condition that finds keys with this prefix by the index: `key >= prefix AND key < what follows them all`."""
    for end in range(len(prefix), 0, -1):
        if prefix[end - 1] != "\U0010ffff":
            last = ord(prefix[end - 1]) + 1
            following = prefix[: end - 1] + chr(0xE000 if last == 0xD800 else last)  # surrogates are no characters
            return "key >= ? AND key < ?", (prefix, following)
    return "key >= ?", (prefix,)


def _get(db: sqlite3.Connection, *, key: str) -> Entry | None:
    row = db.execute("SELECT value, revision FROM kv WHERE key = ? AND value IS NOT NULL", (key,)).fetchone()
    return None if row is None else Entry(key=key, value=row[0], revision=row[1])


def _list(db: sqlite3.Connection, *, prefix: str) -> list[Entry]:
    condition, values = _range(prefix)
    rows = db.execute(
        f"SELECT key, value, revision FROM kv WHERE {condition} AND value IS NOT NULL ORDER BY key",  # noqa: S608  # ours
        values,
    )
    return [Entry(key=key, value=value, revision=revision) for key, value, revision in rows]


def _changes(db: sqlite3.Connection, *, prefix: str, after: int) -> list[Change]:
    condition, values = _range(prefix)
    rows = db.execute(
        f"SELECT key, value, revision FROM kv WHERE revision > ? AND {condition} ORDER BY revision LIMIT ?",  # noqa: S608  # ours
        (after, *values, _PAGE_CHANGES),
    ).fetchall()
    return [Change(key=key, value=value, revision=revision) for key, value, revision in rows]
