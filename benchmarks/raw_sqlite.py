"""The floors under durable messages: SQLite alone, as fast as Python's module can write in groups.

`rows_per_s` is one bare table, and nobody waits for a row. `awaited_rows_per_s` does what a mailbox must do, without
HTTP and without checks: 128 senders each await their row before they send the next one, ids are unique, and a row is
found by its recipient.
"""

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

import uvloop

from benchmarks.samples import now_s

GROUP = SENDERS = 128
_Row = tuple[str, str, bytes]


def rows_per_s(path: Path, body: bytes, seconds: float) -> float:
    """Insert groups of 128 rows, each group one transaction that is synced to disk, for some seconds."""
    with _database(path) as db:
        db.execute("CREATE TABLE log (seq INTEGER PRIMARY KEY, body BLOB NOT NULL)")
        group = [(body,)] * GROUP
        rows = 0
        started_s = now_s()
        while (elapsed_s := now_s() - started_s) < seconds:
            db.execute("BEGIN IMMEDIATE")
            db.executemany("INSERT INTO log (body) VALUES (?)", group)
            db.execute("COMMIT")
            rows += GROUP
    return rows / elapsed_s


def awaited_rows_per_s(path: Path, body: bytes, seconds: float) -> float:
    """128 coroutines write row after row; a thread commits what waits in one transaction that is synced to disk."""
    with _database(path) as db:
        db.execute(
            "CREATE TABLE log (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, recipient TEXT NOT NULL, body BLOB)"
        )
        db.execute("CREATE INDEX by_recipient ON log (recipient, seq)")
        return uvloop.run(_send(db, body, seconds))


async def _send(db: sqlite3.Connection, body: bytes, seconds: float) -> float:
    loop = asyncio.get_running_loop()
    queue: SimpleQueue[tuple[_Row, asyncio.Future[None]] | None] = SimpleQueue()

    def deliver(futures: list["asyncio.Future[None]"]) -> None:
        for future in futures:
            future.set_result(None)

    def write() -> None:
        is_last = False
        while not is_last:
            batch = [queue.get()]
            batch += [queue.get() for _ in range(queue.qsize())]
            is_last = batch[-1] is None
            entries = [entry for entry in batch if entry is not None]
            db.execute("BEGIN IMMEDIATE")
            db.executemany("INSERT INTO log (id, recipient, body) VALUES (?, ?, ?)", [row for row, _ in entries])
            db.execute("COMMIT")
            loop.call_soon_threadsafe(deliver, [future for _, future in entries])

    async def send(sender: int) -> int:
        count = 0
        while now_s() - started_s < seconds:
            count += 1
            future = loop.create_future()
            queue.put(((f"round-{sender}-{count}", f"user:reader-{count % 100}", body), future))
            await future
        return count

    writer = threading.Thread(target=write)
    writer.start()
    started_s = now_s()
    counts = await asyncio.gather(*(send(sender) for sender in range(SENDERS)))
    elapsed_s = now_s() - started_s
    queue.put(None)
    await asyncio.to_thread(writer.join)
    return sum(counts) / elapsed_s


@contextmanager
def _database(path: Path) -> Iterator[sqlite3.Connection]:
    """A new one, with the settings of the hub's own."""
    for leftover in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
        leftover.unlink(missing_ok=True)
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        yield db
    finally:
        db.close()
