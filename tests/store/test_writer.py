"""Group commit: many callers, few transactions, and nobody fails for another's mistake."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import anyio
import pytest

from autoglm.core.errors import QueueFull, StoreBroken
from autoglm.core.ports import NewRecord
from autoglm.store import Store, StoreSettings, open_store


def new(id: str, *, expires_at_ms: int | None = None) -> NewRecord:
    return NewRecord(id=id, digest=b"d", subjects=("all",), body=b"", expires_at_ms=expires_at_ms)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with open_store(tmp_path, StoreSettings(max_queued_operations=1000)) as opened:
        yield opened


@pytest.fixture
def statements(store: Store) -> list[str]:
    """Every statement that the writer runs."""
    seen: list[str] = []
    store._db.set_trace_callback(seen.append)
    return seen


async def test_callers_that_write_at_the_same_time_share_a_transaction(store: Store, statements: list[str]) -> None:
    await asyncio.gather(
        *(store.log.append(new(f"m{n}")) for n in range(400)),
        *(store.keyvalue.put(f"k{n}", b"") for n in range(400)),
    )
    assert 1 <= statements.count("COMMIT") <= 20
    assert len(await store.log.read("all", limit=1000)) == 400
    assert len(await store.keyvalue.list()) == 400


async def test_what_comes_in_turns_that_follow_each_other_shares_a_transaction(
    store: Store, statements: list[str]
) -> None:
    writes = []
    for number in range(40):
        writes.append(asyncio.create_task(store.log.append(new(f"m{number}"))))
        await asyncio.sleep(0)
    assert all(result.is_new for result in await asyncio.gather(*writes))
    assert statements.count("COMMIT") < 20


async def test_a_lone_write_does_not_wait_for_others(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoglm.store.sqlite.writer._GATHER_S", 60.0)
    with anyio.fail_after(5):
        assert (await store.log.append(new("alone"))).is_new


async def test_writes_that_never_pause_are_handed_over_all_the_same(tmp_path: Path) -> None:
    """Else a stream of messages, each in the turn after the last one, would keep all of them from the disk."""
    async with open_store(tmp_path, StoreSettings(max_queued_operations=100_000)) as store:
        writes = [asyncio.create_task(store.log.append(new("m0")))]
        while not writes[0].done() and len(writes) < 20_000:
            writes.append(asyncio.create_task(store.log.append(new(f"m{len(writes)}"))))
            await asyncio.sleep(0)
        assert writes[0].done()
        assert all(result.is_new for result in await asyncio.gather(*writes))


async def test_what_is_acknowledged_was_synced(store: Store) -> None:
    """A kill cannot show it, for the kernel keeps what was written; power that goes would take it."""
    await store.log.append(new("m"))
    (journal_mode,) = store._db.execute("PRAGMA journal_mode").fetchone()
    (synchronous,) = store._db.execute("PRAGMA synchronous").fetchone()
    assert (journal_mode, synchronous) == ("wal", 2), "2 is FULL: each commit syncs the write-ahead log"


@pytest.mark.parametrize("wrong", [new("\ud800"), new("too large", expires_at_ms=2**64)])
async def test_a_value_that_sqlite_does_not_take_fails_alone(store: Store, wrong: NewRecord) -> None:
    beside = [store.log.append(new(f"m{n}")) for n in range(20)]
    results = await asyncio.gather(*beside[:10], store.log.append(wrong), *beside[10:], return_exceptions=True)
    (failed,) = [result for result in results if isinstance(result, BaseException)]
    assert isinstance(failed, OverflowError | UnicodeEncodeError)
    assert [record.id for record in await store.log.read("all")] == [f"m{n}" for n in range(20)]
    assert (await store.log.append(new("after"))).is_new


async def test_a_log_that_cannot_be_written_keeps_nothing_from_the_disk(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ValueError("I/O operation on closed file")

    monkeypatch.setattr("autoglm.store.sqlite.writer.log.error", broken, raising=False)
    with anyio.fail_after(5):
        with pytest.raises(UnicodeEncodeError):
            await store.log.append(new("\ud800"))
        assert (await store.log.append(new("after"))).is_new


async def test_a_cancelled_caller_harms_nobody(store: Store) -> None:
    left = asyncio.create_task(store.log.append(new("left")))
    stays = asyncio.create_task(store.log.append(new("stays")))
    await asyncio.sleep(0)
    left.cancel()
    assert (await stays).is_new
    assert left.cancelled()


async def test_writes_beyond_the_queue_are_refused_at_once(store: Store) -> None:
    """Another process that holds the write lock stands for a disk that does not answer."""
    blocker = sqlite3.connect(store.data_dir / "hub.db", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    tasks = [asyncio.create_task(store.log.append(new(f"m{n}"))) for n in range(3000)]
    refused, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    assert {type(task.exception()) for task in refused} == {QueueFull}
    blocker.execute("ROLLBACK")
    blocker.close()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    kept = sum(not isinstance(result, BaseException) for result in results)
    assert kept >= 1000
    assert len(await store.log.read("all", limit=5000)) == kept


async def test_after_closing_every_call_says_so(tmp_path: Path) -> None:
    async with asyncio.TaskGroup() as tasks, open_store(tmp_path, StoreSettings()) as store:
        waiting = [
            tasks.create_task(fails(store.log.next("all", after=0, timeout_s=60))),
            tasks.create_task(fails(anext(store.keyvalue.watch()))),
        ]
        await anyio.wait_all_tasks_blocked()
    assert all("it is closed" in task.result() for task in waiting)
    assert "it is closed" in await fails(store.log.append(new("a")))
    assert "it is closed" in await fails(store.log.read_last("all"))
    assert "it is closed" in await fails(store.keyvalue.get("a"))


async def fails(call: Awaitable[object]) -> str:
    with pytest.raises(StoreBroken) as caught:
        await call
    return str(caught.value)


async def test_writes_that_wait_are_finished_at_closing(tmp_path: Path) -> None:
    async with open_store(tmp_path, StoreSettings()) as store:
        writes = [asyncio.create_task(store.log.append(new(f"m{n}"))) for n in range(2000)]
        await asyncio.sleep(0)
    assert all(result.is_new for result in await asyncio.gather(*writes))
    async with open_store(tmp_path, StoreSettings()) as store:
        assert len(await store.log.read("all", limit=5000)) == 2000
