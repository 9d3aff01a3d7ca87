"""What comes in by getUpdates: messages and presses of buttons.

Source: core.telegram.org/bots/api, Update, Message, CallbackQuery.
"""

import re
from typing import Any, NamedTuple

import msgspec

from autoglm.channels.adapters.telegram.answers import ticket_of
from autoglm.channels.vendor_json import map_of, text_in
from autoglm.core.envelope import Envelope

ALLOWED = ("message", "channel_post", "callback_query")
FILE_BYTES = 20 << 20
"""Larger files Telegram gives to no bot. Source: core.telegram.org/bots/api, getFile."""
_SUFFIXES = {"voice": "ogg", "audio": "mp3", "video": "mp4", "video_note": "mp4", "animation": "mp4", "sticker": "webp"}
_is_mime = re.compile(r"[\w.+-]{1,64}/[\w.+-]{1,64}", re.ASCII).fullmatch
_MEDIA = ("photo", "document", "voice", "audio", "video", "video_note", "sticker", "animation", "location", "contact")


class Chat(msgspec.Struct, frozen=True):
    id: int


class User(msgspec.Struct, frozen=True):
    id: int
    is_bot: bool = False
    username: str = ""
    first_name: str = ""


class Named(msgspec.Struct, frozen=True):
    """A message that another one speaks of."""

    message_id: int
    chat: Chat


class Message(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    message_id: int
    chat: Chat
    date: int = 0
    from_: User | None = None
    text: str = ""
    caption: str = ""
    reply_to_message: Named | None = None
    photo: Any = None
    document: Any = None
    voice: Any = None
    audio: Any = None
    video: Any = None
    video_note: Any = None
    sticker: Any = None
    animation: Any = None
    location: Any = None
    contact: Any = None


class CallbackQuery(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    id: str
    from_: User
    message: Named | None = None
    data: str = ""


class Update(msgspec.Struct, frozen=True):
    update_id: int
    message: Message | None = None
    channel_post: Message | None = None
    callback_query: CallbackQuery | None = None


class Attached(NamedTuple):
    """A file that Telegram keeps for a message."""

    file_id: str
    is_photo: bool
    name: str
    mime: str


class Incoming(NamedTuple):
    """What an update says, before it is known which message of the hub it answers."""

    chat: int
    envelope: Envelope
    """Without `reply_to`; `from` and `to` are for the channel to say."""
    answers: str
    """The ticket of the message that it answers; empty for none."""
    named: str = ""
    """The id of a message of the hub that a button's data names."""
    callback: str = ""
    """To be answered, or the button goes on turning."""
    file: Attached | None = None
    """Whose mark the envelope's text has at its end."""
    caption: str = ""
    """The text without the mark."""


class NoUpdate(Exception):
    """Of a form that this hub does not know; `update_id` is None where not even that can be read."""

    def __init__(self, update_id: int | None) -> None:
        super().__init__(f"update {update_id}")
        self.update_id = update_id


def read_update(raw: object) -> Update:
    """Raises NoUpdate."""
    try:
        return msgspec.convert(raw, Update)
    except msgspec.ValidationError:
        update_id = raw.get("update_id") if isinstance(raw, dict) else None
        raise NoUpdate(update_id if isinstance(update_id, int) else None) from None


def incoming_of(update: Update, bot: str, *, limit_bytes: int = FILE_BYTES) -> Incoming | None:
    """None for what carries nothing. bot: its id, for the ids of messages count for each bot by themselves.

    limit_bytes: of a file; a larger one is named only.
    """
    if update.callback_query is not None:
        return _of_press(update.callback_query, bot)
    message = update.message or update.channel_post
    if message is None or (message.from_ is not None and message.from_.is_bot):
        return None
    media = [name for name in _MEDIA if getattr(message, name) is not None]
    text = "\n".join(part for part in (message.text or message.caption, *(f"[{name}]" for name in media[:1])) if part)
    if not text:
        return None  # somebody joined, a title changed
    answered = message.reply_to_message
    envelope = Envelope(
        to="user:x", content=text, id=f"tg-{bot}-{message.chat.id}-{message.message_id}",
        timestamp=min(max(0, message.date), 2**42) * 1000, thread=f"tg-{bot}-{message.chat.id}",
        labels=_who(message.from_) | ({"attachment": media[0]} if media else {}),
    )  # fmt: skip
    return Incoming(
        message.chat.id, envelope, "" if answered is None else ticket_of(answered.chat.id, answered.message_id),
        file=_attached(message, media[0], limit_bytes) if media else None, caption=message.text or message.caption,
    )  # fmt: skip


def _attached(message: Message, kind: str, limit_bytes: int) -> Attached | None:
    """None where it is no file, such as a place, or over limit_bytes. Of a photo the largest size that is not."""
    found = getattr(message, kind)
    sizes = found if kind == "photo" and isinstance(found, list) else [found]
    known = [(_size_of(one, limit_bytes), text_in(one, "file_id"), one) for one in sizes]
    fitting = [(size, file_id, one) for size, file_id, one in known if file_id and 0 <= size <= limit_bytes]
    if not fitting:
        return None
    _, file_id, one = max(fitting, key=lambda entry: entry[0])
    mime = text_in(one, "mime_type")
    return Attached(
        file_id, kind == "photo", text_in(one, "file_name")[:200] or f"{kind}.{_SUFFIXES.get(kind, 'bin')}",
        mime if _is_mime(mime) else "application/octet-stream",
    )  # fmt: skip


def _size_of(file: object, limit_bytes: int) -> int:
    """Bytes; where Telegram does not say, it may be all that is allowed."""
    size = map_of(file).get("file_size", limit_bytes)
    return size if isinstance(size, int) else limit_bytes


def _of_press(query: CallbackQuery, bot: str) -> Incoming | None:
    """`ack:ID` of our own button, or what a json part's buttons have: the word before the colon is the action."""
    if query.message is None:
        return None
    action, _, rest = query.data.partition(":")
    chat = query.message.chat.id
    envelope = Envelope(
        to="user:x", content=query.data, id=f"tg-{bot}-press-{query.id[:64]}", thread=f"tg-{bot}-{chat}",
        labels=_who(query.from_) | {"action": action[:64]},
    )  # fmt: skip
    named = rest if action == "ack" else ""
    return Incoming(chat, envelope, ticket_of(chat, query.message.message_id), named, query.id)


def _who(user: User | None) -> dict[str, str]:
    if user is None:
        return {}
    names = {"user_id": str(user.id), "user": user.username or user.first_name}
    return {name: text[:256] for name, text in names.items() if text}
