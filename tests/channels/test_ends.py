"""Each message has one end, however those who write it come between each other. The store is slow there."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from autoglm.channels.channel import Limits
from autoglm.channels.delivery import Words, throttled, transient
from autoglm.channels.ends import Ends
from channels.clock import Clock
from channels.outbox.office import EAGER, Office, office, robot, settings
from channels.scripted_channel import ScriptedChannel
from eventually import until

BUSY = transient("busy", Words("the vendor is busy", "服务方繁忙"))
MINUTE_MS = 60_000


class Hold:
    """In place of an operation of the store: the first call that `is_wanted` waits, once it is done or before."""

    def __init__(
        self, operation: Callable[..., Awaitable[Any]], is_wanted: Callable[..., bool], *, is_done_first: bool = False
    ) -> None:
        self._operation, self._is_wanted, self._is_done_first = operation, is_wanted, is_done_first
        self.is_reached = False
        self._let_go = anyio.Event()

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.is_reached or not self._is_wanted(*args, **kwargs):
            return await self._operation(*args, **kwargs)
        self.is_reached = True
        found = await self._operation(*args, **kwargs) if self._is_done_first else None
        await self._let_go.wait()
        return found if self._is_done_first else await self._operation(*args, **kwargs)

    def let_go(self) -> None:
        self._let_go.set()


async def the_mailbox_has_looked(hub: Office, expires_at: int) -> None:
    """It found the time over, and wrote so or puts it off."""
    notes = hub.mailbox._expiries._waiting
    await until(lambda: not notes or notes[0] >> 53 > expires_at)


async def states(hub: Office, id: str) -> list[str]:
    return [step.state for step in await hub.steps(id)]


@pytest.fixture
def held_letters(monkeypatch: pytest.MonkeyPatch) -> Callable[[Office], Hold]:
    """Whoever puts a dead letter waits: the receipt follows it."""

    def hold(hub: Office) -> Hold:
        made = Hold(hub.store.keyvalue.put, lambda key, *_, **__: key.startswith("dead-letter/"))
        monkeypatch.setattr(hub.store.keyvalue, "put", made)
        return made

    return hold


@pytest.mark.parametrize("to", ["channel:c/nobody", "channel:gone/t"])
async def test_time_that_runs_out_while_a_refusal_is_written_is_no_second_end(
    tmp_path: Path, clock: Clock, held_letters: Callable[[Office], Hold], to: str
) -> None:
    async with office(tmp_path, (ScriptedChannel(), settings())) as hub:
        letters = held_letters(hub)
        expires_at = clock.now_ms() + MINUTE_MS
        id = await hub.post("late", to, expires_at=expires_at)
        await until(lambda: letters.is_reached)
        clock.pass_s(61)
        await the_mailbox_has_looked(hub, expires_at)
        letters.let_go()
        await hub.settled()
        assert await states(hub, id) == ["failed"]


async def test_time_that_runs_out_while_a_doubt_is_written_is_no_second_end(
    tmp_path: Path, clock: Clock, held_letters: Callable[[Office], Hold]
) -> None:
    channel = ScriptedChannel()
    channel.gate = anyio.Event()
    careful = settings(on_doubt="fail")
    expires_at = clock.now_ms() + MINUTE_MS
    async with office(tmp_path, (channel, careful)) as hub:
        id = await hub.post("on its way", expires_at=expires_at)
        await until(lambda: channel.tried)
    async with office(tmp_path, (channel, careful)) as hub:
        letters = held_letters(hub)
        await until(lambda: letters.is_reached)
        clock.pass_s(61)
        await the_mailbox_has_looked(hub, expires_at)
        letters.let_go()
        await hub.settled()
        assert await states(hub, id) == ["failed"]


async def test_time_that_runs_out_while_a_message_is_given_up_is_no_second_end(
    tmp_path: Path, clock: Clock, held_letters: Callable[[Office], Hold]
) -> None:
    channel = ScriptedChannel(Limits(parallel=1))
    channel.answers.append(throttled("45009", Words("too many", "过多"), 86_400.0))
    async with office(tmp_path, (channel, settings(give_up_after_s=30.0))) as hub:
        channel.gate = anyio.Event()
        first = await hub.post("first")
        await until(lambda: channel.tried)
        expires_at = clock.now_ms() + 10 * MINUTE_MS
        id = await hub.post("late", expires_at=expires_at)
        await hub.read(id)
        channel.gate.set()
        await hub.ends(first)
        letters = held_letters(hub)
        clock.pass_s(120)  # the lane is paused, and swept
        await until(lambda: letters.is_reached)
        clock.pass_s(600)
        await the_mailbox_has_looked(hub, expires_at)
        letters.let_go()
        await hub.settled()
        assert await states(hub, id) == ["failed"]


@pytest.mark.parametrize("to", ["channel:c/nobody", "channel:gone/t"])
async def test_what_expired_while_its_channel_read_it_is_not_refused_after_that(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, to: str
) -> None:
    async with office(tmp_path, (ScriptedChannel(), settings())) as hub:
        read = Hold(hub.store.log.read, lambda subject, **_: subject == f"to:{to}", is_done_first=True)
        monkeypatch.setattr(hub.store.log, "read", read)
        expires_at = clock.now_ms() + MINUTE_MS
        id = await hub.post("late", to, expires_at=expires_at)
        await until(lambda: read.is_reached)
        clock.pass_s(61)
        await hub.ends(id)
        read.let_go()
        await hub.settled()
        assert await states(hub, id) == ["expired"]
        assert await hub.outbox.dead_letters.newest(10) == []


async def test_what_runs_out_of_time_while_a_digest_is_packed_is_not_in_it(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = ScriptedChannel(robot(count=1, per_s=300.0, digest_bytes=2000))
    async with office(tmp_path, (channel, settings())) as hub:
        await hub.ends(await hub.post("first"))
        await hub.post("late", expires_at=clock.now_ms() + 320_000)
        brief = [await hub.post("one"), await hub.post("two")]
        await hub.read(brief[-1])
        await until(lambda: not hub.outbox.states()[0].running)
        read = Hold(hub.store.log.read, lambda subject, **_: subject == "to:channel:c/t", is_done_first=True)
        monkeypatch.setattr(hub.store.log, "read", read)
        clock.pass_s(310)
        await until(lambda: read.is_reached)
        clock.pass_s(20)
        read.let_go()
        await hub.ends(*brief)
    (_, digest) = channel.texts
    assert "one" in digest
    assert "late" not in digest


async def test_what_expired_by_a_clock_that_was_wrong_is_not_sent_once_it_is_right(
    tmp_path: Path, clock: Clock
) -> None:
    channel = ScriptedChannel(Limits(parallel=1))
    channel.answers.append(BUSY)
    patient = EAGER.model_copy(update={"first_retry_s": 3000.0, "max_retry_s": 3000.0})
    async with office(tmp_path, (channel, settings()), outbox=patient) as hub:
        id = await hub.post("late", expires_at=clock.now_ms() + MINUTE_MS)
        await hub.has_step(id)
        clock.set_by_s(3600)
        await until(lambda: not hub.mailbox._expiries._waiting)
        clock.set_by_s(-3600)
        hub.outbox.hurry()
        await hub.settled()
        assert await states(hub, id) == ["queued", "expired"]
    assert channel.tried == ["late"]


async def test_a_message_is_expired_or_read_but_not_expired_after_it_was_read(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with office(tmp_path) as hub:
        id = await hub.post("hello", "user:b", expires_at=clock.now_ms() + MINUTE_MS)
        envelope, _ = await hub.mailbox.get(id)
        read = Hold(hub.store.log.read, lambda subject, **_: subject == f"receipts:{id}", is_done_first=True)
        monkeypatch.setattr(hub.store.log, "read", read)
        clock.pass_s(61)
        await until(lambda: read.is_reached)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: hub.mailbox.report(envelope, "read", by="user:b"))
            await hub.store.keyvalue.put("a turn", b"of the disk")  # whoever does not wait is done by now
            read.let_go()
        assert await states(hub, id) == ["expired", "read"]


async def test_a_message_that_its_reader_confirms_does_not_expire_after_that(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with office(tmp_path) as hub:
        id = await hub.post("hello", "user:b", expires_at=clock.now_ms() + MINUTE_MS)
        confirming = Hold(hub.store.log.read, lambda subject, **_: subject == "to:user:b", is_done_first=True)
        looking = Hold(confirming, lambda subject, **_: subject == f"receipts:{id}", is_done_first=True)
        monkeypatch.setattr(hub.store.log, "read", looking)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hub.mailbox.confirm, "user:b", "phone", await hub.store.log.last_seq())
            await until(lambda: confirming.is_reached)
            clock.pass_s(61)
            await until(lambda: looking.is_reached)
            confirming.let_go()
            await hub.store.keyvalue.put("a turn", b"of the disk")  # whoever does not wait is done by now
            looking.let_go()
        assert await states(hub, id) == ["expired", "delivered"]


async def test_an_answer_and_a_retraction_at_the_same_time_are_one_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with office(tmp_path) as hub:
        id = await hub.post("hello", "model:m")
        envelope, _ = await hub.mailbox.get(id)
        append = Hold(hub.store.log.append_all, lambda records: "cancelled" in records[0].id)
        monkeypatch.setattr(hub.store.log, "append_all", append)
        answer = await hub.mailbox.get(await hub.post("hi", "user:a", **{"from": "model:m", "reply_to": id}))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hub.mailbox.cancel, envelope)
            await until(lambda: append.is_reached)
            tasks.start_soon(hub.mailbox.answer, envelope, answer[0])
            tasks.start_soon(hub.mailbox.fail, envelope, "no instance")
            await hub.store.keyvalue.put("a turn", b"of the disk")
            append.let_go()
        assert await states(hub, id) == ["cancelled"]


async def test_a_channel_waits_for_who_writes_and_who_writes_does_not_wait_for_a_channel(tmp_path: Path) -> None:
    async with office(tmp_path) as hub:
        ends, order = Ends(hub.store.log), []

        async def carry() -> None:
            async with ends.carried("a", "b"):
                order.append("carried")
                async with ends.written("b") as is_free, ends.written("c") as is_other_free:
                    assert (is_free, is_other_free) == (False, True)

        async with anyio.create_task_group() as tasks, ends.written("a") as is_free:
            assert is_free
            tasks.start_soon(carry)
            await anyio.lowlevel.checkpoint()
            order.append("written")
        assert order == ["written", "carried"]
        async with ends.written("a", "b", "c") as is_free:
            assert is_free
