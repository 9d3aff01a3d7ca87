"""What every Log does."""

import asyncio
from collections.abc import Sequence

import anyio
import anyio.lowlevel
import pytest

from autoglm.core.clock import now_ms
from autoglm.core.errors import DuplicateId
from autoglm.core.ports import Log, NewRecord, Record
from contracts.conftest import OpenStores


def new(
    id: str, *subjects: str, body: bytes = b"body", digest: bytes = b"d", expires_at_ms: int | None = None
) -> NewRecord:
    return NewRecord(id=id, digest=digest, subjects=subjects or ("to:alice",), body=body, expires_at_ms=expires_at_ms)


def ids(records: Sequence[Record]) -> list[str]:
    return [record.id for record in records]


async def test_a_record_is_read_under_each_of_its_subjects(log: Log) -> None:
    before = now_ms()
    appended = await log.append(new("a", "to:alice", "thread:1", "to:alice", body=b"\x00\xff"))
    assert appended.is_new
    for subject in ("to:alice", "thread:1"):
        (record,) = await log.read(subject)
        assert (record.seq, record.id, record.body, record.expires_at_ms) == (appended.seq, "a", b"\x00\xff", None)
        assert before <= record.time_ms <= now_ms()
    assert await log.read("to:bob") == []


async def test_reads_go_on_behind_a_sequence_number_oldest_first(log: Log) -> None:
    seqs = [(await log.append(new(f"m{n}"))).seq for n in range(5)]
    assert seqs == sorted(set(seqs))
    assert ids(await log.read("to:alice", limit=2)) == ["m0", "m1"]
    assert ids(await log.read("to:alice", after=seqs[1], limit=2)) == ["m2", "m3"]
    assert await log.read("to:alice", after=seqs[4]) == []
    assert ids(await log.read_last("to:alice", limit=2)) == ["m3", "m4"]
    assert await log.last_seq() == seqs[4]


async def test_an_empty_log_has_nothing(log: Log) -> None:
    assert await log.last_seq() == 0
    assert await log.read_last("to:alice") == []
    assert await log.get("a") is None
    assert await log.append_all([]) == []


async def test_a_repeat_is_answered_and_not_stored_again(log: Log) -> None:
    first = await log.append(new("a"))
    again = await log.append(new("a"))
    assert (again.seq, again.is_new) == (first.seq, False)
    assert ids(await log.read("to:alice")) == ["a"]


async def test_an_id_that_is_taken_by_other_content_is_refused(log: Log) -> None:
    await log.append(new("a", body=b"one", digest=b"1"))
    with pytest.raises(DuplicateId, match="'a'"):
        await log.append(new("a", "to:bob", body=b"two", digest=b"2"))
    assert await log.read("to:bob") == []
    record = await log.get("a")
    assert record is not None
    assert record.body == b"one"


async def test_of_many_appends_of_one_id_at_a_time_one_is_new(log: Log) -> None:
    appended = await asyncio.gather(*(log.append(new("a")) for _ in range(50)))
    assert sum(result.is_new for result in appended) == 1
    assert len({result.seq for result in appended}) == 1
    assert ids(await log.read("to:alice")) == ["a"]


async def test_a_refused_append_does_not_harm_those_beside_it(log: Log) -> None:
    records = [new(f"m{n % 60}", digest=b"first" if n < 60 else b"other") for n in range(70)]
    results = await asyncio.gather(*(log.append(record) for record in records), return_exceptions=True)
    assert [type(result).__name__ for result in results] == ["Appended"] * 60 + ["DuplicateId"] * 10
    assert ids(await log.read("to:alice")) == [f"m{n}" for n in range(60)]


async def test_append_all_stores_all_in_order(log: Log) -> None:
    await log.append(new("b"))
    results = await log.append_all([new("a"), new("b"), new("c"), new("a")])
    assert [result.is_new for result in results] == [True, False, True, False]
    assert results[0].seq == results[3].seq
    assert ids(await log.read("to:alice")) == ["b", "a", "c"]


async def test_append_all_stores_none_when_one_is_refused(log: Log) -> None:
    await log.append(new("taken", "to:bob", digest=b"1"))
    refused, kept = await asyncio.gather(
        log.append_all([new("a"), new("b"), new("taken", digest=b"2")]),
        log.append_all([new("a", body=b"mine", digest=b"3"), new("c")]),
        return_exceptions=True,
    )
    assert isinstance(refused, DuplicateId)
    assert isinstance(kept, list)
    assert [(record.id, record.body) for record in await log.read("to:alice")] == [("a", b"mine"), ("c", b"body")]


async def test_expired_records_are_kept_but_not_handed_out(log: Log) -> None:
    await log.append(new("old", expires_at_ms=now_ms() - 1))
    await log.append(new("fresh", expires_at_ms=now_ms() + 60_000))
    assert ids(await log.read("to:alice")) == ["fresh"]
    assert ids(await log.read_last("to:alice")) == ["fresh"]
    assert ids(await log.next("to:alice", after=0, timeout_s=0)) == ["fresh"]
    assert await log.get("old") is not None


async def test_a_record_that_expires_in_the_log_is_not_handed_out_any_more(log: Log) -> None:
    expires_at_ms = now_ms() + 30
    await log.append(new("a", expires_at_ms=expires_at_ms))
    while now_ms() < expires_at_ms:
        await anyio.lowlevel.checkpoint()
    assert await log.read("to:alice") == []


