"""The Python client against real hubs: it finds them, survives their restarts, and tells the truth about failures."""

import fcntl
import json
import math
import os
import re
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Self

import pytest
import trustme

from autoglm import Client
from autoglm.client import BrokenAnswer, ConnectionLost, HubProblem, NoHub, NoKey
from autoglm.client.events import EventParser, ServerSent
from autoglm.rendezvous import HubAddress, find_hub
from hub import HubProcess, instance_config, running_hub
from scripted_model import ScriptedModel, answering, event, streaming

KEYS = """
[[key]]
name = "poor"
value = "sk-poor"
scopes = ["read:message:user:poor"]
address = "user:poor"
"""


@pytest.fixture(scope="module")
def model() -> Iterator[ScriptedModel]:
    with ScriptedModel() as model:
        yield model


@pytest.fixture(scope="module")
def hub(model: ScriptedModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    with running_hub(tmp_path_factory.mktemp("client") / "d", instance_config("a", model.url) + KEYS) as hub:
        yield hub


@pytest.fixture
def client(hub: HubProcess) -> Iterator[Client]:
    with Client(data_dir=hub.data_dir) as client:
        yield client


def fresh_address() -> str:
    return f"user:{uuid.uuid4()}"


class Cutter:
    """Passes connections on to a hub, and cuts the first ones off at the moment the hub begins to answer."""

    def __init__(self, port: int, cuts: float) -> None:
        self._port, self._cuts = port, cuts
        self.connections = 0

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._port)) as upstream:
            threading.Thread(target=pump, args=(client, upstream), daemon=True).start()
            first = upstream.recv(65_536)
            self._cuts -= 1
            if self._cuts < 0:
                client.sendall(first)
                pump(upstream, client)
            client.shutdown(socket.SHUT_RDWR)


def pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65_536):
            target.sendall(data)
    except OSError:
        pass


# --- finding the hub ---


def test_the_running_hub_is_found_by_its_folder(hub: HubProcess, client: Client) -> None:
    assert client.me()["principal"] == "admin"
    assert client.url == hub.url


def test_without_a_hub_the_way_to_one_is_told(tmp_path: Path) -> None:
    with Client(data_dir=tmp_path) as client, pytest.raises(NoHub, match=r"start it with: \S*autoglm up --data"):
        client.me()


@pytest.mark.parametrize(
    ("url", "started"),
    [
        ("http://127.0.0.1:1", "autoglm up --port 1"),
        ("http://[::1]:2", "autoglm up --port 2"),
        ("http://127.0.0.1:8600", "autoglm up"),
        ("http://hub.example:9000", "autoglm up"),
        ("https://localhost:9000", "autoglm up"),
    ],
)
def test_the_way_to_a_hub_leads_to_the_port_that_was_asked(url: str, started: str) -> None:
    assert re.search(rf"start it with: \S*{re.escape(started)}$", str(NoHub(url)))


def test_the_way_to_a_hub_that_is_gone_leads_to_its_port(tmp_path: Path) -> None:
    (tmp_path / "hub.json").write_text('{"url": "http://127.0.0.1:9000", "pid": 1}')
    with pytest.raises(NoHub, match=r"is gone\); start it with: \S*autoglm up --port 9000 --data"):
        find_hub(data_dir=tmp_path)


@pytest.mark.parametrize("state", ["", "{}", "[1]", '{"url": 5, "pid": "x"}', '{"url": "ftp://x", "pid": %d}'])
def test_a_strange_state_file_is_no_hub(tmp_path: Path, state: str) -> None:
    (tmp_path / "hub.json").write_text(state.replace("%d", str(os.getpid())))
    with pytest.raises(NoHub):
        find_hub(data_dir=tmp_path)


def test_what_a_killed_hub_left_behind_is_no_hub(tmp_path: Path) -> None:
    """The port may belong to a stranger by now, who must not get the key."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (tmp_path / "hub.json").write_text(json.dumps({"url": "http://127.0.0.1:8600", "pid": ended.pid}))
    (tmp_path / "admin.key").write_text("ag-1")
    with pytest.raises(NoHub, match=f"process {ended.pid}, is gone"):
        find_hub(data_dir=tmp_path)


def test_a_hub_that_listens_everywhere_is_reached_on_this_machine(tmp_path: Path) -> None:
    (tmp_path / "admin.key").write_text("ag-1\n")
    with (tmp_path / "hub.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for host, local in (("0.0.0.0", "127.0.0.1"), ("[::]", "[::1]")):
            (tmp_path / "hub.json").write_text(json.dumps({"url": f"https://{host}:1", "pid": os.getpid()}))
            assert find_hub(data_dir=tmp_path) == HubAddress(f"https://{local}:1", "ag-1")


def test_a_stranger_with_the_pid_of_a_dead_hub_gets_no_key(tmp_path: Path) -> None:
    """This process lives, but holds no hub's folder."""
    (tmp_path / "admin.key").write_text("ag-1\n")
    (tmp_path / "hub.lock").touch()
    (tmp_path / "hub.json").write_text(json.dumps({"url": "http://127.0.0.1:1", "pid": os.getpid()}))
    with pytest.raises(NoHub, match="is gone"):
        find_hub(data_dir=tmp_path)


