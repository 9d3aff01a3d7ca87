"""What one client may cost the hub: scopes, rates, places, silence, and a disk that is full."""

import asyncio
import gc
import json
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from autoglm.auth.settings import KeySettings
from autoglm.gateway import server
from autoglm.gateway.http1 import HttpConnection
from autoglm.inference.settings import InstanceSettings
from autoglm.settings import Settings
from autoglm.store import StoreSettings
from eventually import wait_until
from gateway.inside import Inside, hub_inside, settings
from gateway.wire import Reply, Wire, call, stream
from hub import running_hub
from scripted_model import STREAM_HEAD, Request, ScriptedModel, chunk, echo, event
from small_disk import filled, mounted_disk

SCOPES = {
    "none": [],
    "own": ["send:message:device:own", "read:message:device:own"],
    "sender": ["send:message"],
    "reader": ["read:message:user:*"],
    "asker": ["send:message:device:asker", "model:use:echo-*"],
    "slow": ["read:message"],
}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    keys = [{"name": name, "value": f"sk-{name}", "scopes": scopes} for name, scopes in SCOPES.items()]
    keys[-1]["rate_per_minute"] = 3  # type: ignore[assignment]  # pydantic reads it
    chosen = Settings(gateway=settings().gateway, key=tuple(KeySettings.model_validate(key) for key in keys))
    with hub_inside(tmp_path_factory.mktemp("limits") / "data", chosen) as inside:
        yield inside


def post(hub: Inside, key: str, **message: Any) -> Reply:
    return call(hub.port, f"sk-{key}" if key else hub.key, "POST", "/api/messages", {"content": "x", **message})


# --- scopes ---


@pytest.mark.parametrize(
    ("key", "message", "scope"),
    [
        ("none", {"to": "user:a"}, "send:message:device:none"),
        ("own", {"to": "user:a", "from": "user:admin"}, "send:message:user:admin"),
        ("reader", {"to": "user:a"}, "send:message:device:reader"),
        ("sender", {"to": "model:auto"}, "model:use:auto"),
        ("asker", {"to": "model:glm-4"}, "model:use:glm-4"),
    ],
)
def test_who_may_not_send_is_told_which_scope_is_missing(
    hub: Inside, key: str, message: dict[str, str], scope: str
) -> None:
    reply = post(hub, key, **message)
    assert (reply.status, reply.json()["code"], reply.json()["scope"]) == (403, "forbidden", scope)


def test_who_may_send_sends_as_itself_or_as_its_scopes_say(hub: Inside) -> None:
    assert post(hub, "own", to="user:a").status == 202
    assert post(hub, "own", **{"to": "user:a", "from": "device:own"}).status == 202
    assert post(hub, "sender", **{"to": "user:a", "from": "user:whoever"}).status == 202
    assert post(hub, "asker", to="model:echo-model").json()["code"] == "unknown_recipient"  # past the scopes


def test_an_own_address_is_read_only_by_a_scope_for_it(hub: Inside) -> None:
    for key, address, status in (
        ("own", "device:own", 200), ("own", "device:other", 403), ("none", "device:none", 403),
        ("sender", "device:sender", 403), ("reader", "user:a", 200), ("reader", "device:reader", 403),
    ):  # fmt: skip
        for path in (f"/api/messages?to={address}", f"/api/messages/stream?to={address}"):
            with Wire(hub.port, f"sk-{key}") as wire:
                wire.request("GET", path)
                assert wire.start().status == status, (key, path)


@pytest.mark.attack("probing for messages of others")
def test_a_message_of_others_is_as_unknown_as_one_that_never_was(hub: Inside) -> None:
    id = post(hub, "", to="user:private", id="private-1").json()["id"]
    for method, tail in (("GET", ""), ("GET", "/receipts"), ("POST", "/ack")):
        path = f"/api/messages/{id}{tail}"
        hidden = call(hub.port, "sk-own", method, path)
        missing = call(hub.port, "sk-own", method, path.replace(id, "missing-1"))
        assert hidden.status == missing.status == 404
        same = re.sub(r"urn:request:[^\"]*", "", hidden.body.decode()).replace(id, "missing-1")
        assert same == re.sub(r"urn:request:[^\"]*", "", missing.body.decode())
        assert "user:private" not in hidden.body.decode()
    assert call(hub.port, "sk-reader", "GET", f"/api/messages/{id}").status == 200


