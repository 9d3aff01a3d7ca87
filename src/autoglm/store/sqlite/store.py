"""Opens and closes the store as a whole."""

import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec
import structlog

from autoglm.core.clock import now_ms
from autoglm.core.errors import StorageFull, StoreBroken
from autoglm.store.settings import StoreSettings
from autoglm.store.sqlite.appender import Appender, last_seq
from autoglm.store.sqlite.archive import Progress
from autoglm.store.sqlite.backup import BackupSummary, backup_folder
from autoglm.store.sqlite.blobs import FileBlobs
from autoglm.store.sqlite.connection import open_writer, store_error
from autoglm.store.sqlite.folder import (
    BLOBS_NAME,
    DATABASE_NAME,
    RESTORE_MARKER_NAME,
    create_private,
    folder_error,
    has_space,
    locked_folder,
)
from autoglm.store.sqlite.journal import SqliteJournal, read_end
from autoglm.store.sqlite.keyvalue import KeyValueWriter, RecentChanges, SqliteKeyValue, last_revision
from autoglm.store.sqlite.log import SqliteLog
from autoglm.store.sqlite.readers import Readers
from autoglm.store.sqlite.retention import Retention, Trimmed, trim
from autoglm.store.sqlite.schema import migrate
from autoglm.store.sqlite.tail import Tail
from autoglm.store.sqlite.writer import Writer

log = structlog.get_logger(part="store")


class Recovery(msgspec.Struct, frozen=True):
    """What opening found."""

    was_clean: bool
    """False: the last process that had the store open ended without closing it. Nothing acknowledged is lost."""
    wal_bytes: int
    """What lay in the write-ahead log and was taken over from there."""
    last_seq: int
    """The newest record's number, 0 for an empty log."""
    last_revision: int
    """The newest change of the key-value table, 0 when there was none."""
    migrated_from: int
    """The schema's version before opening; 0 for a new store."""


class WriteCheck:
    """A participant that writes one row, to see whether writing works."""

    def load(self, db: sqlite3.Connection) -> None:
        """Nothing is kept in memory."""

    def apply(self, db: sqlite3.Connection, items: Sequence[None]) -> tuple[list[None], None]:
        db.execute("UPDATE meta SET value = ? WHERE name = 'checked_at_ms'", (now_ms(),))
        return [None] * len(items), None

    def publish(self, news: None) -> None:
        """Nobody waits for it."""


