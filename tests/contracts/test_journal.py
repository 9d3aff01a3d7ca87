"""What every Journal does."""

import asyncio
import hashlib
import json
from collections.abc import Sequence

import anyio
import pytest

from autoglm.core.errors import StoreBroken
from autoglm.core.ports import Journal, JournalEnd, JournalEntry, JournalFilter, NewJournalEntry
from contracts.conftest import OpenStores


def new(name: str, *, at_ms: int = 1, kind: str = "decision", outcome: str = "allowed", who: str = "user:alice",
        text: str = "") -> NewJournalEntry:  # fmt: skip
    personal = json.dumps({"who": who, "text": text}).encode()
    return NewJournalEntry(
        at_ms=at_ms, kind=kind, action=name, outcome=outcome, body=json.dumps({"action": name}).encode(), who=who,
        salt=b"\x00" * 16, personal=personal,
    )  # fmt: skip


async def write(journal: Journal, *entries: NewJournalEntry) -> None:
    for entry in entries:
        journal.hand_in(entry)
    await journal.flush()


def actions(entries: Sequence[JournalEntry]) -> list[str]:
    return [entry.action for entry in entries]


def assert_chained(entries: Sequence[JournalEntry]) -> None:
    before = JournalEnd()
    for entry in entries:
        assert entry.seq == before.seq + 1
        assert hashlib.sha256(entry.body).digest() == entry.digest
        assert json.loads(entry.body) == {
            "action": entry.action, "seq": entry.seq, "prev": before.digest.hex()
        }  # fmt: skip
        before = JournalEnd(entry.seq, entry.digest)


async def test_entries_are_numbered_and_each_names_the_one_before(journal: Journal) -> None:
    assert journal.last() == JournalEnd(0, bytes(32))
    await write(journal, *(new(f"a{n}") for n in range(5)))
    entries = await journal.read()
    assert actions(entries) == ["a0", "a1", "a2", "a3", "a4"]
    assert_chained(entries)
    assert journal.last() == JournalEnd(5, entries[-1].digest)
    assert actions(await journal.read(after=2, limit=2)) == ["a2", "a3"]


async def test_the_chain_goes_on_after_the_store_was_closed(open_stores: OpenStores) -> None:
    for life in range(2):
        async with open_stores() as stores:
            assert stores.journal.last().seq == 2 * life
            await write(stores.journal, new("a"), new("b"))
    async with open_stores() as stores:
        assert_chained(await stores.journal.read())
        assert stores.journal.last().seq == 4


async def test_what_was_handed_in_is_written_without_being_waited_for(open_stores: OpenStores) -> None:
    async with open_stores() as stores:
        for n in range(700):
            stores.journal.hand_in(new(f"a{n}"))
        with anyio.fail_after(10):
            assert await stores.journal.wait(after=699, timeout_s=10)
        stores.journal.hand_in(new("last"))
    async with open_stores() as stores:
        assert stores.journal.last().seq == 701


async def test_a_closed_journal_takes_nothing(open_stores: OpenStores) -> None:
    async with open_stores() as stores:
        pass
    with pytest.raises(StoreBroken, match="closed"):
        stores.journal.hand_in(new("a"))
    with pytest.raises(StoreBroken, match="closed"):
        await stores.journal.flush()


async def test_erasing_takes_what_is_personal_and_leaves_the_chain(journal: Journal) -> None:
    await write(journal, *(new(f"a{n}") for n in range(6)))
    journal.hand_in(new("erase", who="user:admin"), erases=[(2, 3), (5, 99)])  # itself not
    await journal.flush()
    entries = await journal.read()
    assert_chained(entries)
    assert [entry.seq for entry in entries if entry.personal is None] == [2, 3, 5, 6]
    assert {(entry.who, entry.salt) for entry in entries if entry.personal is None} == {(None, None)}
    assert actions(await journal.find(JournalFilter(who="user:alice"))) == ["a0", "a3"]
    assert actions(await journal.find(JournalFilter(who="user:admin"))) == ["erase"]


async def test_waiting_ends_with_the_next_entry_or_with_the_time(journal: Journal) -> None:
    assert not await journal.wait(after=0, timeout_s=0.01)
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(journal.wait(after=1, timeout_s=60))
        await write(journal, new("a"))
        assert not waiting.done()
        await write(journal, new("b"))
    assert waiting.result()


async def test_finding_by_each_field(journal: Journal) -> None:
    await write(
        journal,
        new("read:message", at_ms=10),
        new("model:use", at_ms=20, outcome="denied", who="device:press-7"),
        new("policy", at_ms=30, kind="policy", text="from a USB_stick 100%"),
        new("read:message", at_ms=40, who="device:press-7"),
    )

    async def seqs(wanted: JournalFilter) -> list[int]:
        return [entry.seq for entry in await journal.find(wanted)]

    assert await seqs(JournalFilter()) == [1, 2, 3, 4]
    assert await seqs(JournalFilter(who="device:press-7")) == [2, 4]
    assert await seqs(JournalFilter(actions=("read:message",), who="device:press-7")) == [4]
    assert await seqs(JournalFilter(outcomes=("denied", "failed"))) == [2]
    assert await seqs(JournalFilter(kinds=("policy",))) == [3]
    assert await seqs(JournalFilter(kinds=("policy", "decision"))) == [1, 2, 3, 4]
    assert await seqs(JournalFilter(since_ms=20, until_ms=40)) == [2, 3]
    assert await seqs(JournalFilter(text="usb_STICK 100%")) == [3]
    assert await seqs(JournalFilter(text="_s%k")) == []


async def test_found_entries_come_in_pages_from_either_end(journal: Journal) -> None:
    await write(journal, *(new("even" if n % 2 == 0 else "odd") for n in range(10)))
    wanted = JournalFilter(actions=("even",))
    assert [entry.seq for entry in await journal.find(wanted, limit=2)] == [1, 3]
    assert [entry.seq for entry in await journal.find(wanted, after=3, limit=2)] == [5, 7]
    assert [entry.seq for entry in await journal.find(wanted, newest_first=True, limit=2)] == [9, 7]
    assert [entry.seq for entry in await journal.find(wanted, newest_first=True, before=7, limit=2)] == [5, 3]
