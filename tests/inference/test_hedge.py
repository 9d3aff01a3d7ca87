"""A second attempt for a late first byte: when there is one, who wins, and that nothing of the loser is left."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoglm.core.errors import UpstreamFailed
from autoglm.inference.allowance import Allowance
from autoglm.inference.backends.openai import OpenAIBackend
from autoglm.inference.dispatch import Dispatcher
from autoglm.inference.flight import Flight
from autoglm.inference.hedge import MIN_LATE_S, FirstBytes
from autoglm.inference.settings import PoolSettings
from autoglm.inference.upstream import Endpoint
from eventually import until
from inference.calls import call, make_known, ready
from inference.pool import instance, rest_of, running_pool
from inference.test_flight import Sky
from scripted_model import Behaviour, Gate, ScriptedModel, answering, completion, echo, event, streaming

GOOD = completion("well")
WELL = answering(200, GOOD)
STREAM = streaming(event("well", "stop") + b"data: [DONE]\n\n")
ERROR = {"error": {"message": "boom"}}
WARM = 60


class Race:
    """Two instances, the first of which gets each call; both know what is usual."""

    def __init__(self, dispatcher: Dispatcher, first: ScriptedModel, second: ScriptedModel) -> None:
        self.dispatcher = dispatcher
        self.first, self.second = first, second

    def held(self) -> int:
        return sum(entry.running for entry in self.dispatcher.scheduler.instances.values())

    def marks(self) -> int:
        return sum(entry.failures for entry in self.dispatcher.scheduler.instances.values())

    async def text(self, **fields: Any) -> str:
        return (await rest_of(await self.dispatcher.answer(call("echo-model", **fields)))).decode()

    def begin(self, **behaviours: Behaviour) -> None:
        """From now on the two behave so, the first one is preferred, and hedges are counted."""
        self.dispatcher.hedges = self.dispatcher.hedges_won = 0  # a machine under load is late now and then
        for name, behaviour in behaviours.items():
            getattr(self, name).behaviour = behaviour
        make_known(self.dispatcher.scheduler.instances["second"], 60.0)


@asynccontextmanager
async def race(*, is_stream: bool = False, slots: int = 4, **settings: float) -> AsyncIterator[Race]:
    behaviour = STREAM if is_stream else WELL
    with ScriptedModel(behaviour) as first, ScriptedModel(behaviour) as second:
        entries = instance("first", first.url, slots=slots), instance("second", second.url, slots=slots)
        pool = PoolSettings.model_validate({"suspect_after_s": 60.0, **settings})
        async with running_pool(*entries, pool=pool) as dispatcher:
            made = Race(dispatcher, first, second)
            for _ in range(WARM):
                await made.text(stream=is_stream)
            yield made
            await until(lambda: made.held() == 0)


@pytest.mark.parametrize("is_stream", [True, False])
async def test_a_late_request_is_answered_by_a_second_instance_and_the_first_attempt_ends(is_stream: bool) -> None:
    gate = Gate()
    async with race(is_stream=is_stream) as made:
        made.begin(first=gate.before(echo))
        before = len(made.second.requests)
        assert '"well"' in await asyncio.wait_for(made.text(stream=is_stream), 5)
        await until(lambda: bool(gate.left_s))
        assert (made.dispatcher.hedges, made.dispatcher.hedges_won, made.dispatcher.retries) == (1, 1, 0)
        assert len(made.second.requests) == before + 1
        assert made.marks() == 0, "late is not failed"


async def test_a_call_without_a_task_is_hedged_too() -> None:
    gate = Gate()
    async with race() as made:
        made.begin(first=gate.before(WELL))
        over = Sky(made.dispatcher)
        answer = await over.answer(await over.launch(call("echo-model")))
        assert (answer.instance.name, b'"well"' in await rest_of(answer)) == ("second", True)
        await until(lambda: bool(gate.left_s))
        assert made.dispatcher.hedges_won == 1


@pytest.mark.parametrize("has_task", [True, False])
async def test_when_the_first_attempt_answers_after_all_the_second_ends(has_task: bool) -> None:
    slow, slower = Gate(), Gate()
    async with race() as made:
        made.begin(first=slow.before(WELL), second=slower.before(WELL))
        over = Sky(made.dispatcher)
        if has_task:
            asking = asyncio.create_task(made.text())
        else:
            asking = asyncio.create_task(_flown(over, await over.launch(call("echo-model"))))
        await until(lambda: slow.waiting == slower.waiting == 1)
        slow.open()
        assert '"well"' in await asyncio.wait_for(asking, 5)
        await until(lambda: bool(slower.left_s))
        assert (made.dispatcher.hedges, made.dispatcher.hedges_won) == (1, 0)


async def _flown(over: Sky, flight: Flight) -> str:
    return (await rest_of(await over.answer(flight))).decode()


@pytest.mark.parametrize("has_task", [True, False])
async def test_a_client_that_leaves_ends_both_attempts(has_task: bool) -> None:
    one, two = Gate(), Gate()
    async with race() as made:
        made.begin(first=one.before(WELL), second=two.before(WELL))
        if has_task:
            asking = asyncio.create_task(made.text())
        else:
            flight = await Sky(made.dispatcher).launch(call("echo-model"))
        await until(lambda: one.waiting == two.waiting == 1)
        if has_task:
            asking.cancel()
            await asyncio.wait([asking])
            assert asking.cancelled()
        else:
            made.dispatcher.abandon(flight)
        await until(lambda: bool(one.left_s and two.left_s))


async def test_a_client_that_leaves_in_the_moment_of_the_second_attempt_leaves_no_slot_taken() -> None:
    """The first attempt, which waits for the second, is cancelled before that has made its first step."""
    gate = Gate()
    async with race() as made:
        made.begin(first=gate.before(WELL))
        flight = await Sky(made.dispatcher).launch(call("echo-model"))
        made.dispatcher._hedge(flight.slot)
        assert (made.dispatcher.hedges, made.held()) == (1, 2)
        assert flight.slot.hedge is not None
        flight.slot.hedge.task.cancel()
        made.dispatcher.abandon(flight)
        await until(lambda: made.held() == 0)


async def test_there_are_two_attempts_at_most() -> None:
    gates = Gate(), Gate(), Gate()
    with ScriptedModel(gates[2].before(WELL)) as third:
        async with race(hedge_share=1.0) as made:
            entry = ready("third", "echo-model", slots=4)
            entry.backend = OpenAIBackend(Endpoint(name="third", base_url=third.url), "openai")
            made.dispatcher.scheduler.add(entry)
            make_known(entry, 90.0)
            made.begin(first=gates[0].before(WELL), second=gates[1].before(WELL))
            asking = asyncio.create_task(made.text())
            await until(lambda: gates[0].waiting == gates[1].waiting == 1)
            await _late(made)
            assert (made.dispatcher.hedges, made.held(), third.requests) == (1, 2, [])
            gates[1].open()
            assert '"well"' in await asyncio.wait_for(asking, 5)
            await entry.backend.aclose()


async def test_a_second_attempt_that_fails_does_not_matter() -> None:
    gate = Gate()
    async with race() as made:
        made.begin(first=gate.before(WELL), second=answering(500, ERROR))
        asking = asyncio.create_task(made.text())
        await until(lambda: made.dispatcher.hedges == 1 and made.marks() == 1)
        gate.open()
        assert '"well"' in await asyncio.wait_for(asking, 5)


async def test_a_first_attempt_that_fails_leaves_the_answer_to_the_second() -> None:
    one, two = Gate(), Gate()
    async with race() as made:
        made.begin(first=one.before(answering(500, ERROR)), second=two.before(WELL))
        asking = asyncio.create_task(made.text())
        await until(lambda: two.waiting == 1)
        one.open()
        await until(lambda: made.marks() == 1)
        two.open()
        assert '"well"' in await asyncio.wait_for(asking, 5)
        assert (made.dispatcher.hedges_won, made.dispatcher.retries) == (1, 0)


async def test_when_both_fail_the_failure_is_told() -> None:
    one, two = Gate(), Gate()
    async with race() as made:
        made.begin(first=one.before(answering(500, ERROR)), second=two.before(answering(500, ERROR)))
        asking = asyncio.create_task(made.text())
        await until(lambda: one.waiting == two.waiting == 1)
        one.open()
        two.open()
        with pytest.raises(UpstreamFailed, match="boom"):
            await asyncio.wait_for(asking, 5)
        assert made.dispatcher.retries == 0, "both have failed it already"


async def test_there_is_no_hedge_into_a_full_instance_and_none_where_it_is_off() -> None:
    gate = Gate()
    async with race(slots=1) as made:
        made.begin(first=gate.before(WELL), second=gate.before(WELL))
        asking = [asyncio.create_task(made.text()) for _ in range(2)]
        await until(lambda: gate.waiting == 2)
        await _late(made)
        assert made.dispatcher.hedges == 0
        gate.open()
        await asyncio.gather(*asking)
    gate = Gate()
    async with race(hedge_share=0.0) as made:
        made.begin(first=gate.before(WELL))
        asking = [asyncio.create_task(made.text())]
        await until(lambda: gate.waiting == 1)
        await _late(made)
        assert made.dispatcher.hedges == 0
        gate.open()
        await asyncio.gather(*asking)


async def _late(made: Race) -> None:
    """Return when the requests that run have been found late."""
    looks = made.dispatcher._watch._looks
    await until(lambda: made.dispatcher._watch._looks > looks + 4)


async def test_no_more_than_the_share_of_all_requests_is_hedged() -> None:
    gate = Gate()
    async with race(hedge_share=0.05, slots=64) as made:
        made.begin(first=gate.before(WELL))
        asking = [asyncio.create_task(made.text()) for _ in range(30)]
        await until(lambda: gate.waiting + made.dispatcher.hedges_won == 30)
        await _late(made)
        assert 1 <= made.dispatcher.hedges <= (WARM + 30) * 0.05
        gate.open()
        await asyncio.gather(*asking)


@given(st.floats(0.01, 1.0), st.lists(st.tuples(st.integers(0, 50), st.integers(0, 20)), max_size=50))
def test_an_allowance_never_gives_more_than_its_share(share: float, steps: list[tuple[int, int]]) -> None:
    """steps: requests that came, and how often one was asked for."""
    allowance = Allowance(share)
    requests = given_out = 0
    for came, wanted in steps:
        requests += came
        given_out += sum(allowance.take(requests) for _ in range(wanted))
        assert given_out <= share * requests + 1e-6


def test_late_is_what_is_slower_than_95_percent_of_those_of_its_kind() -> None:
    times = FirstBytes()
    kind, other = ("m", False), ("m", True)
    for number in range(19):
        times.add(kind, number / 10)
    assert times.late_s(kind) is None, "too few to say"
    for number in range(19, 100):
        times.add(kind, number / 10)
        times.add(other, 0.001)
    assert times.late_s(kind) == pytest.approx(9.5)
    assert times.late_s(other) == MIN_LATE_S
    assert times.late_s(("unknown", False)) is None
