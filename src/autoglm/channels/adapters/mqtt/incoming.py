"""Turns what a broker delivers into a message of the hub, or into a device's receipt. Pure."""

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from autoglm.channels.adapters.mqtt.settings import TopicRule
from autoglm.channels.adapters.mqtt.topics import as_name, captures, filled
from autoglm.channels.delivery import Delivery, delivered
from autoglm.core.address import MAX_ADDRESS, check_address
from autoglm.core.clock import now_ms
from autoglm.core.envelope import (
    FIELDS,
    Content,
    Envelope,
    File,
    FilePart,
    JsonPart,
    check_id,
    check_texts,
    decode_body,
)
from autoglm.core.errors import HubError, InvalidField
from autoglm.core.ids import uuid7

_MAX_LABEL = 1024
_MAX_RAW_ID = 80
_FROM_TABLE = frozenset({"from", "to", "site", "lamport"})
"""Not the device's to say."""
_ESCAPE_CUT = re.compile(r"%[0-9A-F]?$")


@dataclass(eq=False)
class Arrival:
    """One PUBLISH packet from the broker."""

    topic: str
    payload: bytes
    qos: int = 0
    mid: int = 0
    """The packet's identifier; 0 at QoS 0."""
    is_repeated: bool = False
    """The DUP flag: the broker sent it before, and had no acknowledgement."""
    is_retained: bool = False
    connection: int = 0
    """On which it came, counted by the link: an acknowledgement is for that one alone."""
    properties: Mapping[str, str] = field(default_factory=dict)
    """MQTT 5's user properties; of those with the same name, the last."""
    content_type: str = ""
    correlation: str = ""
    """MQTT 5's correlation data, where it is text."""
    expires_in_s: int | None = None
    fresh_id: str = field(default_factory=uuid7)
    """The message's id where the sender gave none: the same for each try to take it in."""
    at_ms: int = field(default_factory=now_ms)
    is_taken: bool = False

    def __post_init__(self) -> None:
        self.digest = hashlib.sha256(self.topic.encode() + b"\0" + self.payload).digest()


class Receipt(NamedTuple):
    """A device says what became of a message that the hub sent it."""

    ticket: str
    delivery: Delivery


class Unreadable(Exception):
    """Nothing can be made of it; its text says why."""


def rule_for(rules: tuple[TopicRule, ...], topic: str) -> tuple[TopicRule, tuple[str, ...]] | None:
    """The first rule that matches, and what its wildcards stand for."""
    for rule in rules:
        if (found := captures(rule.topic, topic)) is not None:
            return rule, found
    return None


def read_receipt(arrival: Arrival) -> Receipt:
    """Raises Unreadable."""
    text = _text(arrival.payload)
    if text is None:
        raise Unreadable("a receipt that is no text")
    ticket, state = text.strip(), "delivered"
    if ticket.startswith("{"):
        try:
            body = json.loads(ticket)
            ticket, state = str(body["id"]), str(body.get("state", state))
        except (ValueError, KeyError, RecursionError):
            raise Unreadable("a receipt that is no JSON object with an id") from None
    if not ticket or len(ticket) > 256 or state not in ("delivered", "read"):
        raise Unreadable("a receipt without an id, or of a state that is neither delivered nor read")
    found = delivered(ticket)
    return Receipt(ticket, found if state == "delivered" else msgspec.structs.replace(found, outcome="read"))


def read_message(
    arrival: Arrival, rule: TopicRule, found: tuple[str, ...], *, channel: str, incoming_to: str
) -> Envelope:
    """The message by its rule. `reply_to` is as the device gave it.

    found: what the rule's wildcards stand for. Addresses of the table that the topic makes invalid (an empty level, one
    that is too long) are replaced by those of the channel, so that nothing is lost.
    """
    said = _said(arrival, rule)
    names = [as_name(one) for one in found]
    own = topic_address(channel, arrival.topic)
    to, from_ = rule.to and filled(rule.to, names, as_name(arrival.topic)), own
    if rule.from_ is not None:
        from_ = filled(rule.from_, names, as_name(arrival.topic))
    labels = {name: filled(value, found, arrival.topic)[:_MAX_LABEL] for name, value in rule.labels.items()}
    fields: dict[str, Any] = {
        "kind": rule.kind, "priority": rule.priority, "timestamp": arrival.at_ms, **said,
        "id": _id(channel, own, said.get("id", ""), arrival), "labels": {**said.get("labels", {}), **labels},
    }  # fmt: skip
    if rule.thread is not None:
        fields["thread"] = _as_id(filled(rule.thread, names, as_name(arrival.topic)))
    if "expires_at" not in fields and arrival.expires_in_s is not None:
        fields["expires_at"] = arrival.at_ms + 1000 * arrival.expires_in_s
    return Envelope(
        to=to if to and _is_address(to) else incoming_to, from_=from_ if _is_address(from_) else own, **fields
    )