@pytest.mark.parametrize("subject", ["to:\u5f20\u4e09", 'quo"te\\', "line\nbreak", "\U0001f600", "'; DROP TABLE log"])
async def test_a_subject_may_be_any_text(log: Log, subject: str) -> None:
    await log.append(new("a", subject, "other"))
    assert ids(await log.read(subject)) == ["a"]
    assert ids(await log.next(subject, after=0, timeout_s=0)) == ["a"]


async def test_a_record_may_have_ten_thousand_subjects(log: Log) -> None:
    await log.append(new("a", *(f"to:user-{n}" for n in range(10_000))))
    assert ids(await log.read("to:user-0")) == ids(await log.read("to:user-9999")) == ["a"]


async def test_next_answers_at_once_when_there_is_something(log: Log) -> None:
    seq = (await log.append(new("a"))).seq
    await log.append(new("b"))
    assert ids(await log.next("to:alice", after=0, timeout_s=60)) == ["a", "b"]
    assert ids(await log.next("to:alice", after=seq, timeout_s=60)) == ["b"]
    assert ids(await log.next("to:alice", after=0, limit=1, timeout_s=60)) == ["a"]


async def test_next_gives_up_after_its_time(log: Log) -> None:
    with anyio.fail_after(5):
        assert await log.next("to:alice", after=0, timeout_s=0.02) == []


async def test_next_waits_for_the_first_record_of_its_subject_behind_its_number(log: Log) -> None:
    seq = (await log.append(new("a"))).seq
    async with asyncio.TaskGroup() as tasks:
        reader = tasks.create_task(log.next("to:alice", after=seq + 1, timeout_s=60))
        await anyio.wait_all_tasks_blocked()
        await log.append(new("expired", expires_at_ms=1))
        await log.append(new("elsewhere", "to:bob"))
        assert not reader.done()
        await log.append(new("b"))
    assert ids(reader.result()) == ["b"]


async def test_next_follows_several_subjects_in_one_order(log: Log) -> None:
    for id, subjects in (("a", ["x"]), ("b", ["y"]), ("c", ["x", "y"]), ("d", ["z"]), ("e", ["x"])):
        await log.append(new(id, *subjects))
    found = await log.next("x", "y", after=0, timeout_s=0)
    assert ids(found) == ["a", "b", "c", "e"]
    assert ids(await log.next("y", "x", after=found[0].seq, limit=2, timeout_s=0)) == ["b", "c"]


@pytest.mark.parametrize("subjects", [("x", "y"), ("y", "x"), ("x", "x")])
async def test_a_reader_of_several_subjects_is_woken_once_with_each_record_once(
    log: Log, subjects: tuple[str, ...]
) -> None:
    async with asyncio.TaskGroup() as tasks:
        reader = tasks.create_task(log.next(*subjects, after=0, timeout_s=60))
        await anyio.wait_all_tasks_blocked()
        await log.append_all([new("a", "x", "y"), new("b", "x")])
    assert ids(reader.result()) == ["a", "b"]
    assert await log.next(*subjects, after=reader.result()[-1].seq, timeout_s=0) == []


async def test_a_thousand_readers_wake_together(log: Log) -> None:
    async with asyncio.TaskGroup() as tasks:
        same = [tasks.create_task(log.next("to:all", after=0, timeout_s=60)) for _ in range(1000)]
        apart = [tasks.create_task(log.next(f"to:{n}", after=0, timeout_s=60)) for n in range(1000)]
        await anyio.wait_all_tasks_blocked()
        await log.append(new("a", "to:all", *(f"to:{n}" for n in range(1000))))
    assert all(ids(task.result()) == ["a"] for task in same + apart)


async def test_a_reader_that_is_cancelled_leaves_the_others_waiting(log: Log) -> None:
    async with asyncio.TaskGroup() as tasks:
        left = tasks.create_task(log.next("to:alice", after=0, timeout_s=60))
        stays = tasks.create_task(log.next("to:alice", after=0, timeout_s=60))
        await anyio.wait_all_tasks_blocked()
        left.cancel()
        await anyio.wait_all_tasks_blocked()
        await log.append(new("a"))
    assert left.cancelled()
    assert ids(stays.result()) == ["a"]


async def test_readers_that_follow_writers_see_each_record_once_in_order(log: Log) -> None:
    """No record falls between reading and waiting, however reads, waits and commits fall together."""
    total = 600

    async def write(start: int) -> None:
        for n in range(start, total, 6):
            await log.append(new(f"m{n}"))

    async def follow(limit: int) -> list[Record]:
        seen: list[Record] = []
        while len(seen) < total:
            seen += await log.next("to:alice", after=seen[-1].seq if seen else 0, limit=limit, timeout_s=20)
        return seen

    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        followers = [tasks.create_task(follow(limit)) for limit in (1, 7, 100)]
        for start in range(6):
            tasks.create_task(write(start))
    for follower in followers:
        seqs = [record.seq for record in follower.result()]
        assert seqs == sorted(seqs)
        assert set(ids(follower.result())) == {f"m{n}" for n in range(total)}
        assert len(seqs) == total


async def test_what_was_acknowledged_is_there_after_opening_again(open_stores: OpenStores) -> None:
    async with open_stores() as first:
        seqs = [(await first.log.append(new(f"m{n}", "to:alice", "x"))).seq for n in range(3)]
    async with open_stores() as second:
        assert await second.log.last_seq() == seqs[2]
        assert [record.seq for record in await second.log.next("to:alice", after=seqs[0], timeout_s=0)] == seqs[1:]
        again = await second.log.append(new("m1"))
        assert (again.seq, again.is_new) == (seqs[1], False)
        with pytest.raises(DuplicateId):
            await second.log.append(new("m2", digest=b"other"))
        assert (await second.log.append(new("m3"))).seq > seqs[2]
