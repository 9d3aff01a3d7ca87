"""What is answered without a task: requests for models, and messages. Clients that leave, and what is written down."""

import json
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path

import pytest

from autoglm.gateway.access import text_line
from autoglm.gateway.settings import GatewaySettings
from autoglm.inference.settings import InstanceSettings
from autoglm.settings import Settings
from eventually import wait_until
from gateway.inside import Inside, hub_inside, settings
from gateway.wire import Wire, call
from scripted_model import Gate, ScriptedModel, answering, completion, event

ASK = json.dumps({"model": "echo-model", "messages": [{"role": "user", "content": "hi"}]}).encode()
GOOD = answering(200, completion("well"))


@pytest.fixture(scope="module")
def model() -> Iterator[ScriptedModel]:
    with ScriptedModel(GOOD) as scripted:
        yield scripted


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, model: ScriptedModel) -> Iterator[Inside]:
    entry = {"name": "a", "provider": "openai", "base_url": model.url, "models": ["echo-model"], "slots": 64}
    chosen = Settings(gateway=settings().gateway, instance=(InstanceSettings.model_validate(entry),))
    with hub_inside(tmp_path_factory.mktemp("prompt") / "data", chosen) as inside:
        wait_until(lambda: inside.count(lambda: len(inside.hub._scheduler.instances["a"].models)) == 1)
        wait_until(lambda: inside.hub._scheduler.instances["a"].state == "ready")
        yield inside


def running(hub: Inside) -> int:
    return hub.count(lambda: hub.hub._scheduler.instances["a"].running)


def lines(hub: Inside) -> list[dict[str, object]]:
    def flushed() -> int:
        hub.hub._access.flush()
        return 0

    hub.count(flushed)
    return [json.loads(line) for line in hub.access_log.getvalue().splitlines()]


def ask(wire: Wire, path: str = "/v1/chat/completions", body: bytes = ASK) -> None:
    wire.request("POST", path, body, content_type="application/json")


@contextmanager
def asking(hub: Inside, model: ScriptedModel) -> Iterator[tuple[Wire, Gate]]:
    """A client whose question is with the model, which waits for the gate."""
    gate = Gate()
    model.behaviour = gate.before(GOOD)
    with Wire(hub.port, hub.key) as wire:
        ask(wire)
        wait_until(lambda: gate.waiting == 1)
        yield wire, gate


def test_requests_that_wait_for_a_model_have_no_task(hub: Inside, model: ScriptedModel) -> None:
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(hub.port, hub.key)) for _ in range(20)]
        before = hub.tasks()
        for is_warm in (False, True):  # the first round opens 20 connections to the instance
            gate = Gate()
            model.behaviour = gate.before(GOOD)
            for wire in wires:
                ask(wire)
            wait_until(lambda: gate.waiting == 20)  # noqa: B023  # called in this round only
            assert running(hub) == 20
            if is_warm:
                assert hub.tasks() < before + 5, "health probes have some"
            gate.open()
            replies = [wire.reply() for wire in wires]
    model.behaviour = GOOD
    assert {(reply.status, reply.headers["x-autoglm-instance"]) for reply in replies} == {(200, "a")}
    assert len({reply.headers["x-request-id"] for reply in replies}) == 20
    assert running(hub) == 0


def test_a_client_that_leaves_meanwhile_frees_its_slot_and_is_written_down_once(
    hub: Inside, model: ScriptedModel
) -> None:
    before = len(lines(hub))
    with asking(hub, model) as (_, gate):
        assert running(hub) == 1
    wait_until(lambda: len(gate.left_s) == 1)
    wait_until(lambda: running(hub) == 0)
    model.behaviour = GOOD
    wait_until(lambda: len(lines(hub)) == before + 1)
    assert lines(hub)[-1]["status"] == 499


