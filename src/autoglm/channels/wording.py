"""A message as text, for channels that show text alone, and cut into no more pieces than a reader bears."""

import json
from collections.abc import Callable, Iterable, Sequence

from autoglm.channels.channel import Cannot
from autoglm.channels.delivery import Words, permanent, too_large
from autoglm.channels.pieces import Measure, cut, utf8_bytes
from autoglm.core.envelope import AudioPart, Envelope, FilePart, ImagePart, JsonPart, Part, TextPart

FORM_BYTES = 1_000_000
"""Of a body in a vendor's own form, where the vendor has no limit for the whole: what is over those of its fields it
refuses by itself, and what is larger is not worth the request.
"""
MOST_PIECES = 50
"""A text of more pieces would keep a channel busy for minutes: it is refused."""


def json_bytes(text: str) -> int:
    """A `Measure`: the bytes of a text inside a body of JSON, where a newline counts two."""
    return len(json.dumps(text, ensure_ascii=False).encode("utf-8", "replace")) - 2


Carries = Callable[[Part], bool]
"""Whether a channel sends this part by itself, beside the text."""


def no_part(_: Part) -> bool:
    """A `Carries`: of a channel that has nothing but text."""
    return False


def in_words(envelope: Envelope, *, carries: Carries = no_part, with_addresses: bool = True) -> str:
    """The text, with a line for each part that is none: a picture's address, else what is left out.

    Empty when nothing but such marks would be left, and no part goes by itself. JSON is left to the channel.
    with_addresses: False where a text may hold none.
    """
    if isinstance(envelope.content, str):
        return envelope.content if envelope.content.strip() else ""
    named = [part for part in envelope.content if not carries(part)]
    is_said = any(_says_something(part, with_addresses) for part in named) or len(named) < len(envelope.content)
    return "\n".join(line for part in named if (line := _line(part, with_addresses))) if is_said else ""


def is_inline_picture(part: Part) -> bool:
    """A `Carries`: a picture whose bytes are in the message."""
    return isinstance(part, ImagePart) and part.image_url.url.startswith("data:")


def _line(part: Part, with_addresses: bool) -> str:
    match part:
        case TextPart():
            return part.text
        case ImagePart() if with_addresses and not is_inline_picture(part):
            return part.image_url.url
        case ImagePart():
            return "[picture / 图片]"
        case AudioPart():
            return "[audio / 音频]"
        case FilePart():
            return f"[file / 文件: {part.file.filename or part.file.file_id or '?'}]"
        case JsonPart():
            return ""


def _says_something(part: Part, with_addresses: bool) -> bool:
    return (isinstance(part, TextPart) and bool(part.text.strip())) or (
        with_addresses and isinstance(part, ImagePart) and not is_inline_picture(part)
    )


def own_forms(envelope: Envelope, marks: Iterable[str]) -> list[dict[str, object]]:
    """The json parts in the vendor's own form: those that have all fields of `marks`."""
    if isinstance(envelope.content, str):
        return []
    bodies = [part.json for part in envelope.content if isinstance(part, JsonPart)]
    return [body for body in bodies if isinstance(body, dict) and all(mark in body for mark in marks)]


def cut_to_pieces(
    text: str, limit: int, *, measure: Measure = utf8_bytes, most: int = MOST_PIECES
) -> list[str]:  # fmt: skip
    """As `cut` does; no piece for an empty text. Raises Cannot where it would be more than `most`.

    A text that is far too long is not cut first: for megabytes that would take seconds.
    """
    if not text:
        return []
    least = -(-measure(text) // limit)
    if least <= most and len(pieces := cut(text, limit, measure=measure)) <= most:
        return pieces
    least = max(least, most + 1)
    raise Cannot(
        too_large(
            "too_many_pieces",
            Words(
                f"the text would take {least} messages or more, and {most} are the limit",
                f"文本至少需拆成 {least} 条消息，上限为 {most} 条",
            ),
        )
    )


def checked_size(bodies: Sequence[object], limit_bytes: int) -> None:
    """Raises Cannot for a body in the vendor's own form that is over the vendor's limit: it cannot be cut."""
    for body in bodies:
        if (size := len(json.dumps(body, ensure_ascii=False).encode("utf-8", "replace"))) > limit_bytes:
            raise Cannot(
                too_large(
                    "body_too_large",
                    Words(
                        f"the json part has {size} bytes, and the vendor takes {limit_bytes}",
                        f"json 部分有 {size} 字节，服务方上限为 {limit_bytes} 字节",
                    ),
                )
            )


def nothing_to_show(vendor_en: str, vendor_zh: str) -> Cannot:
    return Cannot(
        permanent(
            "empty",
            Words(f"the message holds nothing that {vendor_en} can show", f"消息中没有{vendor_zh}可显示的内容"),
        )
    )
