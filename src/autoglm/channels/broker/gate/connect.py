"""CONNECT and CONNACK: strictly read, and written anew for the broker. Pure.

Source: MQTT 5.0, sections 3.1 and 3.2; MQTT 3.1.1, sections 3.1 and 3.2; MQTT 3.1, section 3.1.
"""

from typing import NamedTuple

from autoglm.channels.adapters.mqtt.topics import topic_flaw
from autoglm.channels.broker.gate import codec
from autoglm.channels.broker.gate.codec import Fields, Properties, Violation, binary, packed, packet, string

CONNECT_BYTES = 65_536
CLIENT_ID_BYTES = 512
USERNAME_BYTES = 512
PASSWORD_BYTES = 16_384
"""A token may have 8 KiB, and its proof comes with it."""

_LEVELS = {("MQIsdp", 3): 3, ("MQTT", 4): 4, ("MQTT", 5): 5}
_OF_CONNECT = frozenset((0x11, 0x15, 0x16, 0x17, 0x19, 0x21, 0x22, 0x26, 0x27))
_OF_WILL = frozenset((0x01, 0x02, 0x03, 0x08, 0x09, 0x18, 0x26))
_OF_CONNACK = frozenset(
    (0x11, 0x12, 0x13, 0x15, 0x16, 0x1A, 0x1C, 0x1F, 0x21, 0x22, 0x24, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2A)
)
_GATES_OWN = (codec.METHOD, codec.DATA, codec.TOPIC_ALIAS_MAXIMUM)
"""Not for the broker: who the device is, the gate knows; and it reads each topic of what goes to the device."""
_CODES_OF_3 = {
    codec.UNSUPPORTED_VERSION: 1, codec.CLIENT_ID_NOT_VALID: 2, codec.SERVER_UNAVAILABLE: 3, codec.QUOTA_EXCEEDED: 3,
    codec.BAD_LOGIN: 4, codec.NOT_AUTHORIZED: 5,
}  # fmt: skip


class Will(NamedTuple):
    properties: Properties
    topic: str
    payload: bytes


class Connect(NamedTuple):
    level: int
    flags: int
    keepalive_s: int
    properties: Properties
    client_id: str
    will: Will | None
    username: str | None
    password: bytes | None

    @property
    def is_clean(self) -> bool:
        return bool(self.flags & 0x02)

    @property
    def method(self) -> str:
        raw = codec.value_of(self.properties, codec.METHOD)
        return "" if raw is None else raw[2:].decode()

    @property
    def data(self) -> bytes:
        return (codec.value_of(self.properties, codec.DATA) or b"\0\0")[2:]


def level_of(data: bytes, at: int) -> int:
    """3 for MQTT 3.1, 4 for 3.1.1, 5; data: a CONNECT, whose body begins at `at`.

    Raises Violation: with UNSUPPORTED_VERSION for later versions.
    """
    return _protocol(Fields(data, at, len(data)))


def _protocol(fields: Fields) -> int:
    name, number = fields.string(), fields.number(1)
    level = _LEVELS.get((name, number))
    if level is None:
        raise Violation(codec.UNSUPPORTED_VERSION if name == "MQTT" else codec.MALFORMED, "an unknown protocol")
    return level


def read_connect(data: bytes, at: int) -> Connect:
    """As `level_of`. Raises Violation."""
    fields = Fields(data, at, len(data))
    level = _protocol(fields)
    flags, keepalive_s = fields.number(1), fields.number(2)
    _check_flags(flags, level)
    properties = fields.properties(_OF_CONNECT) if level == 5 else []
    if codec.value_of(properties, codec.DATA) is not None and codec.value_of(properties, codec.METHOD) is None:
        raise Violation(codec.PROTOCOL_ERROR, "authentication data without a method")
    client_id = fields.string()
    will = None
    if flags & 0x04:
        own = fields.properties(_OF_WILL) if level == 5 else []
        will = Will(own, fields.string(), fields.binary())
        if topic_flaw(will.topic) is not None:
            raise Violation(codec.TOPIC_INVALID, "the will has a topic that is none")
    username = fields.string() if flags & 0x80 else None
    password = fields.binary() if flags & 0x40 else None
    if not fields.is_at_end:
        raise Violation(codec.MALFORMED, "something follows the CONNECT's last field")
    if len(client_id.encode()) > CLIENT_ID_BYTES:
        raise Violation(codec.CLIENT_ID_NOT_VALID, f"the client identifier is over {CLIENT_ID_BYTES} bytes")
    if len((username or "").encode()) > USERNAME_BYTES or len(password or b"") > PASSWORD_BYTES:
        raise Violation(codec.BAD_LOGIN, "the user name or the password is too long")
    return Connect(level, flags, keepalive_s, properties, client_id, will, username, password)


def _check_flags(flags: int, level: int) -> None:
    """Section 3.1.2."""
    has_will, qos, has_name, has_password = flags & 0x04, flags >> 3 & 3, flags & 0x80, flags & 0x40
    if flags & 0x01 or qos == 3 or (flags & 0x38 and not has_will) or (has_password and not has_name and level < 5):
        raise Violation(codec.MALFORMED, "the CONNECT's flags contradict each other")


def written(
    connect: Connect, *, client_id: str, username: str, password: str, will_delay_max_s: int | None
) -> bytes:  # fmt: skip
    """The CONNECT for the broker: the device's, with another identifier and login.

    will_delay_max_s: a will must not speak after the rights ended; None: they do not end.
    """
    name = string("MQIsdp" if connect.level == 3 else "MQTT")
    body = [name, bytes((connect.level, connect.flags | 0xC0)), connect.keepalive_s.to_bytes(2, "big")]
    if connect.level == 5:
        body.append(packed(entry for entry in connect.properties if entry[0] not in _GATES_OWN))
    body.append(string(client_id))
    if connect.will is not None:
        if connect.level == 5:
            body.append(packed(_capped(connect.will.properties, will_delay_max_s)))
        body += [string(connect.will.topic), binary(connect.will.payload)]
    body += [string(username), string(password)]
    return packet(codec.CONNECT << 4, b"".join(body))


def _capped(properties: Properties, will_delay_max_s: int | None) -> Properties:
    if will_delay_max_s is None:
        return properties
    return [
        (identifier, min(int.from_bytes(value, "big"), will_delay_max_s).to_bytes(4, "big"))
        if identifier == codec.WILL_DELAY
        else (identifier, value)
        for identifier, value in properties
    ]


class Connack(NamedTuple):
    flags: int
    code: int
    properties: Properties

    @property
    def alias_max(self) -> int:
        """Topic aliases that the broker bears."""
        return int.from_bytes(codec.value_of(self.properties, codec.TOPIC_ALIAS_MAXIMUM) or b"\0", "big")


def read_connack(data: bytes, at: int, level: int) -> Connack:
    """data: a CONNACK, whose body begins at `at`. Raises Violation."""
    fields = Fields(data, at, len(data))
    flags, code = fields.number(1), fields.number(1)
    return Connack(flags, code, fields.properties(_OF_CONNACK) if level == 5 else [])


def connack(found: Connack, level: int) -> bytes:
    body = bytes((found.flags, found.code)) + (packed(found.properties) if level == 5 else b"")
    return packet(codec.CONNACK << 4, body)


def refusal(level: int, code: int) -> bytes:
    """A CONNACK that says no. Empty where MQTT 3 has no code for it, and just ends (3.1.1, section 3.2.2.3)."""
    if level == 5:
        return connack(Connack(0, code, []), level)
    old = _CODES_OF_3.get(code)
    return b"" if old is None else connack(Connack(0, old, []), level)
