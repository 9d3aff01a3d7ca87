"""OpenAI's own client against the hub: what it sends, what it reads, and what it does when it is told to wait."""

import time
from collections.abc import Iterator

import httpx2
import openai
import pytest

from eventually import wait_until
from gateway.openai_hub import OpenAIHub, chat, openai_hub
from scripted_model import Gate, answering, completion, echo, event, in_turn

HASTE = """
[scheduler]
max_queue = 0
max_wait_s = 1.0
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenAIHub]:
    with openai_hub(tmp_path_factory.mktemp("sdk"), HASTE) as hub:
        yield hub


@pytest.fixture
def hub(running: OpenAIHub) -> OpenAIHub:
    running.reset()
    return running


@pytest.fixture
def client(hub: OpenAIHub) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{hub.process.url}/v1", api_key=hub.process.admin_key, max_retries=2) as made:
        yield made


def ask(client: openai.OpenAI, model: str = "solo") -> str | None:
    reply = client.chat.completions.create(model=model, messages=[{"role": "user", "content": "hi"}])
    return reply.choices[0].message.content


def test_a_chat(client: openai.OpenAI) -> None:
    assert ask(client) == "You said: hi"
    assert ask(client, "auto") == "You said: hi"


def test_a_stream(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="solo", messages=[{"role": "user", "content": "one two three"}], stream=True
    )
    words = [chunk.choices[0].delta.content or "" for chunk in stream]
    assert "".join(words) == "You said: one two three"
    assert len(words) > 3


def test_the_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["auto", "echo-model", "solo", "talker"]


def test_one_model(client: openai.OpenAI) -> None:
    found = client.models.retrieve("solo")
    assert (found.id, found.owned_by) == ("solo", "openai")
    assert 0 <= time.time() - found.created < 600, "the hub's start"
    assert client.models.retrieve("auto").id == "auto"
    with pytest.raises(openai.NotFoundError, match=r"Did you mean 'solo'.*Known: auto, echo-model, solo, talker"):
        client.models.retrieve("sollo")


def test_a_base_url_without_v1_is_told_so(hub: OpenAIHub) -> None:
    with openai.OpenAI(base_url=hub.process.url, api_key=hub.process.admin_key, max_retries=0) as client:
        with pytest.raises(openai.NotFoundError, match="base_url ends in /v1"):
            ask(client)
        with pytest.raises(openai.NotFoundError, match="base_url ends in /v1"):
            client.models.list()


def test_embeddings(hub: OpenAIHub, client: openai.OpenAI) -> None:
    data = [{"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}]
    usage = {"prompt_tokens": 1, "total_tokens": 1}
    hub.a.behaviour = answering(200, {"object": "list", "model": "solo", "data": data, "usage": usage})
    reply = client.embeddings.create(model="solo", input="hi", encoding_format="float")
    assert reply.data[0].embedding == [0.5, 0.25]


def test_a_broken_stream_is_an_exception(hub: OpenAIHub, client: openai.OpenAI) -> None:
    gate = Gate()
    hub.a.behaviour = gate.within(event("half"), b": cut\n\n")
    stream = client.chat.completions.create(model="solo", messages=[{"role": "user", "content": "hi"}], stream=True)
    words = iter(stream)
    assert next(words).choices[0].delta.content == "half"
    gate.open()
    with pytest.raises(openai.APIError, match="stopped without a finish reason"):
        list(words)


def test_errors_have_the_classes_that_programs_catch(hub: OpenAIHub, client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="Did you mean 'solo'"):
        ask(client, "sollo")
    with pytest.raises(openai.AuthenticationError):
        ask(client.with_options(api_key="wrong"))
    hub.a.behaviour = answering(400, {"error": {"message": "no such field"}})
    with pytest.raises(openai.BadRequestError, match="no such field"):
        ask(client)
    hub.a.behaviour = answering(500, {"error": {"message": "boom"}})
    with pytest.raises(openai.InternalServerError, match="boom"):
        ask(client.with_options(max_retries=0))


def test_a_429_is_waited_out_as_long_as_the_hub_says(hub: OpenAIHub, client: openai.OpenAI) -> None:
    """The queue has no room; the hub says one second, and then the slot is free."""
    gate = Gate()
    hub.a.behaviour = gate.before(echo)
    with hub.connect() as wire:
        wire.ask(chat())
        wait_until(lambda: gate.waiting)
        waits: list[float] = []

        def on_response(response: httpx2.Response) -> None:
            if response.status_code == 429:
                waits.append(float(response.headers["retry-after"]))
                gate.open()
                assert wire.response().status == 200

        client._client.event_hooks = {"response": [on_response]}
        started_s = time.monotonic()
        assert ask(client) == "You said: hi"
    assert waits == [1.0]
    assert time.monotonic() - started_s >= 1.0


def test_a_503_is_waited_out_as_long_as_the_hub_says(hub: OpenAIHub, client: openai.OpenAI) -> None:
    used_up = answering(429, {"error": {"message": "x", "code": "insufficient_quota"}}, {"Retry-After": "1.5"})
    hub.a.behaviour = in_turn(used_up, answering(200, completion("at last")))
    started_s = time.monotonic()
    assert ask(client) == "at last"
    assert time.monotonic() - started_s >= 1.5
    assert len(hub.a.requests) == 2
