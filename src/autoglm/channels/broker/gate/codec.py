"""Reads and writes what MQTT packets are made of: numbers, strings, properties. Pure and strict.

Where two parties read one packet in two ways, one can be made to let through what the other refuses; hence nothing is
taken that the standard does not know. Source: MQTT 5.0 (OASIS, 2019), sections 1.5 and 2.
"""

from collections.abc import Iterable

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK = range(1, 12)
PINGREQ, PINGRESP, DISCONNECT, AUTH = range(12, 16)

SUCCESS = 0x00
CONTINUE_AUTHENTICATION = 0x18
REAUTHENTICATE = 0x19
MALFORMED = 0x81
PROTOCOL_ERROR = 0x82
UNSUPPORTED_VERSION = 0x84
CLIENT_ID_NOT_VALID = 0x85
BAD_LOGIN = 0x86
NOT_AUTHORIZED = 0x87
SERVER_UNAVAILABLE = 0x88
SERVER_SHUTTING_DOWN = 0x8B
BAD_METHOD = 0x8C
FILTER_INVALID = 0x8F
TOPIC_INVALID = 0x90
ALIAS_INVALID = 0x94
PACKET_TOO_LARGE = 0x95
RATE_TOO_HIGH = 0x96
QUOTA_EXCEEDED = 0x97
MAXIMUM_CONNECT_TIME = 0xA0

SESSION_EXPIRY, ASSIGNED_CLIENT_ID, METHOD, DATA, WILL_DELAY = 0x11, 0x12, 0x15, 0x16, 0x18
TOPIC_ALIAS_MAXIMUM, TOPIC_ALIAS, USER_PROPERTY, SUBSCRIPTION_ID = 0x22, 0x23, 0x26, 0x0B

_BYTE, _TWO, _FOUR, _VARINT, _STRING, _BINARY, _PAIR = range(7)
_KINDS = {
    0x01: _BYTE, 0x02: _FOUR, 0x03: _STRING, 0x08: _STRING, 0x09: _BINARY, 0x0B: _VARINT, 0x11: _FOUR, 0x12: _STRING,
    0x13: _TWO, 0x15: _STRING, 0x16: _BINARY, 0x17: _BYTE, 0x18: _FOUR, 0x19: _BYTE, 0x1A: _STRING, 0x1C: _STRING,
    0x1F: _STRING, 0x21: _TWO, 0x22: _TWO, 0x23: _TWO, 0x24: _BYTE, 0x25: _BYTE, 0x26: _PAIR, 0x27: _FOUR, 0x28: _BYTE,
    0x29: _BYTE, 0x2A: _BYTE,
}  # fmt: skip
"""Section 2.2.2.2."""
_REPEATED = (USER_PROPERTY, SUBSCRIPTION_ID)

Properties = list[tuple[int, bytes]]
"""Identifiers with their values as they are on the wire."""


class Violation(Exception):
    """The other side does not keep to the protocol, or to a limit; the connection ends. `code`: a reason of MQTT 5."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def varint_at(data: bytes, at: int, end: int | None = None) -> tuple[int, int] | None:
    """A variable byte integer and the place behind it; None when it is not whole before `end`. Raises Violation."""
    value = shift = 0
    for place in range(at, min(at + 4, len(data) if end is None else end)):
        digit = data[place]
        value |= (digit & 0x7F) << shift
        if digit < 0x80:
            if shift and not digit:
                raise Violation(MALFORMED, "a length has more bytes than it needs")
            return value, place + 1
        shift += 7
    if shift == 28:
        raise Violation(MALFORMED, "a length has more than 4 bytes")
    return None


def varint(value: int) -> bytes:
    found = bytearray()
    while True:
        value, digit = divmod(value, 128)
        found.append(digit | (0x80 if value else 0))
        if not value:
            return bytes(found)


class Fields:
    """Reads one field after the other of data[at:end]. Each raises Violation where it does not fit."""

    def __init__(self, data: bytes, at: int, end: int) -> None:
        self.data, self.at, self.end = data, at, end

    @property
    def is_at_end(self) -> bool:
        return self.at == self.end

    def take(self, size_bytes: int) -> bytes:
        after = self.at + size_bytes
        if after > self.end:
            raise Violation(MALFORMED, "a packet is shorter than its fields")
        found = self.data[self.at : after]
        self.at = after
        return found

    def number(self, size_bytes: int) -> int:
        return int.from_bytes(self.take(size_bytes), "big")

    def varint(self) -> int:
        found = varint_at(self.data, self.at, self.end)
        if found is None:
            raise Violation(MALFORMED, "a packet is shorter than its fields")
        value, self.at = found
        return value

    def binary(self) -> bytes:
        return self.take(self.number(2))

    def string(self) -> str:
        return text_of(self.binary())

    def properties(self, known: frozenset[int]) -> Properties:
        """known: the identifiers that this packet may have."""
        size_bytes = self.varint()
        inner = Fields(self.data, self.at, self.at + size_bytes)
        self.take(size_bytes)
        found: Properties = []
        seen: set[int] = set()
        while not inner.is_at_end:
            identifier = inner.varint()
            if identifier not in known:
                raise Violation(MALFORMED, f"property {identifier:#x} does not belong here")
            if identifier in seen and identifier not in _REPEATED:
                raise Violation(PROTOCOL_ERROR, f"property {identifier:#x} comes twice")
            seen.add(identifier)
            start = inner.at
            _skip(inner, _KINDS[identifier])
            found.append((identifier, inner.data[start : inner.at]))
        return found


def _skip(fields: Fields, kind: int) -> None:
    if kind == _VARINT:
        fields.varint()
    elif kind == _BINARY:
        fields.binary()
    elif kind in (_STRING, _PAIR):
        fields.string()
        if kind == _PAIR:
            fields.string()
    else:
        fields.take((1, 2, 4)[kind])


def text_of(raw: bytes) -> str:
    """Raises Violation for what is no UTF-8, or has a NUL (section 1.5.4)."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise Violation(MALFORMED, "a string is not UTF-8") from None
    if "\0" in text:
        raise Violation(MALFORMED, "a string has a NUL")
    return text


def value_of(properties: Properties, identifier: int) -> bytes | None:
    return next((value for known, value in properties if known == identifier), None)


def binary(raw: bytes) -> bytes:
    return len(raw).to_bytes(2, "big") + raw


def string(text: str) -> bytes:
    return binary(text.encode())


def packed(properties: Iterable[tuple[int, bytes]]) -> bytes:
    """All identifiers of today are one byte long."""
    body = b"".join(bytes((identifier,)) + value for identifier, value in properties)
    return varint(len(body)) + body


def packet(head: int, body: bytes) -> bytes:
    return bytes((head,)) + varint(len(body)) + body


def auth(reason: int, method: str, data: bytes) -> bytes:
    """AUTH, section 3.15."""
    properties = [(METHOD, string(method))] + ([(DATA, binary(data))] if data else [])
    return packet(AUTH << 4, bytes((reason,)) + packed(properties))


def disconnect(reason: int) -> bytes:
    """DISCONNECT of MQTT 5, section 3.14."""
    return packet(DISCONNECT << 4, bytes((reason,)))
