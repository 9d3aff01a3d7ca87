"""SIGTERM: what runs comes to its end, nothing new begins, and the end has a limit."""

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from eventually import wait_until
from gateway.openai_hub import Wire, chat
from hub import HubProcess, instance_config, running_hub
from scripted_model import Gate, ScriptedModel, echo, event

DONE = b"data: [DONE]\n\n"


@contextmanager
def hub_before(model: ScriptedModel, folder: Path, drain_s: float = 30.0) -> Iterator[HubProcess]:
    config = f"[gateway]\ndrain_s = {drain_s}\n" + instance_config("a", model.url, ("solo",), slots=1)
    with running_hub(folder / "data", config) as hub, hub.client() as client:
        wait_until(lambda: client.get("/api/pool").json()["instances"][0]["state"] == "ready")
        yield hub


def connect(hub: HubProcess) -> Wire:
    return Wire(socket.create_connection(("127.0.0.1", hub.port), timeout=20), hub.admin_key)


def refuses_connections(hub: HubProcess) -> bool:
    try:
        socket.create_connection(("127.0.0.1", hub.port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


def wait_for(hub: HubProcess) -> int:
    """The exit status of a hub that was told to end."""
    wait_until(lambda: not hub.is_running, 30)
    return hub.stop()  # it is over: this reads its status


def term(hub: HubProcess) -> None:
    os.kill(hub.pid, signal.SIGTERM)


def test_a_running_stream_ends_completely_and_new_connections_are_refused(tmp_path: Path) -> None:
    gate = Gate()
    stream = gate.within(event("first"), event("last", "stop") + DONE)
    with ScriptedModel(stream) as model, hub_before(model, tmp_path) as hub, connect(hub) as wire:
        wire.ask(chat(stream=True))
        reply = wire.response()
        assert b"first" in reply.readline()
        term(hub)
        wait_until(lambda: refuses_connections(hub))
        assert hub.is_running
        gate.open()
        assert reply.read().endswith(DONE)
        assert wait_for(hub) == 0


def test_a_connection_that_is_open_hears_that_nothing_new_begins(tmp_path: Path) -> None:
    body = json.dumps(chat()).encode()
    with ScriptedModel() as model, hub_before(model, tmp_path) as hub, connect(hub) as wire:
        wire.socket.sendall(wire.head(Content_Length=len(body), Expect="100-continue"))
        assert wire.socket.recv(9) == b"HTTP/1.1 ", "it waits for the body"
        while b"\r\n\r\n" not in wire.socket.recv(100):
            pass
        term(hub)
        wait_until(lambda: refuses_connections(hub))
        wire.socket.sendall(body)
        reply = wire.response()
        assert (reply.status, json.loads(reply.read())["error"]["code"]) == (503, "draining")
        assert wait_for(hub) == 0


def test_a_request_that_waits_for_its_slot_is_still_answered(tmp_path: Path) -> None:
    gate = Gate()
    with (
        ScriptedModel(gate.before(echo)) as model,
        hub_before(model, tmp_path) as hub,
        connect(hub) as running,
        connect(hub) as waiting,
        hub.client() as client,
    ):
        running.ask(chat("first"))
        wait_until(lambda: gate.waiting)
        waiting.ask(chat("second"))
        wait_until(lambda: client.get("/api/pool").json()["waiting"] == 1)
        term(hub)
        wait_until(lambda: refuses_connections(hub))
        gate.open()
        for wire, text in ((running, "first"), (waiting, "second")):
            assert json.loads(wire.response().read())["choices"][0]["message"]["content"] == f"You said: {text}"
        assert wait_for(hub) == 0


@pytest.mark.parametrize("path", ["/api/messages?to=user:admin&wait=50", "/api/tasks/t1?wait=50"])
def test_long_polls_return_at_once(tmp_path: Path, path: str) -> None:
    gate = Gate()
    with ScriptedModel(gate.before(echo)) as model, hub_before(model, tmp_path) as hub, hub.client() as client:
        client.post("/api/tasks", json={"id": "t1", "request": chat()})
        wait_until(lambda: gate.waiting)
        with connect(hub) as wire:
            head = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {hub.admin_key}\r\n\r\n"
            wire.socket.sendall(head.encode())
            wait_until(lambda: established(hub, 2))
            started_s = time.monotonic()
            term(hub)
            assert wire.response().status == 200
            assert wait_for(hub) == 0
            assert time.monotonic() - started_s < 5.0


def established(hub: HubProcess, count: int) -> bool:
    """True when so many connections to the hub's port are open."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    port = f":{hub.port:04X}"
    return sum(line.split()[1].endswith(port) and line.split()[3] == "01" for line in lines) >= count


def test_a_stream_longer_than_the_limit_is_cut_visibly_and_the_hub_ends(tmp_path: Path) -> None:
    gate = Gate()
    stream = gate.within(event("first"), event("never"))
    with ScriptedModel(stream) as model, hub_before(model, tmp_path, drain_s=1.0) as hub, connect(hub) as wire:
        wire.ask(chat(stream=True))
        reply = wire.response()
        assert b"first" in reply.readline()
        started_s = time.monotonic()
        term(hub)
        rest = reply.read().decode()
        assert '"code":"draining"' in rest
        assert wait_for(hub) == 0
        assert 0.9 < time.monotonic() - started_s < 6.0
        assert gate.left_s, "the upstream was told to stop, too"


def test_a_second_signal_ends_the_hub_at_once(tmp_path: Path) -> None:
    gate = Gate()
    stream = gate.within(event("first"), event("never"))
    with ScriptedModel(stream) as model, hub_before(model, tmp_path) as hub, connect(hub) as wire:
        wire.ask(chat(stream=True))
        assert b"first" in wire.response().readline()
        term(hub)
        wait_until(lambda: refuses_connections(hub))
        started_s = time.monotonic()
        term(hub)
        assert wait_for(hub) == 1
        assert time.monotonic() - started_s < 2.0


def test_an_idle_hub_ends_soon(tmp_path: Path) -> None:
    with ScriptedModel() as model, hub_before(model, tmp_path) as hub, hub.client() as client:
        assert client.get("/healthz").status_code == 200  # leaves an idle connection behind
        started_s = time.monotonic()
        assert hub.stop() == 0
        assert time.monotonic() - started_s < 5.0
