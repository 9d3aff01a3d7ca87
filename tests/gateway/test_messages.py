"""Sending, reading, waiting, receipts and streams, over real connections."""

import json
import selectors
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from autoglm.channels.deltas import Delta
from eventually import wait_until
from gateway.inside import Inside, hub_inside
from gateway.wire import Reply, Wire, call, stream


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    with hub_inside(tmp_path_factory.mktemp("messages") / "data") as inside:
        yield inside


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """An address that is this test's own."""
    return f"user:{abs(hash(request.node.nodeid))}"


def post(hub: Inside, to: str, content: str = "hello", **fields: Any) -> Reply:
    return call(hub.port, hub.key, "POST", "/api/messages", {"to": to, "content": content, **fields})


def get(hub: Inside, path: str, **headers: str) -> Any:
    reply = call(hub.port, hub.key, "GET", path, **headers)
    assert reply.status == 200, reply
    return reply.json()


def publish(hub: Inside, delta: Delta) -> None:
    async def on_loop() -> None:
        hub.hub._messages._deltas.publish(delta)

    hub.ask(on_loop())


def steps(hub: Inside, id: str) -> list[str]:
    return [receipt["state"] for receipt in get(hub, f"/api/messages/{id}/receipts")["receipts"]]


# --- sending ---


def test_a_message_is_accepted_once_and_a_repeat_gets_the_same_answer(hub: Inside, name: str) -> None:
    first = post(hub, name, id="once", timestamp=1)
    again = post(hub, name, id="once", timestamp=2)
    other = post(hub, name, "something else", id="once")
    assert (first.status, again.status, other.status) == (202, 200, 409)
    assert first.json() == again.json() == {"id": "once", "seq": first.json()["seq"]}
    assert other.json()["code"] == "duplicate_id"
    assert [message["content"] for message in get(hub, f"/api/messages?to={name}")["messages"]] == ["hello"]


@pytest.mark.parametrize(
    "change",
    [
        {"to": "user:other"}, {"from": "user:mallory"}, {"kind": "alert"}, {"labels": {"a": "b"}}, {"priority": 9},
        {"reply_to": "x"}, {"thread": "x"}, {"content": [{"type": "text", "text": "hello"}]},
    ],
)  # fmt: skip
def test_whatever_the_sender_means_makes_a_message_another(hub: Inside, name: str, change: dict[str, Any]) -> None:
    message: dict[str, Any] = {"to": name, "content": "hello", "id": f"meant-{json.dumps(change)}".replace(" ", "")}
    assert call(hub.port, hub.key, "POST", "/api/messages", message).status == 202
    assert call(hub.port, hub.key, "POST", "/api/messages", message | change).status == 409


def test_the_order_of_fields_does_not_make_a_message_another(hub: Inside, name: str) -> None:
    content = [{"type": "json", "json": {"a": 1, "b": [2]}}]
    assert post(hub, name, content, id="order", labels={"x": "1", "y": "2"}).status == 202  # type: ignore[arg-type]
    content = [{"json": {"b": [2], "a": 1}, "type": "json"}]
    assert post(hub, name, content, id="order", labels={"y": "2", "x": "1"}).status == 200  # type: ignore[arg-type]


def test_the_hub_fills_in_what_the_sender_leaves_out(hub: Inside, name: str) -> None:
    before_ms = time.time_ns() // 1_000_000
    id = post(hub, name).json()["id"]
    message = get(hub, f"/api/messages/{id}")
    assert len(id) == 36
    assert (message["from"], message["to"], message["content"]) == ("user:admin", name, "hello")
    assert before_ms <= message["timestamp"] <= time.time_ns() // 1_000_000


@pytest.mark.parametrize(
    ("to", "words"),
    [
        ("group:nobody", "PUT /api/groups/nobody"), ("model:nothing", "GET /v1/models"),
        ("model:auto", "GET /v1/models"),
        ("channel:pigeon/roof", "/api/capabilities"), ("site:north/user:bob", "not joined"),
    ],
)  # fmt: skip
def test_an_unknown_recipient_is_told_with_a_way_out(hub: Inside, to: str, words: str) -> None:
    reply = post(hub, to)
    assert (reply.status, reply.json()["code"], reply.json()["field"]) == (404, "unknown_recipient", "to")
    assert words in reply.json()["detail"]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"kind": "receipt"}, "kind"), ({"expires_at": 1}, "expires_at"), ({"id": "stream"}, "id"),
        ({"id": "answer-" + "0" * 40}, "id"),
    ],
)  # fmt: skip
def test_what_only_the_hub_may_say_is_refused(hub: Inside, name: str, fields: dict[str, Any], field: str) -> None:
    reply = post(hub, name, **fields)
    assert (reply.status, reply.json()["field"]) == (400, field)


