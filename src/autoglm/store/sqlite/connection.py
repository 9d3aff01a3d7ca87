"""Connections to hub.db, and what SQLite's errors mean to callers.

One connection writes and checkpoints; all others read. That also keeps clear of SQLite's WAL-reset race, which
takes two connections that write or checkpoint at the same moment (sqlite.org/wal.html, "The WAL-Reset Bug").
"""

import sqlite3
from pathlib import Path

from autoglm.core.errors import HubError, StorageFull, StoreBroken
from autoglm.store.sqlite.folder import has_space

_CHECKPOINT_PAGES = 4096
"""16 MiB: 31k appends/s in groups of 128, against 22k/s with SQLite's own 1000 pages."""
_WAL_LIMIT_BYTES = 64 * 1024 * 1024
"""A WAL that a long read made grow is cut back to this at the next checkpoint."""
_BUSY_TIMEOUT_S = 10.0
_CACHED_STATEMENTS = 256


def open_writer(path: Path) -> sqlite3.Connection:
    """The one connection that writes. Each commit is synced to disk. Raises StoreBroken or StorageFull."""
    try:
        db = _connect(str(path))
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA foreign_keys = ON")
            # A failing automatic checkpoint is not an error of the commit it follows: the WAL just grows on.
            db.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
            db.execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT_BYTES}")
        except BaseException:
            db.close()
            raise
    except sqlite3.Error as error:
        raise store_error(error, path) from error
    return db


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection that cannot write, and does not checkpoint when it closes. Raises StoreBroken."""
    try:
        return _connect(f"{path.absolute().as_uri()}?mode=ro")
    except sqlite3.Error as error:
        raise store_error(error, path) from error


def _connect(target: str) -> sqlite3.Connection:
    return sqlite3.connect(
        target,
        uri=target.startswith("file:"),
        timeout=_BUSY_TIMEOUT_S,
        isolation_level=None,  # transactions are spelled out
        check_same_thread=False,  # passed between threads, used by one at a time
        cached_statements=_CACHED_STATEMENTS,
    )


def store_error(error: sqlite3.Error, path: Path) -> HubError:
    """StorageFull when the disk is the cause, else StoreBroken."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF  # the low byte is the primary code
    if code == sqlite3.SQLITE_FULL:
        return StorageFull(str(path))
    # SQLite reports ENOSPC of the -shm file, of a sync and of quotas as plain I/O errors.
    if code in {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN} and not has_space(path.parent):
        return StorageFull(str(path))
    if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        return StoreBroken(str(path), f"it is damaged ({error}); restore a backup with 'autoglm restore'")
    return StoreBroken(str(path), f"{error} ({getattr(error, 'sqlite_errorname', 'unknown')})")
