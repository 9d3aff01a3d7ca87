"""What members and followers send, as the vendor's XML has it, turned into envelopes.

Source: developer.work.weixin.qq.com/document/path/90239 (messages), /path/90240 (events);
developers.weixin.qq.com/doc/offiaccount/Message_Management/Receiving_standard_messages.html.
"""

import hashlib
import re

from autoglm.channels.adapters.wechat.elements import Element
from autoglm.core.clock import now_ms
from autoglm.core.envelope import ID_PATTERN, Content, Envelope, ImagePart, ImageUrl, JsonPart, TextPart

_is_id = re.compile(ID_PATTERN).fullmatch


def id_of(channel: str, theirs: str) -> str:
    """An id that is this hub's own and the same each time the vendor brings the message."""
    text = f"{channel}.{theirs}"
    return text if _is_id(text) else f"{channel}.{hashlib.sha256(theirs.encode('utf-8', 'replace')).hexdigest()[:40]}"


def message_of(channel: str, to: str, body: Element) -> Envelope:
    """A message of any type."""
    sender = body.get("FromUserName")
    return Envelope(
        id=id_of(channel, body.get("MsgId") or _unnumbered(body)), from_=f"channel:{channel}/{sender}", to=to,
        timestamp=stamp_of(body), content=_content(body), thread=id_of(channel, sender),
    )  # fmt: skip


def pressed(channel: str, to: str, body: Element, *, action: str, words: str, reply_to: str | None) -> Envelope:
    """A button of a card, or an entry of the menu: its event has no id of its own."""
    sender = body.get("FromUserName")
    return Envelope(
        id=id_of(channel, _unnumbered(body)), from_=f"channel:{channel}/{sender}", to=to, timestamp=stamp_of(body),
        content=words, labels={"action": action[:1024]}, reply_to=reply_to, thread=id_of(channel, sender),
    )  # fmt: skip


def stamp_of(body: Element) -> int:
    """Milliseconds; ours where theirs is none."""
    text = body.get("CreateTime")
    return int(text) * 1000 if text.isascii() and text.isdecimal() and len(text) <= 12 else now_ms()


def _unnumbered(body: Element) -> str:
    """The vendor tells events apart by who and when; more than one may happen in a second."""
    names = ("FromUserName", "CreateTime", "Event", "EventKey", "TaskId")
    return hashlib.sha256("\0".join(body.get(name) for name in names).encode()).hexdigest()[:40]


def _content(body: Element) -> Content:
    match body.get("MsgType"):
        case "text":
            return body.get("Content")
        case "image" if body.get("PicUrl").startswith(("https://", "http://")):
            return [ImagePart(image_url=ImageUrl(url=body.get("PicUrl")))]
        case "voice" if body.get("Recognition"):
            return body.get("Recognition")
        case "location":
            return f"{body.get('Label')} ({body.get('Location_X')}, {body.get('Location_Y')})".strip()
        case "link":
            return "\n".join(filter(None, (body.get("Title"), body.get("Description"), body.get("Url"))))
        case kind:
            fields = {child.name: child.text for child in body.children if child.text}
            return [TextPart(text=f"[{kind}]"), JsonPart(json=fields)]
