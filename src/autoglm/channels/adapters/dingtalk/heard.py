"""What people write to the app's robot: a callback of the stream as an envelope, and how to answer it.

Source: open.dingtalk.com, "robots receive messages" (the fields of /v1.0/im/bot/messages/get).
"""

import hashlib
from collections.abc import Mapping
from typing import NamedTuple

from autoglm.channels.adapters.dingtalk.press import pressed
from autoglm.channels.choices import ACTION
from autoglm.channels.vendor_json import map_of, text_in, vendor_map
from autoglm.core.envelope import Content, Envelope, JsonPart, Part, TextPart, check_texts
from autoglm.core.errors import HubError

GROUP = "2"
"""conversationType of groups; "1" is between two."""
_LABEL_CHARACTERS = 200
_MARKS = {
    "picture": "[picture / 图片]",
    "audio": "[audio / 音频]",
    "video": "[video / 视频]",
    "file": "[file / 文件]",
}


class Session(NamedTuple):
    """A webhook that DingTalk gives with a message, for answers to it."""

    webhook: str
    """A secret: whoever has it can write there."""
    ends_ms: int
    """Of the Unix epoch, by DingTalk's clock."""


class Heard(NamedTuple):
    envelope: Envelope
    place: str
    """The target that answers: a person's id, or a group's."""
    person: str
    session: Session | None
    quoted: tuple[str, ...]
    """Tickets by which the message that this one answers may be known."""


class Unreadable(Exception):
    """A callback that can never be taken."""


def heard(data: str, *, channel: str, incoming_to: str) -> Heard:
    """Raises Unreadable."""
    try:
        return _heard(vendor_map(data), channel, incoming_to)
    except (ValueError, KeyError) as error:
        raise Unreadable(type(error).__name__) from error
    except HubError as error:
        raise Unreadable(error.code) from error


def _heard(fields: Mapping[str, object], channel: str, incoming_to: str) -> Heard:
    person = text_in(fields, "senderStaffId") or text_in(fields, "senderId")
    conversation = text_in(fields, "conversationId")
    is_group = str(fields.get("conversationType", "")) == GROUP
    place = conversation if is_group else person
    names = {"sender": person if is_group else "", "sender_name": text_in(fields, "senderNick")}
    names["conversation"] = text_in(fields, "conversationTitle")
    message_id = text_in(fields, "msgId")
    if not person or not conversation or not message_id:
        raise KeyError("msgId, sender or conversation")
    labels = {name: value[:_LABEL_CHARACTERS] for name, value in names.items() if value}
    content, reply_to = _content(fields), None
    if isinstance(content, str) and (press := pressed(content)) is not None:
        content, reply_to, labels = press.words, press.message, labels | {ACTION: press.action}
    envelope = Envelope(
        id=_id_of(channel, message_id), from_=f"channel:{channel}/{place}", to=incoming_to, content=content,
        timestamp=_ms(fields.get("createAt")), thread=_id_of(channel, conversation), labels=labels, reply_to=reply_to,
    )  # fmt: skip
    check_texts(envelope)
    return Heard(envelope, place, person, _session(fields), _quoted(fields))


def _id_of(channel: str, vendor_id: str) -> str:
    """As an envelope's id: up to 128 visible ASCII characters, else its digest."""
    text = f"{channel}:{vendor_id}"
    is_plain = len(text) <= 128 and all("!" <= character <= "~" for character in text)
    return text if is_plain else f"{channel}:{hashlib.sha256(vendor_id.encode('utf-8', 'replace')).hexdigest()[:60]}"


def _session(fields: Mapping[str, object]) -> Session | None:
    webhook = text_in(fields, "sessionWebhook")
    ends_ms = _ms(fields.get("sessionWebhookExpiredTime"))
    return Session(webhook, ends_ms) if webhook else None


def _content(fields: Mapping[str, object]) -> Content:
    kind = text_in(fields, "msgtype")
    content = fields.get("content")
    if kind == "text":
        return text_in(map_of(fields.get("text")), "content").strip()
    if kind == "richText":
        pieces = map_of(content).get("richText")
        parts = [part for piece in (pieces if isinstance(pieces, list) else []) for part in _rich(map_of(piece))]
        return parts if any(isinstance(part, JsonPart) for part in parts) else _joined(parts)
    if kind == "audio" and (words := text_in(map_of(content), "recognition")):
        return words  # what DingTalk understood
    return [
        TextPart(text=_MARKS.get(kind, f"[{kind[:20] or '?'}]")),
        JsonPart(json={"dingtalk": kind, **map_of(content)}),
    ]


def _rich(piece: Mapping[str, object]) -> list[Part]:
    if "text" in piece:
        return [TextPart(text=text_in(piece, "text"))]
    return [TextPart(text=_MARKS["picture"]), JsonPart(json={"dingtalk": "picture", **piece})]


def _joined(parts: list[Part]) -> str:
    return "".join(part.text for part in parts if isinstance(part, TextPart)).strip()


def _quoted(fields: Mapping[str, object]) -> tuple[str, ...]:
    """A quoted message of the robot is named by the key that its sending brought, and by its msgId."""
    text = map_of(fields.get("text"))
    replied = map_of(text.get("repliedMsg"))
    names = (text_in(fields, "originalProcessQueryKey"), text_in(replied, "msgId"), text_in(fields, "originalMsgId"))
    return tuple(name for name in names if name) if text.get("isReplyMsg") else ()


def _ms(value: object) -> int:
    """Milliseconds of the Unix epoch. Raises ValueError: an envelope has 53 bits for them."""
    found = int(str(value or 0))
    if not 0 <= found < 1 << 53:
        raise ValueError("no time")
    return found