class Store:
    """An open store. `open_store` makes it; its log, journal and key-value table fail with StoreBroken once closed."""

    def __init__(self, data_dir: Path, settings: StoreSettings, db: sqlite3.Connection, recovered: Recovery) -> None:
        path = data_dir / DATABASE_NAME
        self.data_dir = data_dir
        self.recovered = recovered
        self._path = path
        self._db = db
        self._tail = Tail(recovered.last_seq, max_records=settings.tail_max_records, max_bytes=settings.tail_max_bytes)
        self._recent = RecentChanges(recovered.last_revision)
        self._readers = Readers(path, settings.read_connections)
        appender, changes = Appender(self._tail), KeyValueWriter(self._recent)
        self._retention = Retention(self._tail, settings)
        self._check = WriteCheck()
        self.journal = SqliteJournal(self._readers, path, read_end(db))
        self._writer = Writer(
            db,
            path,
            (self.journal.participant, appender, changes, self._retention, self._check),
            max_queued_operations=settings.max_queued_operations,
            leader=self.journal.participant,
        )
        self.journal.start(self._writer)
        self.log = SqliteLog(self._writer, appender, self._tail, self._readers)
        self.keyvalue = SqliteKeyValue(self._writer, changes, self._recent, self._readers)
        self.blobs = FileBlobs(data_dir / BLOBS_NAME)

    async def trim(self) -> Trimmed:
        """Remove what the retention settings no longer keep; call it every minute or so.

        Works in steps of at most 256 records, between which other writes get their turn. The space is used again,
        not given back to the file system. Raises StorageFull: removing needs some space in the write-ahead log.
        """
        return await trim(self._writer, self._retention)

    async def check_writable(self) -> None:
        """Write and sync one row. Raises StorageFull, StoreBroken or QueueFull when the store takes no writes.

        One row may still fit where a message does not, so 64 KiB must be free as well.
        """
        await self._writer.submit(self._check, None)
        if not await anyio.to_thread.run_sync(has_space, self.data_dir):
            raise StorageFull(str(self._path))

    async def backup(
        self, target: Path, *, extra_files: Sequence[str] = (), progress: Progress | None = None
    ) -> BackupSummary:
        """Like `backup_folder`, for this store's folder; reads and writes go on meanwhile."""
        return await backup_folder(self.data_dir, target, extra_files=extra_files, progress=progress)

    def start(self) -> None:
        """Blocks."""
        self.blobs.open()
        self._writer.start()

    async def aclose(self) -> None:
        """Finish the writes that wait, fail the readers that wait, and leave the mark of a clean end."""
        self._writer.refuse()
        closed = StoreBroken(str(self._path), "it is closed")
        self._tail.close(closed)
        self._recent.close(closed)
        await anyio.to_thread.run_sync(self._writer.join)
        # Readers first: the connection that closes last moves the write-ahead log into the database.
        await self._readers.aclose()
        await anyio.to_thread.run_sync(_close, self._db, self._path)


@asynccontextmanager
async def open_store(data_dir: Path, settings: StoreSettings) -> AsyncIterator[Store]:
    """Open the store in `data_dir`, which is created where needed; close it at the end.

    Needs asyncio. Raises StoreBroken when the folder is in use (naming the process), damaged, of a newer version or
    in the middle of a restore, and StorageFull when not even opening has room.
    """
    resources = ExitStack()
    try:
        db, recovered = await anyio.to_thread.run_sync(_open, data_dir, resources)
        store = Store(data_dir, settings, db, recovered)
        await anyio.to_thread.run_sync(store.start)
        try:
            yield store
        finally:
            with anyio.CancelScope(shield=True):  # bounded: what is queued, and one checkpoint
                await store.aclose()
    finally:
        resources.close()


def _open(data_dir: Path, resources: ExitStack) -> tuple[sqlite3.Connection, Recovery]:
    resources.enter_context(locked_folder(data_dir))
    if (data_dir / RESTORE_MARKER_NAME).exists():
        raise StoreBroken(
            str(data_dir), "a restore into it was cut short; run 'autoglm restore' with --force again to complete it"
        )
    path = data_dir / DATABASE_NAME
    try:
        create_private(path)
        wal = path.with_name(f"{path.name}-wal")
        wal_bytes = wal.stat().st_size if wal.exists() else 0
    except OSError as error:
        raise folder_error(error, path) from error
    db = open_writer(path)
    resources.callback(db.close)
    try:
        migrated_from = migrate(db, path)
        was_clean = db.execute("SELECT value FROM meta WHERE name = 'clean_shutdown'").fetchone()[0] == 1
        _mark_clean(db, is_clean=False)
        return db, Recovery(was_clean, wal_bytes, last_seq(db), last_revision(db), migrated_from)
    except sqlite3.Error as error:
        raise store_error(error, path) from error


def _mark_clean(db: sqlite3.Connection, *, is_clean: bool) -> None:
    db.execute("UPDATE meta SET value = ? WHERE name = 'clean_shutdown'", (int(is_clean),))


def _close(db: sqlite3.Connection, path: Path) -> None:
    try:
        _mark_clean(db, is_clean=True)
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as error:
        # Everything acknowledged is in the write-ahead log and is taken over from there at the next start.
        log.warning("store_not_closed_cleanly", path=str(path), error=str(error))
    finally:
        db.close()
