"""What budgets have counted is in the store when somebody was told so, also after a kill."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import msgspec
import pytest

from autoglm.core.errors import StorageFull
from autoglm.core.ports import KeyValue
from autoglm.core.tasks import one_task_group
from autoglm.inference.budget.account import Kept
from autoglm.inference.budget.amounts import Amounts
from autoglm.inference.budget.budgets import Budgets
from autoglm.inference.budget.ledger import BudgetLedger, row_key
from autoglm.inference.budget.settings import BudgetSettings
from autoglm.store import StoreSettings, open_store
from eventually import until
from inference.calls import call
from inference.rows import Rows

EACH = BudgetSettings(name="each", tenant="*", tokens=10**9)


@asynccontextmanager
async def running(keyvalue: KeyValue, *entries: BudgetSettings) -> AsyncIterator[Budgets]:
    book = Budgets(entries or (EACH,), {}, BudgetLedger(keyvalue))
    await book.open()
    async with one_task_group() as tasks:
        tasks.start_soon(book.ledger.run)
        yield book
        tasks.cancel_scope.cancel()


async def use(book: Budgets, tenant: str, tokens: int) -> None:
    charge = book.charge("k", tenant, call())
    assert charge is not None
    charge.use("m", tokens, 0)
    await charge.written()


def on_disk(rows: Rows, tenant: str) -> int:
    return msgspec.json.decode(rows.rows[row_key("each", tenant)], type=Kept).used.tokens


async def test_a_restart_finds_what_was_counted(tmp_path: Path) -> None:
    async with open_store(tmp_path, StoreSettings()) as store, running(store.keyvalue) as book:
        async with anyio.create_task_group() as tasks:
            for number in range(200):
                tasks.start_soon(use, book, f"t{number % 3}", number)
        before = {place: account.kept() for place, account in book.accounts.items()}
    async with open_store(tmp_path, StoreSettings()) as store, running(store.keyvalue) as book:
        assert {place: account.kept() for place, account in book.accounts.items()} == before
        assert sum(account.used.tokens for account in book.accounts.values()) == sum(range(200))


async def test_whoever_waits_is_told_when_it_is_on_disk_and_not_before() -> None:
    rows = Rows()
    async with running(rows) as book:
        rows.gate = anyio.Event()
        first = asyncio.create_task(use(book, "a", 5))
        await until(lambda: rows.puts == 1)
        second = asyncio.create_task(use(book, "a", 7))
        await asyncio.sleep(0)
        assert not first.done()
        assert not second.done()
        rows.gate.set()
        await asyncio.gather(first, second)
        assert on_disk(rows, "a") == 12
        assert rows.puts == 2


async def test_many_who_wait_share_one_write() -> None:
    rows = Rows()
    async with running(rows) as book:
        await asyncio.gather(*(use(book, "a", 1) for _ in range(100)))
        assert on_disk(rows, "a") == 100
        assert rows.puts <= 3


async def test_what_cannot_be_written_is_told_and_written_when_it_can_be() -> None:
    """A full disk: whoever waits learns of it, new requests are refused before they cost anything, nothing is lost."""
    rows = Rows()
    async with running(rows) as book:
        rows.trouble = StorageFull("/data")
        with pytest.raises(StorageFull):
            await use(book, "a", 5)
        with pytest.raises(StorageFull):
            book.charge("k", "a", call())
        rows.trouble = None
        await until(lambda: book.ledger.trouble is None)
        assert on_disk(rows, "a") == 5
        await use(book, "a", 6)
        assert on_disk(rows, "a") == 11


async def test_an_orderly_end_writes_what_nobody_waited_for() -> None:
    rows = Rows()
    async with running(rows) as book:
        charge = book.charge("k", "a", call())
        assert charge is not None
        charge.use("m", 9, 0)
    assert on_disk(rows, "a") == 9


async def test_a_cancelled_write_is_not_forgotten() -> None:
    rows = Rows()
    rows.gate = anyio.Event()
    async with running(rows) as book:
        waiting = asyncio.create_task(use(book, "a", 5))
        await until(lambda: rows.puts == 1)
        rows.gate = None
    await waiting
    assert on_disk(rows, "a") == 5


async def test_budgets_that_the_settings_lost_are_forgotten_when_they_end() -> None:
    rows = Rows()
    kept = Kept(per="day", start_ms=0, end_ms=1, used=Amounts(3, 1, 0))
    rows.rows[row_key("gone", "a")] = msgspec.json.encode(kept)
    rows.rows[row_key("gone", "b")] = msgspec.json.encode(msgspec.structs.replace(kept, end_ms=2**52))
    async with running(rows) as book:
        await book.written()
        assert book.accounts == {}
    assert rows.rows.keys() == {row_key("gone", "b")}
