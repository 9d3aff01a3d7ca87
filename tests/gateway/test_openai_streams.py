"""Streams: forwarded as they come, ended visibly, stopped when nobody listens, and never piled up."""

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventually import wait_until
from gateway.openai_hub import OpenAIHub, Wire, chat, openai_hub
from scripted_model import (
    STREAM_HEAD,
    Gate,
    Request,
    answering,
    chunk,
    completion,
    echo,
    event,
    in_turn,
    streaming,
    writing,
)

DONE = b"data: [DONE]\n\n"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenAIHub]:
    with openai_hub(tmp_path_factory.mktemp("streams")) as hub:
        yield hub


@pytest.fixture
def hub(running: OpenAIHub) -> OpenAIHub:
    running.reset()
    return running


def text_of(events: list[str]) -> str:
    deltas = [json.loads(data)["choices"][0]["delta"] for data in events if data != "[DONE]"]
    return "".join(delta.get("content") or "" for delta in deltas)


# --- forwarded ---


def test_a_stream_passes_byte_for_byte(hub: OpenAIHub) -> None:
    parts = [event("a"), b": comment\n\n", event("\u4e16", reasoning_content="x"), event(None, "stop"), DONE]
    hub.a.behaviour = streaming(*parts)
    reply = hub.ask(model="solo", stream=True)
    assert reply.content == b"".join(parts)
    assert reply.headers["x-autoglm-instance"] == "a"
    assert reply.headers["cache-control"] == "no-store"


def test_events_split_over_reads_arrive_whole(hub: OpenAIHub) -> None:
    whole = event("one") + event("two") + event(None, "stop") + DONE
    hub.a.behaviour = streaming(*[whole[start : start + 7] for start in range(0, len(whole), 7)])
    assert hub.ask(model="solo", stream=True).content == whole


def test_the_first_words_are_there_before_the_last_ones(hub: OpenAIHub) -> None:
    gate = Gate()
    hub.a.behaviour = gate.within(event("first"), event("last", "stop") + DONE)
    with hub.connect() as wire:
        wire.ask(chat(stream=True))
        reply = wire.response()
        assert b"first" in reply.readline()
        wait_until(lambda: gate.waiting)
        gate.open()
        assert b"last" in reply.read()


def test_usage_is_counted_when_the_client_asked_for_it(hub: OpenAIHub) -> None:
    usage = b'data: {"choices":[],"usage":{"prompt_tokens":11,"completion_tokens":22}}\n\n'
    nothing = event("x").replace(b'"choices"', b'"usage":null,"choices"')
    hub.a.behaviour = streaming(nothing, event(None, "stop"), usage, DONE)
    before = [hub.metric("autoglm_tokens_total", model="solo", direction=way) for way in ("in", "out")]
    hub.ask(model="solo", stream=True, stream_options={"include_usage": True})
    after = [hub.metric("autoglm_tokens_total", model="solo", direction=way) for way in ("in", "out")]
    assert [after[0] - before[0], after[1] - before[1]] == [11, 22]
    assert hub.a.requests[-1].json()["stream_options"] == {"include_usage": True}


def test_a_stream_of_llama_cpp_is_counted_though_it_has_no_usage(hub: OpenAIHub) -> None:
    timings = b'"timings":{"cache_n":30,"prompt_n":1,"prompt_ms":28.9,"predicted_n":3,"predicted_ms":47.6}'
    last = event(None, "stop").replace(b'"choices"', timings + b',"choices"')
    hub.a.behaviour = streaming(event("x"), last, DONE)
    before = [hub.metric("autoglm_tokens_total", model="solo", direction=way) for way in ("in", "out")]
    reply = hub.ask(model="solo", stream=True)
    after = [hub.metric("autoglm_tokens_total", model="solo", direction=way) for way in ("in", "out")]
    assert [after[0] - before[0], after[1] - before[1]] == [31, 3]
    assert reply.content == event("x") + last + DONE
    assert "stream_options" not in hub.a.requests[-1].json()


# --- ended visibly ---

BEGUN = STREAM_HEAD + chunk(event("half"))
END = b"0\r\n\r\n"
CUTS: dict[str, bytes] = {
    "connection cut": b"",
    "cut within an event": chunk(event("more") + b'data: {"id":"chatcmpl-1","choi'),
    "cut within an event, in small parts": chunk(event("more")[:9]) + chunk(event("more")[9:20]),
    "no finish reason": chunk(event("more")) + END,
    "an end of its own in the words": chunk(event('more "finish_reason": "stop" data: [DONE]')) + END,
    "network_error": chunk(event(None, "network_error") + DONE) + END,
    "an error event": chunk(b'data: {"error":{"message":"boom"}}\n\n') + END,
    "garbage": b"no chunk at all\r\n",
}


