"""The correspondent inside: control text, messages that break it, and cancellations at the worst moment."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from autoglm.channels.groups import Groups
from autoglm.channels.mailbox import Mailbox
from autoglm.core.envelope import Envelope, JsonPart
from autoglm.core.errors import NotFound, StorageFull
from autoglm.core.payer import Payer
from autoglm.core.ports import ModelUse, Record
from autoglm.inference import correspondent
from autoglm.inference.budget.budgets import Budgets
from autoglm.inference.budget.ledger import BudgetLedger
from autoglm.inference.budget.settings import BudgetSettings
from autoglm.inference.correspondent import CURSOR, MAX_RUNNING, MAX_UPSTREAM_FAILURES, Correspondent
from autoglm.inference.parking import Lot
from autoglm.inference.progress import OverBudget, Work
from autoglm.inference.respondent import Respondent, answer_id
from autoglm.inference.settings import InstanceSettings
from autoglm.store import open_store
from autoglm.store.settings import StoreSettings
from eventually import until
from inference.pool import instance, running_pool
from inference.rows import Rows
from scripted_model import Gate, ScriptedModel, answering, completion, echo, event, streaming

SPOKEN = ("<thi", "nk>secret</think>", "4", "2")


class Desk:
    """A mailbox on disk and the correspondent that works on it."""

    def __init__(self, mailbox: Mailbox, correspondent: Correspondent, words: list[str]) -> None:
        self.mailbox, self.correspondent, self.words = mailbox, correspondent, words

    async def send(
        self, id: str, content: Any = "hi", *, to: str = "model:echo-model", from_: str = "user:bob", **fields: Any
    ) -> Envelope:
        message = Envelope(id=id, to=to, from_=from_, content=content, **fields)
        await self.mailbox.send(message, sender=from_)
        return message

    async def answer(self, id: str) -> Any:
        """The content of the answer, once there is one."""
        message, _ = await self.mailbox.get(id)
        await self.mailbox.wait_settled(message, 10)
        return (await self.mailbox.get(answer_id(id)))[0].content

    async def states(self, message: Envelope) -> list[str]:
        envelope, record = await self.mailbox.get(message.id)
        return [receipt.state for receipt in await self.mailbox.receipts(envelope, record)]


@asynccontextmanager
async def desk(
    folder: Path, model: ScriptedModel, *more: InstanceSettings, kind: type[Respondent] = Respondent,
    budgets: Budgets | None = None,
) -> AsyncIterator[Desk]:  # fmt: skip
    words: list[str] = []

    def publish(**delta: Any) -> None:
        words.append(delta["text"])

    async with (
        open_store(folder, StoreSettings()) as store,
        running_pool(instance("a", model.url), *more) as dispatcher,
    ):
        mailbox = Mailbox(store.log, store.keyvalue, Groups(store.keyvalue), lambda _: True)
        strip = {"echo-model": ("<think>...</think>",)}
        respondent = kind(mailbox, dispatcher, publish, strip=strip, budgets=budgets)
        worker = Correspondent(mailbox, store.keyvalue, respondent, dispatcher.scheduler)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(worker.run)
            if budgets is not None:
                tasks.start_soon(budgets.ledger.run)
            yield Desk(mailbox, worker, words)
            tasks.cancel_scope.cancel()


async def test_control_text_is_taken_out_of_answers_and_of_the_words_on_the_way(tmp_path: Path) -> None:
    with ScriptedModel(streaming(*map(event, SPOKEN), event(None, "stop"))) as model:
        async with desk(tmp_path / "data", model) as office:
            await office.send("m1")
            assert await office.answer("m1") == "42"
            assert office.words == ["4", "2"]


async def test_control_text_is_taken_out_of_tasks(tmp_path: Path) -> None:
    with ScriptedModel(answering(200, completion("".join(SPOKEN)))) as model:
        async with desk(tmp_path / "data", model) as office:
            await office.send("m1", [JsonPart(json={"messages": []})], kind="task")
            (part,) = await office.answer("m1")
            assert part.json["choices"][0]["message"]["content"] == "42"


@pytest.mark.parametrize("parked", [2, 1000])
async def test_one_over_budget_holds_up_nobody_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parked: int
) -> None:
    """Also with fewer places than messages, of which most are then left in the log."""
    monkeypatch.setattr(correspondent, "MAX_OPEN", 4)
    monkeypatch.setattr("autoglm.inference.parking.MAX_PARKED", parked)
    book = Budgets([BudgetSettings(name="b", tenant="user:eve", requests=1)], {}, BudgetLedger(Rows()))
    with ScriptedModel(echo) as model:
        async with desk(tmp_path / "data", model, budgets=book) as office:
            await office.send("first", from_="user:eve")
            assert await office.answer("first") == "You said: hi"
            over = [await office.send(f"e{number}", from_="user:eve") for number in range(20)]
            await office.send("m1")
            assert await office.answer("m1") == "You said: hi"
            await until(lambda: book.refusals["b"] >= len(over))
            assert len(office.correspondent._parking) <= parked
            cursor = await anext(aiter(office.mailbox._keyvalue.watch(CURSOR)))
            _, record = await office.mailbox.get("e0")
            assert int(cursor.value or b"0") < record.seq
            for message in over:
                await until_it_waits_for(office, message, "b")
            book.settings = ()
            book._known.clear()
            for message in over:
                assert await office.answer(message.id) == "You said: hi"
            assert len(model.requests) == 22


async def until_it_waits_for(office: Desk, message: Envelope, budget: str) -> None:
    """Also one that is left in the log, but for the moment in which it is tried again."""
    _, record = await office.mailbox.get(message.id)
    while True:
        found = await office.correspondent.progress(message, record.seq)
        assert found is not None
        if found.phase == "over_budget":
            break
        await anyio.sleep(0.01)
    assert (found.budget, found.limit) == (budget, "requests")
    assert found.resets_at > 0


async def test_behind_one_that_is_parked_for_long_no_memory_is_kept_of_those_that_are_settled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(correspondent, "MAX_OPEN", 4)
    book = Budgets([BudgetSettings(name="b", tenant="user:eve", requests=1)], {}, BudgetLedger(Rows()))
    with ScriptedModel(echo) as model:
        async with desk(tmp_path / "data", model, budgets=book) as office:
            await office.send("first", from_="user:eve")
            assert await office.answer("first") == "You said: hi"
            await office.send("parked", from_="user:eve")
            await until(lambda: len(office.correspondent._parking) == 1)
            for number in range(60):
                await office.send(f"m{number}")
                assert await office.answer(f"m{number}") == "You said: hi"
            assert len(office.correspondent._order) <= 20
            book.settings = ()
            book._known.clear()
            _, record = await office.mailbox.get("m59")
            assert await office.answer("parked") == "You said: hi"
            await until(lambda: office.correspondent._settled() >= record.seq)


async def test_the_cursor_never_passes_one_that_is_over_budget_and_was_left_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autoglm.inference.parking.MAX_PARKED", 1)
    book = Budgets([BudgetSettings(name="b", tenant="user:eve", requests=1)], {}, BudgetLedger(Rows()))
    with ScriptedModel(echo) as model:
        async with desk(tmp_path / "data", model, budgets=book) as office:
            await office.send("first", from_="user:eve")
            assert await office.answer("first") == "You said: hi"
            parked = await office.send("parked", from_="user:eve")
            await until(lambda: len(office.correspondent._parking) == 1)
            await office.send("left", from_="user:eve")
            (lot,) = office.correspondent._parking.lots.values()
            _, left = await office.mailbox.get("left")
            await until(lambda: lot.left == left.seq)
            lot.parked.clear()
            office.correspondent._open.clear()  # as if the parked one were settled, and the log not yet read again
            assert office.correspondent._settled() == left.seq - 1
            await office.mailbox.cancel(parked)


async def test_an_answer_is_stored_once_it_is_counted_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hub that is killed between the two counts it again, and gives nothing away."""
    rows, waits = Rows(), 0
    rows.gate = anyio.Event()
    stored: list[set[str]] = []
    book = Budgets([BudgetSettings(name="b", requests=9)], {}, BudgetLedger(rows))
    written, store = book.written, Mailbox.answer

    async def counted_on_disk() -> None:
        nonlocal waits
        waits += 1
        await written()

    async def stores(mailbox: Mailbox, message: Envelope, answer: Envelope) -> None:
        stored.append(set(rows.rows))
        await store(mailbox, message, answer)

    monkeypatch.setattr(book, "written", counted_on_disk)
    monkeypatch.setattr(Mailbox, "answer", stores)
    with ScriptedModel(echo) as model:
        async with desk(tmp_path / "data", model, budgets=book) as office:
            await office.send("m1")
            await until(lambda: waits or stored)
            assert stored == []
            rows.gate.set()
            assert await office.answer("m1") == "You said: hi"
            assert stored == [{"budget/b/"}]


