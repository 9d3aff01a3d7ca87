"""The WebSocket: greeting, frames, resuming, and clients that do not behave."""

import contextlib
import gc
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from autoglm.auth.settings import KeySettings
from autoglm.channels.deltas import Delta
from autoglm.core.envelope import decode_body
from autoglm.core.errors import InvalidField
from autoglm.gateway.server import SocketProtocol
from autoglm.gateway.websocket import MAX_SUBSCRIPTIONS, _frames
from autoglm.settings import Settings
from eventually import wait_until
from gateway.inside import Inside, hub_inside, settings
from gateway.wire import Wire, call

ROBOT = "sk-robot"
UPGRADE = {
    "connection": "Upgrade", "upgrade": "websocket", "sec_websocket_version": "13",
    "sec_websocket_key": "dGhlIHNhbXBsZSBub25jZQ==",
}  # fmt: skip


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    robot = KeySettings.model_validate(
        {"name": "robot", "value": ROBOT, "scopes": ["send:message:device:robot", "read:message:device:robot"]}
    )
    chosen = Settings(gateway=settings(max_body_bytes=65536).gateway, key=(robot,))
    with hub_inside(tmp_path_factory.mktemp("socket") / "data", chosen) as inside:
        yield inside


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return f"user:{abs(hash(request.node.nodeid))}"


@contextlib.contextmanager
def opened(hub: Inside, key: str = "", **options: Any) -> Iterator[ClientConnection]:
    """A connection that has been greeted."""
    headers = {"Authorization": f"Bearer {key or hub.key}"}
    with connect(f"ws://127.0.0.1:{hub.port}/api/ws", additional_headers=headers, proxy=None, **options) as ws:
        assert take(ws)["type"] == "welcome"
        yield ws


def take(ws: ClientConnection) -> dict[str, Any]:
    frame: dict[str, Any] = json.loads(ws.recv(timeout=20))
    return frame


def ask(ws: ClientConnection, **frame: Any) -> dict[str, Any]:
    ws.send(json.dumps(frame))
    return take(ws)


def post(hub: Inside, to: str, content: str = "hello", **fields: Any) -> dict[str, Any]:
    reply = call(hub.port, hub.key, "POST", "/api/messages", {"to": to, "content": content, **fields})
    assert reply.status in (200, 202), reply
    answer: dict[str, Any] = reply.json()
    return answer


# --- greeting ---


def test_a_key_is_told_by_header_or_by_the_first_frame(hub: Inside) -> None:
    with connect(f"ws://127.0.0.1:{hub.port}/api/ws", proxy=None) as ws:
        assert ask(ws, type="hello", key=hub.key) == {"type": "welcome", "principal": "admin", "address": "user:admin"}
        assert ask(ws, type="hello", key=hub.key, ref="r")["ref"] == "r"  # twice is wrong, but no reason to part
    headers = {"Authorization": f"Bearer {ROBOT}"}
    with connect(f"ws://127.0.0.1:{hub.port}/api/ws", additional_headers=headers, proxy=None) as ws:
        assert take(ws) == {"type": "welcome", "principal": "robot", "address": "device:robot"}


def test_a_wrong_key_in_the_header_is_refused_before_the_handshake(
    hub: Inside, caplog: pytest.LogCaptureFixture
) -> None:
    headers = {"Authorization": "Bearer wrong"}
    with (
        pytest.raises(InvalidStatus) as caught,
        connect(f"ws://127.0.0.1:{hub.port}/api/ws", additional_headers=headers, proxy=None),
    ):
        pass
    response = caught.value.response
    assert response.status_code == 401
    assert json.loads(response.body or b"")["code"] == "unauthorized"
    assert response.headers["x-request-id"]
    call(hub.port, "", "GET", "/healthz")  # by now the socket's task has ended
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")], "no error of the hub"


