"""Removes what is too old or too much, in steps so small that writers hardly notice."""

import sqlite3
from collections.abc import Sequence

import msgspec

from autoglm.core.clock import now_ms
from autoglm.store.settings import StoreSettings
from autoglm.store.sqlite.tail import Tail
from autoglm.store.sqlite.writer import Writer

_STEP_RECORDS = 256
_STEP_SUBJECTS = 2_000
_DAY_MS = 86_400_000

_HEAD = "SELECT seq, time_ms, end_bytes - length(body), json_array_length(subjects) FROM log ORDER BY seq LIMIT ?"
_REMEMBER = "INSERT OR IGNORE INTO seen SELECT id, digest, seq, time_ms FROM log WHERE seq <= ?"
_UNFILE = """
    DELETE FROM log_subject WHERE (subject, seq) IN (
        SELECT subject.value, log.seq FROM log CROSS JOIN json_each(log.subjects) AS subject WHERE log.seq <= ?
    )
"""
_FORGET = "DELETE FROM seen WHERE id IN (SELECT id FROM seen WHERE time_ms < ? LIMIT ?)"
# The newest change of all is never removed, so revisions go on growing after a restart.
_BURY = """
    DELETE FROM kv WHERE value IS NULL AND revision <= (
        SELECT revision FROM kv WHERE value IS NULL ORDER BY revision DESC LIMIT 1 OFFSET ?
    )
"""


class Trimmed(msgspec.Struct, frozen=True):
    """What one call of `trim` removed."""

    records: int
    ids: int
    """Ids of removed records that count as free again."""
    tombstones: int


class Retention:
    """A participant: each item is one step, each result says what it removed."""

    def __init__(self, tail: Tail, settings: StoreSettings) -> None:
        self._tail, self._settings = tail, settings

    def load(self, db: sqlite3.Connection) -> None:
        """Nothing is kept in memory."""

    def apply(self, db: sqlite3.Connection, items: Sequence[None]) -> tuple[list[Trimmed], int]:
        cut = 0
        outcomes = []
        for _ in items:
            removed, step_cut = self._trim_log(db)
            cut = max(cut, step_cut)
            ids = self._forget_ids(db)
            tombstones = db.execute(_BURY, (self._settings.max_tombstones,)).rowcount
            outcomes.append(Trimmed(removed, ids, tombstones))
        return outcomes, cut

    def publish(self, news: int) -> None:
        self._tail.drop_through(news)

    def _trim_log(self, db: sqlite3.Connection) -> tuple[int, int]:
        """Returns how many records went, and the seq of the last of them."""
        settings = self._settings
        if settings.retention_days is None and settings.max_log_bytes is None:
            return 0, 0
        newest = db.execute("SELECT end_bytes FROM log ORDER BY seq DESC LIMIT 1").fetchone()
        oldest_kept_ms = 0 if settings.retention_days is None else now_ms() - int(settings.retention_days * _DAY_MS)
        removed = cut = subjects = 0
        for seq, time_ms, start_bytes, subject_count in db.execute(_HEAD, (_STEP_RECORDS,)).fetchall():
            is_over = settings.max_log_bytes is not None and newest[0] - start_bytes > settings.max_log_bytes
            subjects += subject_count
            if not (is_over or time_ms < oldest_kept_ms) or (removed and subjects > _STEP_SUBJECTS):
                break
            removed, cut = removed + 1, seq
        if removed:
            for statement in (_REMEMBER, _UNFILE, "DELETE FROM log WHERE seq <= ?"):
                db.execute(statement, (cut,))
        return removed, cut

    def _forget_ids(self, db: sqlite3.Connection) -> int:
        keep_s = self._settings.dedupe_retention_s
        if keep_s is None:
            return 0
        return db.execute(_FORGET, (now_ms() - int(keep_s * 1000), _STEP_RECORDS)).rowcount


async def trim(writer: Writer, retention: Retention) -> Trimmed:
    """Run steps until one finds nothing to remove. Other writes get in between them."""
    total = Trimmed(0, 0, 0)
    while True:
        step = await writer.submit(retention, None)
        if not (step.records or step.ids or step.tombstones):
            return total
        total = Trimmed(total.records + step.records, total.ids + step.ids, total.tombstones + step.tombstones)