async def test_what_breaks_off_is_counted(tmp_path: Path) -> None:
    """Without a finish reason, and without a usage: an event is taken for a token."""
    gate = Gate()
    book = Budgets([BudgetSettings(name="b", requests=9)], {}, BudgetLedger(Rows()))
    with ScriptedModel(gate.within(event("hello"), event(" you"))) as model:
        async with desk(tmp_path / "data", model, budgets=book) as office:
            await office.send("m1")
            await until(lambda: office.words == ["hello"])
            model.behaviour = echo
            gate.open()
            assert await office.answer("m1") == "You said: hi"
            (account,) = book.accounts.values()
            assert account.used.requests == 2
            assert account.estimated_tokens > 2


class Clumsy(Respondent):
    """Has a bug that one message brings out."""

    async def answer(self, message: Envelope, payer: Payer, work: Work, use: ModelUse) -> Envelope:
        if message.content == "break":
            raise RuntimeError("a bug")
        return await super().answer(message, payer, work, use)


async def test_a_message_that_breaks_the_hub_fails_and_the_next_is_answered(tmp_path: Path) -> None:
    with ScriptedModel() as model:
        async with desk(tmp_path / "data", model, kind=Clumsy) as office:
            broken = await office.send("m1", "break")
            await office.send("m2", "hello")
            assert await office.answer("m2") == "You said: hello"
            await office.mailbox.wait_settled(broken, 10)
            assert await office.states(broken) == ["accepted", "failed"]
        async with desk(tmp_path / "data", model, kind=Clumsy) as office:
            await office.send("m3")
            assert await office.answer("m3") == "You said: hi"


