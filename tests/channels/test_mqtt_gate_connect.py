"""CONNECT as the gate reads it and writes it for the broker, and how it bounds those who have not logged in."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoglm.channels.broker.gate import codec, strangers
from autoglm.channels.broker.gate.codec import Violation, varint_at
from autoglm.channels.broker.gate.connect import Connect, level_of, read_connect, refusal, written
from autoglm.channels.broker.gate.connection import behind_id
from autoglm.channels.broker.gate.strangers import Strangers, network_of
from mqtt_packets import connect, packet, text


def read(data: bytes) -> Connect:
    found = varint_at(data, 1)
    assert found is not None
    level_of(data, found[1])
    return read_connect(data, found[1])


def test_a_connect_is_read_with_all_its_fields() -> None:
    found = read(connect(5, client_id="压机", username="u", password=b"\xff", will="a/b", method="m", data=b"\0d"))
    assert (found.level, found.client_id, found.username, found.password) == (5, "压机", "u", b"\xff")
    assert (found.method, found.data, found.keepalive_s, found.is_clean) == ("m", b"\0d", 60, True)
    assert found.will is not None
    assert (found.will.topic, found.will.payload) == ("a/b", b"gone")
    assert [read(connect(level)).level for level in (3, 4, 5)] == [3, 4, 5]


def test_the_broker_gets_the_devices_connect_with_the_gates_login() -> None:
    """Without what concerns the gate alone, and with a will that does not speak after the rights ended."""
    expiry = b"\x11\0\0\0\x3c"
    aliases = b"\x22\0\x05"
    found = read(connect(5, username="u", password=b"p", will="a", will_delay_s=99, method="m", data=b"d",
                         extra=expiry + aliases, clean=False))  # fmt: skip
    again = read(written(found, client_id="gate/u/c", username="gate", password="secret", will_delay_max_s=7))
    assert (again.client_id, again.username, again.password) == ("gate/u/c", "gate", b"secret")
    assert again.properties == [(0x11, b"\0\0\0\x3c")]
    assert again.will is not None
    assert again.will.properties == [(0x18, b"\0\0\0\x07")]
    assert (again.is_clean, again.keepalive_s) == (False, 60)


@given(
    st.sampled_from((3, 4, 5)), st.booleans(), st.text("ab/é", max_size=5), st.none() | st.sampled_from(("a/b", "ü"))
)
def test_what_is_written_reads_the_same(level: int, clean: bool, client_id: str, will: str | None) -> None:
    found = read(connect(level, client_id=client_id, will=will, clean=clean))
    again = read(written(found, client_id=client_id, username="g", password="p", will_delay_max_s=None))
    assert again == found._replace(flags=found.flags | 0xC0, username="g", password=b"p")


def with_flags(flags: int, *fields: bytes, level: int = 4) -> bytes:
    return packet(0x10, text("MQTT") + bytes((level, flags, 0, 60)) + b"".join(fields))


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (with_flags(0x03, text("c")), codec.MALFORMED), (with_flags(0x08, text("c")), codec.MALFORMED),
        (with_flags(0x20, text("c")), codec.MALFORMED), (with_flags(0x1C, text("c")), codec.MALFORMED),
        (with_flags(0x40, text("c"), text("p")), codec.MALFORMED), (with_flags(0x80, text("c")), codec.MALFORMED),
        (with_flags(0x02, text("c"), b"x"), codec.MALFORMED), (with_flags(0x02, text(b"\xff")), codec.MALFORMED),
        (with_flags(0x02, text("a\0b")), codec.MALFORMED),
        (with_flags(0x02, text("c"), level=6), codec.UNSUPPORTED_VERSION),
        (packet(0x10, text("HTTP") + b"\4\2\0\0" + text("c")), codec.MALFORMED), (packet(0x10), codec.MALFORMED),
        (packet(0x10, text("MQIsdp") + b"\4\2\0\0" + text("c")), codec.MALFORMED),
        (connect(4, will="a/#"), codec.TOPIC_INVALID), (connect(4, will=""), codec.TOPIC_INVALID),
        (connect(4, client_id="c" * 513), codec.CLIENT_ID_NOT_VALID),
        (connect(4, username="u" * 513), codec.BAD_LOGIN),
        (connect(4, username="u", password=b"p" * 16_385), codec.BAD_LOGIN),
        (connect(5, data=b"d"), codec.PROTOCOL_ERROR), (connect(5, extra=b"\x11\0\0\0\1" * 2), codec.PROTOCOL_ERROR),
        (connect(5, extra=b"\x23\0\1"), codec.MALFORMED), (connect(5, extra=b"\x7f"), codec.MALFORMED),
        (connect(5, extra=b"\x11\0"), codec.MALFORMED), (connect(5, extra=b"\xa2\0\0\1"), codec.MALFORMED),
    ],
)  # fmt: skip
def test_a_connect_that_is_none_is_refused(data: bytes, code: int) -> None:
    with pytest.raises(Violation) as found:
        read(data)
    assert found.value.code == code


@given(st.binary(max_size=80), st.integers(0, 60))
def test_of_whatever_comes_nothing_but_a_violation_leaves(noise: bytes, keep: int) -> None:
    with suppress(Violation):
        read(packet(0x10, connect(5, username="u", password=b"p", will="a", method="m")[2:][:keep] + noise))


@pytest.mark.attack("session takeover")
def test_no_client_identifier_is_that_of_another_name() -> None:
    names = ("a", "a/b", "a%2Fb", "a%", "a/", "b", "")
    found = {behind_id(name, client_id) for name in names for client_id in ("", "b", "b/c", "/", "%2Fb/b")}
    assert len(found) == len(names) * 5


@pytest.mark.parametrize(
    ("level", "said"), [(5, b"\x20\x03\x00\x86\x00"), (4, b"\x20\x02\x00\x04"), (3, b"\x20\x02\x00\x04")]
)
def test_a_refusal_says_why(level: int, said: bytes) -> None:
    assert refusal(level, codec.BAD_LOGIN) == said


def test_mqtt_3_has_no_words_for_some_refusals() -> None:
    assert refusal(4, codec.MALFORMED) == b""


# --- strangers ---


def enter(found: Strangers, address: str, sent: list[str], name: str) -> None:
    found.enter(address, lambda: sent.append(name))


@pytest.mark.attack("login flood")
def test_a_crowd_from_one_network_takes_its_own_places_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strangers, "MOST", 4)
    found, sent = Strangers(), list[str]()
    enter(found, "10.0.0.1", sent, "alone")
    for number in range(6):
        enter(found, f"2001:db8::{number}", sent, f"crowd {number}")
    assert sent == ["crowd 0", "crowd 1", "crowd 2"]
    assert found.waiting == 4


def test_who_has_logged_in_or_left_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strangers, "MOST", 1)
    found, sent = Strangers(), list[str]()
    leave = found.enter("10.0.0.1", lambda: sent.append("first"))
    leave()
    leave()
    enter(found, "10.0.0.1", sent, "second")
    assert (sent, found.waiting) == ([], 1)


@pytest.mark.attack("login flood")
def test_one_network_comes_so_often_and_others_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = [0.0]
    monkeypatch.setattr(strangers, "monotonic_s", lambda: now_s[0])
    found = Strangers()
    assert sum(found.take_turn("10.0.0.1") for _ in range(2000)) == strangers.BURST
    assert found.take_turn("10.0.0.2")
    now_s[0] += 0.1
    assert sum(found.take_turn("10.0.0.1") for _ in range(100)) == strangers.RATE_PER_S * 0.1
    found.give_back("10.0.0.1")
    assert found.take_turn("10.0.0.1")
    assert not found.take_turn("10.0.0.1")


def test_as_many_addresses_as_may_be_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strangers, "_ADDRESSES", 3)
    found = Strangers()
    for number in range(10):
        found.take_turn(f"10.0.0.{number}")
    assert len(found._levels) == 3


def test_who_has_an_address_of_ipv6_has_its_network() -> None:
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff") != network_of("2001:db8:0:1::1")
    assert network_of("::ffff:10.0.0.1") == "10.0.0.1"
    assert network_of("fe80::1%eth0") == "fe80::/64"
