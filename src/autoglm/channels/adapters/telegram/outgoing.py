"""A message as calls of the Bot API.

Source: core.telegram.org/bots/api, sendMessage, sendPhoto, sendDocument, InlineKeyboardButton.
"""

import base64
import binascii
import json
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from autoglm.channels.buttons import MOST_BUTTONS, with_buttons
from autoglm.channels.channel import Cannot
from autoglm.channels.delivery import Words, permanent, too_large
from autoglm.channels.pieces import utf16_units
from autoglm.channels.wording import checked_size, cut_to_pieces
from autoglm.core.envelope import AudioPart, Envelope, FilePart, ImagePart, JsonPart, text_of

TEXT_UNITS = 4096
"""UTF-16 code units."""
PHOTO_BYTES = 10 << 20
DOCUMENT_BYTES = 50 << 20
CALLBACK_BYTES = 64
SILENT_BELOW = 3
"""Messages of a lower priority make no sound."""
_PIECES = 20
_FIELDS_BYTES = 100_000
"""Of what a json part adds, which goes with each piece."""
_OWN_FIELDS = ("reply_markup", "parse_mode", "entities", "disable_notification", "message_thread_id",
               "protect_content", "link_preview_options")  # fmt: skip


def calls_of(envelope: Envelope, *, has_button: bool) -> list[dict[str, Any]]:
    """Each {"method", "fields"}, and for what is uploaded "upload" (its field), "filename", "data" (base64) or "blob"
    (its id in the hub). Raises Cannot.

    has_button: below the last text is a button that acknowledges.
    """
    own = _own_fields(envelope)
    if envelope.priority < SILENT_BELOW:
        own = {"disable_notification": True} | own
    has_place = bool(text_of(envelope.content).strip()) and "reply_markup" not in own
    envelope, offered = with_buttons(envelope, most=MOST_BUTTONS if has_place else 0)
    texts: list[dict[str, Any]] = [
        {"method": "sendMessage", "fields": {"text": piece, **_kept(own, "reply_markup")}} for piece in _texts(envelope)
    ]
    markup = own.get("reply_markup") or _choices(offered) or (_button(envelope.id) if has_button else None)
    if texts and markup:
        texts[-1]["fields"]["reply_markup"] = markup
    calls = [*texts, *_uploads(envelope, _kept(own, "reply_markup", "parse_mode", "entities", "link_preview_options"))]
    if not calls:
        words = Words("the message holds nothing that Telegram can show", "消息中没有 Telegram 可显示的内容")
        raise Cannot(permanent("empty", words))
    return calls


def multipart(fields: Mapping[str, Any], name: str, filename: str, data: bytes) -> tuple[str, bytes]:
    """(content type, body). Source: RFC 7578."""
    boundary = uuid.uuid4().hex
    lines: list[bytes] = []
    for key, value in fields.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n'
        lines += [head.encode(), text.encode("utf-8", "replace"), b"\r\n"]
    # RFC 7578, section 4.2: as browsers do, the three characters that would end the name are escaped.
    quoted = filename.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{quoted}"\r\n'
    lines += [head.encode("utf-8", "replace"), b"Content-Type: application/octet-stream\r\n\r\n", data]
    return f"multipart/form-data; boundary={boundary}", b"".join([*lines, f"\r\n--{boundary}--\r\n".encode()])


def _texts(envelope: Envelope) -> list[str]:
    text = text_of(envelope.content)
    if not text.strip():
        return []
    return cut_to_pieces(text, TEXT_UNITS, measure=utf16_units, most=_PIECES)


def _choices(offered: Mapping[str, str]) -> dict[str, Any] | None:
    """A button for each answer that a question offers, in a row of its own."""
    rows = [[{"text": words, "callback_data": action}] for action, words in offered.items()]
    return {"inline_keyboard": rows} if rows else None


def _button(envelope_id: str) -> dict[str, Any]:
    """An id that is too long for the data is left out: the pressed message tells it as well."""
    data = f"ack:{envelope_id}"
    if len(data.encode()) > CALLBACK_BYTES:
        data = "ack:"
    return {"inline_keyboard": [[{"text": "✓ Acknowledge", "callback_data": data}]]}


def _own_fields(envelope: Envelope) -> dict[str, Any]:
    """Of a json part {"telegram": {...}}. Raises Cannot."""
    parts = envelope.content if isinstance(envelope.content, list) else []
    found: dict[str, Any] = {}
    for part in parts:
        if (
            isinstance(part, JsonPart)
            and isinstance(part.json, dict)
            and isinstance(own := part.json.get("telegram"), dict)
        ):
            found |= {name: own[name] for name in _OWN_FIELDS if name in own}
    checked_size([found], _FIELDS_BYTES)
    return found


def _kept(fields: Mapping[str, Any], *without: str) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in without}


def _uploads(envelope: Envelope, own: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for part in envelope.content if isinstance(envelope.content, list) else []:
        match part:
            case ImagePart(image_url=image) if not image.url.startswith("data:"):
                yield {"method": "sendPhoto", "fields": {"photo": image.url, **own}}
            case ImagePart(image_url=image):
                yield _upload("sendPhoto", "photo", "picture", image.url, own)
            case AudioPart(input_audio=audio):
                yield _upload("sendDocument", "document", f"audio.{audio.format}", f",{audio.data}", own)
            case FilePart(file=file) if file.file_data:
                yield _upload("sendDocument", "document", file.filename or "file", file.file_data, own)
            case FilePart(file=file) if file.file_id:
                yield {"method": "sendDocument", "fields": own, "upload": "document",
                       "filename": file.filename or "file", "blob": file.file_id}  # fmt: skip
            case _:
                pass


def _upload(method: str, field: str, filename: str, url: str, own: dict[str, Any]) -> dict[str, Any]:
    """Of a `data:` address."""
    data = url.partition(",")[2]
    try:
        size = len(base64.b64decode(data, validate=True))
    except binascii.Error:
        words = Words("the picture or file is no base64", "图片或文件不是有效的 base64")
        raise Cannot(permanent("bad_file", words)) from None
    limit = PHOTO_BYTES if field == "photo" else DOCUMENT_BYTES
    if size > limit:
        words = Words(
            f"the picture or file is over Telegram's {limit >> 20} MB", f"图片或文件超过 Telegram 上限 {limit >> 20} MB"
        )
        raise Cannot(too_large("file_too_large", words))
    return {"method": method, "fields": own, "upload": field, "filename": filename, "data": data}
