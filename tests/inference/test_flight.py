"""Calls without a task: the same outcomes as on the ordinary way, whatever happens while they are out."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from autoglm.inference.answer import Answer
from autoglm.inference.call import Call
from autoglm.inference.dispatch import Dispatcher
from autoglm.inference.flight import Flight
from autoglm.inference.upstream.connection import Connection
from eventually import until
from inference.calls import call
from inference.pool import instance, rest_of, running_pool
from inference.test_dispatch import FAILURES, GOOD
from scripted_model import Gate, ScriptedModel, answering, completion, in_turn, response, writing

WHOLE = {name: behaviour for name, (behaviour, is_stream) in FAILURES.items() if not is_stream}


class Sky:
    """Launches calls and waits for them to land."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self.dispatcher = dispatcher
        self.landed: list[Flight] = []

    async def launch(self, made: Call) -> Flight:
        """The probe has left a connection that waits for work."""
        flight = self.dispatcher.launch(made, self.landed.append)
        assert flight is not None
        assert flight.is_sent
        return flight

    async def answer(self, flight: Flight) -> Answer:
        await until(lambda: flight in self.landed)
        return self.dispatcher.arrive(flight) or await self.dispatcher.answer(flight.call, flight=flight)

    def running(self) -> int:
        return sum(entry.running for entry in self.dispatcher.scheduler.instances.values())


@asynccontextmanager
async def sky(*models: ScriptedModel) -> AsyncIterator[Sky]:
    settings = [instance(f"i{number}", model.url) for number, model in enumerate(models)]
    async with running_pool(*settings) as dispatcher:
        yield Sky(dispatcher)


async def test_a_good_reply_needs_nothing_else() -> None:
    with ScriptedModel(answering(200, GOOD)) as model:
        async with sky(model) as over:
            before = asyncio.all_tasks()
            flight = await over.launch(call("echo-model"))
            assert asyncio.all_tasks() == before
            await until(lambda: bool(over.landed))
            answer = over.dispatcher.arrive(flight)
            assert answer is not None
            assert (answer.status, answer.is_whole, over.running()) == (200, True, 1)
            assert b'"well"' in answer.first
            answer.settle()
            assert over.running() == 0


@pytest.mark.parametrize("name", WHOLE)
async def test_a_failed_flight_is_replayed_on_another_instance(name: str) -> None:
    with ScriptedModel(WHOLE[name]) as bad, ScriptedModel(answering(200, GOOD)) as good:
        async with sky(bad, good) as over:
            answer = await over.answer(await over.launch(call("echo-model")))
            assert b'"well"' in await rest_of(answer)
            sent = 2 if name == "closed before answering" else 1  # the connection was used before: it may be stale
            assert (len(bad.requests), len(good.requests), over.dispatcher.retries) == (sent, 1, 1)
            assert over.running() == 0


async def test_a_client_s_error_lands_as_the_answer_that_it_is() -> None:
    with ScriptedModel(answering(400, {"error": {"message": "no such thing"}})) as model:
        async with sky(model) as over:
            answer = await over.answer(await over.launch(call("echo-model")))
            assert (answer.status, b"no such thing" in await rest_of(answer)) == (400, True)
            assert (over.running(), len(model.requests)) == (0, 1)


async def test_an_abandoned_flight_closes_its_connection_at_once_and_frees_its_slot() -> None:
    gate = Gate()
    with ScriptedModel(gate.before(answering(200, GOOD))) as model:
        async with sky(model) as over:
            flight = await over.launch(call("echo-model"))
            await until(lambda: gate.waiting == 1)
            left_s = time.monotonic()
            over.dispatcher.abandon(flight)
            assert over.running() == 0
            await until(lambda: bool(gate.left_s))
            assert gate.left_s[0] - left_s < 0.1
            assert over.landed == []


async def test_a_flight_moves_when_its_instance_goes_down() -> None:
    gate = Gate()
    with ScriptedModel(gate.before(answering(200, GOOD))) as first, ScriptedModel(answering(200, GOOD)) as other:
        async with sky(first, other) as over:
            flight = await over.launch(call("echo-model"))
            await until(lambda: gate.waiting == 1)
            entry = over.dispatcher.scheduler.instances["i0"]
            entry.move("down", "it was unplugged")
            over.dispatcher.scheduler.changed()
            answer = await over.answer(flight)
            assert answer.instance.name == "i1"
            assert b'"well"' in await rest_of(answer)
            assert (over.running(), entry._failures_in_row) == (0, 0)
            await until(lambda: bool(gate.left_s))