def test_a_sender_sees_its_message_and_a_member_the_group_s(hub: Inside) -> None:
    own = post(hub, "own", to="user:a").json()["id"]
    assert call(hub.port, "sk-own", "GET", f"/api/messages/{own}/receipts").status == 200
    assert call(hub.port, "sk-own", "POST", f"/api/messages/{own}/ack").json()["scope"] == "read:message:user:a"
    call(hub.port, hub.key, "PUT", "/api/groups/crew", {"members": ["device:own"]})
    to_crew = post(hub, "", to="group:crew").json()["id"]
    assert call(hub.port, "sk-own", "GET", f"/api/messages/{to_crew}").status == 200
    assert call(hub.port, "sk-own", "POST", f"/api/messages/{to_crew}/ack", {"by": "device:own"}).status == 200
    assert call(hub.port, "sk-asker", "GET", f"/api/messages/{to_crew}").status == 404


def test_groups_are_made_by_administrators_and_seen_by_their_readers(hub: Inside) -> None:
    call(hub.port, hub.key, "PUT", "/api/groups/seen", {"members": []})
    for method in ("PUT", "DELETE"):
        assert call(hub.port, "sk-own", method, "/api/groups/seen", {"members": []}).json()["scope"] == "admin:groups"
    assert call(hub.port, "sk-own", "GET", "/api/groups/seen").status == 403
    assert call(hub.port, "sk-own", "GET", "/api/groups").json() == {"groups": []}
    assert "seen" in str(call(hub.port, hub.key, "GET", "/api/groups").json())


# --- rates and places ---


def test_a_key_s_rate_is_kept_and_says_when_to_come_back(hub: Inside) -> None:
    replies = [call(hub.port, "sk-slow", "GET", "/api/messages?to=user:a") for _ in range(4)]
    assert [reply.status for reply in replies] == [200, 200, 200, 429]
    assert replies[3].json()["code"] == "rate_limited"
    assert 1 <= int(replies[3].headers["retry-after"]) <= 20
    assert call(hub.port, hub.key, "GET", "/api/me").status == 200


def test_more_clients_than_there_are_places_are_told_to_come_back(tmp_path: Path) -> None:
    with hub_inside(tmp_path / "data", settings(max_connections=5)) as hub:
        wires = [Wire(hub.port, hub.key) for _ in range(8)]
        try:
            for wire in wires:
                wire.request("GET", "/api/me")
            replies = [wire.reply() for wire in wires]
            refused = next(reply for reply in replies if reply.status == 503)
            assert (refused.json()["code"], refused.headers["retry-after"]) == ("too_many_connections", "2")
            assert refused.headers["content-type"] == "application/problem+json"
            assert refused.headers["x-request-id"]
        finally:
            for wire in wires:
                wire.close()
        wait_until(lambda: call(hub.port, hub.key, "GET", "/api/me").status == 200)


# --- silence ---


@pytest.mark.attack("slowloris: silence in a request")
@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", None),
        (b"GET /api/me HTTP/1.1\r\nHost: x\r\n", "request_timeout"),
        (
            b"POST /api/messages HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\nContent-Length: 9\r\n\r\n{",
            "request_timeout",
        ),
    ],
    ids=["nothing", "half-a-head", "half-a-body"],
)
def test_a_client_that_falls_silent_in_a_request_loses_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, code: str | None
) -> None:
    monkeypatch.setattr("autoglm.gateway.server.SILENT_S", 0.3)
    monkeypatch.setattr("autoglm.gateway.server._ROUND_TICKS", 1)
    with hub_inside(tmp_path / "data") as hub, Wire(hub.port, hub.key) as wire:
        wait_until(lambda: hub.has_task("Correspondent._retry"))  # the last that starts
        before = hub.tasks()
        with Wire(hub.port, hub.key) as waiting:
            waiting.request("GET", "/api/messages?to=user:a&wait=1.5")  # silent, but not in the middle of anything
            wire.send(data.replace(b"%b", hub.key.encode()))
            if code is not None:
                reply = wire.reply()
                assert (reply.status, reply.json()["code"], reply.headers["connection"]) == (408, code, "close")
            assert wire.is_closed()
            assert waiting.reply().status == 200
        wait_until(lambda: hub.tasks() <= before)


