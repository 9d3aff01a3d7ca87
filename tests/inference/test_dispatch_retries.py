"""How far a call is tried before its first byte: over all instances without failures, and no further than that."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from autoglm.core.errors import NoInstanceFree, UpstreamFailed
from autoglm.inference.context_size import context_told
from autoglm.inference.dispatch import Dispatcher
from autoglm.inference.settings import InstanceSettings, PoolSettings
from eventually import until
from inference.calls import call, make_known
from inference.pool import instance, rest_of, running_pool
from inference.test_dispatch import FAILURES, TOO_LONG
from scripted_model import Behaviour, Gate, ScriptedModel, answering, completion

GOOD = answering(200, completion("well"))
FAILING = answering(500, {"error": {"message": "boom"}})


@contextmanager
def models(*behaviours: Behaviour) -> Iterator[tuple[list[ScriptedModel], list[InstanceSettings]]]:
    with ExitStack() as stack:
        made = [stack.enter_context(ScriptedModel(behaviour)) for behaviour in behaviours]
        yield made, [instance(f"i{number}", model.url, slots=64) for number, model in enumerate(made)]


async def text(dispatcher: Dispatcher, model: str = "echo-model", **fields: Any) -> str:
    return (await rest_of(await dispatcher.answer(call(model, **fields)))).decode()


def tries(made: list[ScriptedModel]) -> list[int]:
    return [len(model.requests) for model in made]


async def test_a_call_is_tried_on_every_instance_until_one_answers() -> None:
    with models(FAILING, FAILING, FAILING, FAILING, GOOD) as (made, settings):
        async with running_pool(*settings) as dispatcher:
            assert '"well"' in await text(dispatcher)
            assert tries(made) == [1, 1, 1, 1, 1]
            assert dispatcher.retries == 4


def told(prompt_tokens: int, answer_tokens: int, **fields: Any) -> dict[str, Any]:
    return {**fields, "usage": {"prompt_tokens": prompt_tokens, "completion_tokens": answer_tokens}}


@pytest.mark.parametrize(
    ("flawed", "cost"),
    [
        (answering(200, told(30, 500, id="x")), 30 + 2 * 500),
        (answering(200, json.dumps(told(30, 500, **completion("hi"))).encode() + b"!}"), 30 + 2 * 500),
        (answering(200, told(10**9, 10**9, id="x")), None),
        (answering(200, {"id": "x"}), 0),
        (FAILING, 0),
    ],
    ids=["no choices", "no JSON", "a lie", "tells nothing", "an error"],
)
async def test_an_answer_that_will_not_do_costs_the_fair_share_what_it_told(
    flawed: Behaviour, cost: int | None
) -> None:
    """With the usual weights: a token of the prompt costs 1, one of the answer 2."""
    with models(flawed, GOOD) as (made, settings):
        async with running_pool(*settings) as dispatcher:
            answer = await dispatcher.answer(call("echo-model", tenant="ward", max_tokens=600))
            await answer.finish(10, 20)
            assert tries(made) == [1, 1]
            counter = dispatcher.scheduler.shares.tenant("ward").counter
            if cost is None:
                assert 2_000 < counter < 50_000, "as far as it can be"
            else:
                assert counter == pytest.approx(cost + 10 + 2 * 20)


async def test_no_failure_reaches_a_client_while_one_of_five_is_healthy() -> None:
    """Only one of the four bad ones may be ejected; the others go on failing all that they are given."""
    with models(FAILING, FAILING, FAILING, FAILING, GOOD) as (made, settings):
        async with running_pool(*settings) as dispatcher:
            answers = await asyncio.gather(*(text(dispatcher) for _ in range(300)))
            assert all('"well"' in answer for answer in answers)
            assert len(made[4].requests) == 300
            assert sum(entry.is_ejected for entry in dispatcher.scheduler.instances.values()) == 1


async def test_when_everything_fails_retries_stay_within_their_share() -> None:
    with models(FAILING, FAILING, FAILING, FAILING) as (made, settings):
        pool = PoolSettings(retry_share=0.2, suspect_after_s=60)
        async with running_pool(*settings, pool=pool) as dispatcher:
            started = asyncio.get_running_loop().time()
            results = [await asyncio.gather(text(dispatcher), return_exceptions=True) for _ in range(200)]
            took_s = asyncio.get_running_loop().time() - started
            assert all(isinstance(result, UpstreamFailed) for (result,) in results)
            # One retry each, ten in reserve, one a second; nothing succeeded, so nothing more was earned. The first
            # call met four instances that had not failed yet.
            assert sum(tries(made)) <= 200 + 200 + 10 + took_s + 4


async def test_a_retry_goes_to_one_without_failures_although_it_has_to_wait_for_it() -> None:
    gate = Gate()
    with models(FAILING, FAILING, gate.before(GOOD)) as (made, settings):
        settings[2] = settings[2].model_copy(update={"slots": 1})
        async with running_pool(*settings, pool=PoolSettings(suspect_after_s=60)) as dispatcher:
            entries = dispatcher.scheduler.instances
            make_known(entries["i0"], 60.0)
            make_known(entries["i1"], 60.0)
            first = asyncio.create_task(text(dispatcher))
            await until(lambda: gate.waiting == 1)
            second = asyncio.create_task(text(dispatcher))
            await until(lambda: dispatcher.scheduler.waiting == 1)
            failed = tries(made)[:2]
            gate.open()
            assert '"well"' in await asyncio.wait_for(first, 5)
            assert '"well"' in await asyncio.wait_for(second, 5)
            assert tries(made)[:2] == failed
            assert sum(failed) <= 2


async def test_when_the_last_healthy_one_goes_while_a_retry_waits_for_it_the_doubtful_are_tried() -> None:
    gate = Gate()
    with models(FAILING, GOOD, gate.before(GOOD)) as (_, settings):
        settings[2] = settings[2].model_copy(update={"slots": 1})
        async with running_pool(*settings, pool=PoolSettings(suspect_after_s=60)) as dispatcher:
            entries = dispatcher.scheduler.instances
            make_known(entries["i0"], 0.1)
            make_known(entries["i1"], 60.0)
            blocker = asyncio.create_task(text(dispatcher))
            await until(lambda: gate.waiting == 1)
            doubtful = entries["i1"].start(call("echo-model"), 0.0)
            entries["i1"].failed(doubtful, "boom")
            entries["i1"].finish(doubtful, 0.0)
            asking = asyncio.create_task(text(dispatcher))  # fails on i0, and waits for i2
            await until(lambda: dispatcher.scheduler.waiting == 1)
            entries["i2"].move("blocked", "arrears")
            dispatcher.scheduler.changed()
            assert '"well"' in await asyncio.wait_for(asking, 5)
            assert entries["i1"].served == 1
            gate.open()
            await asyncio.wait([blocker])


@pytest.mark.parametrize("name", ["500", "a web page", "empty body", "garbage instead of HTTP", "body cut short"])
async def test_garbage_of_each_kind_ejects_after_five_though_its_probes_are_well(name: str) -> None:
    """It lies about its health: what requests meet counts more than what probes meet."""
    with models(FAILURES[name][0], GOOD) as (made, settings):
        pool = PoolSettings(probe_interval_s=0.1)
        async with running_pool(*settings, pool=pool) as dispatcher:
            lying = dispatcher.scheduler.instances["i0"]
            for _ in range(20):
                await until(lambda: not lying.is_suspect)  # each failure has it probed, and meanwhile it gets nothing
                make_known(dispatcher.scheduler.instances["i1"], 60.0)
                assert '"well"' in await text(dispatcher)
            assert (lying.failures, lying.is_ejected, lying.state) == (5, True, "ready")
            probes = made[0].probes
            await until(lambda: made[0].probes > probes + 2)
            assert lying.is_ejected


@pytest.mark.parametrize("body", [b'{"choices": garbage}', b'{"status": "ok"}', b'{"choices": [}', b"{}"])
async def test_a_body_that_is_no_answer_is_not_given_to_the_client(body: bytes) -> None:
    with models(answering(200, body), GOOD) as (made, settings):
        async with running_pool(*settings) as dispatcher:
            assert '"well"' in await text(dispatcher)
            assert tries(made) == [1, 1]


async def test_a_head_without_end_is_cut_off_and_replayed() -> None:
    async def endless(request: object, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while not writer.is_closing():
            writer.write(b"X-Filler: " + b"x" * 8000 + b"\r\n")
            await writer.drain()

    with models(endless, GOOD) as (_, settings):
        async with running_pool(*settings) as dispatcher:
            assert '"well"' in await asyncio.wait_for(text(dispatcher), 5)
            assert "the head of its answer is over" in dispatcher.scheduler.instances["i0"].error


# --- all cooling ---


@pytest.mark.parametrize("model", ["echo-model", "auto"])
async def test_when_all_are_cooling_the_first_to_come_back_is_waited_for(model: str) -> None:
    with models(GOOD, GOOD) as (made, settings):
        async with running_pool(*settings) as dispatcher:
            entries = dispatcher.scheduler.instances
            entries["i0"].cool(100, "quota")
            entries["i1"].cool(0.3, "overload")
            assert '"well"' in await asyncio.wait_for(text(dispatcher, model), 5)
            assert tries(made) == [0, 1]


async def test_auto_waits_for_the_model_that_comes_back_first() -> None:
    with ScriptedModel(GOOD) as one, ScriptedModel(GOOD) as two:
        settings = instance("i0", one.url, "first"), instance("i1", two.url, "second")
        async with running_pool(*settings) as dispatcher:
            dispatcher.scheduler.instances["i0"].cool(100, "quota")
            dispatcher.scheduler.instances["i1"].cool(0.3, "overload")
            assert '"well"' in await asyncio.wait_for(text(dispatcher, "auto"), 5)
            assert len(two.requests) == 1


@pytest.mark.parametrize("model", ["echo-model", "auto"])
async def test_when_all_cool_for_longer_than_anybody_waits_the_first_end_is_told(model: str) -> None:
    with models(GOOD, GOOD) as (_, settings):
        async with running_pool(*settings, max_wait_s=60) as dispatcher:
            dispatcher.scheduler.instances["i0"].cool(300, "quota")
            dispatcher.scheduler.instances["i1"].cool(200, "quota")
            with pytest.raises(NoInstanceFree, match="cooling: quota") as caught:
                await asyncio.wait_for(text(dispatcher, model), 5)
            assert caught.value.facts["retry_after_s"] == pytest.approx(200, abs=1)


# --- too long ---

GLM_TOO_LONG = {"error": {"code": "1261", "message": "Prompt too long"}}
VLLM_TOO_LONG = {
    "object": "error",
    "message": "This model's maximum context length is 4096 tokens. However, you requested 9000 tokens.",
    "type": "BadRequestError", "code": 400,
}  # fmt: skip
OPENAI_TOO_LONG = {
    "error": {"message": "...", "type": "invalid_request_error", "param": "messages", "code": "context_length_exceeded"}
}
LONG: dict[str, dict[str, Any]] = {
    "llama.cpp": TOO_LONG,
    "glm": GLM_TOO_LONG,
    "vllm": VLLM_TOO_LONG,
    "openai": OPENAI_TOO_LONG,
}


def two_contexts(small: ScriptedModel, large: ScriptedModel, provider: str) -> tuple[InstanceSettings, ...]:
    kind = provider if provider in ("glm", "vllm") else "openai"
    return instance("small", small.url, "s", provider=kind), instance("large", large.url, "l")


@pytest.mark.parametrize("name", LONG)
async def test_what_is_too_long_for_one_model_auto_takes_to_another(name: str) -> None:
    with ScriptedModel(answering(400, LONG[name])) as small, ScriptedModel(GOOD) as large:
        async with running_pool(*two_contexts(small, large, name)) as dispatcher:
            asked = call("auto")
            assert b'"well"' in await rest_of(await dispatcher.answer(asked))
            assert (asked.model, len(small.requests), len(large.requests)) == ("l", 1, 1)
            assert dispatcher.scheduler.instances["small"].failures == 0
            assert all(entry.running == 0 for entry in dispatcher.scheduler.instances.values())


@pytest.mark.parametrize("name", LONG)
async def test_a_named_model_that_finds_it_too_long_says_so(name: str) -> None:
    with ScriptedModel(answering(400, LONG[name])) as small, ScriptedModel(GOOD) as large:
        async with running_pool(*two_contexts(small, large, name)) as dispatcher:
            answer = await dispatcher.answer(call("s"))
            assert (answer.status, json.loads(await rest_of(answer))) == (400, LONG[name])
            assert len(large.requests) == 0


async def test_what_is_too_long_for_all_models_gets_the_first_ones_words() -> None:
    with ScriptedModel(answering(400, TOO_LONG)) as small, ScriptedModel(answering(400, VLLM_TOO_LONG)) as large:
        async with running_pool(*two_contexts(small, large, "openai")) as dispatcher:
            answer = await dispatcher.answer(call("auto"))
            assert answer.status == 400
            assert json.loads(await rest_of(answer)) in (TOO_LONG, VLLM_TOO_LONG)
            assert (len(small.requests), len(large.requests)) == (1, 1)
            assert all(entry.running == 0 for entry in dispatcher.scheduler.instances.values())


async def test_a_model_that_the_key_may_not_use_is_no_way_out() -> None:
    with ScriptedModel(answering(400, TOO_LONG)) as small, ScriptedModel(GOOD) as large:
        async with running_pool(*two_contexts(small, large, "openai")) as dispatcher:
            answer = await dispatcher.answer(call("auto"), lambda model: model == "s")
            assert (answer.status, json.loads(await rest_of(answer))) == (400, TOO_LONG)
            assert len(large.requests) == 0


@pytest.mark.parametrize(
    ("body", "tokens"), [(TOO_LONG, 8192), (VLLM_TOO_LONG, 4096), (GLM_TOO_LONG, None), (OPENAI_TOO_LONG, None)]
)
async def test_the_context_that_an_error_names_is_remembered(body: dict[str, object], tokens: int | None) -> None:
    with ScriptedModel(answering(400, body)) as model:
        async with running_pool(instance("a", model.url)) as dispatcher:
            await text(dispatcher)
            assert dispatcher.scheduler.instances["a"].context_tokens.get("echo-model") == tokens


@pytest.mark.parametrize(
    ("message", "tokens"),
    [
        ("The input (40000 tokens) is longer than the model's context length (32768 tokens).", 32768),
        ("Requested token count exceeds the model's maximum context length of 4096 tokens. You requested more.", 4096),
        ("This model's maximum context length is 4097 tokens. However, your messages resulted in 5000 tokens.", 4097),
        ("[{'type': 'list_type', 'input': 'the maximum context length is 100 tokens'}]", None),
        ("1 validation error:\n  {'input': {'x': 'maximum context length is 100 tokens'}}", None),
        ('Invalid value "maximum context length is 100 tokens" of messages', None),
        ("Unknown field: maximum context length is 100 tokens", None),
        ("y" * 300 + " maximum context length is 100 tokens", None),
        ("", None),
    ],
)
def test_only_the_servers_own_words_tell_of_a_context(message: str, tokens: int | None) -> None:
    for body in ({"error": {"message": message}}, {"message": message}, {"error": message}):
        assert context_told(json.dumps(body).encode()) == tokens


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b'{"error":7}', b'{"n_ctx":"x"}', b'{"n_ctx":-1}', b"[" * 9000])
def test_an_error_of_another_form_tells_of_no_context(body: bytes) -> None:
    assert context_told(body) is None


async def test_what_a_client_has_echoed_says_nothing_of_the_model() -> None:
    words = "[{'type': 'list_type', 'loc': ('body', 'messages'), 'input': 'maximum context length is 100 tokens'}]"
    refusal = {"object": "error", "message": words, "type": "BadRequestError", "code": 400}
    with ScriptedModel(answering(400, refusal)) as model:
        async with running_pool(instance("a", model.url)) as dispatcher:
            await text(dispatcher)
            assert dispatcher.scheduler.instances["a"].context_tokens == {}
