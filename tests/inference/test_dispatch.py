"""What is tried again, where, and what is not: against real servers that misbehave as told."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from autoglm.core.errors import (
    Draining,
    Forbidden,
    HubError,
    NoInstanceFree,
    UpstreamFailed,
    UpstreamRefused,
    UpstreamTimeout,
)
from autoglm.inference.dispatch import Dispatcher, error_message
from eventually import until
from inference.calls import call
from inference.pool import instance, rest_of, running_pool
from scripted_model import (
    STREAM_HEAD,
    Behaviour,
    Gate,
    Request,
    ScriptedModel,
    answering,
    chunk,
    completion,
    event,
    in_turn,
    response,
    streaming,
    writing,
)

GOOD = completion("well")
ERROR = {"error": {"message": "boom", "type": "server_error"}}
CLOSED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"

FAILURES: dict[str, tuple[Behaviour, bool]] = {
    "closed before answering": (writing(b""), False),
    "500": (answering(500, ERROR), False),
    "502 in HTML": (answering(502, b"<html>bad gateway</html>"), False),
    "503": (answering(503, ERROR), False),
    "error object with status 200": (answering(200, ERROR), False),
    "error object with blanks": (answering(200, b' \n{ "error" : {"message":"boom"}}'), False),
    "error as the first event": (streaming(b"data: " + json.dumps(ERROR).encode() + b"\n\n"), True),
    "error event after a comment": (streaming(b": wait\n\n", b"event: error\ndata: {}\n\n"), True),
    "error event in two reads": (streaming(b'data: {"err', b'or":{"message":"boom"}}\n\n'), True),
    "empty body": (answering(200, b""), False),
    "empty stream": (streaming(), True),
    "body cut short": (writing(response(200, GOOD)[:-20]), False),
    "chunked body cut short": (writing(STREAM_HEAD + chunk(b'{"id":1,')), False),
    "cut without a length": (writing(CLOSED + json.dumps(GOOD).encode()[:-20]), False),
    "stream cut within its first event": (writing(STREAM_HEAD + chunk(event("x")[:-9])), True),
    "stream without an end, at once": (writing(STREAM_HEAD + chunk(event("x")) + b"0\r\n\r\n"), True),
    "network_error at once": (streaming(event("x", "network_error") + b"data: [DONE]\n\n"), True),
    "network_error in a whole answer": (
        answering(200, json.dumps(GOOD).replace('"stop"', '"network_error"').encode()),
        False,
    ),
    "garbage instead of HTTP": (writing(b"SSH-2.0-OpenSSH_9.6\r\n"), False),
    "a web page": (answering(200, b"<html>please log in</html>"), False),
    "a redirect": (answering(302, b"", {"Location": "http://127.0.0.1/"}), False),
}


@pytest.fixture
def bad() -> Iterator[ScriptedModel]:
    with ScriptedModel() as model:
        yield model


@pytest.fixture
def good() -> Iterator[ScriptedModel]:
    finished = event("well", "stop") + b"data: [DONE]\n\n"

    async def behave(request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await (streaming(finished) if request.json().get("stream") else answering(200, GOOD))(request, reader, writer)

    with ScriptedModel(behave) as model:
        yield model


async def text_of(dispatcher: Dispatcher, **fields: Any) -> str:
    return (await rest_of(await dispatcher.answer(call("echo-model", **fields)))).decode()


@pytest.mark.parametrize("name", FAILURES)
async def test_a_failure_before_the_first_byte_is_replayed_on_another_instance(
    name: str, bad: ScriptedModel, good: ScriptedModel
) -> None:
    bad.behaviour, is_stream = FAILURES[name]
    async with running_pool(instance("bad", bad.url), instance("good", good.url)) as dispatcher:
        assert '"well"' in await text_of(dispatcher, stream=is_stream)
        assert (len(good.requests), dispatcher.retries) == (1, 1)
        assert bad.requests[0].body == good.requests[0].body
        assert dispatcher.scheduler.instances["bad"].error != ""


async def test_a_redirect_points_at_the_setting_that_is_wrong(bad: ScriptedModel) -> None:
    bad.behaviour = answering(301, b'{"moved": true}', {"Location": "https://x/"})
    async with running_pool(instance("bad", bad.url)) as dispatcher:
        with pytest.raises(UpstreamFailed, match=r"redirects \(HTTP 301\); is its base_url right"):
            await text_of(dispatcher)


async def test_a_refused_connection_is_replayed_on_another_instance(good: ScriptedModel) -> None:
    with ScriptedModel() as gone:
        settings = instance("bad", gone.url), instance("good", good.url)
        async with running_pool(*settings) as dispatcher:
            gone.stop()
            assert '"well"' in await text_of(dispatcher)
            assert "refused" in dispatcher.scheduler.instances["bad"].error


async def test_no_more_retries_than_the_settings_allow() -> None:
    failing = answering(500, ERROR)
    with ScriptedModel(failing) as one, ScriptedModel(failing) as two, ScriptedModel() as three:
        settings = [instance(name, model.url) for name, model in (("1", one), ("2", two), ("3", three))]
        async with running_pool(*settings, retries=1) as dispatcher:
            with pytest.raises(UpstreamFailed, match="boom"):
                await text_of(dispatcher)
            assert [len(model.requests) for model in (one, two, three)] == [1, 1, 0]
            assert all(entry.running == 0 for entry in dispatcher.scheduler.instances.values())


async def test_without_another_instance_the_failure_is_told(bad: ScriptedModel) -> None:
    bad.behaviour = answering(500, ERROR)
    async with running_pool(instance("bad", bad.url)) as dispatcher:
        with pytest.raises(UpstreamFailed, match="HTTP 500: boom"):
            await text_of(dispatcher)
        assert len(bad.requests) == 1


@pytest.mark.parametrize("status", [400, 403, 404, 409, 413, 422])
async def test_a_clients_error_is_passed_on_as_it_is_and_not_tried_again(
    status: int, bad: ScriptedModel, good: ScriptedModel
) -> None:
    body = b'{"error" : {"message":"tokens \\u4e16", "vendor_field": [1, 2]} }'
    bad.behaviour = answering(status, body)
    async with running_pool(instance("bad", bad.url), instance("good", good.url)) as dispatcher:
        answer = await dispatcher.answer(call("echo-model"))
        assert (answer.status, await rest_of(answer)) == (status, body)
        assert (len(bad.requests), len(good.requests)) == (1, 0)
        assert dispatcher.scheduler.instances["bad"].error == ""


@pytest.mark.parametrize("status", [200, 500])
async def test_a_clients_error_with_another_status_gets_400(status: int, bad: ScriptedModel) -> None:
    """Programs would take it for an answer, or try it again."""
    body = b'{"error": {"code": 400, "message": "image input is not supported"}}'
    bad.behaviour = answering(status, body)
    async with running_pool(instance("bad", bad.url)) as dispatcher:
        answer = await dispatcher.answer(call("echo-model"))
        assert (answer.status, await rest_of(answer)) == (400, body)
        assert dispatcher.scheduler.instances["bad"].error == ""


async def test_a_long_error_that_repeats_the_request_is_the_clients_error_too(bad: ScriptedModel) -> None:
    body = json.dumps({"detail": [{"input": "x" * 3_000_000}]}).encode()
    bad.behaviour = answering(422, body)
    async with running_pool(instance("bad", bad.url)) as dispatcher:
        answer = await dispatcher.answer(call("echo-model"))
        assert (answer.status, await rest_of(answer)) == (422, body)


async def test_a_filter_that_dislikes_one_request_does_not_block_the_instance(bad: ScriptedModel) -> None:
    bad.behaviour = in_turn(answering(403, b"<html>web application firewall</html>"), answering(200, GOOD))
    async with running_pool(instance("bad", bad.url)) as dispatcher:
        assert (await dispatcher.answer(call("echo-model"))).status == 403
        assert '"well"' in await text_of(dispatcher)


async def test_an_error_that_is_null_is_no_error(bad: ScriptedModel) -> None:
    body = json.dumps({"error": None, **GOOD}).encode()
    bad.behaviour = answering(200, body)
    async with running_pool(instance("bad", bad.url)) as dispatcher:
        assert await text_of(dispatcher) == body.decode()


async def test_nothing_is_tried_again_after_the_first_byte(bad: ScriptedModel, good: ScriptedModel) -> None:
    bad.behaviour = streaming(event("half"), closes=True)
    async with running_pool(instance("bad", bad.url), instance("good", good.url)) as dispatcher:
        answer = await dispatcher.answer(call("echo-model", stream=True))
        with pytest.raises(UpstreamFailed):
            await rest_of(answer)
        assert len(good.requests) == 0
        assert "in the middle of its answer" in dispatcher.scheduler.instances["bad"].error


async def test_broken_streams_open_the_breaker_though_each_began_well(bad: ScriptedModel) -> None:
    bad.behaviour = streaming(event("half"), closes=True)
    async with running_pool(instance("bad", bad.url)) as dispatcher:
        for _ in range(5):
            with pytest.raises(UpstreamFailed):
                await rest_of(await dispatcher.answer(call("echo-model", stream=True)))
        assert dispatcher.scheduler.instances["bad"].shown_state == "cooling"


async def test_auto_falls_back_to_another_model(bad: ScriptedModel, good: ScriptedModel) -> None:
    bad.behaviour = answering(500, ERROR)
    settings = instance("bad", bad.url, "first"), instance("good", good.url, "second")
    async with running_pool(*settings) as dispatcher:
        wanted = call("auto")
        assert b'"well"' in await rest_of(await dispatcher.answer(wanted))
        assert wanted.model == good.requests[0].json()["model"] == "second"


async def test_auto_does_not_fall_back_to_a_model_that_the_key_may_not_use(
    bad: ScriptedModel, good: ScriptedModel
) -> None:
    bad.behaviour = answering(500, ERROR)
    settings = instance("bad", bad.url, "first"), instance("good", good.url, "second")
    async with running_pool(*settings) as dispatcher:
        with pytest.raises(UpstreamFailed, match="boom"):
            await dispatcher.answer(call("auto"), lambda model: model == "first")
        with pytest.raises(Forbidden):
            await dispatcher.answer(call("auto"), lambda _: False)
        assert len(good.requests) == 0


async def test_a_throttled_request_waits_for_its_turn(bad: ScriptedModel) -> None:
    throttled = answering(429, {"error": {"message": "slow down"}}, {"Retry-After": "0.05"})
    bad.behaviour = in_turn(throttled, throttled, answering(200, GOOD))
    async with running_pool(instance("bad", bad.url, slots=8)) as dispatcher:
        assert '"well"' in await text_of(dispatcher)
        assert len(bad.requests) == 3
        assert dispatcher.scheduler.instances["bad"].limit < 8


async def test_a_throttled_instance_is_not_waited_for_when_another_is_free(
    bad: ScriptedModel, good: ScriptedModel
) -> None:
    bad.behaviour = answering(429, {"error": {"message": "slow down"}}, {"Retry-After": "30"})
    async with running_pool(instance("bad", bad.url), instance("good", good.url)) as dispatcher:
        assert '"well"' in await asyncio.wait_for(text_of(dispatcher), 5)


async def test_a_used_up_quota_is_told_with_its_end(bad: ScriptedModel) -> None:
    body = {"error": {"message": "out of credit", "code": "insufficient_quota"}}
    bad.behaviour = answering(429, body, {"Retry-After": "7200"})
    async with running_pool(instance("bad", bad.url)) as dispatcher:
        with pytest.raises(NoInstanceFree, match="out of credit") as caught:
            await text_of(dispatcher)
        assert caught.value.facts["retry_after_s"] == pytest.approx(7200, abs=1)
        assert len(bad.requests) == 1


async def test_a_refused_key_takes_the_instance_out(bad: ScriptedModel, good: ScriptedModel) -> None:
    bad.behaviour = answering(401, {"error": {"message": "bad key", "code": "invalid_api_key"}})
    async with running_pool(instance("bad", bad.url), instance("good", good.url)) as dispatcher:
        for _ in range(3):
            assert '"well"' in await text_of(dispatcher)
        assert len(bad.requests) == 1
        assert dispatcher.scheduler.instances["bad"].state == "blocked"


async def test_the_last_instance_that_refuses_the_key_is_named(bad: ScriptedModel) -> None:
    bad.behaviour = answering(401, {"error": {"message": "bad key"}})
    async with running_pool(instance("bad", bad.url)) as dispatcher:
        with pytest.raises(UpstreamRefused, match="bad key"):
            await text_of(dispatcher)
        with pytest.raises(NoInstanceFree, match="bad is blocked: HTTP 401: bad key"):
            await text_of(dispatcher)


async def test_a_silent_instance_is_left_for_another(bad: ScriptedModel, good: ScriptedModel) -> None:
    bad.behaviour = Gate().before(answering(200, GOOD))
    settings = instance("bad", bad.url, first_byte_timeout_s=0.2), instance("good", good.url)
    async with running_pool(*settings) as dispatcher:
        assert '"well"' in await text_of(dispatcher)
    async with running_pool(settings[0]) as dispatcher:
        with pytest.raises(UpstreamTimeout):
            await text_of(dispatcher)


async def test_a_caller_that_gives_up_closes_the_upstream_and_frees_the_slot(bad: ScriptedModel) -> None:
    gate = Gate()
    bad.behaviour = gate.before(answering(200, GOOD))
    async with running_pool(instance("bad", bad.url)) as dispatcher:
        asking = asyncio.create_task(text_of(dispatcher))
        await until(lambda: gate.waiting)
        asking.cancel()
        await until(lambda: gate.left_s)
        assert dispatcher.scheduler.instances["bad"].running == 0


@pytest.mark.parametrize("is_recalled_first", [True, False])
async def test_a_caller_that_gives_up_as_its_instance_goes_down_is_not_moved_to_another(
    is_recalled_first: bool, bad: ScriptedModel, good: ScriptedModel
) -> None:
    """Both cancel the task in the same turn; the caller's wish must not be lost in the recall."""
    gate = Gate()
    bad.behaviour = gate.before(answering(200, GOOD))
    async with running_pool(instance("bad", bad.url), instance("good", good.url)) as dispatcher:
        asking = asyncio.create_task(text_of(dispatcher))
        await until(lambda: gate.waiting)
        if not is_recalled_first:
            asking.cancel()
        dispatcher.scheduler.instances["bad"].move("down", "it was unplugged")
        dispatcher.scheduler.changed()
        if is_recalled_first:
            asking.cancel()
        await asyncio.wait([asking])
        assert asking.cancelled()
        assert good.requests == []
        assert all(entry.running == 0 for entry in dispatcher.scheduler.instances.values())