def test_a_repeat_is_a_repeat_also_when_its_recipient_is_gone(hub: Inside) -> None:
    call(hub.port, hub.key, "PUT", "/api/groups/brief", {"members": ["user:a"]})
    expires_at = time.time_ns() // 1_000_000 + 1000
    first = post(hub, "group:brief", id="to-brief", expires_at=expires_at)
    call(hub.port, hub.key, "DELETE", "/api/groups/brief")
    wait_until(lambda: time.time_ns() // 1_000_000 > expires_at)
    again = post(hub, "group:brief", id="to-brief", expires_at=expires_at)
    assert (first.status, again.status) == (202, 200)
    assert first.json() == again.json()
    assert post(hub, "group:brief", "another", id="to-brief").status == 404


# --- reading ---


def test_messages_come_in_the_order_of_seq_page_by_page(hub: Inside, name: str) -> None:
    sent = [post(hub, name, str(number)).json()["seq"] for number in range(25)]
    read: list[int] = []
    after = 0
    while page := get(hub, f"/api/messages?to={name}&after={after}&limit=10")["messages"]:
        read += [message["seq"] for message in page]
        after = page[-1]["seq"]
    assert read == sent == sorted(sent)
    assert get(hub, f"/api/messages?to={name}&after={after}") == {"messages": [], "next": after}


def test_a_waiting_reader_wakes_at_once(hub: Inside, name: str) -> None:
    with Wire(hub.port, hub.key) as wire:
        wire.request("GET", f"/api/messages?to={name}&wait=30")
        wait_until(lambda: hub.count(lambda: hub.readers))
        started_s = time.monotonic()
        post(hub, name)
        assert [message["content"] for message in wire.reply().json()["messages"]] == ["hello"]
        assert time.monotonic() - started_s < 1.0


def test_a_wait_that_nothing_ends_is_an_empty_page(hub: Inside, name: str) -> None:
    started_s = time.monotonic()
    assert get(hub, f"/api/messages?to={name}&after=7&wait=0.3") == {"messages": [], "next": 7}
    assert 0.3 <= time.monotonic() - started_s < 5


def test_a_named_reader_goes_on_where_it_was_and_confirms_what_it_has(hub: Inside, name: str) -> None:
    ids = [post(hub, name, str(number)).json()["id"] for number in range(3)]
    path = f"/api/messages?to={name}&reader=phone&limit=2"
    first = get(hub, path)
    assert get(hub, path) == first  # nothing was confirmed yet
    assert call(hub.port, hub.key, "HEAD", f"{path}&after={first['next']}").status == 200
    assert get(hub, path) == first  # a HEAD changes nothing
    assert steps(hub, ids[0]) == ["accepted"]
    second = get(hub, f"{path}&after={first['next']}")
    assert [message["id"] for message in second["messages"]] == ids[2:]
    assert [steps(hub, id) for id in ids] == [["accepted", "delivered"], ["accepted", "delivered"], ["accepted"]]
    assert get(hub, path) == second  # without `after`: from the confirmed place
    get(hub, f"{path}&after=0")  # going back takes nothing back
    assert get(hub, path) == second
    assert len(get(hub, f"/api/messages?to={name}&reader=laptop")["messages"]) == 3


def test_two_thousand_readers_wake_on_one_message(hub: Inside, name: str) -> None:
    count = 2000
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(hub.port, hub.key)) for _ in range(count)]
        for wire in wires:
            wire.request("GET", f"/api/messages?to={name}&wait=60")
        wait_until(lambda: hub.count(lambda: hub.readers) == count, 30)
        started_s = time.monotonic()
        post(hub, name)
        with selectors.DefaultSelector() as selector:
            for wire in wires:
                selector.register(wire.fileno(), selectors.EVENT_READ, wire)
            while selector.get_map():
                for key, _ in selector.select(30):
                    selector.unregister(key.fd)
                    assert len(key.data.reply().json()["messages"]) == 1
        assert time.monotonic() - started_s < 10
    wait_until(lambda: hub.count(lambda: hub.readers) == 0)


def test_a_reader_that_leaves_leaves_nothing_behind(hub: Inside, name: str) -> None:
    before = hub.tasks()
    paths = [f"/api/messages?to={name}&wait=60", f"/api/messages/stream?to={name}"]
    wires = [Wire(hub.port, hub.key) for _ in range(20)]
    for number, wire in enumerate(wires):
        wire.request("GET", paths[number % 2])
    wait_until(lambda: hub.count(lambda: hub.readers) >= 20)
    for wire in wires:
        wire.close()
    wait_until(lambda: hub.count(lambda: hub.readers) == 0)
    wait_until(lambda: hub.tasks() <= before)
    assert hub.count(lambda: hub.listeners) == 0
    assert hub.count(lambda: hub.hub._messages.waiting) == 0


