"""Instances that die, hang, crawl, flap and are too busy, under load: who notices, how soon, and that no request fails.

Regular probes come once a minute here, so whatever is noticed was noticed by requests.
"""

import asyncio
import itertools
import json
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from autoglm.inference.dispatch import Dispatcher
from autoglm.inference.instance import Instance
from autoglm.inference.settings import PoolSettings
from eventually import until
from inference.calls import call, make_known
from inference.pool import instance, rest_of, running_pool
from model_process import ModelProcess, model_process
from scripted_model import (
    STREAM_HEAD,
    Behaviour,
    Gate,
    Request,
    ScriptedModel,
    answering,
    chunk,
    completion,
    echo,
    event,
)

SELDOM = PoolSettings(probe_interval_s=60.0, hedge_share=0.0)
GOOD = completion("well")


async def ask(dispatcher: Dispatcher, *, stream: bool = False) -> str:
    answer = await dispatcher.answer(call("echo-model", stream=stream))
    body = await rest_of(answer)
    assert b"said" in body or b"well" in body
    return answer.instance.name


class Load:
    """Clients that ask again as soon as they are answered. `waits_s`: how long each had to wait."""

    def __init__(self, dispatcher: Dispatcher, clients: int) -> None:
        self.waits_s: list[float] = []
        self._is_over = False
        self._dispatcher = dispatcher
        self._tasks = [asyncio.create_task(self._client()) for _ in range(clients)]

    async def _client(self) -> None:
        while not self._is_over:
            started_s = time.monotonic()
            await ask(self._dispatcher)
            self.waits_s.append(time.monotonic() - started_s)

    async def end(self) -> None:
        """Raises what a client met."""
        self._is_over = True
        await asyncio.wait_for(asyncio.gather(*self._tasks), 20)

    async def pass_by(self, count: int) -> None:
        """Wait until so many more were answered, or a client failed."""
        wanted = len(self.waits_s) + count
        await until(lambda: len(self.waits_s) >= wanted or any(task.done() for task in self._tasks), 30)


@asynccontextmanager
async def two(bad: ModelProcess, good: ModelProcess, pool: PoolSettings = SELDOM) -> AsyncIterator[Dispatcher]:
    settings = instance("bad", bad.url, slots=8), instance("good", good.url, slots=8)
    async with running_pool(*settings, pool=pool) as dispatcher:
        yield dispatcher


def entry(dispatcher: Dispatcher, name: str = "bad") -> Instance:
    return dispatcher.scheduler.instances[name]


async def test_the_end_of_its_idle_connections_gives_a_dead_instance_away_before_any_request() -> None:
    with model_process() as bad, model_process() as good:
        async with two(bad, good) as dispatcher:
            bad.kill()
            await until(lambda: entry(dispatcher).state == "down", 2)
            assert [await ask(dispatcher) for _ in range(3)] == ["good"] * 3
            assert (entry(dispatcher).failures, dispatcher.retries) == (0, 0)


async def test_a_dead_instance_costs_one_failed_attempt_and_no_request() -> None:
    with model_process() as bad, model_process() as good:
        async with two(bad, good) as dispatcher:
            entry(dispatcher)._next_hint_s = math.inf  # nothing waited idle there
            make_known(entry(dispatcher, "good"), 60.0)
            bad.kill()
            for _ in range(20):
                assert await ask(dispatcher) == "good"
            assert (entry(dispatcher).failures, dispatcher.retries) == (1, 1)
            assert entry(dispatcher).state == "down"


async def test_an_instance_that_dies_under_load_fails_no_request() -> None:
    with model_process() as bad, model_process() as good:
        async with two(bad, good) as dispatcher:
            load = Load(dispatcher, clients=12)
            await load.pass_by(60)
            bad.kill()
            await load.pass_by(60)
            await load.end()
            assert entry(dispatcher).failures <= 8, "those that it held, and none after them"
            assert entry(dispatcher).state == "down"