async def test_hundreds_that_come_and_go_leave_no_slot_taken(bad: ScriptedModel, good: ScriptedModel) -> None:
    bad.behaviour = in_turn(*[behaviour for behaviour, _ in FAILURES.values()] * 4, good.behaviour)
    settings = instance("bad", bad.url, slots=4), instance("good", good.url, slots=4)
    async with running_pool(*settings) as dispatcher:
        tasks = [asyncio.create_task(text_of(dispatcher, stream=number % 3 == 0)) for number in range(300)]
        for number, task in enumerate(tasks):
            if number % 5 == 0:
                task.cancel()
            if number % 7 == 0:
                await asyncio.sleep(0.001)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(result) for result in results} <= {str, asyncio.CancelledError, UpstreamFailed}
        assert sum(isinstance(result, str) for result in results) > 200
        assert all(entry.running == 0 for entry in dispatcher.scheduler.instances.values())


async def test_a_hub_that_shuts_down_takes_no_new_calls(good: ScriptedModel) -> None:
    async with running_pool(instance("good", good.url)) as dispatcher:
        dispatcher.scheduler.is_draining = True
        with pytest.raises(Draining):
            await text_of(dispatcher)


def test_the_words_of_an_error_are_found_or_its_first_bytes() -> None:
    assert error_message(b'{"error":{"message":"boom"}}') == "boom"
    assert error_message(b"<html>" + b"x" * 1000) == "<html>" + "x" * 294
    assert issubclass(UpstreamFailed, HubError)


