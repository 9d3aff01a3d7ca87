"""What the gate lets pass between a device and the broker: exact for each cut of the byte stream."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoglm.channels.broker.gate import codec
from autoglm.channels.broker.gate.codec import Violation
from autoglm.channels.broker.gate.grants import Grants
from autoglm.channels.broker.gate.passage import Passage
from mqtt_packets import packet, properties, publish, split, subscribe, text

MINE, OTHER = "plant/7/alarm", "plant/8/alarm"
PING, PINGRESP = packet(0xC0), packet(0xD0)


class Ears:
    def __init__(self) -> None:
        self.refused: list[tuple[str, str]] = []
        self.auths: list[tuple[int, str, bytes]] = []


def passage(
    level: int = 4, *, ears: Ears | None = None, publish: tuple[str, ...] = ("plant/7/#",),
    max_packet_bytes: int = 1_000_000,
) -> Passage:  # fmt: skip
    heard = ears or Ears()
    return Passage(
        level, Grants(publish, ["plant/7/#"]), max_packet_bytes=max_packet_bytes, alias_max=10,
        refused=lambda action, topic: heard.refused.append((action, topic)),
        on_auth=lambda reason, method, data: heard.auths.append((reason, method, data)),
    )  # fmt: skip


# --- any cut ---


@st.composite
def sent(draw: st.DrawFn, level: int) -> tuple[bytes, bytes, bytes]:
    """A packet of the device, what of it the broker gets, and what the gate answers."""
    kind = draw(st.sampled_from(("publish", "publish", "ping", "subscribe", "ack")))
    number = draw(st.integers(1, 65_535))
    raw = number.to_bytes(2, "big")
    if kind == "ping":
        return PING, PING, b""
    if kind == "ack":
        found = packet(draw(st.sampled_from((0x40, 0x50, 0x70))), raw)
        return found, found, b""
    if kind == "subscribe":
        found = subscribe("plant/7/+", "a/#", level=level, number=number)
        return found, subscribe("plant/7/+", level=level, number=number), b""
    qos = draw(st.integers(0, 2))
    payload = draw(st.binary(max_size=6) | st.sampled_from((b"y" * 121, b"z" * 20_000)))
    topic = draw(st.sampled_from((MINE, OTHER)))
    found = publish(topic, payload, level=level, qos=qos, number=number)
    if topic == MINE:
        return found, found, b""
    reason = b"\x87" if level == 5 else b""
    return found, b"", packet((0, 0x40, 0x50)[qos], raw + reason) if qos else b""


def pieces(draw: st.DrawFn, stream: bytes) -> list[bytes]:
    cuts = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    return [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]


@given(st.data(), st.sampled_from((4, 5)))
def test_what_a_device_sends_is_cut_anywhere_with_the_same_outcome(data: st.DataObject, level: int) -> None:
    packets = data.draw(st.lists(sent(level), max_size=10))
    stream = b"".join(entry[0] for entry in packets)
    found = passage(level)
    to_broker = to_device = b""
    for piece in data.draw(st.composite(pieces)(stream)):
        onward, back = found.from_device(piece)
        to_broker, to_device = to_broker + onward, to_device + back
    assert to_broker == b"".join(entry[1] for entry in packets)
    assert to_device == b"".join(entry[2] for entry in packets)


@given(st.data(), st.sampled_from((4, 5)))
def test_both_sides_get_whole_packets_however_the_two_streams_are_cut(data: st.DataObject, level: int) -> None:
    """The gate's own answers never come in the middle of what passes; each stream keeps its order."""
    up = data.draw(st.lists(sent(level), max_size=8))
    one = st.builds(
        lambda topic, qos, size, number: publish(topic, b"d" * size, level=level, qos=qos, number=number),
        st.sampled_from((MINE, OTHER)), st.integers(0, 2), st.sampled_from((0, 3, 500)), st.integers(1, 9),
    )  # fmt: skip
    down = data.draw(st.lists(one, max_size=8))
    waiting = [
        ("device", data.draw(st.composite(pieces)(b"".join(entry[0] for entry in up)))),
        ("broker", data.draw(st.composite(pieces)(b"".join(down)))),
    ]
    found = passage(level)
    to_broker = to_device = b""
    while any(left for _, left in waiting):
        side, left = data.draw(st.sampled_from([entry for entry in waiting if entry[1]]))
        piece = left.pop(0)
        onward, back = found.from_device(piece) if side == "device" else found.from_broker(piece)
        to_broker, to_device = to_broker + onward, to_device + back
    granted = [one for one in down if MINE.encode() in one]
    answers = [entry[2] for entry in up if entry[2]]
    heard = list(split(to_device))
    assert [one for one in heard if one[0] >> 4 == codec.PUBLISH] == granted
    assert [one for one in heard if one[0] >> 4 != codec.PUBLISH] == answers
    wanted = [entry[1] for entry in up if entry[1]]
    acks = len([one for one in down if MINE.encode() not in one and one[0] & 0x06])
    assert len(list(split(to_broker))) == len(wanted) + acks