def topic_address(channel: str, topic: str) -> str:
    """channel:NAME/TOPIC, to which an answer can be sent; of a topic that is too long, its beginning and a digest."""
    address = f"channel:{channel}/{as_name(topic)}"
    if len(address) <= MAX_ADDRESS:
        return address
    digest = hashlib.sha256(topic.encode()).hexdigest()[:32]
    return f"{_ESCAPE_CUT.sub('', address[: MAX_ADDRESS - 33])}~{digest}"


def _said(arrival: Arrival, rule: TopicRule) -> dict[str, Any]:
    """What the message says of itself: its content, and the fields of an envelope that a device may set."""
    fields: dict[str, Any] = {}
    text = _text(arrival.payload)
    body = None if text is None else _json(arrival, text)
    if text is None:
        fields["content"] = [_file(arrival)]
    elif body is None:
        fields["content"] = text
    elif (envelope := _envelope(body, arrival.payload)) is not None:
        fields |= envelope
    else:
        fields["content"] = [JsonPart(json=body)]
        named = body.get(rule.id_field) if isinstance(body, dict) and rule.id_field else None
        if isinstance(named, str | int) and not isinstance(named, bool):
            fields["id"] = str(named)
    if own_id := arrival.properties.get("id"):
        fields["id"] = own_id
    for name in ("reply_to", "thread"):
        if _is_id(arrival.properties.get(name, "")):
            fields[name] = arrival.properties[name]
    if _is_id(arrival.correlation) and "reply_to" not in fields:
        fields["reply_to"] = arrival.correlation
    return fields


def _json(arrival: Arrival, text: str) -> Any:
    """A list or an object; other JSON (`21.5`, `true`) only where the sender says that it is JSON. None for a text."""
    is_named = arrival.content_type.partition(";")[0].strip().lower() == "application/json"
    if text.lstrip()[:1] not in ("{", "[") and not is_named:
        return None
    try:
        return decode_body(arrival.payload, _ANY)
    except HubError:
        return None


_ANY: msgspec.json.Decoder[Any] = msgspec.json.Decoder()


class _Said(msgspec.Struct, forbid_unknown_fields=True):
    """An envelope without its address."""

    content: Content


def _envelope(body: Any, payload: bytes) -> dict[str, Any] | None:
    """The fields of what looks like an envelope; None when it does not. The table says from whom and to whom."""
    if not isinstance(body, dict) or "content" not in body or not body.keys() <= set(FIELDS):
        return None
    kept = {name: value for name, value in body.items() if name not in _FROM_TABLE and value is not None}
    raw_id = kept.pop("id", "")
    try:
        envelope = msgspec.convert({**kept, "to": "user:x"}, Envelope)
        check_texts(envelope)
    except (msgspec.ValidationError, InvalidField):
        return None
    fields = {name: getattr(envelope, name) for name in kept}
    if isinstance(raw_id, str | int) and not isinstance(raw_id, bool) and raw_id != "":
        fields["id"] = str(raw_id)
    return fields


def _id(channel: str, sender: str, raw: str, arrival: Arrival) -> str:
    """Of the channel and the topic, too: two devices may count their messages alike."""
    if not raw:
        return arrival.fresh_id
    place = hashlib.sha256(sender.encode()).hexdigest()[:12]
    if len(raw) <= _MAX_RAW_ID and _is_id(name := f"{channel[:32]}.{place}.{raw}"):
        return name
    return f"{channel[:32]}.{place}.{hashlib.sha256(raw.encode('utf-8', 'replace')).hexdigest()}"


def raw_id(channel: str, envelope_id: str) -> str:
    """The id as the device gave it, where `_id` kept it; else the id as it is."""
    kept = re.fullmatch(rf"{re.escape(channel[:32])}\.[0-9a-f]{{12}}\.(.+)", envelope_id)
    return envelope_id if kept is None else kept[1]


def _file(arrival: Arrival) -> FilePart:
    kind = arrival.content_type if re.fullmatch(r"[\w.+-]{1,64}/[\w.+-]{1,64}", arrival.content_type) else ""
    data = base64.b64encode(arrival.payload).decode()
    name = arrival.topic.rpartition("/")[2][:128] or "payload"
    return FilePart(
        file=File(filename=name, file_data=f"data:{kind or 'application/octet-stream'};base64,{data}")
    )  # fmt: skip


def _text(payload: bytes) -> str | None:
    try:
        return payload.decode()
    except UnicodeDecodeError:
        return None


def _as_id(text: str) -> str:
    return text if _is_id(text) else hashlib.sha256(text.encode()).hexdigest()


def _is_id(text: str) -> bool:
    try:
        check_id(text)
    except InvalidField:
        return False
    return True


def _is_address(text: str) -> bool:
    try:
        check_address(text)
    except InvalidField:
        return False
    return True