@pytest.mark.parametrize(("idle_s", "is_kept"), [(server.IDLE_S - 1, True), (server.IDLE_S + 1, False)])
def test_a_connection_without_a_request_is_closed_after_its_time_and_not_before(
    hub: Inside, idle_s: float, is_kept: bool
) -> None:
    """The round gets the time at which it is made, so that nobody has to wait for it."""
    house = hub.hub._server._house
    wait_until(lambda: hub.count(lambda: len(house.connections)) == 0)
    with Wire(hub.port, hub.key) as wire:
        wire.request("GET", "/api/me")
        assert wire.reply().status == 200

        def make_a_round() -> int:
            (connection,) = house.connections
            assert isinstance(connection, HttpConnection)
            hub.hub._server._send_silent_away(connection.heard_s + idle_s)
            return connection.transport.is_closing()

        assert hub.count(make_a_round) == (not is_kept)
        if is_kept:
            wire.request("GET", "/api/me")
            assert wire.reply().status == 200
        else:
            assert wire.is_closed()


def held_bytes() -> int:
    """What the hub holds for its HTTP clients beyond the kernel's buffers."""
    open_ones = [entry for entry in gc.get_objects() if type(entry) is HttpConnection and entry.running is not None]
    return sum(entry.transport.get_write_buffer_size() for entry in open_ones if not entry.transport.is_closing())


@pytest.mark.attack("slow reading")
def test_a_reader_of_a_stream_that_does_not_read_is_not_read_for_in_memory(hub: Inside) -> None:
    """What it has not taken stays in the log; the kernel's buffers and one message are all there is of it."""
    count, size = 100, 100_000
    with socket.socket() as plain:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        plain.connect(("127.0.0.1", hub.port))
        head = f"GET /api/messages/stream?to=user:lazy HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {hub.key}\r\n\r\n"
        plain.sendall(head.encode())
        wait_until(lambda: hub.count(lambda: hub.hub._messages.waiting) == 1)
        for number in range(count):
            assert post(hub, "", to="user:lazy", content=f"{number} " + "x" * size).status == 202
        with stream(hub.port, hub.key, "to=user:lazy") as (_, events):
            numbers = [next(events)["data"]["content"].split(" ")[0] for _ in range(count)]
        assert numbers == [str(number) for number in range(count)]
        assert hub.count(held_bytes) < 1 << 20  # of 10 MB
    wait_until(lambda: hub.count(lambda: hub.hub._messages.waiting) == 0)


@pytest.mark.attack("slow reading")
def test_a_client_that_stops_reading_gives_its_slot_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else four sleeping laptops would hold the whole default model."""
    monkeypatch.setattr("autoglm.gateway.server.SILENT_S", 0.5)
    monkeypatch.setattr("autoglm.gateway.server._ROUND_TICKS", 1)

    async def pour(request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if b"endless" not in request.body:
            return await echo(request, reader, writer)
        writer.write(STREAM_HEAD)
        while True:
            writer.write(chunk(event("x" * 60_000)))
            await writer.drain()

    with ScriptedModel(pour) as model:
        instance = {"name": "a", "provider": "openai", "base_url": model.url, "models": ["echo-model"], "slots": 1}
        chosen = Settings(gateway=settings().gateway, instance=(InstanceSettings.model_validate(instance),))
        with hub_inside(tmp_path / "data", chosen) as hub, Wire(hub.port, hub.key) as sleeper:
            body = {"model": "echo-model", "stream": True, "messages": [{"role": "user", "content": "endless"}]}
            sleeper.request("POST", "/v1/chat/completions", json.dumps(body).encode())
            wait_until(lambda: bool(model.requests))
            body = {"model": "echo-model", "messages": [{"role": "user", "content": "me too"}]}
            reply = call(hub.port, hub.key, "POST", "/v1/chat/completions", body)
            assert reply.status == 200, reply


def test_a_length_of_thousands_of_zeros_is_a_length(hub: Inside) -> None:
    with Wire(hub.port, hub.key) as wire:
        head = wire.head("POST", "/api/messages", content_length="0" * 5000 + "2")
        wire.send(head + b"{}")
        assert wire.reply().json()["code"] == "invalid_field"


def test_a_full_write_queue_refuses_and_does_not_end_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The retention and the cursors write, too, and must bear a refusal."""
    monkeypatch.setattr("autoglm.app._TRIM_S", 0.0)
    chosen = Settings(gateway=settings().gateway, store=StoreSettings(max_queued_operations=2))
    with hub_inside(tmp_path / "data", chosen) as hub, ThreadPoolExecutor(8) as clients:
        message = {"to": "user:a", "content": "x"}
        replies = list(clients.map(lambda _: call(hub.port, hub.key, "POST", "/api/messages", message), range(200)))
        assert {reply.status for reply in replies} == {202, 429}
        assert call(hub.port, "", "GET", "/healthz").status == 200


