"""Order, acknowledgements and bounds between the broker and the inbox."""

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from autoglm.channels.adapters.mqtt import intake as module
from autoglm.channels.adapters.mqtt.incoming import Arrival
from autoglm.channels.adapters.mqtt.intake import Intake
from autoglm.core.errors import StorageFull
from autoglm.core.tasks import one_task_group
from eventually import until


class Desk:
    """An intake whose inbox refuses what is in `refused`, and holds what is in `held`, by payload."""

    def __init__(self) -> None:
        self.acknowledged: list[int] = []
        self.taken: list[bytes] = []
        self.refused: dict[bytes, Exception] = {}
        self.held: dict[bytes, anyio.Event] = {}
        self.resumed = 0
        self.intake = Intake(lambda arrival: self.acknowledged.append(arrival.mid), self._resume)

    def _resume(self) -> None:
        self.resumed += 1

    async def take(self, arrival: Arrival) -> None:
        payload = arrival.payload
        if payload in self.refused:
            raise self.refused[payload]
        if payload in self.held:
            await self.held[payload].wait()
        self.taken.append(payload)

    def put(self, mid: int, payload: bytes, topic: str = "a", **fields: Any) -> None:
        self.intake.put(Arrival(topic, payload, qos=min(mid, 1), mid=mid, **fields))


@pytest.fixture
async def desk(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desk]:
    monkeypatch.setattr(module, "FIRST_PAUSE_S", 0.01)
    desk = Desk()
    async with one_task_group() as tasks:
        tasks.start_soon(desk.intake.run, desk.take)
        yield desk
        tasks.cancel_scope.cancel()


async def test_what_is_taken_is_acknowledged_in_order(desk: Desk) -> None:
    desk.held[b"1"] = anyio.Event()
    for mid in range(1, 50):
        desk.put(mid, b"%d" % mid, topic=f"t{mid % 10}")
    await until(lambda: len(desk.taken) == 49 - 5)  # those of its topic wait for it
    assert desk.acknowledged == []
    desk.held[b"1"].set()
    await until(lambda: len(desk.acknowledged) == 49)
    assert desk.acknowledged == list(range(1, 50))
    assert [each for each in desk.taken if each[-1:] == b"7"] == [b"7", b"17", b"27", b"37", b"47"]


async def test_nothing_is_acknowledged_before_it_is_taken(desk: Desk) -> None:
    desk.refused[b"x"] = StorageFull("/data")
    desk.put(1, b"x")
    desk.put(2, b"y", topic="b")
    await until(lambda: desk.acknowledged == [2])  # others do not wait for it
    desk.refused.clear()
    await until(lambda: desk.acknowledged == [2, 1])


@pytest.mark.parametrize("error", [StorageFull("/data"), RuntimeError("a bug")])
async def test_a_refused_message_holds_up_its_own_topic_only(desk: Desk, error: Exception) -> None:
    desk.refused[b"x"] = error
    desk.put(1, b"x")
    for mid in range(2, 102):
        desk.put(mid, b"y%d" % mid)
    for mid in range(102, 202):
        desk.put(mid, b"z%d" % mid, topic="b")
    await until(lambda: len(desk.acknowledged) == 100)
    assert desk.acknowledged == list(range(102, 202))
    desk.refused.clear()
    await until(lambda: len(desk.acknowledged) == 201)
    assert desk.taken[100:103] == [b"x", b"y2", b"y3"]


async def test_a_repeated_message_is_taken_once_and_acknowledged_again(desk: Desk) -> None:
    desk.put(7, b"x", connection=1)
    await until(lambda: desk.acknowledged == [7])
    desk.put(7, b"x", connection=2, is_repeated=True)
    assert desk.acknowledged == [7, 7]
    assert desk.taken == [b"x"]


async def test_one_that_is_repeated_while_it_waits_is_taken_once(desk: Desk) -> None:
    desk.held[b"x"] = anyio.Event()
    desk.put(7, b"x", connection=1)
    desk.put(7, b"x", connection=2, is_repeated=True)
    desk.held[b"x"].set()
    await until(lambda: desk.acknowledged == [7])
    assert desk.taken == [b"x"]


@pytest.mark.parametrize("is_new_session", [False, True])
async def test_a_number_that_is_used_again_is_another_message(desk: Desk, is_new_session: bool) -> None:
    desk.put(7, b"x")
    await until(lambda: desk.taken == [b"x"])
    if is_new_session:
        desk.intake.begin_session()
        desk.put(7, b"x", is_repeated=True)  # of the broker's new session: not known
    else:
        desk.put(7, b"x")  # without DUP
    await until(lambda: desk.taken == [b"x", b"x"])


async def test_what_is_on_its_way_when_the_run_ends_comes_again_in_order() -> None:
    desk = Desk()
    desk.held[b"1"] = anyio.Event()
    for mid in (1, 2, 3):
        desk.put(mid, b"%d" % mid)
    with anyio.move_on_after(0.05):
        await desk.intake.run(desk.take)
    assert desk.taken == []
    desk.held.clear()
    async with one_task_group() as tasks:
        tasks.start_soon(desk.intake.run, desk.take)
        await until(lambda: desk.acknowledged == [1, 2, 3])
        tasks.cancel_scope.cancel()
    assert desk.taken == [b"1", b"2", b"3"]


async def test_the_queue_is_bounded() -> None:
    desk = Desk()
    for mid in range(1, module.QUEUE_MESSAGES + 1):
        desk.put(mid, b"x", topic=f"t{mid % 7}")
    assert desk.intake.is_full
    desk.put(0, b"reading")  # QoS 0 may be lost
    assert desk.intake.dropped == 1
    async with one_task_group() as tasks:
        tasks.start_soon(desk.intake.run, desk.take)
        await until(lambda: len(desk.taken) == module.QUEUE_MESSAGES)
        tasks.cancel_scope.cancel()
    assert desk.resumed == 1
    assert b"reading" not in desk.taken


async def test_large_messages_fill_the_queue_sooner() -> None:
    desk = Desk()
    desk.put(1, bytes(module.QUEUE_BYTES))
    assert desk.intake.is_full
