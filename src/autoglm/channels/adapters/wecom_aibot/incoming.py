"""What people say to an AI bot, turned into envelopes."""

import base64
from collections.abc import Awaitable, Callable
from typing import Any

from autoglm.channels.adapters.wechat.incoming import id_of
from autoglm.channels.vendor_json import map_of, text_in
from autoglm.core.clock import now_ms
from autoglm.core.envelope import Content, Envelope, ImagePart, ImageUrl, Part, TextPart

Fetch = Callable[[str, str], Awaitable[bytes | None]]
"""(address, key) of a picture or file to its bytes; None where it is not to be had."""
_TYPES = ((b"\x89PNG", "image/png"), (b"GIF8", "image/gif"), (b"RIFF", "image/webp"))


_MOST_ITEMS = 20


async def message_of(channel: str, to: str, body: dict[str, Any], fetch: Fetch) -> Envelope:
    """A message of any type, its pictures in it: their addresses hold for five minutes."""
    sender = text_in(body.get("from"), "userid")
    parts = [*_quoted(body.get("quote")), *await _parts(body, fetch)]
    texts = [part.text for part in parts if isinstance(part, TextPart)]
    content: Content = "\n".join(texts) if len(texts) == len(parts) else parts
    return Envelope(
        id=id_of(channel, str(body.get("msgid", ""))), from_=f"channel:{channel}/{sender}", to=to,
        timestamp=stamp_of(body), content=content, thread=id_of(channel, chat_of(body)),
    )  # fmt: skip


def pressed(channel: str, to: str, body: dict[str, Any], *, action: str, words: str, reply_to: str | None) -> Envelope:
    sender = text_in(body.get("from"), "userid")
    return Envelope(
        id=id_of(channel, str(body.get("msgid", ""))), from_=f"channel:{channel}/{sender}", to=to,
        timestamp=stamp_of(body), content=words, labels={"action": action[:1024]}, reply_to=reply_to,
        thread=id_of(channel, chat_of(body)),
    )  # fmt: skip


def press_in(body: dict[str, Any]) -> tuple[str, str] | None:
    """(key, task) of a pressed button; None for other events. The key stands in the event or one level deeper."""
    event = body.get("event")
    if not isinstance(event, dict) or event.get("eventtype") != "template_card_event":
        return None
    inner = event.get("template_card_event")
    card = inner if isinstance(inner, dict) else event
    return text_in(card, "event_key"), text_in(card, "task_id")


def chat_of(body: dict[str, Any]) -> str:
    """The group's id, or else the person's."""
    return text_in(body, "chatid") or text_in(body.get("from"), "userid")


def stamp_of(body: dict[str, Any]) -> int:
    seconds = body.get("create_time")
    return seconds * 1000 if isinstance(seconds, int) and 0 < seconds < 10**11 else now_ms()


async def _parts(body: dict[str, Any], fetch: Fetch) -> list[Part]:
    match body.get("msgtype"):
        case "text" | "voice" as kind:
            return [TextPart(text=text_in(body.get(kind), "content"))]
        case "mixed":
            items = map_of(body.get("mixed")).get("msg_item")
            # One in another is none of WeCom's: each level would fetch twenty times as many pictures.
            known = [item for item in map(map_of, items if isinstance(items, list) else []) if "mixed" not in item]
            found = [await _parts(item, fetch) for item in known[:_MOST_ITEMS]]
            return [part for parts in found for part in parts]
        case "image":
            data = await fetch(text_in(body.get("image"), "url"), text_in(body.get("image"), "aeskey"))
            return [TextPart(text="[image]") if data is None else _picture(data)]
        case kind:
            return [TextPart(text=f"[{kind}]")]


def _picture(data: bytes) -> ImagePart:
    kind = next((name for head, name in _TYPES if data.startswith(head)), "image/jpeg")
    return ImagePart(image_url=ImageUrl(url=f"data:{kind};base64,{base64.b64encode(data).decode()}"))


def _quoted(quote: object) -> list[Part]:
    """What the message answers, as text: WeCom does not say which message that is."""
    if not isinstance(quote, dict):
        return []
    kind = quote.get("msgtype")
    text = text_in(quote.get(kind), "content") if kind in ("text", "voice") else f"[{kind}]"
    return [TextPart(text="\n".join(f"> {line}" for line in text.splitlines()))]