def test_another_path_has_no_socket(hub: Inside) -> None:
    with pytest.raises(InvalidStatus) as caught, connect(f"ws://127.0.0.1:{hub.port}/api/other", proxy=None):
        pass
    assert (caught.value.response.status_code, json.loads(caught.value.response.body or b"")["code"]) == (
        404, "unknown_path",
    )  # fmt: skip


@pytest.mark.parametrize(
    "first", ['{"type": "hello", "key": "wrong"}', '{"type": "subscribe", "to": "user:a"}', "garbage", b"\x00\x01"]
)
def test_a_wrong_first_frame_ends_the_connection(hub: Inside, first: str | bytes) -> None:
    with connect(f"ws://127.0.0.1:{hub.port}/api/ws", proxy=None) as ws:
        ws.send(first)
        frames = []
        with contextlib.suppress(ConnectionClosed):
            while True:
                frames.append(take(ws))
    assert frames[-1]["problem"]["code"] == "unauthorized"
    assert ws.close_code == 1008


@pytest.mark.attack("WebSocket: huge frame before the hello")
def test_a_stranger_s_frames_are_short_and_a_friend_s_may_be_long(
    hub: Inside, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autoglm.gateway.server.STRANGER_BYTES", 1000)
    with connect(f"ws://127.0.0.1:{hub.port}/api/ws", proxy=None) as ws:
        ws.send("x" * 1001)
        with pytest.raises(ConnectionClosed):
            ws.recv(timeout=10)
    assert ws.close_code == 1009
    for headers in (None, {"Authorization": f"Bearer {hub.key}"}):
        with connect(f"ws://127.0.0.1:{hub.port}/api/ws", proxy=None, additional_headers=headers) as ws:
            if headers is None:
                ws.send(json.dumps({"type": "hello", "key": hub.key}))
            assert take(ws)["type"] == "welcome"
            message = {"to": name, "content": "x" * 2000}
            assert ask(ws, type="send", message=message)["type"] == "accepted"


@pytest.mark.attack("WebSocket: frames before the hello")
def test_of_a_stranger_s_frame_nothing_but_a_hello_is_read(hub: Inside, name: str) -> None:
    """What comes before a key is wrong at its type already, however its rest is built."""
    with connect(f"ws://127.0.0.1:{hub.port}/api/ws", proxy=None) as ws:
        ws.send(json.dumps({"type": "send", "message": {"to": name, "content": 17}}))
        assert take(ws)["problem"]["field"] == "type"
        assert take(ws)["problem"]["code"] == "unauthorized"


@pytest.mark.attack("WebSocket: idle connections without end")
def test_who_says_no_hello_is_sent_away(hub: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoglm.gateway.websocket.HELLO_S", 0.2)
    with connect(f"ws://127.0.0.1:{hub.port}/api/ws", proxy=None) as ws, pytest.raises(ConnectionClosed) as caught:
        ws.recv(timeout=10)
    assert caught.value.rcvd is not None
    assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (1008, "no hello came")


# --- frames ---


def test_sending_following_and_acknowledging(hub: Inside, name: str) -> None:
    with opened(hub) as ws:
        assert ask(ws, type="subscribe", to=name, after=0, ref="s") == {
            "type": "subscribed", "to": name, "after": 0, "ref": "s",
        }  # fmt: skip
        message = {"id": f"m-{name}", "to": name, "from": name, "content": "to myself"}
        ws.send(json.dumps({"type": "send", "message": message, "ref": "1"}))
        frames = sorted((take(ws) for _ in range(2)), key=lambda frame: str(frame["type"]))
        accepted, got = frames
        assert accepted == {
            "type": "accepted", "id": message["id"], "seq": got["message"]["seq"], "repeated": False, "ref": "1",
        }  # fmt: skip
        assert got["message"]["content"] == "to myself"
        assert ask(ws, type="send", message=message, ref="2")["repeated"] is True
        ws.send(json.dumps({"type": "ack", "id": message["id"], "state": "read", "ref": "3"}))
        acked, receipt = sorted((take(ws) for _ in range(2)), key=lambda frame: str(frame["type"]))
        assert (acked["type"], acked["state"], acked["ref"]) == ("acked", "read", "3")
        assert (receipt["receipt"]["message"], receipt["receipt"]["state"]) == (message["id"], "read")
        assert receipt["receipt"]["seq"] == acked["seq"]


def test_a_subscription_goes_on_where_the_last_one_ended(hub: Inside, name: str) -> None:
    seqs = [post(hub, name, str(number))["seq"] for number in range(10)]
    with opened(hub) as ws:
        ask(ws, type="subscribe", to=name)
        first = [take(ws)["message"]["seq"] for _ in range(4)]
    with opened(hub) as ws:
        ask(ws, type="subscribe", to=name, after=first[-1])
        rest = [take(ws)["message"]["seq"] for _ in range(6)]
    assert first + rest == seqs


def test_deltas_come_while_an_answer_is_written(hub: Inside, name: str) -> None:
    async def publish() -> None:
        hub.hub._messages._deltas.publish(Delta(reply_to="q", from_="model:m", to=name, index=0, text="word"))

    with opened(hub) as ws:
        ask(ws, type="subscribe", to=name)
        wait_until(lambda: hub.count(lambda: hub.listeners))
        hub.ask(publish())
        frame = take(ws)
    assert frame == {
        "type": "delta", "delta": {"reply_to": "q", "from": "model:m", "to": name, "index": 0, "text": "word"},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("frame", "code", "field"),
    [
        ("not json", "invalid_json", None), ("[]", "invalid_field", "body"), ("{}", "invalid_field", "type"),
        ('{"type": "dance"}', "invalid_field", "type"), (b"\x00\xff", "invalid_field", "frame"),
        ('{"type": "subscribe"}', "invalid_field", "to"),
        ('{"type": "subscribe", "to": "alice"}', "invalid_field", "to"),
        ('{"type": "subscribe", "to": "user:a", "after": -1}', "invalid_field", "after"),
        ('{"type": "subscribe", "to": "user:a", "afer": 1}', "invalid_field", "afer"),
        ('{"type": "send", "message": {"to": "user:a"}}', "invalid_field", "message.content"),
        ('{"type": "send", "message": {"to": "a", "content": "x"}}', "invalid_field", "message.to"),
        ('{"type": "send", "message": {"to": "user:a", "content": "x", "id": "a b"}}', "invalid_field", "message.id"),
        ('{"type": "send", "message": {"to": "group:no", "content": "x"}}', "unknown_recipient", "to"),
        ('{"type": "ack", "id": "none"}', "not_found", None), ('{"type": "ack", "id": 5}', "invalid_field", "id"),
        ('{"type": "ack", "id": "x", "state": "eaten"}', "invalid_field", "state"),
        ('{"type": "send", "message": ' + "[" * 5000, "invalid_field", None),
        ('{"ref": "\\ud800"}', "invalid_json", None),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_a_wrong_frame_is_answered_and_the_connection_goes_on(
    hub: Inside, frame: str | bytes, code: str, field: str | None
) -> None:
    with opened(hub) as ws:
        ws.send(frame)
        answer = take(ws)
        assert (answer["type"], answer["problem"]["code"]) == ("error", code)
        assert field is None or answer["problem"]["field"] == field
        assert ask(ws, type="subscribe", to="user:nobody", after=9_000_000)["type"] == "subscribed"


def test_what_is_allowed_is_told_of_the_frame_that_it_is_about() -> None:
    with pytest.raises(InvalidField) as caught:
        decode_body(b'{"type": "ack", "id": "x", "state": "seen"}', _frames)
    assert str(caught.value) == "state: must be one of 'acknowledged', 'delivered', 'read', not 'seen'"
    with pytest.raises(InvalidField) as caught:
        decode_body(b'{"type": "say"}', _frames)
    assert str(caught.value) == "type: must be one of 'hello', 'subscribe', 'send', 'ack', not 'say'"
    with pytest.raises(InvalidField) as caught:
        decode_body(b'{"type": "send", "message": {"to": "a", "content": "", "labels": {"line": null}}}', _frames)
    assert caught.value.facts["field"] == "message.labels['line']"


def test_an_error_repeats_the_ref_of_a_frame_that_could_be_read(hub: Inside) -> None:
    with opened(hub) as ws:
        assert ask(ws, type="ack", id="none", ref="my ref")["ref"] == "my ref"


@pytest.mark.attack("WebSocket: huge frame")
def test_a_frame_that_is_too_big_ends_the_connection_by_the_book(hub: Inside) -> None:
    with opened(hub) as ws:
        ws.send("x" * 70_000)
        with pytest.raises(ConnectionClosed) as caught:
            take(ws)
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1009


def test_scopes_hold_on_the_socket_too(hub: Inside) -> None:
    foreign = post(hub, "user:a", "private")["id"]
    with opened(hub, ROBOT) as ws:
        assert ask(ws, type="subscribe", to="device:robot")["type"] == "subscribed"
        assert ask(ws, type="subscribe", to="user:a")["problem"]["scope"] == "read:message:user:a"
        as_other = {"to": "user:a", "from": "user:admin", "content": "give me a key"}
        assert ask(ws, type="send", message=as_other)["problem"]["scope"] == "send:message:user:admin"
        to_model = {"to": "model:auto", "content": "for free?"}
        assert ask(ws, type="send", message=to_model)["problem"]["scope"] == "model:use:auto"
        assert ask(ws, type="ack", id=foreign)["problem"]["code"] == "not_found"
        assert ask(ws, type="send", message={"to": "user:a", "content": "hello"})["type"] == "accepted"


# --- limits ---


@pytest.mark.attack("WebSocket: flood of subscriptions")
def test_a_connection_follows_a_hundred_addresses_and_no_more(hub: Inside) -> None:
    before = hub.tasks()
    with opened(hub) as ws:
        for number in range(MAX_SUBSCRIPTIONS):
            assert ask(ws, type="subscribe", to=f"user:many-{number}")["type"] == "subscribed"
        assert "at most 100" in ask(ws, type="subscribe", to="user:one-more")["problem"]["detail"]
        assert "already" in ask(ws, type="subscribe", to="user:many-0")["problem"]["detail"]
        wait_until(lambda: hub.count(lambda: hub.listeners) == MAX_SUBSCRIPTIONS)
    wait_until(lambda: hub.count(lambda: hub.listeners) == 0)
    wait_until(lambda: hub.tasks() <= before)


@pytest.mark.attack("WebSocket: flood of frames")
def test_a_flood_of_frames_is_answered_frame_by_frame(hub: Inside, name: str) -> None:
    count = 500

    def flood(ws: ClientConnection) -> None:
        for number in range(count):
            ws.send(json.dumps({"type": "send", "message": {"to": name, "content": "x"}, "ref": str(number)}))

    with opened(hub) as ws:
        sender = threading.Thread(target=flood, args=(ws,))
        sender.start()
        answers = [take(ws) for _ in range(count)]
        sender.join()
    assert [answer["ref"] for answer in answers] == [str(number) for number in range(count)]
    seqs = [answer["seq"] for answer in answers]
    assert seqs == sorted(set(seqs))


def handshake(hub: Inside) -> socket.socket:
    """A bare connection past its handshake, with a small buffer, for a client that does not read."""
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    plain.connect(("127.0.0.1", hub.port))
    head = (
        f"GET /api/ws HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer {hub.key}\r\nConnection: Upgrade\r\n"
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    plain.sendall(head.encode())
    plain.settimeout(20)
    assert b" 101 " in plain.recv(4096)
    return plain


def masked(opcode: int, payload: bytes, *, is_last: bool = True) -> bytes:
    """A client's frame (RFC 6455, section 5.2) with a mask of zeros. is_last: of the fragments of a message."""
    size = bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + len(payload).to_bytes(2, "big")
    return bytes([opcode | (0x80 if is_last else 0)]) + size + b"\x00" * 4 + payload


def read_until(plain: socket.socket, end: bytes) -> None:
    seen = b""
    while end not in seen:
        part = plain.recv(65536)
        assert part, seen[-200:]
        seen += part


def connections(hub: Inside) -> set[Any]:
    return hub.hub._server._house.connections


def sockets(hub: Inside) -> list[SocketProtocol]:
    return [entry for entry in connections(hub) if isinstance(entry, SocketProtocol)]


def buffered_bytes(hub: Inside) -> int:
    """What the hub holds for its WebSockets beyond the kernel's buffers."""
    open_ones = [entry for entry in gc.get_objects() if type(entry) is SocketProtocol and not entry.disconnected]
    return sum(entry.transport.get_write_buffer_size() for entry in open_ones)


@pytest.mark.attack("WebSocket: slow reading")
def test_a_client_that_does_not_read_costs_a_bounded_amount_of_memory(hub: Inside, name: str) -> None:
    size, count = 50_000, 200
    slow = handshake(hub)
    try:
        slow.sendall(masked(1, json.dumps({"type": "subscribe", "to": name}).encode()))
        wait_until(lambda: hub.count(lambda: hub.listeners))
        for number in range(count):
            post(hub, name, f"{number}" + "x" * size)
        assert hub.count(lambda: buffered_bytes(hub)) < 1 << 20  # of 10 MB
        before = hub.tasks()
    finally:
        slow.close()
    wait_until(lambda: hub.count(lambda: hub.listeners) == 0)
    wait_until(lambda: hub.tasks() < before)


@pytest.mark.attack("WebSocket: flood of pings")
def test_pings_of_a_client_that_does_not_read_do_not_pile_up(hub: Inside) -> None:
    slow = handshake(hub)
    slow.settimeout(0.5)
    pings = masked(9, b"p" * 125) * 500
    sent = 0
    try:
        with contextlib.suppress(TimeoutError):  # the hub stops reading, so the client can send no more
            while sent < 50_000_000:
                sent += slow.send(pings)
        assert 100_000 < sent < 50_000_000
        assert hub.count(lambda: buffered_bytes(hub)) < 1 << 20
    finally:
        slow.close()


@pytest.mark.attack("WebSocket: broken handshakes")
@pytest.mark.parametrize(
    "lines",
    [
        {"x_long": "b" * 9000}, {f"x_{number}": "1" for number in range(300)}, {"content_length": "3"},
        {"host": ""}, {"transfer_encoding": "chunked"},
    ],
    ids=["a-long-line", "many-lines", "a-body", "no-host", "chunks"],
)  # fmt: skip
def test_a_handshake_that_cannot_be_read_is_refused(hub: Inside, lines: dict[str, str]) -> None:
    """Else it would be neither answered nor closed, and keep its place for ever."""
    before = hub.count(lambda: len(connections(hub)))
    with Wire(hub.port) as wire:
        wire.send(wire.head("GET", "/api/ws", None, **UPGRADE, **lines))
        assert (reply := wire.reply()).status == 400, reply
        assert wire.is_closed()
    wait_until(lambda: hub.count(lambda: len(connections(hub))) <= before)


def test_a_handshake_is_read_as_any_request(hub: Inside) -> None:
    with Wire(hub.port) as wire:
        wire.send(wire.head("GET", "http://hub/api/ws", None, **UPGRADE))
        assert wire.start().status == 101
    with Wire(hub.port) as wire:
        wire.send(wire.head("GET", "/api/ws", None, **UPGRADE).replace(b"HTTP/1.1", b"HTTP/1.0"))
        assert wire.reply().status == 400


@pytest.mark.attack("WebSocket: idle connections without end")
def test_sockets_take_places_like_every_connection(tmp_path: Path) -> None:
    with hub_inside(tmp_path / "data", settings(max_connections=3)) as hub, contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(opened(hub))
        with Wire(hub.port) as wire:
            wire.send(wire.head("GET", "/api/ws", None, **UPGRADE))
            assert (reply := wire.reply()).status == 503, reply
            assert reply.json()["code"] == "too_many_connections"


def test_a_client_that_takes_nothing_any_more_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """By its pings alone it would stay: closing waits for what it does not take."""
    monkeypatch.setattr("autoglm.gateway.server.SILENT_S", 0.5)
    monkeypatch.setattr("autoglm.gateway.server._ROUND_TICKS", 1)
    with hub_inside(tmp_path / "data") as hub:
        slow = handshake(hub)
        try:
            slow.sendall(masked(1, json.dumps({"type": "subscribe", "to": name}).encode()))
            wait_until(lambda: hub.count(lambda: hub.listeners))
            for number in range(100):
                post(hub, name, f"{number}" + "x" * 200_000)
            wait_until(lambda: hub.count(lambda: len(sockets(hub))) == 0)
            wait_until(lambda: hub.count(lambda: hub.listeners) == 0)
        finally:
            slow.close()


@pytest.mark.attack("WebSocket: endless fragments")
def test_fragments_without_content_do_not_fill_the_memory(hub: Inside) -> None:
    plain = handshake(hub)
    try:
        (protocol,) = sockets(hub)
        plain.sendall(masked(1, b'{"type": "hello"', is_last=False) + masked(0, b"", is_last=False) * 20_000)
        plain.sendall(masked(0, b', "key": "x"}'))
        read_until(plain, b"hello was said already")
        assert hub.count(lambda: len(protocol.frames)) == 0
        plain.sendall(masked(1, b"{", is_last=False) + masked(0, b"", is_last=False) * 5_000 + masked(9, b"there"))
        read_until(plain, b"there")  # the answer to the ping: all before it was read
        assert hub.count(lambda: len(protocol.frames)) <= 1001
    finally:
        plain.close()


def test_a_cut_connection_frees_everything(hub: Inside, name: str, caplog: pytest.LogCaptureFixture) -> None:
    wait_until(lambda: hub.count(lambda: hub.listeners) == 0)
    before = hub.tasks()
    sockets = [handshake(hub) for _ in range(10)]
    for plain in sockets:
        plain.sendall(masked(1, json.dumps({"type": "subscribe", "to": name}).encode()))
    wait_until(lambda: hub.count(lambda: hub.listeners) == 10)
    for plain in sockets:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")  # RST, no handshake
        plain.close()
    wait_until(lambda: hub.count(lambda: hub.listeners) == 0)
    wait_until(lambda: hub.tasks() < before + len(sockets))  # the hub's own come and go, by one or two
    assert hub.count(lambda: hub.readers) == 0
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []


def test_a_shutdown_closes_with_going_away(tmp_path: Path) -> None:
    with hub_inside(tmp_path / "data") as hub, opened(hub) as ws:
        ask(ws, type="subscribe", to="user:a")
        started_s = time.monotonic()
        hub.stop()
        with pytest.raises(ConnectionClosed) as caught:
            take(ws)
        assert caught.value.rcvd is not None
        assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (1001, "the hub is shutting down")
    assert time.monotonic() - started_s < 4


def test_a_draining_hub_takes_no_message_by_socket_either(tmp_path: Path) -> None:
    with hub_inside(tmp_path / "data") as hub, Wire(hub.port) as wire:
        hub.loop.call_soon_threadsafe(hub.hub._messages.drain)
        wait_until(hub.hub._messages._draining.is_set)
        wire.request("GET", "/api/ws", None, **UPGRADE)
        reply = wire.reply()
    assert (reply.status, reply.json()["code"], reply.headers["retry-after"]) == (503, "draining", "2")
