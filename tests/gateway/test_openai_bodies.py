"""Requests as real clients send them: large, slow, pipelined, in parts."""

import base64
import json
import os
from collections.abc import Iterator

import pytest

from eventually import wait_until
from gateway.openai_hub import OpenAIHub, chat, openai_hub
from scripted_model import Gate, echo

MIB = 1 << 20


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenAIHub]:
    with openai_hub(tmp_path_factory.mktemp("bodies")) as hub:
        yield hub


@pytest.fixture
def hub(running: OpenAIHub) -> OpenAIHub:
    running.reset()
    return running


def image(size_bytes: int, model: str = "solo") -> bytes:
    """A chat with a picture, as vision and phone agents send it: one base64 data URL."""
    data = base64.b64encode(os.urandom(size_bytes * 3 // 4)).decode()
    parts = [
        {"type": "text", "text": "what is this?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}},
    ]
    return json.dumps({"messages": [{"role": "user", "content": parts}], "model": model}).encode()


@pytest.mark.parametrize("size_bytes", [10_000_000, 31 * MIB])
@pytest.mark.parametrize("model", ["solo", "auto"])
def test_a_picture_passes_whole(hub: OpenAIHub, size_bytes: int, model: str) -> None:
    body = image(size_bytes, model)
    assert hub.client.post("/v1/chat/completions", content=body).status_code == 200
    sent = (hub.a.requests + hub.b.requests)[-1]
    if model == "solo":
        assert sent.body == body
    else:
        assert sent.json()["messages"] == json.loads(body)["messages"]


def test_an_announced_body_that_is_too_large_is_refused_before_it_comes(hub: OpenAIHub) -> None:
    with hub.connect() as wire:
        wire.socket.sendall(wire.head(Content_Length=33 * MIB))
        reply = wire.response()
        assert reply.status == 413
        error = json.loads(reply.read())["error"]
        assert (error["code"], error["type"]) == ("payload_too_large", "invalid_request_error")
        assert "gateway.max_body_bytes" in error["message"]


def test_a_client_that_sends_a_too_large_body_first_reads_the_refusal_too(hub: OpenAIHub) -> None:
    reply = hub.client.post("/v1/chat/completions", content=image(33 * MIB))
    assert (reply.status_code, reply.json()["error"]["code"]) == (413, "payload_too_large")
    assert hub.ask().status_code == 200


def test_a_body_without_a_length_is_refused_when_it_gets_too_large(hub: OpenAIHub) -> None:
    parts = (b"x" * MIB for _ in range(34))
    reply = hub.client.post("/v1/chat/completions", content=parts)
    assert (reply.status_code, reply.json()["error"]["code"]) == (413, "payload_too_large")


def test_a_body_in_chunks_passes(hub: OpenAIHub) -> None:
    body = image(3 * MIB)
    parts = (body[start : start + 100_000] for start in range(0, len(body), 100_000))
    assert hub.client.post("/v1/chat/completions", content=parts).status_code == 200
    assert hub.a.requests[-1].body == body


def test_a_compressed_body_is_refused_clearly(hub: OpenAIHub) -> None:
    reply = hub.client.post("/v1/chat/completions", content=b"x", headers={"Content-Encoding": "gzip"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (415, "unsupported_media_type")


def test_a_slow_client_holds_up_nobody_and_no_slot(hub: OpenAIHub) -> None:
    body = json.dumps(chat("slowly typed")).encode()
    with hub.connect() as wire:
        wire.socket.sendall(wire.head(Content_Length=len(body)) + body[:10])
        assert hub.ask(model="solo").status_code == 200  # solo has one slot
        for byte in body[10:]:
            wire.socket.sendall(bytes([byte]))
        assert json.loads(wire.response().read())["choices"][0]["message"]["content"] == "You said: slowly typed"


def test_a_client_that_leaves_within_its_body_leaves_nothing_behind(hub: OpenAIHub) -> None:
    with hub.connect() as wire:
        wire.socket.sendall(wire.head(Content_Length=1000) + b'{"model":')
    assert hub.ask(model="solo").status_code == 200
    assert len(hub.a.requests) == 1


def test_pipelined_requests_are_answered_in_their_order(hub: OpenAIHub) -> None:
    gate = Gate()
    hub.a.behaviour = gate.before(echo)
    with hub.connect() as wire:
        bodies = [json.dumps(chat(f"number {number}")).encode() for number in range(3)]
        wire.socket.sendall(b"".join(wire.head(Content_Length=len(body)) + body for body in bodies))
        wait_until(lambda: gate.waiting)
        gate.open()
        texts = [json.loads(wire.response().read())["choices"][0]["message"]["content"] for _ in bodies]
    assert texts == [f"You said: number {number}" for number in range(3)]


def test_expect_100_continue_is_answered_and_then_the_request(hub: OpenAIHub) -> None:
    body = json.dumps(chat("later")).encode()
    with hub.connect() as wire:
        wire.socket.sendall(wire.head(Content_Length=len(body), Expect="100-continue"))
        assert wire.makefile("rb").readline() == b"HTTP/1.1 100 Continue\r\n"
        assert wire.makefile("rb").readline() == b"\r\n"
        wire.socket.sendall(body)
        assert json.loads(wire.response().read())["choices"][0]["message"]["content"] == "You said: later"


def test_who_expects_100_and_is_refused_gets_no_further_answer_on_that_connection(hub: OpenAIHub) -> None:
    with hub.connect() as wire:
        wire.socket.sendall(wire.head(Content_Length=40 * MIB, Expect="100-continue"))
        reply = wire.response()
        assert reply.status == 413
        assert reply.headers["connection"] == "close"


def test_a_connection_is_kept_for_the_next_request(hub: OpenAIHub) -> None:
    with hub.connect() as wire:
        for number in range(3):
            wire.ask(chat(str(number)))
            assert json.loads(wire.response().read())["choices"][0]["message"]["content"] == f"You said: {number}"
