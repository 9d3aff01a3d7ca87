"""The floor under durable messages: SQLite alone, one table, as fast as Python's module can write in groups."""

import sqlite3
from pathlib import Path

from benchmarks.samples import now_s

GROUP = 128


def rows_per_s(path: Path, body: bytes, seconds: float) -> float:
    """Insert groups of 128 rows, each group one transaction that is synced to disk, for some seconds."""
    for leftover in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
        leftover.unlink(missing_ok=True)
    db = sqlite3.connect(path, isolation_level=None)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("CREATE TABLE log (seq INTEGER PRIMARY KEY, body BLOB NOT NULL)")
        group = [(body,)] * GROUP
        rows = 0
        started_s = now_s()
        while (elapsed_s := now_s() - started_s) < seconds:
            db.execute("BEGIN IMMEDIATE")
            db.executemany("INSERT INTO log (body) VALUES (?)", group)
            db.execute("COMMIT")
            rows += GROUP
    finally:
        db.close()
    return rows / elapsed_s