def test_a_reader_of_users_acknowledges_a_group_s_message_for_one(hub: Inside) -> None:
    call(hub.port, hub.key, "PUT", "/api/groups/crew", {"members": ["user:c1"]})
    id = post(hub, "", to="group:crew").json()["id"]
    ack = call(hub.port, "sk-reader", "POST", f"/api/messages/{id}/ack", {"by": "user:c1"})
    assert (ack.status, ack.json().get("state")) == (200, "acknowledged")
    assert call(hub.port, "sk-reader", "POST", f"/api/messages/{id}/ack", {"by": "user:c2"}).status == 404


# --- a full disk ---


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted_disk(tmp_path) as disk:
        yield disk


@pytest.mark.parametrize("folder", [".", "data"], ids=["log-elsewhere", "log-on-the-same-disk"])
def test_on_a_full_disk_reads_go_on_and_writes_come_back_with_the_space(small_disk: Path, folder: str) -> None:
    with running_hub(small_disk / folder) as hub:
        key = hub.admin_key

        def send(id: str, **fields: Any) -> Reply:
            return call(
                hub.port, key, "POST", "/api/messages", {"to": "user:a", "content": "x" * 200_000, "id": id, **fields}
            )

        assert send("before").status == 202
        with filled(small_disk):
            refused = send("during")
            assert (refused.status, refused.json()["code"], refused.headers["retry-after"]) == (
                507,
                "storage_full",
                "10",
            )
            assert send("before").status in (200, 507)
            ack = call(hub.port, key, "POST", "/api/messages/before/ack")
            assert ack.status in (200, 507)  # so small that a page may still have room for it
            wait_until(lambda: call(hub.port, "", "GET", "/readyz").status == 503)  # it tries once a second
            assert "no space left" in call(hub.port, "", "GET", "/readyz").json()["reasons"][0]
            assert [
                message["id"] for message in call(hub.port, key, "GET", "/api/messages?to=user:a").json()["messages"]
            ] == ["before"]
            assert call(hub.port, key, "GET", "/api/messages/during").status == 404
            assert call(hub.port, "", "GET", "/healthz").status == 200
        assert send("during").status == 202
        wait_until(lambda: call(hub.port, "", "GET", "/readyz").status == 200)  # it tries once a second
        got = call(hub.port, key, "GET", "/api/messages?to=user:a").json()["messages"]
        assert [message["id"] for message in got] == ["before", "during"]
        assert "Traceback" not in hub.log()
        assert json.dumps("x" * 100) not in hub.log()


# --- secrets ---


@pytest.mark.attack("secrets in logs")
def test_keys_and_messages_are_in_no_log_and_the_key_in_no_database(tmp_path: Path) -> None:
    with running_hub(tmp_path / "data") as hub:
        key = hub.admin_key
        for _ in range(3):
            call(hub.port, key, "POST", "/api/messages", {"to": "user:a", "content": "my secret words"})
        call(hub.port, key + "x", "GET", "/api/me")
        call(hub.port, key, "POST", "/api/messages", b'{"to": "my secret words", "content": 1}')
        hub.stop()
        log = hub.log()
        files = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
        holding = [path.name for path in files if key.encode() in path.read_bytes()]
    assert holding == ["admin.key"]
    assert key not in log
    assert "my secret words" not in log
    assert '"path": "/api/messages"' in log or "/api/messages" in log