@pytest.mark.parametrize("name", CUTS)
def test_a_stream_that_breaks_off_ends_with_an_error_event(hub: OpenAIHub, name: str) -> None:
    gate = Gate()
    hub.a.behaviour = gate.between(BEGUN, CUTS[name], closes=True)
    broken = hub.metric("autoglm_broken_streams_total")
    with hub.connect() as wire:
        wire.ask(chat(stream=True))
        reply = wire.response()
        assert b"half" in reply.readline()
        gate.open()
        rest = reply.read().decode()
    events = [line[6:] for line in rest.splitlines() if line.startswith("data: ")]
    error = json.loads(events[-1])["error"]
    assert (error["code"], error["type"]) == ("upstream_failed", "server_error")
    assert all(json.loads(data) for data in events[:-1] if data != "[DONE]"), "each event before it is whole"
    assert hub.metric("autoglm_broken_streams_total") == broken + 1
    assert hub.instance()["error"] != ""


def test_a_broken_stream_counts_once_against_its_instance(hub: OpenAIHub) -> None:
    hub.a.behaviour = streaming(event("half"))
    for _ in range(4):
        hub.ask(model="solo", stream=True)
    assert hub.instance()["state"] == "ready"  # five failures open the breaker
    hub.ask(model="solo", stream=True)
    assert hub.instance()["state"] == "cooling"


def test_a_cut_before_the_first_byte_is_replayed_elsewhere(hub: OpenAIHub) -> None:
    cut = writing(STREAM_HEAD + chunk(event("x")[:-9]))
    hub.a.behaviour = hub.b.behaviour = in_turn(cut, echo)
    assert text_of(hub.events(hub.ask(stream=True))) == "You said: hi"
    assert (len(hub.a.requests), len(hub.b.requests)) == (1, 1)


def test_an_error_before_the_first_byte_is_a_status_and_no_stream(hub: OpenAIHub) -> None:
    hub.a.behaviour = answering(500, {"error": {"message": "boom"}})
    reply = hub.ask(model="solo", stream=True)
    assert (reply.status_code, reply.headers["content-type"]) == (502, "application/json")


def test_the_responses_api_has_its_own_end_and_error_event(hub: OpenAIHub) -> None:
    delta = b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"x"}\n\n'
    completed = b'event: response.completed\ndata: {"type":"response.completed","response":{}}\n\n'
    body = {"model": "solo", "input": "hi", "stream": True}
    hub.a.behaviour = streaming(delta, completed)
    assert hub.client.post("/v1/responses", json=body).content == delta + completed
    gate = Gate()
    hub.a.behaviour = gate.between(STREAM_HEAD + chunk(delta), b"", closes=True)
    with hub.connect() as wire:
        wire.ask(body, path="/v1/responses")
        reply = wire.response()
        assert b"output_text" in reply.readline()
        gate.open()
        assert b"\nevent: error\ndata: {" in reply.read()


def test_a_long_answer_that_is_cut_is_cut_for_the_client_too(hub: OpenAIHub) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9000000\r\n\r\n"
    hub.a.behaviour = writing(head + b'{"data":"' + b"x" * 3_000_000)
    with hub.connect() as wire:
        wire.ask(chat())
        reply = wire.response()
        with pytest.raises(Exception, match="IncompleteRead"):
            reply.read()


def test_a_deadline_within_a_stream_ends_it_with_an_error_event(hub: OpenAIHub) -> None:
    gate = Gate()
    hub.a.behaviour = gate.within(event("half"), event("never"))
    events = hub.events(hub.ask(model="solo", stream=True, headers={"x-autoglm-deadline": "0.3"}))
    assert json.loads(events[-1])["error"]["code"] == "deadline_exceeded"
    wait_until(lambda: gate.left_s)