def test_garbage_behind_a_request_is_no_second_line(hub: Inside, model: ScriptedModel) -> None:
    before = len(lines(hub))
    with asking(hub, model) as (wire, gate):
        wire.send(b"\0garbage\r\n\r\n")
        gate.open()
        assert [wire.reply().status for _ in range(2)] == [200, 400]
        assert wire.is_closed()
    model.behaviour = GOOD
    assert [line["status"] for line in lines(hub)[before:]] == [200]
    assert running(hub) == 0


def test_a_body_that_breaks_off_is_written_down_as_what_was_answered(hub: Inside) -> None:
    before = len(lines(hub))
    with Wire(hub.port, hub.key) as wire:
        wire.send(wire.head("POST", "/api/messages", transfer_encoding="chunked") + b"2\r\n{}\r\n")
        wire.send(b"no length\r\n")
        reply = wire.reply()
        assert (reply.status, reply.json()["code"]) == (400, "invalid_http")
    wait_until(lambda: len(lines(hub)) == before + 1)
    assert (lines(hub)[-1]["status"], lines(hub)[-1]["request_id"]) == (400, reply.headers["x-request-id"])


def test_a_client_that_leaves_before_its_message_is_on_disk_has_sent_it(hub: Inside) -> None:
    body = json.dumps({"to": "user:gone", "content": "x"}).encode()
    before = len(lines(hub))
    for _ in range(20):
        with Wire(hub.port, hub.key) as wire:
            ask(wire, "/api/messages", body)
    wait_until(lambda: len(lines(hub)) == before + 20)
    assert {line["status"] for line in lines(hub)[before:]} <= {202, 499}
    with Wire(hub.port, hub.key) as wire:
        after = 0
        for _ in range(20):  # one after the other, as they reach the disk
            wire.request("GET", f"/api/messages?to=user:gone&after={after}&limit=1&wait=10")
            messages = wire.reply().json()["messages"]
            assert [message["seq"] > after for message in messages] == [True]
            after = messages[0]["seq"]
        wire.request("GET", f"/api/messages?to=user:gone&after={after}")
        assert wire.reply().json()["messages"] == []


def test_each_request_is_counted_and_written_down_once(hub: Inside, model: ScriptedModel) -> None:
    before = len(lines(hub))
    message = json.dumps({"id": "once", "to": "user:a", "content": "x"}).encode()
    wanted = [
        ("/v1/chat/completions", ASK, 200), ("/v1/chat/completions", b"{", 400), ("/api/messages", message, 202),
        ("/api/messages", message, 200), ("/api/messages", message.replace(b'"x"', b'"y"'), 409),
        ("/api/messages", b"[]", 400), ("/api/messages", message.replace(b"user:a", b"group:none"), 404),
        ("/v1/chat/completions", ASK.replace(b"echo-model", b"nobody"), 404),
    ]  # fmt: skip
    with Wire(hub.port, hub.key) as wire:
        statuses = []
        for path, body, _ in wanted:
            ask(wire, path, body)
            statuses.append(wire.reply().status)
        assert statuses[:-2] == [status for _, _, status in wanted[:-2]]
    wait_until(lambda: len(lines(hub)) == before + len(wanted))
    assert [line["status"] for line in lines(hub)[before:]] == statuses
    assert [line["path"] for line in lines(hub)[before:]] == [path for path, _, _ in wanted]


# --- what the log says ---