@pytest.mark.parametrize(("patience_s", "states"), [(0.0, ["accepted", "failed"]), (3600.0, ["accepted"])])
async def test_a_message_on_which_instances_keep_failing_is_given_up_after_an_hour_not_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patience_s: float, states: list[str]
) -> None:
    """It may be what breaks them; an outage of an hour is no reason to lose it."""
    monkeypatch.setattr("autoglm.inference.correspondent.GIVE_UP_S", patience_s)
    monkeypatch.setattr("autoglm.inference.correspondent._MAX_BACK_OFF_S", 0.01)
    with ScriptedModel(answering(500, {"error": {"message": "boom"}})) as model:
        async with desk(tmp_path / "data", model) as office:
            message = await office.send("m1")
            await until(lambda: len(model.requests) >= MAX_UPSTREAM_FAILURES)
            await office.mailbox.wait_settled(message, 10 if "failed" in states else 0.1)
            assert await office.states(message) == states


async def test_a_message_to_a_model_that_is_down_is_not_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no message's fault, however long it takes."""
    monkeypatch.setattr("autoglm.inference.correspondent.GIVE_UP_S", 0.0)
    monkeypatch.setattr("autoglm.inference.correspondent.MAX_UPSTREAM_FAILURES", 1)
    monkeypatch.setattr("autoglm.inference.correspondent._MAX_BACK_OFF_S", 0.01)
    with ScriptedModel() as model:
        async with desk(tmp_path / "data", model) as office:
            entry = office.correspondent._scheduler.instances["a"]
            entry.cool(3600.0, "quota")
            message = await office.send("m1")
            works = office.correspondent._works
            await until(lambda: "m1" in works and works["m1"].attempts >= 3)
            assert await office.states(message) == ["accepted"]
            entry.resume()
            assert await office.answer("m1") == "You said: hi"


