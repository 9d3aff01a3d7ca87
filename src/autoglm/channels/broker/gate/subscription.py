"""SUBSCRIBE and SUBACK: what is not granted is taken out of the one, and its refusal put into the other. Pure.

Source: MQTT 5.0, sections 3.8 and 3.9; MQTT 3.1.1, the same.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from autoglm.channels.adapters.mqtt.topics import filter_flaw
from autoglm.channels.broker.gate import codec
from autoglm.channels.broker.gate.codec import Fields, Violation
from autoglm.channels.broker.gate.grants import subscribed

FILTERS = 1000
"""Of one SUBSCRIBE; each is compared with all that the device may read."""
_OF_SUBSCRIBE = frozenset((codec.SUBSCRIPTION_ID, codec.USER_PROPERTY))
_OF_SUBACK = frozenset((0x1F, codec.USER_PROPERTY))
_FAILURE_OF_3 = 0x80


class Judged(NamedTuple):
    packet_id: int
    onward: bytes
    """For the broker; empty when nothing is granted."""
    refusals: dict[int, int]
    """Reasons by the place of the filter in the SUBSCRIBE."""
    refused: list[str]


def judged(data: bytes, at: int, level: int, may_subscribe: Callable[[str], bool]) -> Judged:
    """Of the packet `data`, whose body begins at `at`. Raises Violation."""
    if data[0] != codec.SUBSCRIBE << 4 | 0x02:
        raise Violation(codec.MALFORMED, "a SUBSCRIBE with wrong flags")
    fields = Fields(data, at, len(data))
    packet_id = fields.number(2)
    start = fields.at
    if level == 5:
        fields.properties(_OF_SUBSCRIBE)
    head = data[start : fields.at]
    granted: list[bytes] = []
    refusals: dict[int, int] = {}
    refused: list[str] = []
    count = 0
    while not fields.is_at_end:
        start, pattern = fields.at, fields.string()
        fields.number(1)  # its options
        if may_subscribe(pattern):
            granted.append(data[start : fields.at])
        else:
            refusals[count] = _reason(pattern, level)
            refused.append(pattern)
        count += 1
        if count > FILTERS:
            raise Violation(codec.QUOTA_EXCEEDED, f"over {FILTERS} filters in one SUBSCRIBE")
    if not count or not packet_id:
        raise Violation(codec.PROTOCOL_ERROR, "a SUBSCRIBE without a filter or an identifier")
    if not refusals:
        return Judged(packet_id, data, refusals, refused)
    body = packet_id.to_bytes(2, "big") + head + b"".join(granted)
    return Judged(packet_id, codec.packet(data[0], body) if granted else b"", refusals, refused)


def _reason(pattern: str, level: int) -> int:
    if level < 5:
        return _FAILURE_OF_3
    wanted = subscribed(pattern)
    is_filter = wanted is not None and filter_flaw(wanted) is None
    return codec.NOT_AUTHORIZED if is_filter else codec.FILTER_INVALID


def suback(packet_id: int, level: int, refusals: Mapping[int, int]) -> bytes:
    """The gate's own, where the broker is not asked."""
    body = packet_id.to_bytes(2, "big") + (b"\0" if level == 5 else b"")
    return codec.packet(codec.SUBACK << 4, body + bytes(refusals[place] for place in sorted(refusals)))


def merged(data: bytes, at: int, level: int, refusals: Mapping[int, int]) -> bytes:
    """The broker's SUBACK with the gate's refusals at their places. Raises Violation."""
    fields = Fields(data, at, len(data))
    head_start = fields.at
    fields.take(2)
    if level == 5:
        fields.properties(_OF_SUBACK)
    head = data[head_start : fields.at]
    codes = iter(data[fields.at :])
    count = len(refusals) + len(data) - fields.at
    body = bytes(refusals[place] if place in refusals else next(codes, _FAILURE_OF_3) for place in range(count))
    return codec.packet(data[0], head + body)