async def test_a_hung_instance_is_noticed_within_two_seconds_and_its_requests_move() -> None:
    with model_process() as bad, model_process() as good:
        async with two(bad, good) as dispatcher:
            load = Load(dispatcher, clients=12)
            await load.pass_by(60)
            stopped_s = time.monotonic()
            bad.freeze()
            await until(lambda: entry(dispatcher).state == "down", 5)
            assert time.monotonic() - stopped_s < 2
            await load.pass_by(60)
            await load.end()
            assert max(load.waits_s) < 2.5
            assert entry(dispatcher).running == 0
            bad.thaw()
            await until(lambda: entry(dispatcher).state == "ready", 20)


async def test_a_busy_instance_that_answers_probes_stays() -> None:
    """Its requests wait far longer than is usual, but it is alive."""
    gate = Gate()
    pool = SELDOM.model_copy(update={"suspect_after_s": 0.2})
    with ScriptedModel() as busy, ScriptedModel() as other:
        settings = instance("busy", busy.url), instance("other", other.url)
        async with running_pool(*settings, pool=pool) as dispatcher:
            await ask(dispatcher)
            busy.behaviour = gate.before(echo)
            make_known(entry(dispatcher, "other"), 60.0)
            asking = asyncio.create_task(ask(dispatcher))
            probes = busy.probes
            await until(lambda: busy.probes >= probes + 4)
            assert entry(dispatcher, "busy").state == "ready"
            assert not asking.done()
            gate.open()
            assert await asyncio.wait_for(asking, 5) == "busy"


