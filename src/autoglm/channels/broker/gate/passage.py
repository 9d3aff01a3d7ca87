"""What passes between a device and the broker: its rights on each topic, in both directions. Pure: bytes in, bytes out.

What the broker sends is judged as well: a session outlives rights, and so do its subscriptions.
"""

from collections.abc import Callable
from typing import Literal

from autoglm.channels.broker.gate import codec, subscription
from autoglm.channels.broker.gate.codec import Fields, Violation, packet, text_of
from autoglm.channels.broker.gate.rights import Topics
from autoglm.channels.broker.gate.stream import Stream

_FROM_DEVICE = frozenset(
    (codec.PUBACK, codec.PUBREC, codec.PUBCOMP, codec.UNSUBSCRIBE, codec.PINGREQ, codec.DISCONNECT)
)
_FROM_BROKER = frozenset((codec.PUBACK, codec.PUBREC, codec.PUBCOMP, codec.UNSUBACK, codec.PINGRESP, codec.DISCONNECT))
_OF_PUBLISH = frozenset((0x01, 0x02, 0x03, 0x08, 0x09, 0x0B, 0x23, 0x26))
_LONG_ALIAS = codec.TOPIC_ALIAS | 0x80
"""How the identifier would begin if it had a byte too many, which some broker may take."""
_LONGEST_BYTES = 268_435_460
"""Section 2.1.4: the broker is trusted not to send more than it takes."""
_REMEMBERED = 1024
"""Topics with their verdict."""
_REMEMBERED_BYTES = 512
_TOLD = 100
"""Refused topics of one connection that are told; the others are counted."""
_SUBSCRIPTIONS_OPEN = 100
_ANSWERS_BYTES = 262_144
"""Of the gate's own packets that wait for the end of a message on its way to the device."""

Refused = Callable[[Literal["publish:topic", "subscribe:topic", "read:topic"], str], None]
OnAuth = Callable[[int, str, bytes], None]
"""(reason, method, data) of an AUTH packet; may raise Violation."""