def test_a_large_message_passes_while_it_comes() -> None:
    """No more of it is kept than its head."""
    whole = publish(MINE, b"x" * 500_000)
    found = passage()
    assert found.from_device(whole[:100]) == (whole[:100], b"")
    assert found.from_device(whole[100:]) == (whole[100:], b"")


# --- what is refused ---


@pytest.mark.attack("topic outside of the scope")
@pytest.mark.parametrize(
    ("level", "qos", "answer"),
    [
        (5, 0, b""), (5, 1, packet(0x40, b"\0\1\x87")), (5, 2, packet(0x50, b"\0\1\x87")),
        (4, 0, b""), (4, 1, packet(0x40, b"\0\1")), (4, 2, packet(0x50, b"\0\1")),
    ],
)  # fmt: skip
def test_a_message_outside_of_the_rights_is_dropped_and_answered(level: int, qos: int, answer: bytes) -> None:
    ears = Ears()
    found = passage(level, ears=ears)
    for _ in range(3):
        assert found.from_device(publish(OTHER, level=level, qos=qos, retain=True)) == (b"", answer)
    assert ears.refused == [("publish:topic", OTHER)]  # told once
    assert found.refusals == 3


def test_in_mqtt_3_a_refused_message_of_qos_2_is_released_at_the_gate() -> None:
    found = passage()
    found.from_device(publish(OTHER, qos=2, number=7))
    release = packet(0x62, b"\0\7")
    assert found.from_device(release) == (b"", packet(0x70, b"\0\7"))
    assert found.from_device(release) == (release, b"")  # of an earlier connection: the broker's affair


def test_topics_of_the_brokers_own_are_nobodys_to_write() -> None:
    found = passage(publish=("#", "$SYS/#", "$JS/#"))
    assert found.from_device(publish("$SYS/x") + publish("$JS/API/STREAM/DELETE/x"))[0] == b""


@pytest.mark.parametrize(("level", "reason"), [(5, 0x87), (4, 0x80), (3, 0x80)])
def test_of_a_subscribe_the_broker_gets_what_is_granted(level: int, reason: int) -> None:
    ears = Ears()
    found = passage(level, ears=ears)
    onward, back = found.from_device(subscribe("a/#", MINE, "plant/+", "plant/7/#", level=level, number=3))
    assert onward == subscribe(MINE, "plant/7/#", level=level, number=3)
    assert back == b""
    of_five = b"\0" if level == 5 else b""
    assert found.from_broker(packet(0x90, b"\0\3" + of_five + bytes((1, 0)))) == (
        b"", packet(0x90, b"\0\3" + of_five + bytes((reason, 1, reason, 0))),
    )  # fmt: skip
    assert ears.refused == [("subscribe:topic", "a/#"), ("subscribe:topic", "plant/+")]


def test_a_subscribe_of_which_nothing_is_granted_is_answered_at_the_gate() -> None:
    assert passage(5).from_device(subscribe("#", "a#", level=5)) == (b"", packet(0x90, b"\0\1\0\x87\x8f"))
    assert passage(4).from_device(subscribe("#")) == (b"", packet(0x90, b"\0\1\x80"))