async def test_one_too_busy_to_answer_probes_stays_as_long_as_it_generates() -> None:
    waiting, probed = Gate(), Gate()

    async def generating(request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if request.json().get("stream"):
            writer.write(STREAM_HEAD)
            while not writer.is_closing():
                writer.write(chunk(event("word ")))
                await writer.drain()
                await asyncio.sleep(0.02)  # the pace of a model
        elif await waiting.passed(reader):
            await echo(request, reader, writer)

    pool = SELDOM.model_copy(update={"suspect_after_s": 0.3})
    with ScriptedModel(generating) as busy, ScriptedModel() as other:
        settings = instance("busy", busy.url), instance("other", other.url)
        async with running_pool(*settings, pool=pool) as dispatcher:
            busy.probe_gate = probed
            make_known(entry(dispatcher, "other"), 60.0)
            stream = await dispatcher.answer(call("echo-model", stream=True))
            assert stream.instance.name == "busy"
            reading = asyncio.create_task(rest_of(stream))
            asking = asyncio.create_task(ask(dispatcher))
            await until(lambda: waiting.waiting == 1)
            entry(dispatcher, "busy").suspect()
            await until(lambda: probed.waiting == 1)
            await until(lambda: probed.waiting == 0, 5)
            assert entry(dispatcher, "busy").state == "ready"
            waiting.open()
            assert await asyncio.wait_for(asking, 5) == "busy"
            reading.cancel()
            await asyncio.wait([reading])


async def test_a_lone_instance_is_not_taken_out_for_one_probe_without_an_answer() -> None:
    gate, probed = Gate(), Gate()
    pool = SELDOM.model_copy(update={"suspect_after_s": 0.1, "probe_timeout_s": 0.3})
    with ScriptedModel(gate.before(echo)) as lone:
        async with running_pool(instance("lone", lone.url), pool=pool) as dispatcher:
            lone.probe_gate = probed
            states = set()
            asking = asyncio.create_task(ask(dispatcher))
            await until(lambda: probed.waiting == 1)
            lone.probe_gate = None
            probes = lone.probes
            while lone.probes < probes + 1:
                states.add(entry(dispatcher, "lone").state)
                await asyncio.sleep(0.002)
            gate.open()
            assert await asyncio.wait_for(asking, 5) == "lone"
            assert states == {"ready"}


async def test_a_crawling_instance_is_ejected_within_20_requests_and_nobody_fails() -> None:
    def after(delay_s: float) -> Behaviour:
        async def behave(request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(delay_s)  # the pace of a model
            await answering(200, GOOD)(request, reader, writer)

        return behave

    with ScriptedModel(after(0.4)) as slow, ScriptedModel(after(0.02)) as one, ScriptedModel(after(0.02)) as two:
        entries = [instance(name, model.url, slots=4) for name, model in (("bad", slow), ("1", one), ("2", two))]
        async with running_pool(*entries, pool=SELDOM) as dispatcher:
            load = Load(dispatcher, clients=12)  # as many as slots: it gets what it can take
            await until(lambda: entry(dispatcher).is_ejected, 10)
            assert len(slow.requests) <= 20
            assert "its peers need" in entry(dispatcher).error
            await load.end()
            slow.behaviour = after(0.02)
            entry(dispatcher).open_until_s = time.monotonic()
            for _ in range(5):
                await ask(dispatcher)
            assert not entry(dispatcher).is_ejected


async def test_a_flapping_instance_fails_no_request_and_is_taken_back_later_each_time() -> None:
    pool = PoolSettings(probe_interval_s=0.1, open_s=2.0, hedge_share=0.0)
    with model_process() as bad, model_process() as good:
        async with two(bad, good, pool) as dispatcher:
            load = Load(dispatcher, clients=4)
            pauses = []
            for _ in range(3):
                await load.pass_by(20)
                bad.kill()
                await until(lambda: entry(dispatcher).state == "down")
                bad.start()
                await until(lambda: entry(dispatcher).state == "ready", 20)
                pauses.append(max(0.0, entry(dispatcher).open_until_s - time.monotonic()))
            await load.end()
            assert pauses[0] == 0
            assert 1.5 < pauses[1] < 2.3
            assert 3.5 < pauses[2] < 4.5


async def test_many_throttled_at_once_wait_for_the_longest_of_their_pauses() -> None:
    gate = Gate()
    pauses = itertools.cycle(("1", "40", "2"))

    async def throttled(request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pause = next(pauses)
        await gate.before(answering(429, {"error": {"message": "slow down"}}, {"Retry-After": pause}))(
            request, reader, writer
        )

    with ScriptedModel(throttled) as bad, ScriptedModel(answering(200, GOOD)) as good:
        settings = instance("bad", bad.url, slots=8), instance("good", good.url, slots=1)
        async with running_pool(*settings, pool=SELDOM) as dispatcher:
            make_known(entry(dispatcher, "good"), 60.0)
            asking = [asyncio.create_task(ask(dispatcher)) for _ in range(6)]
            await until(lambda: gate.waiting == 6)
            gate.open()
            assert set(await asyncio.wait_for(asyncio.gather(*asking), 5)) == {"good"}
            assert 38 < entry(dispatcher).open_until_s - time.monotonic() <= 40
            assert (entry(dispatcher).throttles, entry(dispatcher).failures) == (6, 0)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_drained_instance_loses_no_request_and_gets_no_new_one(stream: bool) -> None:
    gate = Gate()
    with ScriptedModel(gate.before(echo)) as leaving, ScriptedModel() as staying:
        settings = instance("leaving", leaving.url, slots=2), instance("staying", staying.url, slots=2)
        async with running_pool(*settings, pool=SELDOM) as dispatcher:
            make_known(entry(dispatcher, "staying"), 60.0)
            running = [asyncio.create_task(ask(dispatcher, stream=stream)) for _ in range(2)]
            await until(lambda: gate.waiting == 2)
            drained = entry(dispatcher, "leaving").drain()
            dispatcher.scheduler.changed()
            assert [await ask(dispatcher, stream=stream) for _ in range(3)] == ["staying"] * 3
            assert not drained.is_set()
            gate.open()
            assert await asyncio.gather(*running) == ["leaving"] * 2
            assert drained.is_set()
            assert json.loads(leaving.requests[0].body)["model"] == "echo-model"
