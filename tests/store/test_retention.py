"""What is too old or too much goes, and its ids are remembered."""

import asyncio
from pathlib import Path

import pytest

from autoglm.core.clock import now_ms
from autoglm.core.errors import DuplicateId
from autoglm.core.ports import NewRecord
from autoglm.store import Store, StoreSettings, Trimmed, open_store
from autoglm.store.sqlite import retention

DAY_MS = 86_400_000


def new(id: str, *, digest: bytes = b"d", subjects: tuple[str, ...] = ("all", "x"), size_bytes: int = 0) -> NewRecord:
    return NewRecord(id=id, digest=digest, subjects=subjects, body=bytes(size_bytes))


async def append(store: Store, count: int, *, size_bytes: int = 0, prefix: str = "m") -> list[int]:
    records = [new(f"{prefix}{n}", size_bytes=size_bytes) for n in range(count)]
    return [appended.seq for appended in await store.log.append_all(records)]


def days_later(monkeypatch: pytest.MonkeyPatch, days: float) -> None:
    monkeypatch.setattr(retention, "now_ms", lambda: now_ms() + int(days * DAY_MS))


async def test_without_settings_nothing_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_store(tmp_path, StoreSettings()) as store:
        await append(store, 10)
        days_later(monkeypatch, 10_000)
        assert await store.trim() == Trimmed(0, 0, 0)
        assert len(await store.log.read("all")) == 10


async def test_records_go_when_they_are_too_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_store(tmp_path, StoreSettings(retention_days=2)) as store:
        seqs = await append(store, 600)
        days_later(monkeypatch, 1.9)
        assert (await store.trim()).records == 0
        days_later(monkeypatch, 2.1)
        assert (await store.trim()).records == 600
        assert await store.log.read("all") == []
        assert await store.log.read_last("x") == []
        assert await store.log.get("m599") is None
        assert (await append(store, 1, prefix="later"))[0] > seqs[-1]


async def test_the_oldest_go_when_the_log_is_too_large(tmp_path: Path) -> None:
    async with open_store(tmp_path, StoreSettings(max_log_bytes=5500)) as store:
        await append(store, 40, size_bytes=1000)
        assert (await store.trim()).records == 35
        assert [record.id for record in await store.log.read("all")] == [f"m{n}" for n in range(35, 40)]
        assert (await store.trim()).records == 0
    async with open_store(tmp_path, StoreSettings(max_log_bytes=5500)) as store:
        await append(store, 2, size_bytes=1000, prefix="n")
        assert (await store.trim()).records == 2
        assert [record.id for record in await store.log.read("x")] == ["m37", "m38", "m39", "n0", "n1"]


async def test_the_ids_of_removed_records_stay_taken(tmp_path: Path) -> None:
    async with open_store(tmp_path, StoreSettings(max_log_bytes=0)) as store:
        seqs = await append(store, 3, size_bytes=1)
        await store.trim()
        again = await store.log.append(new("m1"))
        assert (again.seq, again.is_new) == (seqs[1], False)
        with pytest.raises(DuplicateId):
            await store.log.append(new("m2", digest=b"other"))


async def test_ids_come_free_after_the_time_that_was_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_store(tmp_path, StoreSettings(max_log_bytes=0, dedupe_retention_s=86_400)) as store:
        await append(store, 700, size_bytes=1)
        assert await store.trim() == Trimmed(700, 0, 0)
        days_later(monkeypatch, 1.1)
        assert await store.trim() == Trimmed(0, 700, 0)
        assert (await store.log.append(new("m1", digest=b"other"))).is_new


async def test_numbers_go_on_after_all_was_removed(tmp_path: Path) -> None:
    async with open_store(tmp_path, StoreSettings(max_log_bytes=0)) as store:
        seqs = await append(store, 3, size_bytes=1)
        await store.trim()
    async with open_store(tmp_path, StoreSettings(max_log_bytes=100)) as store:
        assert await store.log.last_seq() == seqs[-1]
        assert (await append(store, 1, prefix="n", size_bytes=1))[0] > seqs[-1]
        assert (await store.trim()).records == 0


async def test_much_is_removed_in_small_steps_between_which_writers_get_their_turn(tmp_path: Path) -> None:
    async with open_store(tmp_path, StoreSettings(max_log_bytes=0)) as store:
        await append(store, 6000, size_bytes=1)
        statements: list[str] = []
        store._db.set_trace_callback(statements.append)
        trimming = asyncio.create_task(store.trim())
        await store.log.append(new("meanwhile"))
        assert not trimming.done()
        assert (await trimming).records >= 6000
        assert statements.count("COMMIT") > 20


async def test_what_was_rolled_back_does_not_count_as_size(tmp_path: Path) -> None:
    async with open_store(tmp_path, StoreSettings(max_log_bytes=5000)) as store:
        await append(store, 1, size_bytes=1000)
        too_large = NewRecord(id="bad", digest=b"", subjects=("all",), body=bytes(9000), expires_at_ms=2**64)
        with pytest.raises(OverflowError):
            await store.log.append(too_large)
        await append(store, 1, size_bytes=1000, prefix="n")
        assert (await store.trim()).records == 0


async def test_a_record_of_many_subjects_leaves_none_behind(tmp_path: Path) -> None:
    async with open_store(tmp_path, StoreSettings(max_log_bytes=0)) as store:
        for id in ("a", "b"):
            await store.log.append(new(id, subjects=tuple(f"s{n}" for n in range(5000)), size_bytes=1))
        await store.log.append(new("c", size_bytes=1))
        assert (await store.trim()).records == 3
        assert store._db.execute("SELECT count(*) FROM log_subject").fetchone() == (0,)


async def test_the_oldest_tombstones_go(tmp_path: Path) -> None:
    async with open_store(tmp_path, StoreSettings(max_tombstones=3)) as store:
        for n in range(6):
            await store.keyvalue.put(f"k{n}", b"")
            await store.keyvalue.delete(f"k{n}")
        await store.keyvalue.put("kept", b"")
        assert (await store.trim()).tombstones == 3
        assert (await store.trim()).tombstones == 0
    async with open_store(tmp_path, StoreSettings()) as store:
        watcher = store.keyvalue.watch()
        assert [(await anext(watcher)).key for _ in range(4)] == ["k3", "k4", "k5", "kept"]
