"""What a channel must know after a restart as well, on a real store."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from structlog.testing import capture_logs

from autoglm.channels import kept
from autoglm.channels.kept import Kept
from autoglm.core.errors import StorageFull
from autoglm.core.ports import KeyValue
from autoglm.store import StoreSettings, open_store


class Note(msgspec.Struct, frozen=True):
    text: str


@pytest.fixture
async def keyvalue(tmp_path: Path) -> AsyncIterator[KeyValue]:
    async with open_store(tmp_path / "data", StoreSettings()) as store:
        yield store.keyvalue


def table(keyvalue: KeyValue, *, prefix: str = "notes/a/", most: int = 100) -> Kept[Note]:
    """Made anew, as by a restart."""
    return Kept(keyvalue, prefix, Note, most=most)


async def texts(found: Kept[Note]) -> list[str]:
    return [note.text for note in await found.all()]


async def test_what_was_put_is_there_after_a_restart_and_no_other_tables(keyvalue: KeyValue) -> None:
    before = table(keyvalue)
    for text in ("b", "a", "号码", "b"):
        await before.put(text, Note(text))
    await table(keyvalue, prefix="notes/b/").put("x", Note("x"))
    after = table(keyvalue)
    assert (await after.get("号码"), await after.get("x")) == (Note("号码"), None)
    assert await texts(after) == await texts(before) == ["a", "号码", "b"]


async def test_beyond_the_bound_the_oldest_go_from_the_disk_too(keyvalue: KeyValue) -> None:
    before = table(keyvalue, most=3)
    for text in "abcd":
        await before.put(text, Note(text))
    after = table(keyvalue, most=3)
    await after.put("b", Note("B"))
    await after.put("e", Note("e"))
    assert await texts(after) == await texts(table(keyvalue, most=3)) == ["d", "B", "e"]


async def test_what_cannot_be_read_stops_no_other(keyvalue: KeyValue) -> None:
    await table(keyvalue).put("a", Note("a"))
    for name, value in (("cut", b'{"tex'), ("other", b'{"text": 5}')):
        await keyvalue.put(f"notes/a/{name}", value)
    after = table(keyvalue)
    await after.put("b", Note("b"))
    assert await texts(after) == ["a", "b"]


async def test_what_is_put_again_while_it_goes_stays(keyvalue: KeyValue) -> None:
    found = table(keyvalue, most=2)
    for text in "ac":
        await found.put(text, Note(text))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(found.put, "b", Note("b"))
        tasks.start_soon(found.put, "a", Note("A"))
    assert await texts(found) == await texts(table(keyvalue)) == ["b", "A"]


async def test_a_thousand_of_them_are_a_thousand_small_writes(
    keyvalue: KeyValue, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, sizes = keyvalue.put, list[int]()

    async def counted(key: str, value: bytes) -> int:
        sizes.append(len(key) + len(value))
        return await real(key, value)

    monkeypatch.setattr(keyvalue, "put", counted)
    found = table(keyvalue, most=2_000)
    for number in range(1_000):
        await found.put(str(number), Note(str(number)))
    assert (len(sizes), max(sizes) < 100) == (1_000, True)


async def test_what_is_dropped_is_dropped_for_good_and_what_is_unknown_writes_nothing(keyvalue: KeyValue) -> None:
    before = table(keyvalue)
    for text in "ab":
        await before.put(text, Note(text))
    after = table(keyvalue)
    await after.drop("a")
    (left,) = await keyvalue.list("notes/")
    await after.drop("z")
    await after.put("c", Note("c"))
    (_, last) = sorted(await keyvalue.list("notes/"), key=lambda entry: entry.revision)
    assert await texts(table(keyvalue)) == ["b", "c"]
    assert last.revision == left.revision + 2  # the drop of a, the put of c


async def test_a_disk_that_takes_nothing_fails_nobody(keyvalue: KeyValue, monkeypatch: pytest.MonkeyPatch) -> None:
    found = table(keyvalue)
    await found.put("a", Note("a"))

    async def full(*wanted: object) -> Any:
        raise StorageFull("/data")

    monkeypatch.setattr(keyvalue, "put", full)
    monkeypatch.setattr(keyvalue, "delete", full)
    with capture_logs() as lines:
        await found.put("b", Note("b"))
        await found.drop("a")
    assert [line["event"] for line in lines] == ["channel_note_not_kept"] * 2
    assert await texts(found) == ["b"]
    assert await texts(table(keyvalue)) == ["a"]


async def test_a_disk_that_hangs_holds_nobody_up(keyvalue: KeyValue, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also whoever is cut off meanwhile: what was sent must not be taken for a failure."""
    monkeypatch.setattr(kept, "_SAVE_S", 0.05)
    monkeypatch.setattr(keyvalue, "list", lambda prefix: anyio.sleep_forever())
    found, returned = table(keyvalue), []
    with capture_logs() as lines, anyio.CancelScope() as scope:
        scope.cancel()
        await found.put("a", Note("a"))
        returned.append("a")
    assert returned == ["a"]
    assert [(line["event"], line["reason"]) for line in lines] == [("channel_note_not_kept", "the disk takes too long")]


async def test_what_changes_while_the_disk_is_read_stays_so(
    keyvalue: KeyValue, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = table(keyvalue)
    for text in "abc":
        await before.put(text, Note(text))
    found, real, has_begun, may_end = table(keyvalue), keyvalue.list, anyio.Event(), anyio.Event()

    async def slow(prefix: str) -> Any:
        entries = await real(prefix)
        has_begun.set()
        await may_end.wait()
        return entries

    monkeypatch.setattr(keyvalue, "list", slow)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(found.get, "a")
        await has_begun.wait()
        tasks.start_soon(found.drop, "a")
        tasks.start_soon(found.put, "b", Note("B"))
        tasks.start_soon(found.put, "d", Note("d"))
        await anyio.wait_all_tasks_blocked()
        may_end.set()
    monkeypatch.setattr(keyvalue, "list", real)
    assert set(await texts(found)) == set(await texts(table(keyvalue))) == {"B", "c", "d"}
