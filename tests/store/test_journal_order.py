"""An entry is on disk no later than what was handed in after it: after a kill, and on a disk that was full."""

import asyncio
import random
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from autoglm.core.errors import QueueFull, StorageFull
from autoglm.core.ports import NewJournalEntry, NewRecord
from autoglm.store import Store, StoreSettings, open_journal, open_store, restore
from eventually import until, wait_until

CHILD = """
import asyncio, sys
from pathlib import Path
from autoglm.core.ports import NewJournalEntry, NewRecord
from autoglm.store import StoreSettings, open_store

async def main(folder, life):
    async with open_store(Path(folder), StoreSettings()) as store:
        async def act(name):
            n = 0
            while True:
                id = f"{life}-{name}-{n}"
                store.journal.hand_in(NewJournalEntry(
                    at_ms=0, kind="act", action=id, outcome="allowed", body=b'{"a":1}', who=id, salt=b"s",
                    personal=b""))
                await store.log.append(NewRecord(id=id, digest=b"d", subjects=("all",), body=b"x" * 500))
                print(id, flush=True)
                n += 1
        await asyncio.gather(*(act(name) for name in range(24)))

asyncio.run(main(sys.argv[1], sys.argv[2]))
"""


def entry(name: str, *, size_bytes: int = 10) -> NewJournalEntry:
    return NewJournalEntry(
        at_ms=0, kind="act", action=name, outcome="allowed", body=b'{"a":1}', who="user:alice", salt=b"s" * 16,
        personal=b"p" * size_bytes,
    )  # fmt: skip


def record(name: str) -> NewRecord:
    return NewRecord(id=name, digest=b"d", subjects=("all",), body=b"body")


def names_on_disk(folder: Path) -> tuple[list[str], list[str]]:
    """Those in the journal and those in the log."""
    with closing(sqlite3.connect(folder / "hub.db")) as db:
        acts = [name for (name,) in db.execute("SELECT action FROM journal ORDER BY seq")]
        return acts, [name for (name,) in db.execute("SELECT id FROM log ORDER BY seq")]


def fill(store: Store) -> None:
    """SQLite's own limit."""
    store._db.execute("PRAGMA max_page_count = 1")


def free(store: Store) -> None:
    store._db.execute("PRAGMA max_page_count = 1000000")


def test_after_a_kill_no_record_is_there_without_its_entry(tmp_path: Path) -> None:
    for life in range(4):
        with subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path), str(life)], stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            for _ in range(random.randrange(30, 600)):
                assert child.stdout.readline()
            child.kill()
        assert child.returncode == -signal.SIGKILL
    acts, records = names_on_disk(tmp_path)
    assert len(records) >= 4 * 30
    assert set(records) <= set(acts)
    assert len(acts) == len(set(acts))
    with open_journal(tmp_path) as journal:
        assert journal.end().seq == len(acts)


async def test_what_a_full_disk_refused_is_written_before_what_comes_when_there_is_room(tmp_path: Path) -> None:
    async with open_store(tmp_path, StoreSettings(tail_max_records=1)) as store:
        await store.log.append(record("before"))
        fill(store)
        store.journal.hand_in(entry("first", size_bytes=100_000))
        with pytest.raises(StorageFull):
            await store.journal.flush()
        store.journal.hand_in(entry("second"))
        assert type(store.journal.failure) is StorageFull
        with pytest.raises(StorageFull):
            await store.log.append(record("needs the entries"))
        free(store)
        await store.log.append(record("later"))
        store.journal.hand_in(entry("third"))
        await store.journal.flush()
        store.journal.hand_in(entry("fourth"))  # nothing refuses it
    assert names_on_disk(tmp_path) == (["first", "second", "third", "fourth"], ["before", "later"])


async def test_each_record_comes_with_all_entries_before_it_however_batches_are_cut(tmp_path: Path) -> None:
    """Also beside an operation that fails alone, for which the batch is rolled back and run one by one."""
    async with open_store(tmp_path, StoreSettings()) as store:
        pending: list[asyncio.Future[Any]] = []
        for n in range(1500):
            store.journal.hand_in(entry(f"m{n}"))
            pending.append(asyncio.ensure_future(store.log.append(record(f"m{n}"))))
            if n % 400 == 0:
                pending.append(asyncio.ensure_future(store.keyvalue.put("\ud800", b"")))  # no UTF-8: SQLite refuses it
            await asyncio.sleep(0)
        results = await asyncio.gather(*pending, return_exceptions=True)
    assert sum(isinstance(result, Exception) for result in results) == 4
    acts, records = names_on_disk(tmp_path)
    assert acts == [f"m{n}" for n in range(1500)]
    assert records == acts


async def test_what_is_handed_in_while_a_transaction_ends_is_written_too(tmp_path: Path) -> None:
    """With nothing else to write behind it. The loop is held up between the commit and the news of it."""
    async with open_store(tmp_path, StoreSettings()) as store:
        store.journal.hand_in(entry("first"))
        for _ in range(3):
            await asyncio.sleep(0)
        wait_until(lambda: names_on_disk(tmp_path)[0] == ["first"])
        store.journal.hand_in(entry("second"))
        assert await store.journal.wait(after=1, timeout_s=10)


async def test_what_waits_for_room_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoglm.store.sqlite.journal._MAX_WAITING", 5)
    async with open_store(tmp_path, StoreSettings()) as store:
        fill(store)
        store.journal.hand_in(entry("large", size_bytes=100_000))
        for n in range(4):
            store.journal.hand_in(entry(f"m{n}"))
        with pytest.raises(QueueFull):
            store.journal.hand_in(entry("too much"))
        await until(lambda: store.journal.failure is not None)
        with pytest.raises(StorageFull):
            store.journal.hand_in(entry("too much"))
        free(store)
    assert names_on_disk(tmp_path)[0] == ["large", "m0", "m1", "m2", "m3"]


async def test_what_was_erased_is_nowhere_in_the_file(tmp_path: Path) -> None:
    async with open_store(tmp_path, StoreSettings()) as store:
        for n in range(50):
            store.journal.hand_in(entry(f"m{n}", size_bytes=37))
        await store.journal.flush()
        store.journal.hand_in(
            NewJournalEntry(at_ms=0, kind="erase", action="erase", outcome="allowed", body=b'{"a":1}'), erases=[(1, 50)]
        )
        await store.journal.flush()
    content = (tmp_path / "hub.db").read_bytes()
    assert b"user:alice" not in content
    assert b"p" * 37 not in content


async def test_retention_leaves_the_journal_alone(tmp_path: Path) -> None:
    async with open_store(tmp_path, StoreSettings(max_log_bytes=0)) as store:
        store.journal.hand_in(entry("m"))
        await store.log.append(record("m"))
        assert (await store.trim()).records == 1
    assert names_on_disk(tmp_path) == (["m"], [])


async def test_a_backup_carries_the_journal(tmp_path: Path) -> None:
    async with open_store(tmp_path / "data", StoreSettings()) as store:
        for n in range(3):
            store.journal.hand_in(entry(f"m{n}"))
        await store.journal.flush()
        end = store.journal.last()
        await store.backup(tmp_path / "backup.tar")
    await restore(tmp_path / "backup.tar", tmp_path / "copy")
    async with open_store(tmp_path / "copy", StoreSettings()) as copy:
        assert copy.journal.last() == end
        assert [entry.action for entry in await copy.journal.read()] == ["m0", "m1", "m2"]