def test_the_admin_key_stays_on_this_machine(tmp_path: Path) -> None:
    (tmp_path / "admin.key").write_text("ag-1")
    for url in ("http://hub.example", "https://10.0.0.1:8600", "http://127.0.0.1.evil.example"):
        with pytest.raises(NoKey, match="is not on this machine"):
            find_hub(url, data_dir=tmp_path)
    assert find_hub("http://127.0.0.1:8600/", data_dir=tmp_path).key == "ag-1"


@pytest.mark.parametrize("key", ["", "a\nb", "schlüssel", "a\0"])
def test_a_key_that_cannot_be_one_is_refused_without_showing_it(key: str) -> None:
    with pytest.raises(NoKey) as raised:
        find_hub("http://127.0.0.1:1", key)
    assert not key or key not in str(raised.value)


def test_keys_do_not_show() -> None:
    assert "secret" not in repr(HubAddress("http://x", "secret-1"))


def test_proxies_of_the_environment_do_not_come_between(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert client.me()["principal"] == "admin"


def test_a_hub_with_tls_needs_its_authority(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    data, ca_file = tmp_path / "d", tmp_path / "ca.pem"
    data.mkdir()
    authority.cert_pem.write_to_path(ca_file)
    certificate.cert_chain_pems[0].write_to_path(data / "c.pem")
    certificate.private_key_pem.write_to_path(data / "k.pem")
    config = '[gateway]\ntls_certificate_file = "c.pem"\ntls_key_file = "k.pem"\n'
    with running_hub(data, config):
        with Client(data_dir=data, ca_file=ca_file) as client:
            assert client.me()["principal"] == "admin"
        with Client(data_dir=data) as client, pytest.raises(NoHub, match=r"certificate is not trusted here.*--ca-file"):
            client.me()


# --- failures ---


def test_a_refusal_has_the_code_and_the_words_of_the_hub(hub: HubProcess, client: Client) -> None:
    with pytest.raises(HubProblem, match="did you mean 'user:alice'") as raised:
        client.send("alice", "x")
    assert (raised.value.code, raised.value.status, raised.value.retryable) == ("invalid_field", 400, False)
    with Client(hub.url, "sk-poor") as poor, pytest.raises(HubProblem, match="lacks the scope") as raised:
        poor.ask("x", model="echo-model")
    assert raised.value.code == "forbidden"
    with Client(hub.url, "wrong") as stranger, pytest.raises(HubProblem, match="does not know the key"):
        stranger.me()


def test_something_else_than_a_hub_is_recognised(model: ScriptedModel) -> None:
    model.behaviour = answering(404, b"<h1>Not here</h1>")
    with (
        Client(model.url, "k") as client,
        pytest.raises(HubProblem, match="HTTP 404: <h1>Not here</h1>; is this a hub"),
    ):
        client.send("user:a", "x")


# --- messages ---


def test_a_message_is_stored_once_when_the_connection_is_lost(hub: HubProcess, client: Client) -> None:
    """The hub took the message, but its answer never came back: the repeat carries the same id."""
    to = fresh_address()
    with Cutter(hub.port, cuts=2) as cutter, Client(cutter.url, hub.admin_key) as unlucky:
        sent = unlucky.send(to, "once")
        assert cutter.connections == 3
    [message] = client.inbox(to).messages
    assert (message["id"], message["content"], message["seq"]) == (sent.id, "once", sent.seq)


def test_a_hub_that_keeps_breaking_off_is_given_up(hub: HubProcess) -> None:
    with Cutter(hub.port, cuts=math.inf) as cutter, Client(cutter.url, hub.admin_key, patience_s=0.3) as unlucky:
        with pytest.raises(ConnectionLost):
            unlucky.send("user:x", "x")
        assert cutter.connections > 1


def test_sending_waits_for_a_hub_that_restarts_on_another_port(tmp_path: Path) -> None:
    with running_hub(tmp_path / "d") as hub, Client(data_dir=hub.data_dir, patience_s=30.0) as client:
        first = client.send("user:x", "before")
        hub.kill()
        hub.port = 0
        restart = threading.Thread(target=hub.start)
        restart.start()
        second = client.send("user:x", "after")
        restart.join()
        assert [m["content"] for m in client.inbox("user:x").messages] == ["before", "after"]
        assert second.seq > first.seq


def test_following_misses_nothing_and_repeats_nothing(tmp_path: Path) -> None:
    drops: list[str] = []
    with running_hub(tmp_path / "d") as hub, Client(data_dir=hub.data_dir) as client:
        ids = [client.send("user:x", str(number)).id for number in range(3)]
        events = client.follow("user:x", on_drop=lambda error: drops.append(str(error)))
        seen = [event.data["id"] for event in islice(events, 3)]
        hub.stop()
        hub.start()
        with Client(data_dir=hub.data_dir) as other:
            ids += [other.send("user:x", str(number)).id for number in range(3)]
        seen += [event.data["id"] for event in islice(events, 3)]
    assert seen == ids
    assert len(drops) <= 1


def test_following_tells_the_sender_what_became_of_it(client: Client) -> None:
    sender, to = fresh_address(), fresh_address()
    sent = client.send(to, "x", from_=sender)
    client.ack(sent.id, state="read")
    event = next(client.follow(sender))
    assert (event.kind, event.data["message"], event.data["state"]) == ("receipt", sent.id, "read")
    assert [step["state"] for step in client.receipts(sent.id)] == ["accepted", "read"]


def test_following_ends_at_a_refusal(hub: HubProcess) -> None:
    with Client(hub.url, "sk-poor") as poor, pytest.raises(HubProblem, match="read:message:user:other"):
        next(poor.follow("user:other"))


def test_a_page_of_messages_leads_to_the_next(client: Client) -> None:
    to = fresh_address()
    for number in range(3):
        client.send(to, str(number))
    first = client.inbox(to, limit=2)
    second = client.inbox(to, after=first.next, limit=2)
    assert [m["content"] for m in first.messages + second.messages] == ["0", "1", "2"]
    assert client.inbox(to, after=second.next, wait_s=0.01).messages == []


def test_ids_may_hold_any_visible_character(client: Client) -> None:
    id = f"a/b?c#d%{uuid.uuid4()}"
    client.send(fresh_address(), "x", id=id)
    client.ack(id)
    assert client.message(id)["id"] == id


# --- models ---


def test_an_answer_comes_in_pieces(client: Client, model: ScriptedModel) -> None:
    usage = b'data: {"choices": [], "usage": {"total_tokens": 3}}\n\n'
    model.behaviour = streaming(event("行\u2028"), event("two", "stop"), usage, b"data: [DONE]\r\n\r\n")
    answer = client.ask([{"role": "user", "content": "x"}], temperature=0.5)
    assert list(answer) == ["行\u2028", "two"]
    assert (answer.text, answer.model, answer.instance) == ("行\u2028two", "echo-model", "a")
    assert (answer.usage, answer.finish_reason) == ({"total_tokens": 3}, "stop")
    assert model.requests[-1].json()["temperature"] == 0.5


def test_an_answer_that_stops_early_is_broken(client: Client, model: ScriptedModel) -> None:
    model.behaviour = streaming(event("half"), closes=True)
    answer = client.ask("x")
    with pytest.raises(BrokenAnswer):
        answer.read()
    assert answer.text == "half"


def test_a_stream_without_an_end_is_broken_even_when_the_connection_ends_in_order(model: ScriptedModel) -> None:
    """A proxy between client and hub can do this."""
    model.behaviour = streaming(event("half"))
    with Client(model.url.removesuffix("/v1"), "k") as client, pytest.raises(BrokenAnswer, match="in the middle"):
        client.ask("x").read()


def test_a_task_is_worked_on_in_the_background(client: Client, model: ScriptedModel) -> None:
    model.behaviour = answering(200, {"choices": [{"message": {"content": "done"}, "finish_reason": "stop"}]})
    id = client.submit({"model": "auto", "messages": [{"role": "user", "content": "x"}]}, priority=9)
    task = client.task(id, wait_s=20.0)
    assert (task["state"], task["result"]["choices"][0]["message"]["content"]) == ("done", "done")
    assert client.cancel_task(id)["state"] == "done"


def test_the_hub_tells_about_itself(client: Client) -> None:
    assert client.models() == ["auto", "echo-model"]
    assert [instance["name"] for instance in client.pool()] == ["a"]
    assert client.resume("a")["name"] == "a"
    assert {"name", "available", "why"} <= set(client.capabilities()[0])


# --- parts ---


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_events_do_not_depend_on_how_bytes_arrive(end: str) -> None:
    """Cut in two at every place, and byte by byte."""
    lines = [": hi", "id: 7", "event: delta", "data: 中\u2028文\x0b", "data: b", "", "data:x", "", "id: 8", ""]
    stream = (end.join(lines) + end).encode()
    ways = [[stream[:cut], stream[cut:]] for cut in range(len(stream))]
    for pieces in [*ways, [bytes([byte]) for byte in stream]]:
        parser = EventParser()
        events = [event for piece in [*pieces, b"\n"] for event in parser.feed(piece)]
        assert events == [ServerSent("delta", "中\u2028文\x0b\nb", "7"), ServerSent("message", "x", "7")]


def test_the_package_is_light_until_it_is_used() -> None:
    """A local worker and `autoglm --help` import the package, and must not pay for the client and the hub."""
    code = "import sys, autoglm.core.errors; print([n for n in ('httpx2', 'uvicorn', 'pydantic') if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
    code = "import autoglm; print(autoglm.Hub.__name__, autoglm.Client.__name__, hasattr(autoglm, 'Nothing'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "Hub Client False\n"
