"""Cuts one direction of a connection into packets, and slices what passes out of it unread.

The cost of a message is the cost of its head: a payload is never looked at, and of a large one only what the socket
gave is in memory. Source: MQTT 5.0, sections 2.1 and 3.3.
"""

from collections.abc import Callable

from autoglm.channels.broker.gate import codec
from autoglm.channels.broker.gate.codec import Violation, varint_at

CONTROL_BYTES = 65_536
"""Of a packet that is no PUBLISH."""
PROPERTIES_BYTES = 65_536
"""Of a PUBLISH; they come before its payload, and are in memory until they are whole."""

Judge = Callable[[int, bytes, int, bytes], bool]
"""(first byte, topic, packet identifier, properties) of a PUBLISH -> whether it passes."""
Control = Callable[[bytes, int], bytes]
"""(packet, where its body begins) of another -> what goes on in its place."""


class Stream:
    def __init__(
        self, level: int, max_packet_bytes: int, passing: frozenset[int], judge: Judge, control: Control
    ) -> None:  # fmt: skip
        """passing: types that pass unread. level: 5 has properties. judge and control may raise Violation."""
        self._has_properties = level == 5
        self._max_packet_bytes = max_packet_bytes
        self._passing = passing
        self._judge = judge
        self._control = control
        self._rest = b""
        """The beginning of a packet of which too little has come."""
        self._left = 0
        """Bytes that must come until the end of a PUBLISH that is judged already."""
        self._passes = True

    @property
    def is_between_packets(self) -> bool:
        """Whether the other side has whole packets only, so that one of the gate's own may follow."""
        return not (self._left and self._passes)

    def feed(self, data: bytes) -> bytes:
        """What of it goes on. Raises Violation."""
        if not self._left:
            return self._cut(self._rest + data if self._rest else data)
        size = min(self._left, len(data))
        self._left -= size
        onward = data[:size] if self._passes else b""
        return onward + self._cut(data[size:]) if size < len(data) else onward

    def _cut(self, data: bytes) -> bytes:
        out: list[bytes] = []
        at = start = 0
        size = len(data)
        while (found := self._bounds(data, at)) is not None:
            body, end = found
            kind = data[at] >> 4
            if kind == codec.PUBLISH:
                does_pass = self._judged(data, at, body, end)
                if does_pass is None:
                    break
                if not does_pass:
                    out.append(data[start:at])
                    start = min(end, size)
                if end > size:
                    self._left, self._passes = end - size, does_pass
                    end = size
            elif end > size:
                break
            elif kind not in self._passing:
                out += (data[start:at], self._control(data[at:end], body - at))
                start = end
            at = end
        self._rest = data[at:]
        if start == 0 and at == size:
            return data
        out.append(data[start:at])
        return b"".join(out)

    def _bounds(self, data: bytes, at: int) -> tuple[int, int] | None:
        """Where the body of the packet at `at` begins, and where it ends; None when that is not known yet."""
        if at + 2 > len(data):
            return None
        length, body = data[at + 1], at + 2
        if length >= 0x80:
            found = varint_at(data, at + 1)
            if found is None:
                return None
            length, body = found
        if body + length - at > self._max_packet_bytes:
            raise Violation(codec.PACKET_TOO_LARGE, f"a packet is over {self._max_packet_bytes} bytes")
        if length > CONTROL_BYTES and data[at] >> 4 != codec.PUBLISH:
            raise Violation(codec.PACKET_TOO_LARGE, f"a control packet is over {CONTROL_BYTES} bytes")
        return body, body + length

    def _judged(self, data: bytes, at: int, body: int, end: int) -> bool | None:
        """None: its head has not come yet."""
        size = len(data)
        if body + 2 > end:
            raise Violation(codec.MALFORMED, "a PUBLISH is shorter than its fields")
        if body + 2 > size:
            return None
        head = data[at]
        name_end = place = body + 2 + (data[body] << 8 | data[body + 1])
        packet_id = 0
        qos = head & 0x06
        if qos:
            place += 2
        if place > end or qos == 0x06:
            raise Violation(codec.MALFORMED, "a PUBLISH is shorter than its fields, or of QoS 3")
        if place > size:
            return None
        if qos:
            packet_id = data[place - 2] << 8 | data[place - 1]
        properties = b""
        if self._has_properties:
            found = varint_at(data, place, min(size, end))
            if found is None:
                if end <= size:
                    raise Violation(codec.MALFORMED, "a PUBLISH is shorter than its fields")
                return None
            length, place = found
            if place + length > end:
                raise Violation(codec.MALFORMED, "a PUBLISH is shorter than its properties")
            if length > PROPERTIES_BYTES:
                raise Violation(codec.PACKET_TOO_LARGE, f"the properties are over {PROPERTIES_BYTES} bytes")
            if place + length > size:
                return None
            properties = data[place : place + length]
        return self._judge(head, data[body + 2 : name_end], packet_id, properties)