# --- a local model's context ---

TOO_LONG = {
    "error": {
        "code": 400,
        "message": "request (20034 tokens) exceeds the available context size (8192 tokens), try increasing it",
        "type": "exceed_context_size_error", "n_prompt_tokens": 20034, "n_ctx": 8192,
    }
}  # fmt: skip


async def test_a_request_too_long_for_a_local_model_is_told_the_setting(good: ScriptedModel) -> None:
    good.behaviour = answering(400, TOO_LONG)
    async with running_pool(instance("desk", good.url)) as dispatcher:
        dispatcher.scheduler.instances["desk"].provider = "local"
        told = json.loads(await rest_of(await dispatcher.answer(call("echo-model"))))["error"]
        dispatcher.scheduler.instances["desk"].provider = "vllm"
        untouched = json.loads(await rest_of(await dispatcher.answer(call("echo-model"))))
    assert told.pop("message").startswith(
        "request (20034 tokens) exceeds the available context size (8192 tokens), try increasing it: "
        "set context_tokens of the [[instance]] 'desk'"
    )
    assert told == {name: value for name, value in TOO_LONG["error"].items() if name != "message"}
    assert untouched == TOO_LONG, "it is no setting of this hub"


@pytest.mark.parametrize("error", ["exceed_context_size_error", {"type": "exceed_context_size_error"}, None])
async def test_an_error_of_another_form_stays_as_it_is(good: ScriptedModel, error: object) -> None:
    body = {"error": error, "type": "exceed_context_size_error"}
    good.behaviour = answering(400, body)
    async with running_pool(instance("desk", good.url)) as dispatcher:
        dispatcher.scheduler.instances["desk"].provider = "local"
        assert json.loads(await rest_of(await dispatcher.answer(call("echo-model")))) == body