async def test_what_a_look_back_did_not_come_to_stays_left_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the log was read, one more message of that payer came and found no place."""
    with ScriptedModel() as model:
        async with desk(tmp_path / "data", model) as office:
            worker, lot = office.correspondent, Lot(OverBudget("b", "requests", 0))

            async def work(*, after: int, timeout_s: float) -> list[Record]:
                lot.leave(90)
                return [Record(seq=seq, id=f"m{seq}", time_ms=0, expires_at_ms=None, body=b"") for seq in (41, 42)]

            monkeypatch.setattr(office.mailbox, "work", work)
            monkeypatch.setattr(worker, "_newest", 80)
            lot.leave(41)
            async with anyio.create_task_group() as tasks:
                await worker._look_back(lot, tasks)
            assert (lot.left, lot.looked_at) == (41, None)


async def test_a_message_cancelled_while_it_is_looked_at_is_not_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cancellation falls between reading that the message is open and beginning to work on it."""
    with ScriptedModel() as model:
        async with desk(tmp_path / "data", model) as office:

            async def still_open(envelope: Envelope) -> bool:
                office.correspondent.cancel(envelope.id)
                return False

            monkeypatch.setattr(office.mailbox, "is_settled", still_open)
            await office.send("m1")
            await until(lambda: office.correspondent._newest and not office.correspondent._open)
            with pytest.raises(NotFound):
                await office.mailbox.get(answer_id("m1"))


async def test_two_messages_of_one_id_are_worked_on_without_harm(tmp_path: Path) -> None:
    """Retention took the first, and the sender sent it again."""
    gate = Gate()
    with ScriptedModel(gate.before(echo)) as model:
        async with desk(tmp_path / "data", model) as office:
            message = await office.send("m1")
            await until(lambda: gate.waiting == 1)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(office.correspondent._work_on, "m1")
                await until(lambda: gate.waiting == 2)
                gate.open()
            assert await office.answer("m1") == "You said: hi"
            await until(lambda: office.correspondent._settled() > 0)
            assert "failed" not in await office.states(message)
            assert office.correspondent._works == {}


async def test_a_full_disk_delays_the_answer_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedModel() as model:
        async with desk(tmp_path / "data", model) as office:
            full = [StorageFull("disk"), StorageFull("disk")]
            append_all = office.mailbox._log.append_all

            async def failing(records: Any) -> Any:
                if full and records[0].id == answer_id("m1"):
                    raise full.pop()
                return await append_all(records)

            monkeypatch.setattr(office.mailbox._log, "append_all", failing)
            monkeypatch.setattr("autoglm.inference.correspondent.random.uniform", lambda low, high: 0.01)
            await office.send("m1")
            assert await office.answer("m1") == "You said: hi"
            assert len(model.requests) == 3


async def test_messages_that_wait_for_one_model_do_not_hold_up_those_to_another(tmp_path: Path) -> None:
    gate = Gate()
    with ScriptedModel() as model, ScriptedModel(gate.before(echo)) as busy:
        narrow = instance("b", busy.url, "narrow", slots=1)
        async with desk(tmp_path / "data", model, narrow) as office:
            for number in range(MAX_RUNNING + 5):
                await office.send(f"n{number}", to="model:narrow")
            await office.send("m1")
            assert await office.answer("m1") == "You said: hi"
            gate.open()
            assert await office.answer(f"n{MAX_RUNNING + 4}") == "You said: hi"


async def test_the_cursor_never_passes_an_open_message(tmp_path: Path) -> None:
    gate = Gate()
    with ScriptedModel(gate.before(echo)) as model:
        async with desk(tmp_path / "data", model) as office:
            await office.send("m1")
            await until(lambda: gate.waiting)
            model.behaviour = echo
            await office.send("m2")
            await office.answer("m2")
            cursor = await anext(aiter(office.mailbox._keyvalue.watch(CURSOR)))
            assert cursor.value == b"0"
            gate.open()
            await office.answer("m1")
