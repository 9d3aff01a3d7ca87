"""Instances that die, hang, come back, and tell their models: found by probes, on real processes."""

import asyncio
import json

import pytest

from autoglm.core.errors import NoInstanceFree
from autoglm.inference.dispatch import Dispatcher
from autoglm.inference.instance import Instance
from autoglm.inference.settings import PoolSettings
from eventually import until
from inference.calls import call, make_known
from inference.pool import instance, rest_of, running_pool
from model_process import model_process
from scripted_model import Gate, ScriptedModel, echo

EAGER = PoolSettings(probe_interval_s=0.1, probe_timeout_s=0.5)


async def ask(dispatcher: Dispatcher, model: str = "echo-model") -> str:
    answer = await dispatcher.answer(call(model))
    body = await rest_of(answer)
    assert "You said: hi" in json.loads(body)["choices"][0]["message"]["content"]
    return answer.instance.name


def only(dispatcher: Dispatcher, name: str) -> Instance:
    return dispatcher.scheduler.instances[name]


async def test_a_frozen_process_is_found_by_its_silence_and_used_again_when_it_thaws() -> None:
    with model_process() as frozen, model_process() as other:
        settings = instance("frozen", frozen.url), instance("other", other.url)
        async with running_pool(*settings, pool=EAGER) as dispatcher:
            frozen.freeze()
            await until(lambda: only(dispatcher, "frozen").state == "down")
            assert "no answer to a health probe" in only(dispatcher, "frozen").error
            assert [await ask(dispatcher) for _ in range(3)] == ["other"] * 3
            frozen.thaw()
            await until(lambda: only(dispatcher, "frozen").state == "ready")
            other.kill()
            await until(lambda: only(dispatcher, "other").state == "down")
            assert await ask(dispatcher) == "frozen"


async def test_a_request_that_waits_for_a_frozen_process_is_answered_by_another() -> None:
    with model_process() as frozen, model_process() as other:
        settings = instance("frozen", frozen.url), instance("other", other.url)
        async with running_pool(*settings, pool=EAGER) as dispatcher:
            frozen.freeze()
            make_known(only(dispatcher, "other"), 60.0)  # so that the frozen one is chosen
            asking = asyncio.create_task(ask(dispatcher))
            await until(lambda: asking.done() or only(dispatcher, "frozen").running)
            assert not asking.done(), asking.result()
            assert await asyncio.wait_for(asking, 10) == "other"
            assert asking.cancelling() == 0
            assert only(dispatcher, "frozen").running == 0


async def test_a_killed_process_is_left_at_once_and_used_again_after_its_restart() -> None:
    with model_process() as killed, model_process() as other:
        settings = instance("killed", killed.url), instance("other", other.url)
        async with running_pool(*settings, pool=EAGER) as dispatcher:
            assert await ask(dispatcher) == "killed"
            killed.kill()
            make_known(only(dispatcher, "other"), 60.0)
            assert [await ask(dispatcher) for _ in range(3)] == ["other"] * 3
            await until(lambda: only(dispatcher, "killed").state == "down")
            killed.start()
            await until(lambda: only(dispatcher, "killed").state == "ready")
            assert await ask(dispatcher) == "killed"


async def test_an_open_breaker_closes_when_the_instance_was_restarted() -> None:
    with model_process() as killed:
        async with running_pool(instance("killed", killed.url), pool=EAGER) as dispatcher:
            killed.kill()
            slot = await dispatcher.scheduler.acquire(call("echo-model"))
            for _ in range(5):
                only(dispatcher, "killed").failed(slot, "refused")
            dispatcher.scheduler.release(slot)
            await until(lambda: only(dispatcher, "killed").state == "down")
            killed.start()
            await until(lambda: only(dispatcher, "killed").state == "ready")
            assert await asyncio.wait_for(ask(dispatcher), 5) == "killed"


