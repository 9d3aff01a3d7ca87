"""What a packet becomes, and what a message is published as. Pure."""

import base64
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoglm.channels.adapters.mqtt import MqttSettings, reasons
from autoglm.channels.adapters.mqtt.incoming import Arrival, Unreadable, read_message, read_receipt, rule_for
from autoglm.channels.adapters.mqtt.outgoing import Publication, publication
from autoglm.channels.channel import Cannot
from autoglm.channels.settings import parse_channel
from autoglm.core.envelope import Envelope, File, FilePart, JsonPart, check_texts, encode_envelope
from contracts.channel_contract import message

OCTETS = "application/octet-stream"


def settings(**fields: Any) -> MqttSettings:
    found = parse_channel({"name": "mqtt", "kind": "mqtt", "url": "mqtt://broker", **fields})
    assert isinstance(found, MqttSettings)
    return found


def come_in(
    payload: bytes | str, topic: str = "plant/7/alarm", rule: dict[str, Any] | None = None, **packet: Any
) -> Envelope:
    found = settings(topics=[{"topic": "plant/+/alarm", **(rule or {})}, {"topic": "#"}])
    arrival = Arrival(topic, payload.encode() if isinstance(payload, str) else payload, **packet)
    matched = rule_for(found.topics, topic)
    assert matched is not None
    envelope = read_message(arrival, *matched, channel="mqtt", incoming_to="model:auto")
    check_texts(envelope)
    return envelope


def go_out(content: Any, target: str = "plant/7/command", **fields: Any) -> Publication:
    return publication(message(content), target, settings(**fields))


# --- in ---------------------------------------------------------------------------------------------


def test_the_table_says_from_whom_and_to_whom() -> None:
    rule = {"from": "device:{1}", "to": "group:ops", "kind": "alert", "priority": 8, "labels": {"line": "{1}!"}}
    found = come_in("hot", rule=rule)
    assert (found.from_, found.to, found.kind, found.priority) == ("device:7", "group:ops", "alert", 8)
    assert (found.labels, found.content) == ({"line": "7!"}, "hot")


def test_without_a_table_an_answer_goes_back_to_the_topic() -> None:
    found = come_in("hot", topic="hall 1/😀")
    assert (found.from_, found.to) == ("channel:mqtt/hall%201/😀", "model:auto")
    assert go_out("ok", target=found.from_.removeprefix("channel:mqtt/")).topic == "hall 1/😀"


def test_a_level_that_makes_no_address_loses_nothing() -> None:
    found = come_in("hot", topic="plant//alarm", rule={"from": "device:{1}", "to": "device:{1}"})
    assert (found.from_, found.to) == ("channel:mqtt/plant//alarm", "model:auto")
    assert come_in("hot", topic=f"plant/{'x' * 500}/alarm", rule={"from": "device:{1}"}).from_.startswith("channel:")


def test_a_device_may_fill_in_a_message_but_not_who_it_is() -> None:
    body = {"content": "hot", "kind": "alert", "priority": 9, "labels": {"line": "x", "a": "b"}, "thread": "t",
            "from": "user:boss", "to": "user:all", "site": "north", "expires_at": 5, "id": 17}  # fmt: skip
    found = come_in(json.dumps(body), rule={"labels": {"line": "{1}"}, "from": "device:{1}"})
    assert (found.from_, found.to, found.site) == ("device:7", "model:auto", None)
    assert (found.kind, found.priority, found.thread, found.expires_at) == ("alert", 9, "t", 5)
    assert found.labels == {"line": "7", "a": "b"}
    assert found.id.endswith(".17")


@pytest.mark.parametrize(
    "body",
    [
        {"content": "x", "colour": "red"},
        {"content": 5},
        {"content": "x", "priority": 12},
        {"content": "x", "thread": "a b"},
    ],
)
def test_what_only_looks_like_a_message_is_json(body: dict[str, Any]) -> None:
    assert come_in(json.dumps(body)).content == [JsonPart(json=body)]