async def test_without_retries_a_flight_stays_with_an_instance_that_went_down() -> None:
    """As a task would: its answer may still come, and there is no second try."""
    gate = Gate()
    with ScriptedModel(gate.before(answering(200, GOOD))) as first, ScriptedModel(answering(200, GOOD)) as other:
        settings = instance("i0", first.url), instance("i1", other.url)
        async with running_pool(*settings, retries=0) as dispatcher:
            over = Sky(dispatcher)
            flight = await over.launch(call("echo-model"))
            await until(lambda: gate.waiting == 1)
            dispatcher.scheduler.instances["i0"].move("down", "it hangs")
            dispatcher.scheduler.changed()
            gate.open()
            answer = await over.answer(flight)
            assert (answer.instance.name, b'"well"' in await rest_of(answer)) == ("i0", True)


async def test_bytes_that_came_before_the_request_was_sent_are_not_its_reply() -> None:
    """The request waits for the end of the loop's turn; an instance that speaks unasked must not answer it."""
    with ScriptedModel(answering(200, GOOD)) as model:
        async with sky(model) as over:
            flight = await over.launch(call("echo-model"))
            line = flight._line
            assert isinstance(line, Connection)
            line.data_received(response(200, completion("unasked")))
            answer = await over.answer(flight)
            assert b'"well"' in await rest_of(answer)
            assert (len(model.requests), over.running()) == (1, 0)


async def test_a_stale_connection_is_replaced_once_on_the_same_instance() -> None:
    """The instance closes the connection in the very moment of the request, before any byte of a reply."""
    closing = in_turn(answering(200, GOOD), writing(b""), answering(200, GOOD))
    with ScriptedModel(closing) as model:
        async with sky(model) as over:
            assert await rest_of(await over.answer(await over.launch(call("echo-model"))))
            answer = await over.answer(await over.launch(call("echo-model")))
            assert b'"well"' in await rest_of(answer)
            assert (len(model.requests), over.dispatcher.retries, over.running()) == (3, 0, 0)


async def test_a_reply_in_pieces_is_put_together_on_the_ordinary_way() -> None:
    gate = Gate()
    whole = b'{"id": 1, "choices": [{"message": {"content": "well"}}]}'
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(whole)
    with ScriptedModel(gate.between(head + whole[:9], whole[9:])) as model:
        async with sky(model) as over:
            flight = await over.launch(call("echo-model"))
            await until(lambda: bool(over.landed))
            assert over.dispatcher.arrive(flight) is None
            gate.open()
            assert await rest_of(await over.answer(flight)) == whole


async def test_what_is_not_simple_is_not_launched() -> None:
    with ScriptedModel(answering(200, GOOD)) as model:
        async with sky(model) as over:
            launch = over.dispatcher.launch
            assert launch(call("echo-model", stream=True), over.landed.append) is None
            assert launch(call("echo-model", deadline_s=time.monotonic() + 9), over.landed.append) is None
            assert launch(call("nobody-has-this"), over.landed.append) is None
            over.dispatcher.scheduler.is_draining = True
            assert launch(call("echo-model"), over.landed.append) is None
            assert (over.landed, over.running(), model.requests) == ([], 0, [])


async def test_a_launch_that_fails_gives_its_slot_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    with ScriptedModel(answering(200, GOOD)) as model:
        async with sky(model) as over:
            with monkeypatch.context() as patch:
                patch.setattr(Connection, "launch", broken)
                with pytest.raises(RuntimeError, match="a bug"):
                    over.dispatcher.launch(call("echo-model"), over.landed.append)
            assert (over.running(), over.landed) == (0, [])
            assert b'"well"' in await rest_of(await over.dispatcher.answer(call("echo-model")))


async def test_a_call_for_which_no_connection_waits_keeps_its_slot_for_the_ordinary_way() -> None:
    with ScriptedModel(answering(200, GOOD)) as model:
        async with sky(model) as over:
            first = await over.launch(call("echo-model"))
            second = over.dispatcher.launch(call("echo-model"), over.landed.append)
            assert second is not None
            assert (second.is_sent, over.running()) == (False, 2)
            assert b'"well"' in await rest_of(await over.dispatcher.answer(second.call, flight=second))
            assert b'"well"' in await rest_of(await over.answer(first))
            assert over.running() == 0