class Passage:
    """Of one connection, once the broker has welcomed it."""

    def __init__(
        self, level: int, topics: Topics, *, max_packet_bytes: int, alias_max: int, refused: Refused, on_auth: OnAuth
    ) -> None:
        """alias_max: topic aliases that the broker takes from the device. refused: is told of each topic once."""
        self._level = level
        self._topics = topics
        self._epoch = topics.epoch
        self._alias_max = alias_max
        self._refused = refused
        self._on_auth = on_auth
        self._may_publish: dict[bytes, bool] = {}
        self._may_read: dict[bytes, bool] = {}
        self._told: set[tuple[str, str]] = set()
        self.refusals = 0
        """Messages and filters that did not pass."""
        self._aliases: dict[int, bytes | None] = {}
        """None: the broker does not know it, for the message that set it was refused."""
        self._subscribing: dict[int, dict[int, int]] = {}
        """Refusals to put into the SUBACK, by its packet identifier."""
        self._sent_open: set[int] = set()
        """Identifiers of the device's refused messages of QoS 2 whose PUBREL is to come (MQTT 3)."""
        self._received_open: set[int] = set()
        """The same of the broker's messages."""
        self._up = Stream(level, max_packet_bytes, _FROM_DEVICE, self._judge_sent, self._control_sent)
        self._down = Stream(level, _LONGEST_BYTES, _FROM_BROKER, self._judge_received, self._control_received)
        self._for_device = bytearray()
        self._for_broker = bytearray()

    def from_device(self, data: bytes) -> tuple[bytes, bytes]:
        """(to the broker, to the device). Raises Violation."""
        self._look()
        onward = self._up.feed(data)
        back = self.owed_to_device() if self._for_device else b""
        return onward + self._owed_to_broker() if self._for_broker else onward, back

    def from_broker(self, data: bytes) -> tuple[bytes, bytes]:
        """(to the broker, to the device). Raises Violation."""
        self._look()
        onward = self._down.feed(data)
        back = self._owed_to_broker() if self._for_broker else b""
        return back, onward + self.owed_to_device() if self._for_device else onward

    def tell_device(self, message: bytes) -> bytes:
        """A packet of the gate's own: what may be written at once; the rest goes behind the packet on its way."""
        self._for_device += message
        return self.owed_to_device()

    @property
    def can_end_device(self) -> bool:
        """Whether a DISCONNECT may be written to the device."""
        return self._down.is_between_packets

    @property
    def can_end_broker(self) -> bool:
        return self._up.is_between_packets

    def regrant(self, topics: Topics) -> None:
        """From now on other rights hold."""
        self._topics = topics
        self._forget()

    def _look(self) -> None:
        """Once for all that came together: to ask with each message would cost as much as all else about it."""
        if self._topics.epoch != self._epoch:
            self._forget()

    def _forget(self) -> None:
        self._epoch = self._topics.epoch
        self._may_publish.clear()
        self._may_read.clear()

    def owed_to_device(self) -> bytes:
        """Taken out: to be written before anything else."""
        return _taken(self._for_device) if self._down.is_between_packets else b""

    def _owed_to_broker(self) -> bytes:
        return _taken(self._for_broker) if self._up.is_between_packets else b""

    # --- from the device ---

    def _judge_sent(self, head: int, topic: bytes, packet_id: int, properties: bytes) -> bool:
        if not topic or (properties and (codec.TOPIC_ALIAS in properties or _LONG_ALIAS in properties)):
            is_allowed = self._judge_alias(topic, properties)
        else:
            known = self._may_publish.get(topic)
            is_allowed = self._decide_sent(topic) if known is None else known
        if is_allowed:
            return True
        self.refusals += 1
        if head & 0x06:
            self._answer_refused(head, packet_id)
        return False

    def _judge_alias(self, topic: bytes, properties: bytes) -> bool:
        """Section 3.3.2.3.4. A message without a topic has the one that its alias was last given."""
        whole = codec.varint(len(properties)) + properties
        fields = Fields(whole, 0, len(whole))
        raw = codec.value_of(fields.properties(_OF_PUBLISH), codec.TOPIC_ALIAS) if self._level == 5 else None
        if raw is None:
            if not topic:
                raise Violation(codec.TOPIC_INVALID, "a PUBLISH without a topic")
            return self._decide_sent(topic)
        alias = int.from_bytes(raw, "big")
        if not 1 <= alias <= self._alias_max:
            raise Violation(codec.ALIAS_INVALID, f"the topic alias {alias} is not between 1 and {self._alias_max}")
        if not topic:
            if alias not in self._aliases:
                raise Violation(codec.PROTOCOL_ERROR, f"the topic alias {alias} has no topic")
            known = self._aliases[alias]
            return known is not None and self._decide_sent(known)
        is_allowed = self._decide_sent(topic)
        self._aliases[alias] = topic if is_allowed else None
        return is_allowed

    def _decide_sent(self, raw: bytes) -> bool:
        if (known := self._may_publish.get(raw)) is not None:
            return known
        topic = text_of(raw)
        if "+" in topic or "#" in topic:
            raise Violation(codec.TOPIC_INVALID, "a PUBLISH to a topic with a wildcard")
        is_allowed = self._topics.may_publish(topic)
        _remember(self._may_publish, raw, is_allowed)
        if not is_allowed:
            self._tell("publish:topic", topic)
        return is_allowed

    def _answer_refused(self, head: int, packet_id: int) -> None:
        """MQTT 5 has a reason. MQTT 3.1.1 has none (3.3.5): confirmed and dropped, as Mosquitto does, because a device
        whose connection were ended would send the same message on each new one.
        """
        number = packet_id.to_bytes(2, "big")
        is_twice = head & 0x06 == 0x04
        kind = codec.PUBREC if is_twice else codec.PUBACK
        self._check_waiting()
        if self._level == 5:
            self._for_device += packet(kind << 4, number + bytes((codec.NOT_AUTHORIZED,)))
            return
        if is_twice:
            self._sent_open.add(packet_id)
        self._for_device += packet(kind << 4, number)

    def _check_waiting(self) -> None:
        if len(self._for_device) > _ANSWERS_BYTES:
            raise Violation(codec.QUOTA_EXCEEDED, "too many refusals wait behind a message that is not read")

    def _control_sent(self, data: bytes, at: int) -> bytes:
        kind = data[0] >> 4
        if kind == codec.PUBREL:
            return self._released(data, at, self._sent_open, self._for_device)
        if kind == codec.SUBSCRIBE:
            return self._subscribed(data, at)
        if kind == codec.AUTH and self._level == 5:
            self._on_auth(*read_auth(data, at))
            return b""
        raise Violation(codec.PROTOCOL_ERROR, f"a device sends no packet of type {kind} here")

    def _subscribed(self, data: bytes, at: int) -> bytes:
        found = subscription.judged(data, at, self._level, self._topics.may_subscribe)
        if not found.refusals:
            return data
        self.refusals += len(found.refusals)
        for pattern in found.refused:
            self._tell("subscribe:topic", pattern)
        if not found.onward:
            self._check_waiting()
            self._for_device += subscription.suback(found.packet_id, self._level, found.refusals)
        else:
            if len(self._subscribing) >= _SUBSCRIPTIONS_OPEN:
                raise Violation(codec.QUOTA_EXCEEDED, "too many SUBSCRIBEs wait for an answer")
            self._subscribing[found.packet_id] = found.refusals
        return found.onward

    # --- from the broker ---

    def _judge_received(self, head: int, raw: bytes, packet_id: int, properties: bytes) -> bool:
        known = self._may_read.get(raw)
        if known is None:
            topic = text_of(raw)
            known = self._topics.may_read(topic)
            _remember(self._may_read, raw, known)
            if not known:
                self._tell("read:topic", topic)
        if known:
            return True
        self.refusals += 1
        if qos := head & 0x06:
            number = packet_id.to_bytes(2, "big")
            if qos == 0x04 and self._level < 5:
                self._received_open.add(packet_id)
            reason = bytes((codec.NOT_AUTHORIZED,)) if self._level == 5 else b""
            self._for_broker += packet((codec.PUBACK if qos == 0x02 else codec.PUBREC) << 4, number + reason)
        return False

    def _control_received(self, data: bytes, at: int) -> bytes:
        kind = data[0] >> 4
        if kind == codec.PUBREL:
            return self._released(data, at, self._received_open, self._for_broker)
        if kind == codec.SUBACK:
            refusals = self._subscribing.pop(int.from_bytes(data[at : at + 2], "big"), None)
            return data if refusals is None else subscription.merged(data, at, self._level, refusals)
        raise Violation(codec.PROTOCOL_ERROR, f"the broker sends no packet of type {kind} here")

    # --- both ---

    def _released(self, data: bytes, at: int, waiting: set[int], back: bytearray) -> bytes:
        """A PUBREL: of a message that was refused it is answered here."""
        packet_id = int.from_bytes(data[at : at + 2], "big")
        if packet_id not in waiting:
            return data
        waiting.discard(packet_id)
        back += packet(codec.PUBCOMP << 4, packet_id.to_bytes(2, "big"))
        return b""

    def _tell(self, action: Literal["publish:topic", "subscribe:topic", "read:topic"], topic: str) -> None:
        key = (action, topic[:_REMEMBERED_BYTES])
        if key not in self._told and len(self._told) < _TOLD:
            self._told.add(key)
            self._refused(action, topic)


def read_auth(data: bytes, at: int) -> tuple[int, str, bytes]:
    """(reason, method, data) of an AUTH, section 3.15. Raises Violation."""
    if data[0] != codec.AUTH << 4:
        raise Violation(codec.MALFORMED, "an AUTH with flags")
    fields = Fields(data, at, len(data))
    reason = fields.number(1)
    found = fields.properties(frozenset((codec.METHOD, codec.DATA, 0x1F, codec.USER_PROPERTY)))
    method = codec.value_of(found, codec.METHOD)
    if method is None or not fields.is_at_end:
        raise Violation(codec.PROTOCOL_ERROR, "an AUTH without a method")
    return reason, method[2:].decode(), (codec.value_of(found, codec.DATA) or b"\0\0")[2:]


def _remember(known: dict[bytes, bool], raw: bytes, verdict: bool) -> None:
    if len(raw) > _REMEMBERED_BYTES:
        return
    if len(known) >= _REMEMBERED:
        known.clear()
    known[raw] = verdict


def _taken(waiting: bytearray) -> bytes:
    found = bytes(waiting)
    waiting.clear()
    return found
