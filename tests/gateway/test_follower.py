"""Following an address: records and deltas come one at a time, in the order in which they were made."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio

from autoglm.channels.deltas import Delta, Deltas
from autoglm.channels.groups import Groups
from autoglm.channels.mailbox import Mailbox
from autoglm.core.envelope import Envelope
from autoglm.gateway.follower import Event, Follower
from autoglm.store import StoreSettings, open_store
from eventually import until


class Reader:
    """Takes events as slowly as the test wants, and fails when it gets one while it is busy with another."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self._is_busy = False
        self.may_go_on = anyio.Event()

    async def deliver(self, event: Event) -> None:
        assert event is not None
        assert not self._is_busy, "one at a time"
        self._is_busy = True
        self.begun.append(event.text if isinstance(event, Delta) else event.id)
        await self.may_go_on.wait()
        self._is_busy = False


def delta(text: str) -> Delta:
    return Delta(reply_to="q", from_="model:m", to="user:a", index=0, text=text)


Send = Callable[[str], Awaitable[object]]


@asynccontextmanager
async def following(data_dir: Path, reader: Reader) -> AsyncIterator[tuple[Deltas, Send, Follower]]:
    async with open_store(data_dir, StoreSettings()) as store:
        mailbox, deltas = Mailbox(store.log, store.keyvalue, Groups(store.keyvalue), lambda _: False), Deltas()
        follower = Follower(mailbox, deltas, "user:a", reader.deliver)

        async def send(id: str) -> None:
            await mailbox.send(Envelope(id=id, to="user:a", content="x"), sender="model:m")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follower.run, 0)
            await until(lambda: bool(deltas._listeners))
            yield deltas, send, follower
            tasks.cancel_scope.cancel()


def waits(follower: Follower) -> bool:
    """Some task has an event and waits for its turn to deliver it."""
    return follower._writing.statistics().tasks_waiting > 0


async def test_no_delta_comes_behind_the_answer_that_it_is_a_part_of(tmp_path: Path) -> None:
    reader = Reader()
    async with following(tmp_path, reader) as (deltas, send, follower):
        deltas.publish(delta("one"))
        deltas.publish(delta("two"))
        await until(lambda: reader.begun == ["one"])
        deltas.publish(delta("three"))
        await send("answer")
        await until(lambda: waits(follower) or len(reader.begun) > 1)
        assert reader.begun == ["one"]
        reader.may_go_on.set()
        await until(lambda: len(reader.begun) == 4)
    assert reader.begun == ["one", "two", "three", "answer"]


async def test_deltas_wait_while_a_record_is_delivered(tmp_path: Path) -> None:
    reader = Reader()
    async with following(tmp_path, reader) as (deltas, send, follower):
        await send("message")
        await until(lambda: reader.begun == ["message"])
        deltas.publish(delta("one"))
        await until(lambda: waits(follower) or len(reader.begun) > 1)
        deltas.publish(delta("two"))
        assert reader.begun == ["message"]
        reader.may_go_on.set()
        await until(lambda: len(reader.begun) == 3)
    assert reader.begun == ["message", "one", "two"]