@pytest.mark.parametrize(
    ("payload", "kind", "content"),
    [
        ("21.5", "", "21.5"), ("21.5", "application/json", [JsonPart(json=21.5)]),
        ("[1, 2]", "", [JsonPart(json=[1, 2])]), ('{"t": 1}', "", [JsonPart(json={"t": 1})]),
        ("{broken", "", "{broken"), ("", "", ""), ("压机停了", "", "压机停了"),
        ("[" * 150 + "]" * 150, "", "[" * 150 + "]" * 150),
        (b"\xff\x00", "image/png", [FilePart(file=File(filename="alarm", file_data="data:image/png;base64,/wA="))]),
        (b"\xff", "a b", [FilePart(file=File(filename="alarm", file_data=f"data:{OCTETS};base64,/w=="))]),
    ],
)  # fmt: skip
def test_a_payload_becomes_what_it_is(payload: str | bytes, kind: str, content: Any) -> None:
    assert come_in(payload, content_type=kind).content == content


# `#` takes no topic that begins with $ (MQTT 5, 4.7.2).
_topics = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60).filter(lambda one: one[0] != "$")


@given(st.binary(max_size=200), _topics)
def test_whatever_comes_in_becomes_a_message(payload: bytes, topic: str) -> None:
    found = come_in(payload, topic=topic, rule={"from": "device:{1}", "thread": "{1}"})
    assert msgspec.json.decode(encode_envelope(found), type=Envelope) == found


def test_an_id_counts_for_its_topic_and_is_the_same_each_time() -> None:
    known = {come_in("a", properties={"id": "1"}).id, come_in("b", properties={"id": "1"}, is_repeated=True).id}
    assert len(known) == 1
    assert come_in("a", topic="other", properties={"id": "1"}).id not in known
    assert len(come_in("a", properties={"id": "x y" * 100}).id) <= 128


def test_an_id_may_be_a_field_of_the_json() -> None:
    rule = {"id_field": "seq"}
    assert come_in('{"seq": 5}', rule=rule).id == come_in('{"seq": 5, "t": 2}', rule=rule).id
    assert come_in('{"seq": true}', rule=rule).id != come_in('{"seq": true}', rule=rule).id


def test_a_message_without_an_id_keeps_the_one_it_got() -> None:
    arrival = Arrival("a", b"x")
    rule = settings(topics=[{"topic": "#"}]).topics[0]
    first, second = (read_message(arrival, rule, ("a",), channel="mqtt", incoming_to="model:auto") for _ in "ab")
    assert first == second
    assert first.id != come_in("x").id


def test_an_answer_names_its_message() -> None:
    assert come_in("yes", properties={"reply_to": "m-1"}).reply_to == "m-1"
    assert come_in("yes", correlation="m-1").reply_to == "m-1"
    assert come_in('{"content": "yes", "reply_to": "m-1"}').reply_to == "m-1"
    assert come_in("yes", properties={"reply_to": "not an id"}).reply_to is None


def test_the_brokers_expiry_is_kept() -> None:
    found = come_in("x", expires_in_s=60, at_ms=1000)
    assert found.expires_at == 61_000


@pytest.mark.parametrize(
    ("payload", "ticket", "outcome"),
    [
        (b"m-1", "m-1", "delivered"),
        (b'{"id": "m-1"}', "m-1", "delivered"),
        (b'{"id":"m-1","state":"read"}', "m-1", "read"),
    ],
)
def test_a_devices_receipt_is_read(payload: bytes, ticket: str, outcome: str) -> None:
    found = read_receipt(Arrival("ack", payload))
    assert (found.ticket, found.delivery.outcome) == (ticket, outcome)


@pytest.mark.parametrize("payload", [b"", b"\xff", b"{}", b"{broken", b'{"id": "a", "state": "lost"}', b"x" * 300])
def test_what_is_no_receipt_is_told(payload: bytes) -> None:
    with pytest.raises(Unreadable):
        read_receipt(Arrival("ack", payload))


# --- out --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "payload", "kind"),
    [
        ("压机停了", "压机停了".encode(), "text/plain; charset=utf-8"),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], b"a\nb", "text/plain; charset=utf-8"),
        ([{"type": "json", "json": {"rpm": 5}}], b'{"rpm":5}', "application/json"),
        ([{"type": "image_url", "image_url": {"url": "data:image/png;base64,/wA="}}], b"\xff\x00", "image/png"),
        ([{"type": "file", "file": {"file_data": "data:a/b;base64,/w=="}}], b"\xff", "a/b"),
    ],
)
def test_content_goes_out_by_itself(content: Any, payload: bytes, kind: str) -> None:
    found = go_out(content)
    assert (found.payload, found.content_type) == (payload, kind)