def test_a_deadline_within_a_long_answer_does_not_end_it_as_if_it_were_whole(hub: OpenAIHub) -> None:
    gate = Gate()

    async def behave(request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9000000\r\n\r\n"
        writer.write(head + b'{"data":"' + b"x" * 3_000_000)
        await gate.passed(reader)

    hub.a.behaviour = behave
    with hub.connect() as wire:
        wire.ask(chat(), x_autoglm_deadline="0.5")
        reply = wire.response()
        with pytest.raises(Exception, match="IncompleteRead"):
            reply.read()


# --- reasoning without content ---


def test_a_reply_of_reasoning_only_is_flagged_and_counted(hub: OpenAIHub) -> None:
    before = hub.metric("autoglm_reasoning_only_total")
    hub.a.behaviour = answering(200, completion("", reasoning_content="let me think"))
    assert hub.ask(model="solo").headers["x-autoglm-warning"] == "reasoning-only"
    thoughts = [event("", reasoning_content="let me"), event("", reasoning_content=" think")]
    hub.a.behaviour = streaming(*thoughts, event("", "length"), DONE)
    hub.ask(model="solo", stream=True)
    assert hub.metric("autoglm_reasoning_only_total") == before + 2


def test_a_reply_with_content_or_a_tool_call_beside_its_reasoning_is_not_flagged(hub: OpenAIHub) -> None:
    before = hub.metric("autoglm_reasoning_only_total")
    calls = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    thought = event("", reasoning_content="hm")
    for behaviour in (
        answering(200, completion("42", reasoning_content="hm")),
        answering(200, completion("", reasoning_content="hm", tool_calls=calls)),
        streaming(thought + event("42"), event(None, "stop"), DONE),
        streaming(thought, event(None, tool_calls=calls), event(None, "tool_calls"), DONE),
    ):
        hub.a.behaviour = behaviour
        reply = hub.ask(model="solo", stream=behaviour.__qualname__.startswith("streaming"))
        assert "x-autoglm-warning" not in reply.headers
    assert hub.metric("autoglm_reasoning_only_total") == before


# --- control text ---

SPOKEN = ["<thi", "nk>secret</th", "ink>", "<|begin_of_box|>4", "2", "</ans", "wer>"]


def test_control_text_is_taken_out_of_the_models_that_ask_for_it(hub: OpenAIHub) -> None:
    stream = b"".join(event(text) for text in SPOKEN) + event(None, "stop") + DONE
    for size in (1, 5, 1000):
        hub.a.behaviour = streaming(*[stream[start : start + size] for start in range(0, len(stream), size)])
        assert text_of(hub.events(hub.ask(model="talker", stream=True))) == "42"
    hub.a.behaviour = answering(200, completion("".join(SPOKEN)))
    assert hub.ask(model="talker").json()["choices"][0]["message"]["content"] == "42"


def test_control_text_of_other_models_stays(hub: OpenAIHub) -> None:
    hub.a.behaviour = answering(200, completion("".join(SPOKEN)))
    assert hub.ask(model="solo").json()["choices"][0]["message"]["content"] == "".join(SPOKEN)
    hub.a.behaviour = streaming(*[event(text) for text in SPOKEN], event(None, "stop"), DONE)
    assert text_of(hub.events(hub.ask(model="solo", stream=True))) == "".join(SPOKEN)


# --- clients that leave or do not read ---


@pytest.mark.parametrize("moment", ["before the first byte", "within the stream"])
def test_the_upstream_is_closed_within_100_ms_when_the_client_leaves(hub: OpenAIHub, moment: str) -> None:
    delays_s = []
    for _ in range(5):
        gate = Gate()
        hub.a.behaviour = gate.before(echo) if moment == "before the first byte" else gate.within(event("x"), DONE)
        with hub.connect() as wire:
            wire.ask(chat(stream=True))
            wait_until(lambda gate=gate: gate.waiting)  # type: ignore[misc]  # binds this round's gate
            if moment == "within the stream":
                assert b"x" in wire.response().readline()
            left_s = time.monotonic()
        wait_until(lambda gate=gate: gate.left_s, every_s=0.001)  # type: ignore[misc]  # the same
        delays_s.append(gate.left_s[0] - left_s)
    assert sorted(delays_s)[2] < 0.1
    wait_until(lambda: hub.instance()["running"] == 0)
    assert hub.instance()["error"] == "", "a client's leaving is no failure of the instance"


def test_a_client_that_leaves_the_queue_is_forgotten(hub: OpenAIHub) -> None:
    gate = Gate()
    hub.a.behaviour = gate.before(echo)
    with hub.connect() as running:
        running.ask(chat())
        wait_until(lambda: gate.waiting)
        with hub.connect() as waiting:
            waiting.ask(chat())
            wait_until(lambda: hub.instance()["waiting"] == 1)
        wait_until(lambda: hub.instance()["waiting"] == 0)
        gate.open()
        assert running.response().status == 200
    assert len(hub.a.requests) == 1


def memory_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) * 1024


def test_a_client_that_does_not_read_does_not_fill_the_memory(hub: OpenAIHub) -> None:
    written = 0
    block = b"data: " + b"x" * 65_000 + b"\n\n"
    total = 200_000_000 // len(block)

    async def pour(request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.write(STREAM_HEAD)
        for _ in range(total):
            writer.write(chunk(block))
            await writer.drain()
            written += len(block)
        writer.write(chunk(DONE) + b"0\r\n\r\n")

    hub.a.behaviour = pour
    before = memory_bytes(hub.process.pid)
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    connection.connect(("127.0.0.1", hub.process.port))
    with Wire(connection, hub.process.admin_key) as wire:
        wire.ask(chat(stream=True))
        reply = wire.response()
        seen = [-1]

        def stands_still() -> bool:
            seen.append(written)
            return written > 0 and seen[-1] == seen[-2]

        wait_until(stands_still, every_s=0.3)
        assert written < 30_000_000
        assert memory_bytes(hub.process.pid) - before < 20_000_000
        received = sum(len(data) for data in iter(lambda: reply.read(1 << 20), b""))
        assert received == total * len(block) + len(DONE)  # and when it reads on, nothing is missing
    assert memory_bytes(hub.process.pid) - before < 30_000_000
