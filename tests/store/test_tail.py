"""Readers at the tip are served from memory, within bounds."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio
import pytest

from autoglm.core.errors import StoreBroken
from autoglm.core.ports import NewRecord, Record
from autoglm.store import Store, StoreSettings, open_store


def new(id: str, *subjects: str, size_bytes: int = 0) -> NewRecord:
    return NewRecord(id=id, digest=b"d", subjects=subjects or ("all",), body=bytes(size_bytes))


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with open_store(tmp_path, StoreSettings(tail_max_records=100, tail_max_bytes=200_000)) as opened:
        yield opened


async def test_a_reader_at_the_tip_needs_no_disk(store: Store) -> None:
    """With all reading connections closed, what is in the tail can still be read, waited for and looked up."""
    await store.log.append(new("a"))
    await store._readers.aclose()
    (first,) = await store.log.next("all", after=0, timeout_s=0)
    waiting = asyncio.create_task(store.log.next("all", "x", after=first.seq, timeout_s=60))
    await anyio.wait_all_tasks_blocked()
    await store.log.append(new("b"))
    assert [record.id for record in await waiting] == ["b"]
    assert [record.id for record in await store.log.read("all")] == ["a", "b"]
    assert await store.log.get("b") is not None
    with pytest.raises(StoreBroken):
        await store.log.get("c")


@pytest.mark.parametrize(("count", "size_bytes"), [(1000, 0), (300, 10_000)])
async def test_the_tail_is_bounded_by_count_and_by_bytes(store: Store, count: int, size_bytes: int) -> None:
    for n in range(0, count, 50):
        await store.log.append_all([new(f"m{i}", f"s{i % 7}", "all", size_bytes=size_bytes) for i in range(n, n + 50)])
    tail = store._tail
    assert len(tail._filed) <= 100
    assert tail._size_bytes <= 200_000
    kept = {record.id for record, _ in tail._filed}
    assert {record.id for records in tail._by_subject.values() for record in records} == kept == set(tail._by_id)
    assert len(await store.log.read("all", limit=2000)) == count


async def test_a_record_larger_than_the_tail_reaches_those_who_wait(store: Store) -> None:
    waiting = asyncio.create_task(store.log.next("all", after=0, timeout_s=60))
    await anyio.wait_all_tasks_blocked()
    await store.log.append(new("large", size_bytes=300_000))
    assert [record.id for record in await waiting] == ["large"]
    assert [record.id for record in await store.log.next("all", after=0, timeout_s=0)] == ["large"]


async def test_a_page_stops_at_16_mib(store: Store) -> None:
    for n in range(5):
        await store.log.append(new(f"m{n}", size_bytes=6 * 1024 * 1024))
    page = await store.log.read("all")
    assert [record.id for record in page] == ["m0", "m1"]
    assert [record.id for record in await store.log.read("all", after=page[-1].seq)] == ["m2", "m3"]


async def test_what_is_committed_while_the_disk_is_read_is_not_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_store(tmp_path, StoreSettings()) as store:
        await store.log.append(new("old", "elsewhere"))
    async with open_store(tmp_path, StoreSettings()) as store:
        read = store._readers.run

        async def read_slowly(query: Callable[[sqlite3.Connection], list[Record]]) -> list[Record]:
            found = await read(query)
            await store.log.append(new("meanwhile"))
            return found

        monkeypatch.setattr(store._readers, "run", read_slowly)
        with anyio.fail_after(10):
            found = await store.log.next("all", after=0, timeout_s=60)
        assert [record.id for record in found] == ["meanwhile"]


async def test_readers_that_stop_waiting_leave_nothing_behind(store: Store) -> None:
    async with asyncio.TaskGroup() as tasks:
        readers = [tasks.create_task(store.log.next(f"s{n}", "all", after=0, timeout_s=60)) for n in range(300)]
        tasks.create_task(store.log.next("late", after=0, timeout_s=0.01))
        await anyio.wait_all_tasks_blocked()
        assert len(store._tail._waiting) >= 301
        for reader in readers[:200]:
            reader.cancel()
        await anyio.wait_all_tasks_blocked()
        await store.log.append(new("a"))
    assert store._tail._waiting == {}