def test_mixed_parts_go_out_as_json() -> None:
    parts = [{"type": "text", "text": "See"}, {"type": "json", "json": 5}]
    assert json.loads(go_out(parts).payload) == parts


def test_a_whole_message_goes_out_as_json() -> None:
    found = go_out("hi", form="envelope")
    assert msgspec.json.decode(found.payload, type=Envelope) == message("hi")
    assert dict(found.properties) == {"id": "m-1", "from": "user:alice", "kind": "chat"}


def test_a_device_gets_its_own_id_back() -> None:
    asked = come_in("why?", properties={"id": "q-1"})
    found = publication(message("so", reply_to=asked.id), "a", settings())
    assert dict(found.properties)["reply_to"] == "q-1"


def test_targets_name_topics() -> None:
    rules = [{"target": "press/+", "topic": "plant/{1}/command", "qos": 2, "retain": True}]
    found = go_out("x", target="press/p%207", targets=rules, publish=[])
    assert (found.topic, found.qos, found.retain) == ("plant/p 7/command", 2, True)


@pytest.mark.parametrize(
    ("target", "fields", "code"),
    [
        ("a/+", {}, "bad_topic"), ("a%00", {}, "bad_topic"), ("a%FF", {}, "bad_topic"),
        ("a", {"publish": ["b/#"]}, "unknown_target"),
        ("a%20b", {"broker": "nats-server", "version": "3.1.1"}, "bad_topic"),
        ("a", {"version": "3.1.1", "topics": [{"topic": "#"}]}, "echo"),
        ("a", {"share": "g", "topics": [{"topic": "+"}]}, "echo"),
    ],
)  # fmt: skip
def test_what_cannot_be_published_is_refused(target: str, fields: dict[str, Any], code: str) -> None:
    with pytest.raises(Cannot) as caught:
        go_out("x", target=target, **fields)
    assert caught.value.delivery.code == code
    assert caught.value.delivery.outcome == "permanent"


def test_a_file_that_is_no_base64_is_refused() -> None:
    with pytest.raises(Cannot):
        go_out([{"type": "file", "file": {"file_data": "data:a/b;base64,~"}}])


def test_a_long_topic_is_cut_nowhere() -> None:
    rules = [{"target": "long", "topic": "x" * 65_535}]
    assert len(go_out("x", target="long", targets=rules).topic) == 65_535


# --- reason codes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "outcome", "failure"),
    [
        (0, "accepted", None), (16, "accepted", None), (131, "retry", "transient"), (135, "permanent", "permanent"),
        (144, "permanent", "permanent"), (149, "permanent", "too_large"),
        (151, "retry", "throttled"), (200, "permanent", "permanent"),
    ],
)  # fmt: skip
def test_a_puback_is_told_for_what_it_is(code: int, outcome: str, failure: str | None) -> None:
    found = reasons.of_publication(code, was_repeated=False)
    assert (found.outcome, found.failure, found.code) == (outcome, failure, str(code) if code else "")


@pytest.mark.parametrize(
    ("code", "failure"),
    [
        (132, "auth"),
        (134, "auth"),
        (135, "auth"),
        (136, "transient"),
        (149, "transient"),
        (159, "throttled"),
        (200, "transient"),
    ],
)
def test_a_refused_connection_is_told_for_what_it_is(code: int, failure: str) -> None:
    found = reasons.of_connection(code)
    assert (found.outcome, found.failure, found.is_in_doubt) == ("retry", failure, False)


def test_an_unknown_message_is_in_doubt_only_when_it_was_repeated() -> None:
    assert reasons.of_publication(146, was_repeated=False).outcome == "permanent"
    assert reasons.of_publication(146, was_repeated=True).is_in_doubt


def test_base64_of_the_largest_payload_stays_bounded() -> None:
    found = come_in(b"\xff" * 1_048_576)
    assert isinstance(found.content, list)
    part = found.content[0]
    assert isinstance(part, FilePart)
    assert base64.b64decode(str(part.file.file_data).partition(",")[2]) == b"\xff" * 1_048_576