async def test_models_are_discovered_and_followed() -> None:
    with ScriptedModel(models=("one", "two")) as model:
        settings = instance("a", model.url).model_copy(update={"models": ()})
        async with running_pool(settings, pool=EAGER) as dispatcher:
            assert dispatcher.scheduler.models() == ["one", "two"]
            model.models = ("two", "three")
            await until(lambda: dispatcher.scheduler.models() == ["two", "three"])
            assert await ask(dispatcher, "three") == "a"


async def test_names_that_could_not_travel_in_headers_are_left_out() -> None:
    names = (
        "good/model:7b@q4+x_y.z-1",
        "",
        "two words",
        "line\nbreak",
        "模型",
        "-x",
        "x" * 257,
        "auto",
        "good/model:7b@q4+x_y.z-1",
    )
    with ScriptedModel(models=names) as model:
        settings = instance("a", model.url).model_copy(update={"models": ()})
        async with running_pool(settings, pool=EAGER) as dispatcher:
            assert dispatcher.scheduler.models() == ["good/model:7b@q4+x_y.z-1"]


@pytest.mark.parametrize("status", [404, 403, 429, 405])
async def test_an_endpoint_that_lists_no_models_is_alive(status: int) -> None:
    with ScriptedModel() as model:
        model.models_status = status
        async with running_pool(instance("a", model.url), pool=EAGER) as dispatcher:
            assert await ask(dispatcher) == "a"


async def test_a_refused_key_blocks_the_instance_until_the_operator_resumes_it() -> None:
    with ScriptedModel() as model:
        model.models_status = 401
        async with running_pool(instance("a", model.url), pool=EAGER) as dispatcher:
            assert only(dispatcher, "a").state == "blocked"
            model.models_status = 200
            with pytest.raises(NoInstanceFree, match="a is blocked"):
                await ask(dispatcher)
            only(dispatcher, "a").resume()
            assert await ask(dispatcher) == "a"


async def test_a_blocked_instance_stays_so_over_an_outage() -> None:
    with ScriptedModel() as model:
        async with running_pool(instance("a", model.url), pool=EAGER) as dispatcher:
            only(dispatcher, "a").move("blocked", "arrears")
            model.models_status = 500
            probes = model.probes
            await until(lambda: model.probes > probes + 3)
            model.models_status = 200
            await until(lambda: model.probes > probes + 6)
            assert only(dispatcher, "a").state == "blocked"


async def test_one_lost_probe_is_no_outage() -> None:
    with ScriptedModel() as model:
        async with running_pool(instance("a", model.url), pool=EAGER) as dispatcher:
            states = set()
            dispatcher.scheduler.instances["a"].error = ""
            model.models_status = 500
            probes = model.probes
            await until(lambda: model.probes > probes, every_s=0.0005)
            model.models_status = 200
            probes = model.probes
            while model.probes < probes + 3:
                states.add(only(dispatcher, "a").state)
                await asyncio.sleep(0)
            assert states == {"ready"}


async def test_an_instance_that_is_down_at_first_is_found_when_it_comes_up() -> None:
    with ScriptedModel() as placeholder:
        port = placeholder.port
    async with running_pool(instance("a", f"http://127.0.0.1:{port}/v1"), pool=EAGER) as dispatcher:
        with pytest.raises(NoInstanceFree, match=r"a is down: .*refused"):
            await ask(dispatcher)
        with ScriptedModel(port=port):
            await until(lambda: only(dispatcher, "a").state == "ready")
            assert await ask(dispatcher) == "a"


async def test_streams_in_progress_survive_two_lost_probes() -> None:
    gate = Gate()
    with ScriptedModel(gate.before(echo)) as model, ScriptedModel() as other:
        model.behaviour = gate.within(b"data: 1\n\n", b"data: [DONE]\n\n")
        async with running_pool(instance("a", model.url), instance("b", other.url), pool=EAGER) as dispatcher:
            answer = await dispatcher.answer(call("echo-model", stream=True))
            model.models_status = 500
            await until(lambda: only(dispatcher, "a").state == "down")
            gate.open()
            assert (await rest_of(answer)).endswith(b"[DONE]\n\n")