def test_a_line_has_its_time_as_the_other_lines_of_the_log(hub: Inside) -> None:
    before, before_s = len(lines(hub)), time.time()
    with Wire(hub.port, hub.key) as wire:
        wire.request("GET", "/healthz")
        wire.reply()
    wait_until(lambda: len(lines(hub)) == before + 1)
    line = lines(hub)[-1]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", str(line["time"]))
    assert -0.001 < datetime.fromisoformat(str(line["time"])).timestamp() - before_s < 5
    assert "code" not in line, "nothing was refused"


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_line_of_a_refused_request_says_why_and_whom_it_asked(
    hub: Inside, model: ScriptedModel, is_stream: bool
) -> None:
    before = len(lines(hub))
    model.behaviour = answering(500, {"error": {"message": "boom"}})
    with Wire(hub.port, hub.key) as wire:
        for name in ("echo-model", "auto", 'no"body\\'):
            ask(wire, body=json.dumps({"model": name, "stream": is_stream, "messages": []}).encode())
            wire.reply()
    model.behaviour = GOOD
    hub.loop.call_soon_threadsafe(hub.hub._scheduler.instances["a"].resume)  # its failures in a row are forgotten
    wait_until(lambda: len(lines(hub)) == before + 3)
    told = [[line[name] for name in ("status", "code", "model", "instance")] for line in lines(hub)[-3:]]
    assert told == [
        [502, "upstream_failed", "echo-model", "a"], [502, "upstream_failed", "echo-model", "a"],
        [404, "unknown_model", 'no"body\\\\', ""],
    ]  # fmt: skip
    assert 'no"body' not in call(hub.port, hub.key, "GET", "/metrics").body.decode(), "a client's words are no label"


def test_a_stream_that_broke_off_has_its_reason_in_the_log(hub: Inside, model: ScriptedModel) -> None:
    before, gate = len(lines(hub)), Gate()
    model.behaviour = gate.within(event("half"), b": cut\n\n")
    with Wire(hub.port, hub.key) as wire:
        ask(wire, body=json.dumps({"model": "echo-model", "stream": True, "messages": []}).encode())
        assert wire.start().status == 200
        gate.open()
        assert b"stopped without a finish reason" in b"".join(wire.chunks())
    model.behaviour = GOOD
    wait_until(lambda: len(lines(hub)) == before + 1)
    line = lines(hub)[-1]
    assert (line["status"], line["code"], line["model"]) == (200, "upstream_failed", "echo-model")


def test_what_a_terminal_shows_has_the_reason_too(hub: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    lines(hub)
    monkeypatch.setattr(hub.hub._access, "_form", text_line)
    size = len(hub.access_log.getvalue())
    with Wire(hub.port, hub.key) as wire:
        ask(wire, body=b'{"model": "\\u001b[31mred"}')
        assert wire.reply().status == 404
    wait_until(lambda: len(hub.access_log.getvalue()) > size)
    shown = hub.access_log.getvalue()[size:]
    hub.access_log.truncate(size)
    hub.access_log.seek(size)
    assert re.fullmatch(r"  POST  /v1/chat/completions 404 unknown_model \d+ ms \\x1b\[31mred\n", shown)


def test_a_bug_in_a_handler_is_a_500_and_the_connection_of_the_instance_lives(
    hub: Inside, model: ScriptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    with Wire(hub.port, hub.key) as wire:
        with monkeypatch.context() as patch:
            patch.setattr("autoglm.gateway.openai.usage_of", broken)
            ask(wire)
            reply = wire.reply()
            assert (reply.status, reply.json()["error"]["code"]) == (500, "internal")
        ask(wire)
        assert wire.reply().status == 200
    assert running(hub) == 0


def test_a_request_that_outlasts_the_drain_is_cut_off_by_the_server(tmp_path: Path) -> None:
    """It has no task that could be cancelled. Nor may the end of the pool, which comes later, make an error of it."""
    gate = Gate()
    with ScriptedModel(gate.before(GOOD)) as slow:
        entry = InstanceSettings(name="a", provider="openai", base_url=slow.url, models=("echo-model",))
        chosen = Settings(gateway=GatewaySettings(port=0, drain_s=1.0), instance=(entry,))
        with hub_inside(tmp_path / "data", chosen) as hub, Wire(hub.port, hub.key) as wire:
            wait_until(lambda: hub.hub._scheduler.instances["a"].state == "ready")
            ask(wire)
            wait_until(lambda: gate.waiting == 1)
            hub.stop()
            with pytest.raises(ConnectionError, match="left: b''"):
                wire.reply()
        wait_until(lambda: len(gate.left_s) == 1)
        assert [json.loads(line)["status"] for line in hub.access_log.getvalue().splitlines()] == [499]