def test_a_stream_with_a_request_waiting_behind_it_ends_when_its_client_leaves(
    hub: Inside, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is not read from while a request waits in it, so the next write notices."""
    monkeypatch.setattr("autoglm.gateway.follower.KEEP_ALIVE_S", 0.1)
    before = hub.tasks()
    with capture_logs() as logs:
        with Wire(hub.port, hub.key) as wire:
            wire.send(wire.head("GET", f"/api/messages/stream?to={name}") + wire.head("GET", "/healthz"))
            wait_until(lambda: hub.count(lambda: hub.hub._messages.waiting) == 1)
        wait_until(lambda: hub.count(lambda: hub.hub._messages.waiting) == 0)
        wait_until(lambda: hub.tasks() <= before)
    assert [entry for entry in logs if entry["event"] == "request_failed"] == []


# --- one message ---


def test_receipts_tell_what_became_of_a_message(hub: Inside, name: str) -> None:
    id = post(hub, name).json()["id"]
    for state in ("delivered", "read", "acknowledged", "read"):
        acked = call(hub.port, hub.key, "POST", f"/api/messages/{id}/ack", {"state": state})
        assert (acked.status, acked.json()["state"], acked.json()["id"]) == (200, state, id)
    receipts = get(hub, f"/api/messages/{id}/receipts")["receipts"]
    assert [receipt["state"] for receipt in receipts] == ["accepted", "delivered", "read", "acknowledged"]
    assert {receipt.get("by") for receipt in receipts[1:]} == {name}
    assert sorted(receipt["time"] for receipt in receipts) == [receipt["time"] for receipt in receipts]


def test_an_acknowledgement_without_a_body_is_an_acknowledgement(hub: Inside, name: str) -> None:
    id = post(hub, name).json()["id"]
    assert call(hub.port, hub.key, "POST", f"/api/messages/{id}/ack").json()["state"] == "acknowledged"
    wrong = call(hub.port, hub.key, "POST", f"/api/messages/{id}/ack", {"by": "user:someone-else"})
    assert (wrong.status, wrong.json()["field"]) == (400, "by")
    wrong = call(hub.port, hub.key, "POST", f"/api/messages/{id}/ack", {"state": "eaten"})
    assert (wrong.status, wrong.json()["field"]) == (400, "state")


@pytest.mark.parametrize(
    "path", ["/api/messages/none", "/api/messages/none/receipts", "/api/messages/receipt%20a%20b%20read"]
)
def test_an_unknown_message_is_not_found(hub: Inside, path: str) -> None:
    assert call(hub.port, hub.key, "GET", path).json()["code"] == "not_found"
    assert call(hub.port, hub.key, "POST", "/api/messages/none/ack").status == 404


def test_a_message_that_expires_is_reported_once_and_not_handed_out(hub: Inside, name: str) -> None:
    sender = f"{name}-sender"
    expires_at = time.time_ns() // 1_000_000 + 1000
    id = post(hub, name, expires_at=expires_at, **{"from": sender}).json()["id"]
    acked = post(hub, name, "taken in time", expires_at=expires_at, **{"from": sender}).json()["id"]
    call(hub.port, hub.key, "POST", f"/api/messages/{acked}/ack")
    with stream(hub.port, hub.key, f"to={sender}") as (_, events):
        first, second = next(events), next(events)
    assert [(event["data"]["message"], event["data"]["state"]) for event in (first, second)] == [
        (acked, "acknowledged"), (id, "expired"),
    ]  # fmt: skip
    assert second["data"]["time"] == expires_at
    assert steps(hub, id) == ["accepted", "expired"]
    assert steps(hub, acked) == ["accepted", "acknowledged"]
    assert get(hub, f"/api/messages?to={name}")["messages"] == []
    assert get(hub, f"/api/messages/{id}")["content"] == "hello"  # who knows its id may still see it


def test_a_message_that_expires_while_the_hub_is_down_is_reported_at_the_next_start(tmp_path: Path) -> None:
    with hub_inside(tmp_path / "data") as hub:
        expires_at = time.time_ns() // 1_000_000 + 1000
        id = post(hub, "user:a", expires_at=expires_at).json()["id"]
    wait_until(lambda: time.time_ns() // 1_000_000 > expires_at)
    with hub_inside(tmp_path / "data") as hub, stream(hub.port, hub.key, "to=user:admin") as (_, events):
        receipt = next(events)["data"]
    assert (receipt["message"], receipt["state"], receipt["time"]) == (id, "expired", expires_at)


# --- streams ---


def test_a_stream_has_messages_and_receipts_in_one_order(hub: Inside, name: str) -> None:
    sent = post(hub, f"{name}-other", **{"from": name}).json()["id"]
    post(hub, name, "one")
    call(hub.port, hub.key, "POST", f"/api/messages/{sent}/ack", {"state": "read"})
    with stream(hub.port, hub.key, f"to={name}") as (_, events):
        post(hub, name, "two")
        got = [next(events) for _ in range(3)]
    assert [event["event"] for event in got] == ["message", "receipt", "message"]
    assert [event["data"].get("content") for event in got] == ["one", None, "two"]
    assert got[1]["data"]["message"] == sent
    assert [int(event["id"]) for event in got] == sorted(event["data"]["seq"] for event in got)


def test_a_stream_goes_on_after_the_last_event_id(hub: Inside, name: str) -> None:
    """Messages arrive all the time, the reader comes and goes: it misses none and gets none twice."""
    total = 300
    sender = threading.Thread(target=lambda: [post(hub, name, str(number)) for number in range(total)])
    sender.start()
    got: list[str] = []
    last_id = ""
    while len(got) < total:
        with stream(hub.port, hub.key, f"to={name}", last_event_id=last_id) as (_, events):
            for _ in range(min(17, total - len(got))):
                event = next(events)
                got.append(event["data"]["content"])
                last_id = event["id"]
    sender.join()
    assert got == [str(number) for number in range(total)]


def test_a_bad_last_event_id_is_named(hub: Inside, name: str) -> None:
    reply = call(hub.port, hub.key, "GET", f"/api/messages/stream?to={name}", last_event_id="abc")
    assert (reply.status, reply.json()["field"]) == (400, "last-event-id")


def test_deltas_come_before_the_answer_that_they_are_a_part_of(hub: Inside, name: str) -> None:
    with stream(hub.port, hub.key, f"to={name}") as (_, events):
        wait_until(lambda: hub.count(lambda: hub.readers))
        for index in range(50):
            publish(hub, Delta(reply_to="q", from_="model:m", to=name, index=index, text=f"{index} "))
        post(hub, name, "the answer", reply_to="q")
        got = [next(events) for _ in range(51)]
    assert [event["event"] for event in got] == ["delta"] * 50 + ["message"]
    assert [event["data"]["index"] for event in got[:50]] == list(range(50))
    assert got[0]["data"] == {"reply_to": "q", "from": "model:m", "to": name, "index": 0, "text": "0 "}


def test_deltas_for_a_reader_that_does_not_read_are_bounded(hub: Inside, name: str) -> None:
    text = "x" * 20_000
    published = 2000
    with stream(hub.port, hub.key, f"to={name}") as (_, events):
        for index in range(published):
            publish(hub, Delta(reply_to="q", from_="model:m", to=name, index=index, text=text))
        post(hub, name, "the answer")
        seen = 0
        while next(events)["event"] == "delta":
            seen += 1
    assert 0 < seen < published


def test_a_silent_stream_is_kept_alive(hub: Inside, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoglm.gateway.follower.KEEP_ALIVE_S", 0.1)
    with stream(hub.port, hub.key, f"to={name}") as (_, events):
        assert next(events) == {"comment": "keep-alive"}
        post(hub, name, "still there")
        while "comment" in (event := next(events)):
            pass
    assert event["data"]["content"] == "still there"


# --- shutdown ---


def test_a_shutdown_sends_everybody_home(tmp_path: Path) -> None:
    with hub_inside(tmp_path / "data") as hub, Wire(hub.port, hub.key) as poll, Wire(hub.port, hub.key) as busy:
        poll.request("GET", "/api/messages?to=user:a&after=3&wait=60")
        busy.request("GET", "/healthz")
        assert busy.reply().status == 200
        with stream(hub.port, hub.key, "to=user:a") as (_, events):
            wait_until(lambda: hub.count(lambda: hub.readers) >= 3)
            started_s = time.monotonic()
            hub.stop()
            assert poll.reply().json() == {"messages": [], "next": 3}
            assert list(events) == []  # its end, not a cut
        assert busy.is_closed()
    assert time.monotonic() - started_s < 4


def test_a_draining_hub_takes_no_message_and_says_when_to_come_back(tmp_path: Path) -> None:
    with hub_inside(tmp_path / "data") as hub:
        hub.loop.call_soon_threadsafe(hub.hub._messages.drain)
        wait_until(hub.hub._messages._draining.is_set)
        refused = post(hub, "user:a")
        assert (refused.status, refused.json()["code"], refused.headers["retry-after"]) == (503, "draining", "2")
        assert get(hub, "/api/messages?to=user:a&wait=60") == {"messages": [], "next": 0}
        with stream(hub.port, hub.key, "to=user:a") as (_, events):
            assert list(events) == []