@pytest.mark.parametrize(
    ("level", "qos", "answer"),
    [(5, 1, packet(0x40, b"\0\1\x87")), (5, 2, packet(0x50, b"\0\1\x87")), (4, 1, packet(0x40, b"\0\1")), (4, 0, b"")],
)
def test_what_an_old_subscription_brings_is_judged_by_todays_rights(level: int, qos: int, answer: bytes) -> None:
    """The broker keeps a session's subscriptions when the rights behind them are gone."""
    ears = Ears()
    found = passage(level, ears=ears)
    assert found.from_broker(publish(OTHER, level=level, qos=qos)) == (answer, b"")
    assert ears.refused == [("read:topic", OTHER)]


def test_in_mqtt_3_the_gate_ends_a_delivery_of_qos_2_that_it_dropped() -> None:
    found = passage()
    assert found.from_broker(publish(OTHER, qos=2, number=9)) == (packet(0x50, b"\0\x09"), b"")
    assert found.from_broker(packet(0x62, b"\0\x09")) == (packet(0x70, b"\0\x09"), b"")


def test_other_rights_hold_from_the_next_message_on() -> None:
    found = passage()
    assert found.from_device(publish(MINE))[0]
    assert found.from_broker(publish(MINE))[1]
    found.regrant(Grants(["plant/8/#"], []))
    assert not found.from_device(publish(MINE))[0]
    assert found.from_device(publish(OTHER))[0]
    assert not found.from_broker(publish(MINE))[1]


class Changing(Grants):
    """Rights that change by themselves, as by a policy; counts how often it is asked."""

    asked = 0

    def __init__(self) -> None:
        super().__init__(["plant/7/#"], ["plant/7/#"])
        self.epoch = 0
        self.holds = True

    def may_publish(self, topic: str) -> bool:
        self.asked += 1
        return self.holds and super().may_publish(topic)

    def may_read(self, topic: str) -> bool:
        self.asked += 1
        return self.holds and super().may_read(topic)


@pytest.mark.parametrize("level", [4, 5])
def test_a_right_that_ends_by_itself_ends_with_the_next_bytes(level: int) -> None:
    topics = Changing()
    found = Passage(
        level, topics, max_packet_bytes=1_000_000, alias_max=10, refused=lambda *_: None, on_auth=lambda *_: None
    )
    message = publish(MINE, level=level)
    for _ in range(3):
        assert found.from_device(message * 2)[0] == message * 2
        assert found.from_broker(message * 2)[1] == message * 2
    assert topics.asked == 2  # once for each direction
    topics.epoch, topics.holds = 1, False
    assert found.from_device(message) == (b"", b"")
    assert found.from_broker(message) == (b"", b"")
    assert topics.asked == 4


# --- topic aliases ---


@pytest.mark.attack("topic outside of the scope")
def test_an_alias_stands_for_no_topic_that_was_refused() -> None:
    """Nor for the one before: the broker never heard that it was given a new one."""
    found = passage(5)
    by_alias = publish("", level=5, alias=1)
    assert found.from_device(publish(MINE, level=5, alias=1) + by_alias)[0].endswith(by_alias)
    assert found.from_device(publish(OTHER, level=5, alias=1) + by_alias)[0] == b""
    found.regrant(Grants(["plant/8/#"], []))
    assert found.from_device(by_alias)[0] == b""


def test_an_alias_keeps_to_the_rights_of_today() -> None:
    found = passage(5)
    found.from_device(publish(MINE, level=5, alias=1))
    found.regrant(Grants(["plant/8/#"], []))
    assert found.from_device(publish("", level=5, alias=1))[0] == b""


LONG_ALIAS = packet(0x30, text(OTHER) + properties(b"\xa3\x00\x00\x01"))


