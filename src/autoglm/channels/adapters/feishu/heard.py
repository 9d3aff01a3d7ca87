"""What comes by the long connection: messages, presses of a card's button, and who has read what.

Source: open.feishu.cn, events im.message.receive_v1 and im.message.message_read_v1, callback card.action.trigger.
"""

import hashlib
from collections.abc import Mapping
from typing import NamedTuple

from autoglm.channels.vendor_json import map_of, text_in, vendor_json, vendor_map
from autoglm.core.envelope import Content, Envelope, JsonPart, TextPart, check_texts
from autoglm.core.errors import HubError

_LABEL_CHARACTERS = 200
ACTION = "action"
"""The label of a button that was pressed."""
_MARKS = {
    "image": "[picture / 图片]",
    "audio": "[audio / 音频]",
    "media": "[video / 视频]",
    "file": "[file / 文件]",
    "sticker": "[sticker / 表情]",
    "interactive": "[card / 卡片]",
}


class Said(NamedTuple):
    envelope: Envelope
    quoted: tuple[str, ...]
    """Tickets by which the message that this one answers may be known."""
    pressed_in: str = ""
    """The chat of a card whose button was pressed; Feishu does not say whether it is a group's."""
    is_press: bool = False


class Read(NamedTuple):
    tickets: tuple[str, ...]


class Unreadable(Exception):
    """An event that can never be taken."""


def heard(payload: bytes, *, channel: str, incoming_to: str) -> Said | Read | None:
    """None for events of other kinds, and for what bots say. Raises Unreadable."""
    try:
        fields = vendor_map(payload)
        header, event = map_of(fields["header"]), map_of(fields["event"])
        match header["event_type"]:
            case "im.message.receive_v1":
                return _message(event, channel, incoming_to)
            case "card.action.trigger":
                return _press(header, event, channel, incoming_to)
            case "im.message.message_read_v1":
                tickets = event.get("message_id_list")
                return Read(tuple(one for one in tickets if isinstance(one, str)) if isinstance(tickets, list) else ())
            case _:
                return None
    except (ValueError, KeyError) as error:
        raise Unreadable(type(error).__name__) from error
    except HubError as error:
        raise Unreadable(error.code) from error


def _message(event: Mapping[str, object], channel: str, incoming_to: str) -> Said | None:
    sender, message = map_of(event["sender"]), map_of(event["message"])
    if sender.get("sender_type") != "user":
        return None  # two bots in a group would answer each other for ever
    person = _needed(map_of(sender["sender_id"]), "open_id")
    chat, message_id = _needed(message, "chat_id"), _needed(message, "message_id")
    is_alone = message.get("chat_type") == "p2p"
    envelope = Envelope(
        id=_id_of(channel, message_id), to=incoming_to, timestamp=_ms(text_in(message, "create_time")),
        from_=f"channel:{channel}/{person if is_alone else chat}", labels={} if is_alone else {"sender": person},
        content=_content(message, message_id), thread=_id_of(channel, chat),
    )  # fmt: skip
    check_texts(envelope)
    quoted = (text_in(message, "parent_id"), text_in(message, "root_id"))
    return Said(envelope, tuple(dict.fromkeys(name for name in quoted if name)))


def _press(header: Mapping[str, object], event: Mapping[str, object], channel: str, incoming_to: str) -> Said:
    """Answers the card's message. What the button says is its `value`: a text, or a map with one under `text`, and
    perhaps an `action` (ack, approve, deny).
    """
    action, context = map_of(event["action"]), map_of(event["context"])
    person, chat = _needed(map_of(event["operator"]), "open_id"), text_in(context, "open_chat_id")
    value = action.get("value")
    words = value if isinstance(value, str) else text_in(map_of(value), "text") or text_in(action, "option")
    said = text_in(map_of(value), ACTION)
    form = {name: action[name] for name in ("tag", "name", "value", "option", "form_value") if name in action}
    envelope = Envelope(
        id=_id_of(channel, _needed(header, "event_id")), to=incoming_to,
        timestamp=_ms(text_in(header, "create_time")), thread=_id_of(channel, chat) if chat else None,
        from_=f"channel:{channel}/{person}", labels={ACTION: said[:_LABEL_CHARACTERS]} if said else {},
        content=[TextPart(text=words or "[button / 按钮]"), JsonPart(json={"feishu": "card.action", **form})],
    )  # fmt: skip
    check_texts(envelope)
    message_id = text_in(context, "open_message_id")
    return Said(envelope, (message_id,) if message_id else (), chat, is_press=True)


def _content(message: Mapping[str, object], message_id: str) -> Content:
    kind = text_in(message, "message_type")
    content = map_of(vendor_json(text_in(message, "content") or "{}"))
    if kind == "text":
        return _named(text_in(content, "text"), message.get("mentions")).strip()
    if kind == "post":
        return _named(_post(content), message.get("mentions")).strip()
    mark = _MARKS.get(kind, f"[{kind[:20] or '?'}]")
    return [TextPart(text=mark), JsonPart(json={"feishu": kind, "message_id": message_id, **content})]


def _post(content: Mapping[str, object]) -> str:
    paragraphs = content.get("content")
    lines = [text_in(content, "title")] if content.get("title") else []
    for paragraph in paragraphs if isinstance(paragraphs, list) else []:
        nodes = [map_of(node) for node in paragraph] if isinstance(paragraph, list) else []
        lines.append("".join(_node(node) for node in nodes))
    return "\n".join(lines)


def _node(node: Mapping[str, object]) -> str:
    match node.get("tag"):
        case "img":
            return _MARKS["image"]
        case "at":
            return f"@{text_in(node, 'user_name')}"
        case "a":
            return f"{text_in(node, 'text')} {text_in(node, 'href')}".strip()
        case _:
            return text_in(node, "text")


def _named(text: str, mentions: object) -> str:
    """With names in place of @_user_1."""
    for mention in mentions if isinstance(mentions, list) else []:
        key, name = text_in(map_of(mention), "key"), text_in(map_of(mention), "name")
        if key and name:
            text = text.replace(key, f"@{name[:_LABEL_CHARACTERS]}")
    return text


def _id_of(channel: str, vendor_id: str) -> str:
    """As an envelope's id: up to 128 visible ASCII characters, else its digest."""
    text = f"{channel}:{vendor_id}"
    is_plain = len(text) <= 128 and all("!" <= character <= "~" for character in text)
    return text if is_plain else f"{channel}:{hashlib.sha256(vendor_id.encode('utf-8', 'replace')).hexdigest()[:60]}"


def _ms(text: str) -> int:
    """Messages have milliseconds, callbacks of cards microseconds. Raises ValueError: an envelope has 53 bits."""
    value = int(text or "0")
    found = value // 1000 if value >= 10**14 else value
    if not 0 <= found < 1 << 53:
        raise ValueError("no time")
    return found


def _needed(fields: Mapping[str, object], name: str) -> str:
    if not (found := text_in(fields, name)):
        raise KeyError(name)
    return found
