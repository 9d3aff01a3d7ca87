"""What strangers and devices send to the gate before the hub's own MQTT broker."""

from autoglm.channels.broker.gate.codec import Violation, varint_at
from autoglm.channels.broker.gate.connect import level_of, read_connect, written
from autoglm.channels.broker.gate.grants import Grants
from autoglm.channels.broker.gate.passage import Passage
from fuzzing.target import Target
from mqtt_packets import connect, packet, publish, subscribe

_MINE, _OTHER = "a/b", "c"


def fuzz_connect(data: bytes) -> None:
    """What was read is written so that it reads the same."""
    found = varint_at(data, 1)
    if not data or found is None or found[1] + found[0] != len(data):
        return
    level_of(data, found[1])
    read = read_connect(data, found[1])
    again = written(read, client_id=read.client_id, username="g", password="p", will_delay_max_s=None)
    place = varint_at(again, 1)
    assert place is not None
    assert read_connect(again, place[1]).will == read.will


def fuzz_passage(data: bytes) -> None:
    """The first byte says the version and where the rest is cut: with the same outcome as in one piece."""
    if not data:
        return
    level, cut, stream = 4 + data[0] % 2, data[0], data[1:]
    whole = _passage(level).from_device(stream)
    other = _passage(level)
    first, second = other.from_device(stream[:cut]), other.from_device(stream[cut:])
    assert (first[0] + second[0], first[1] + second[1]) == whole


def _passage(level: int) -> Passage:
    return Passage(
        level, Grants([f"{_MINE}/#"], [f"{_MINE}/#"]), max_packet_bytes=10_000, alias_max=5,
        refused=lambda action, topic: None, on_auth=lambda reason, method, data: None,
    )  # fmt: skip


_WORDS = (b"MQTT", b"MQIsdp", b"\x80", b"\xff\xff", b"\0\3a/b", b"$share/", b"#", b"+", b"\x23\0\1", b"\x15\0\1m")

TARGETS = (
    Target(
        "mqtt_connect", fuzz_connect,
        (
            connect(3), connect(4, username="u", password=b"p", will="a"),
            connect(5, method="m", data=b"d", will="a", will_delay_s=9, extra=b"\x11\0\0\0\1"),
        ),
        (Violation,), _WORDS,
    ),
    Target(
        "mqtt_passage", fuzz_passage,
        (
            b"\4" + publish(_MINE, qos=1) + publish(_OTHER, qos=2) + packet(0x62, b"\0\1") + subscribe(_MINE, "#"),
            b"\5" + publish(_MINE, level=5, alias=1) + publish("", level=5, alias=1) + subscribe("#", level=5),
        ),
        (Violation,), _WORDS,
    ),
)  # fmt: skip
