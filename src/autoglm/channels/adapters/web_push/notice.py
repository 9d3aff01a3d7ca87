"""A message as the page's worker gets it: JSON, in pieces where it is too long for one push."""

import hashlib
from collections.abc import Sequence
from typing import Literal

import msgspec

from autoglm.channels.adapters.web_push.encryption import MAX_PLAINTEXT_BYTES, encode_base64url
from autoglm.channels.channel import Cannot
from autoglm.channels.delivery import Words, permanent, too_large
from autoglm.channels.outbox.digest import DIGEST
from autoglm.channels.pieces import cut
from autoglm.core.envelope import AudioPart, Envelope, FilePart, ImagePart, JsonPart, Part, text_of

Urgency = Literal["very-low", "low", "normal", "high"]
MAX_PIECES = 8
"""A longer text would be no notification any more."""
_MAX_TTL_S = 2_419_200
"""28 days: no push service keeps anything longer."""


class Notice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename={"from_": "from"}):
    """What the worker shows: the pieces of one message in one notification, those of one thread in its place."""

    id: str
    from_: str
    text: str
    time: int
    """Milliseconds of the Unix epoch."""
    kind: str = "chat"
    priority: int = 5
    thread: str | None = None
    piece: int = 0
    """Counted from 0."""
    pieces: int = 1
    is_digest: bool = False
    """Of several messages: it has an id of its own, by which the hub knows none, and cannot be acknowledged as one."""


class Pushed(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a parcel: one push to each browser."""

    plaintext: bytes
    urgency: Urgency
    topic: str | None
    time: int
    """Of the message; milliseconds of the Unix epoch."""
    expires_at: int | None
    """As `time`."""

    def ttl_s(self, now_ms: int, default_s: int) -> int:
        """What is left of the message's time, `default_s` where it has no end."""
        if self.expires_at is None:
            return default_s
        return min(max(0, (self.expires_at - now_ms) // 1000), _MAX_TTL_S)


def notices_of(envelope: Envelope) -> list[Pushed]:
    """One push, or several for a long text. Raises Cannot."""
    text = "\n".join(filter(None, [text_of(envelope.content), *_mentions(envelope)]))
    if not text.strip():
        raise Cannot(permanent("empty", Words("the message holds nothing to show", "消息中没有可显示的内容")))
    is_digest = DIGEST in envelope.labels
    empty = Notice(
        id=f"{envelope.id}.digest" if is_digest else envelope.id, from_=envelope.from_, text="",
        time=envelope.timestamp, kind=envelope.kind, priority=envelope.priority, thread=envelope.thread,
        piece=MAX_PIECES, pieces=MAX_PIECES, is_digest=is_digest,
    )  # fmt: skip
    limit = MAX_PLAINTEXT_BYTES - len(msgspec.json.encode(empty))
    count = -(-json_bytes(text) // limit)  # of megabytes, cutting would take half a minute
    pieces = cut(text, limit, measure=json_bytes, numbered=False) if count <= MAX_PIECES else []
    count = max(count, len(pieces))
    if count > MAX_PIECES:
        raise Cannot(
            too_large(
                "too_many_pieces",
                Words(
                    f"the text would take {count} pushes, and {MAX_PIECES} are the limit; send its gist here, and"
                    " the whole to the mailbox",
                    f"文本需拆成 {count} 次推送，上限为 {MAX_PIECES} 次；请在此只发摘要，全文发到信箱",
                ),
            )
        )
    return [
        Pushed(
            plaintext=msgspec.json.encode(
                msgspec.structs.replace(empty, text=piece, piece=index, pieces=len(pieces))
            ),
            urgency=urgency_of(envelope.priority),
            # Pieces would take each other's place.
            topic=None if envelope.thread is None or len(pieces) > 1 else topic_of(envelope.thread),
            time=envelope.timestamp,
            expires_at=envelope.expires_at,
        )
        for index, piece in enumerate(pieces)
    ]  # fmt: skip


def urgency_of(priority: int) -> Urgency:
    """RFC 8030, section 5.3: what a device on low battery still takes. 8 and 9 are urgent in the outbox as well."""
    if priority >= 8:
        return "high"
    if priority >= 4:
        return "normal"
    return "low" if priority >= 2 else "very-low"


def topic_of(thread: str) -> str:
    """RFC 8030, section 5.4: 32 characters of base64url. A later push takes the place of one that is still waiting."""
    return encode_base64url(hashlib.sha256(thread.encode()).digest()[:24])


def json_bytes(text: str) -> int:
    """As it stands in JSON, without the quotes."""
    return len(msgspec.json.encode(text)) - 2


def _mentions(envelope: Envelope) -> Sequence[str]:
    """What a notification cannot hold."""
    parts = envelope.content if isinstance(envelope.content, list) else []
    return [mention for part in parts if (mention := _mention(part))]


def _mention(part: Part) -> str:
    match part:
        case ImagePart():
            return "[图片 / picture]"
        case AudioPart():
            return "[语音 / audio]"
        case FilePart():
            return f"[文件 / file: {part.file.filename}]" if part.file.filename else "[文件 / file]"
        case JsonPart():
            return "[数据 / data]"
        case _:
            return ""
