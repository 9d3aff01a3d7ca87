"""What every KeyValue does."""

import asyncio
from collections.abc import AsyncIterator

import anyio
import pytest

from autoglm.core.errors import RevisionMismatch
from autoglm.core.ports import Change, KeyValue
from contracts.conftest import OpenStores


async def take(changes: AsyncIterator[Change], count: int) -> list[tuple[str, bytes | None]]:
    with anyio.fail_after(10):
        return [((change := await anext(changes)).key, change.value) for _ in range(count)]


async def test_a_value_is_read_back_with_its_revision(keyvalue: KeyValue) -> None:
    assert await keyvalue.get("a") is None
    revision = await keyvalue.put("a", b"\x00one")
    entry = await keyvalue.get("a")
    assert entry is not None
    assert (entry.key, entry.value, entry.revision) == ("a", b"\x00one", revision)


async def test_an_empty_value_is_a_value(keyvalue: KeyValue) -> None:
    await keyvalue.put("a", b"")
    entry = await keyvalue.get("a")
    assert entry is not None
    assert entry.value == b""


async def test_revisions_grow_over_all_keys(keyvalue: KeyValue) -> None:
    revisions = [await keyvalue.put(key, b"") for key in ("a", "b", "a")]
    assert await keyvalue.delete("b")
    revisions.append(await keyvalue.put("c", b""))
    assert revisions == sorted(set(revisions))
    assert revisions[0] > 0


async def test_a_put_may_expect_a_revision(keyvalue: KeyValue) -> None:
    first = await keyvalue.put("a", b"1", expected_revision=0)
    second = await keyvalue.put("a", b"2", expected_revision=first)
    with pytest.raises(RevisionMismatch) as caught:
        await keyvalue.put("a", b"3", expected_revision=first)
    assert caught.value.facts == {"expected": first, "found": second}
    with pytest.raises(RevisionMismatch):
        await keyvalue.put("a", b"3", expected_revision=0)
    with pytest.raises(RevisionMismatch):
        await keyvalue.put("new", b"3", expected_revision=first)
    entry = await keyvalue.get("a")
    assert entry is not None
    assert entry.value == b"2"


async def test_a_deleted_key_is_gone_and_can_be_made_again(keyvalue: KeyValue) -> None:
    revision = await keyvalue.put("a", b"1")
    with pytest.raises(RevisionMismatch):
        await keyvalue.delete("a", expected_revision=revision + 1)
    assert await keyvalue.delete("a", expected_revision=revision)
    assert await keyvalue.get("a") is None
    assert await keyvalue.list() == []
    assert not await keyvalue.delete("a")
    assert not await keyvalue.delete("never", expected_revision=0)
    assert await keyvalue.put("a", b"2", expected_revision=0) > revision


async def test_of_many_that_expect_the_same_revision_one_wins(keyvalue: KeyValue) -> None:
    puts = (keyvalue.put("lock", b"%d" % n, expected_revision=0) for n in range(40))
    results = await asyncio.gather(*puts, keyvalue.put("other", b""), return_exceptions=True)
    assert [type(result) for result in results].count(int) == 2
    assert isinstance(results[-1], int)
    assert sum(isinstance(result, RevisionMismatch) for result in results) == 39


@pytest.mark.parametrize(
    ("prefix", "found"),
    [
        ("", ["a", "a/1", "a/2", "a0", "b", "\ud7ff!", "\ue000", "\U0010ffff", "\U0010ffff!"]),
        ("a/", ["a/1", "a/2"]),
        ("a", ["a", "a/1", "a/2", "a0"]),
        ("\ud7ff", ["\ud7ff!"]),
        ("\U0010ffff", ["\U0010ffff", "\U0010ffff!"]),
        ("a\U0010ffff", []),
        ("%", []),
    ],
)
async def test_list_finds_keys_by_prefix_in_order(keyvalue: KeyValue, prefix: str, found: list[str]) -> None:
    for key in ("b", "a/2", "a", "\U0010ffff!", "a/1", "\ue000", "a0", "\U0010ffff", "\ud7ff!"):
        await keyvalue.put(key, key.encode())
    entries = await keyvalue.list(prefix)
    assert [entry.key for entry in entries] == found
    assert [entry.value for entry in entries] == [key.encode() for key in found]


async def test_a_watcher_gets_what_is_there_and_then_what_comes(keyvalue: KeyValue) -> None:
    await keyvalue.put("a/1", b"old")
    await keyvalue.put("b", b"elsewhere")
    watcher = keyvalue.watch("a/")
    assert await take(watcher, 1) == [("a/1", b"old")]
    async with asyncio.TaskGroup() as tasks:
        coming = tasks.create_task(take(watcher, 3))
        await anyio.wait_all_tasks_blocked()
        await keyvalue.put("b", b"elsewhere again")
        await keyvalue.put("a/2", b"new")
        await keyvalue.delete("a/1")
        await keyvalue.put("a/1", b"back")
    assert coming.result() == [("a/2", b"new"), ("a/1", None), ("a/1", b"back")]


async def test_a_watcher_goes_on_behind_a_revision(keyvalue: KeyValue) -> None:
    await keyvalue.put("a", b"1")
    revision = await keyvalue.put("b", b"2")
    await keyvalue.put("c", b"3")
    await keyvalue.delete("a")
    assert await take(keyvalue.watch(after=revision), 2) == [("c", b"3"), ("a", None)]


async def test_a_late_watcher_gets_the_newest_change_of_each_key(open_stores: OpenStores) -> None:
    async with open_stores() as first:
        await asyncio.gather(*(first.keyvalue.put(f"k{n % 300}", b"%d" % n) for n in range(1500)))
        await first.keyvalue.delete("k0")
    async with open_stores() as second:
        changes = await take(second.keyvalue.watch("k"), 300)
    assert changes == [(f"k{n % 300}", b"%d" % n) for n in range(1201, 1500)] + [("k0", None)]


async def test_watchers_that_follow_writers_end_with_the_newest_state(keyvalue: KeyValue) -> None:
    async def write(name: int) -> None:
        for n in range(100):
            await keyvalue.put(f"k{name}/{n % 7}", b"%d" % n)
        await keyvalue.put("k-done", b"%d" % name, expected_revision=None)

    async def follow() -> dict[str, bytes | None]:
        state: dict[str, bytes | None] = {}
        revision, done = 0, set()
        async for change in keyvalue.watch("k"):
            assert change.revision > revision
            revision = change.revision
            state[change.key] = change.value
            if change.key == "k-done":
                done.add(change.value)
                if len(done) == 4:
                    return state
        raise AssertionError("a watcher does not end")

    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        followers = [tasks.create_task(follow()) for _ in range(3)]
        for name in range(4):
            tasks.create_task(write(name))
    newest = {entry.key: entry.value for entry in await keyvalue.list("k")}
    assert len(newest) == 29
    assert all(follower.result() == newest for follower in followers)


async def test_revisions_go_on_growing_after_opening_again(open_stores: OpenStores) -> None:
    async with open_stores() as first:
        await first.keyvalue.put("kept", b"1")
        revision = await first.keyvalue.put("a", b"")
        await first.keyvalue.delete("a")
    async with open_stores() as second:
        assert [entry.key for entry in await second.keyvalue.list()] == ["kept"]
        assert await second.keyvalue.put("b", b"") > revision + 1