@pytest.mark.parametrize(
    ("level", "data", "code"),
    [
        (5, publish("", level=5, alias=1), codec.PROTOCOL_ERROR),
        (5, publish(MINE, level=5, alias=11), codec.ALIAS_INVALID),
        (5, publish("", level=5), codec.TOPIC_INVALID), (4, publish(""), codec.TOPIC_INVALID),
        (5, LONG_ALIAS, codec.MALFORMED),
        (5, packet(0x30, text(MINE) + properties(b"\x23\0\1", b"\x23\0\2")), codec.PROTOCOL_ERROR),
        (5, packet(0x30, text(MINE) + b"\x7f"), codec.MALFORMED), (5, packet(0x30, text(MINE)), codec.MALFORMED),
        (4, publish("plant/7/+"), codec.TOPIC_INVALID), (4, publish("plant/#"), codec.TOPIC_INVALID),
        (4, publish(b"plant/\xff"), codec.MALFORMED), (4, publish(b"plant/\0"), codec.MALFORMED),
        (4, packet(0x36, text(MINE) + b"\0\1"), codec.MALFORMED), (4, packet(0x30, b"\xff\xff"), codec.MALFORMED),
        (4, packet(0x30, b"\0"), codec.MALFORMED), (4, packet(0x32, text(MINE)), codec.MALFORMED),
        (4, packet(0x10, text("MQTT")), codec.PROTOCOL_ERROR), (4, packet(0x20, b"\0\0"), codec.PROTOCOL_ERROR),
        (4, packet(0x90, b"\0\1\0"), codec.PROTOCOL_ERROR), (4, packet(0xF0, b"\0"), codec.PROTOCOL_ERROR),
        (4, packet(0x00), codec.PROTOCOL_ERROR), (4, packet(0x80, subscribe(MINE)[2:]), codec.MALFORMED),
        (4, packet(0x82, b"\0\1"), codec.PROTOCOL_ERROR), (4, packet(0x82, b"\0\1\0\5a"), codec.MALFORMED),
        (4, packet(0x82, b"\0\0" + text(MINE) + b"\0"), codec.PROTOCOL_ERROR),
        (4, subscribe(*["a"] * 1001), codec.QUOTA_EXCEEDED),
    ],
)  # fmt: skip
def test_what_is_against_the_protocol_ends_the_connection(level: int, data: bytes, code: int) -> None:
    with pytest.raises(Violation) as found:
        passage(level).from_device(data)
    assert found.value.code == code


@pytest.mark.attack("packet bomb")
@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x30\xff\xff\xff\x7f", codec.PACKET_TOO_LARGE), (b"\x30\xff\xff\xff\xff\x7f", codec.MALFORMED),
        (b"\x30\x80\x80\x80\x80", codec.MALFORMED), (b"\x30\x85\x00", codec.MALFORMED),
        (b"\x82\x81\x80\x04", codec.PACKET_TOO_LARGE),
        (b"\x30\xa0\x8d\x06" + text(MINE) + b"\x81\x80\x04", codec.PACKET_TOO_LARGE),
    ],
)  # fmt: skip
def test_a_packet_is_refused_before_it_comes(data: bytes, code: int) -> None:
    """A length of 256 MiB, of 5 bytes, or longer than it needs; a SUBSCRIBE or properties of over 64 KiB."""
    with pytest.raises(Violation) as found:
        passage(5).from_device(data)
    assert found.value.code == code


@pytest.mark.attack("packet bomb")
def test_only_so_many_refusals_wait_behind_a_message_that_the_device_does_not_read() -> None:
    found = passage()
    found.from_broker(publish(MINE, b"x" * 1000)[:500])
    with pytest.raises(Violation, match="too many refusals"):
        found.from_device(publish(OTHER, qos=1) * 70_000)
    with pytest.raises(Violation, match="too many refusals"):
        found.from_device(subscribe("#"))


def test_only_so_many_subscribes_wait_for_the_broker() -> None:
    found = passage()
    for number in range(1, 101):
        found.from_device(subscribe("a", MINE, number=number))
    with pytest.raises(Violation, match="too many"):
        found.from_device(subscribe("a", MINE, number=101))


@given(st.binary(max_size=200), st.sampled_from((3, 4, 5)))
def test_whatever_comes_nothing_but_a_violation_leaves(data: bytes, level: int) -> None:
    for feed in (passage(level).from_device, passage(level).from_broker):
        try:
            onward, back = feed(data)
        except Violation:
            continue
        assert len(onward) + len(back) <= 2 * len(data)
