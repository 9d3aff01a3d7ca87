"""The tables of hub.db and the way from each version to the next."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from autoglm.core.errors import StoreBroken

MIGRATIONS: Sequence[Sequence[str]] = (
    (
        # `end_bytes` counts the bytes of all bodies up to and with this one, so that the size of the log is one
        # subtraction. `subjects` (a JSON list) finds the rows of log_subject again when retention removes a record.
        """
        CREATE TABLE log (
            seq INTEGER PRIMARY KEY AUTOINCREMENT,
            id TEXT NOT NULL UNIQUE,
            digest BLOB NOT NULL,
            time_ms INTEGER NOT NULL,
            expires_at_ms INTEGER,
            end_bytes INTEGER NOT NULL,
            subjects TEXT NOT NULL,
            body BLOB NOT NULL
        )
        """,
        "CREATE TABLE log_subject (subject TEXT, seq INTEGER, PRIMARY KEY (subject, seq)) WITHOUT ROWID",
        # The ids of records that retention removed.
        """
        CREATE TABLE seen (
            id TEXT PRIMARY KEY, digest BLOB NOT NULL, seq INTEGER NOT NULL, time_ms INTEGER NOT NULL
        ) WITHOUT ROWID
        """,
        "CREATE INDEX seen_time ON seen (time_ms)",
        # A NULL value is a tombstone: the key was deleted at this revision.
        "CREATE TABLE kv (key TEXT NOT NULL UNIQUE, value BLOB, revision INTEGER NOT NULL UNIQUE)",
        "CREATE INDEX kv_tombstone ON kv (revision) WHERE value IS NULL",
        "CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
        "INSERT INTO meta VALUES ('clean_shutdown', 1), ('checked_at_ms', 0)",
    ),
    (
        # What is beside `body` repeats it, to be found by; `who`, `salt` and `personal` are NULL once they are erased.
        """
        CREATE TABLE journal (
            seq INTEGER PRIMARY KEY,
            digest BLOB NOT NULL,
            at_ms INTEGER NOT NULL,
            kind TEXT NOT NULL,
            action TEXT NOT NULL,
            outcome TEXT NOT NULL,
            body BLOB NOT NULL,
            who TEXT,
            salt BLOB,
            personal BLOB
        )
        """,
        "CREATE INDEX journal_time ON journal (at_ms)",
        "CREATE INDEX journal_who ON journal (who, seq) WHERE who IS NOT NULL",
        # Decisions are most of them, and nobody looks for all of those.
        "CREATE INDEX journal_kind ON journal (kind, seq) WHERE kind != 'decision'",
    ),
)
"""Entry n holds the statements that lead from version n to version n + 1. Entries are added, never changed."""

SCHEMA_VERSION = len(MIGRATIONS)


def migrate(db: sqlite3.Connection, path: Path, migrations: Sequence[Sequence[str]] = MIGRATIONS) -> int:
    """Bring the database to the newest version, each step in one transaction. Returns the version it found.

    Raises StoreBroken, naming both versions, when the database is newer than this program.
    """
    found = schema_version(db)
    if found > len(migrations):
        raise StoreBroken(
            str(path),
            f"its schema has version {found}, and this autoglm-hub knows versions up to {len(migrations)}; "
            "install the newer autoglm-hub again, or restore a backup made before the upgrade",
        )
    for version, statements in enumerate(migrations[found:], start=found + 1):
        db.execute("BEGIN IMMEDIATE")
        try:
            db.execute("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL)")
            for statement in statements:
                db.execute(statement)
            db.execute("DELETE FROM schema_version")
            db.execute("INSERT INTO schema_version VALUES (?)", (version,))
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
    return found


def schema_version(db: sqlite3.Connection) -> int:
    """0 for an empty database."""
    if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'schema_version'").fetchone():
        return 0
    version: int = db.execute("SELECT version FROM schema_version").fetchone()[0]
    return version
