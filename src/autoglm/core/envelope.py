"""The envelope: what every client sends and receives. Clients see plain JSON; unknown keys are errors.

Source for the content parts: OpenAI's chat completions API, message content.
"""

import re
from collections.abc import Iterable
from itertools import accumulate
from typing import Annotated, Any, Literal, TypeVar, get_args

import msgspec
from msgspec import Meta

from autoglm.core.address import ADDRESS_PATTERN, MAX_ADDRESS, check_address
from autoglm.core.errors import InvalidField, InvalidJson, did_you_mean
from autoglm.core.expectation import expectation

T = TypeVar("T")

Kind = Literal["chat", "event", "alert", "log", "task", "receipt"]
KINDS: tuple[str, ...] = get_args(Kind)
State = Literal["accepted", "queued", "sent", "delivered", "read", "acknowledged", "failed", "expired", "cancelled"]
"""accepted -> queued -> sent -> delivered -> read|acknowledged, or it ends failed, expired or cancelled."""
FINAL_STATES: frozenset[str] = frozenset({"acknowledged", "failed", "expired", "cancelled"})

ID_PATTERN = r"^[\x21-\x7e]{1,128}$"
# The patterns are for the schema alone: `check_texts` says in words what msgspec would say with a regular expression.
_address = {"pattern": ADDRESS_PATTERN, "examples": ["user:alice"]}
_id = {"pattern": ID_PATTERN, "examples": ["order-17"]}
AddressText = Annotated[str, Meta(min_length=1, max_length=MAX_ADDRESS, extra_json_schema=_address)]
IdText = Annotated[str, Meta(min_length=1, max_length=128, extra_json_schema=_id)]
Milliseconds = Annotated[int, Meta(ge=0, le=2**53 - 1)]
MAX_DEPTH = 100
"""Levels of nested lists and objects in a body."""
Label = Annotated[str, Meta(max_length=1024)]


class TextPart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag="text"):
    text: str


class ImageUrl(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    url: str
    """An http(s) address or a `data:` URL."""
    detail: Literal["auto", "low", "high"] | None = None


class ImagePart(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag="image_url"
):
    image_url: ImageUrl


class InputAudio(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    data: str
    """Base64."""
    format: str


class AudioPart(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag="input_audio"
):
    input_audio: InputAudio


class File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    file_id: str | None = None
    """The sha256 of a blob in this hub's store."""
    filename: str | None = None
    file_data: str | None = None
    """A `data:` URL."""


class FilePart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag="file"):
    file: File


class JsonPart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag="json"):
    json: Any


Part = TextPart | ImagePart | AudioPart | FilePart | JsonPart
Content = str | list[Part]


class Envelope(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, rename={"from_": "from"}
):
    """One message. `id`, `from` and `timestamp` may be left out by a sender; the hub fills them in."""

    to: AddressText
    content: Content
    id: IdText = ""
    """The key for deduplication: 1 to 128 visible ASCII characters chosen by the sender, else a UUIDv7 by the hub."""
    from_: AddressText = ""
    timestamp: Milliseconds = 0
    """Milliseconds of the Unix epoch, by the sender's clock."""
    kind: Kind = "chat"
    labels: Annotated[dict[Annotated[str, Meta(max_length=128)], Label], Meta(max_length=64)] = {}
    priority: Annotated[int, Meta(ge=0, le=9)] = 5
    """0 is the lowest, 9 the most urgent."""
    reply_to: IdText | None = None
    """The id of the message that this one answers."""
    thread: IdText | None = None
    """Messages of one conversation share it; a model sees the earlier ones of its thread."""
    expires_at: Milliseconds | None = None
    """Milliseconds of the Unix epoch after which the message is not handed out any more."""
    site: Annotated[str, Meta(max_length=64)] | None = None
    lamport: Annotated[int, Meta(ge=0, le=2**53 - 1)] | None = None


_decoder = msgspec.json.Decoder(Envelope)
_encoder = msgspec.json.Encoder()
_known = msgspec.structs.fields(Envelope)
FIELDS = tuple(field.encode_name for field in _known)


def decode_envelope(body: bytes | bytearray | memoryview) -> Envelope:
    """Parse what a client sent. Raises InvalidJson or InvalidField (with the path of the field)."""
    envelope = decode_body(body, _decoder, FIELDS)
    check_texts(envelope)
    return envelope


def encode_envelope(envelope: Envelope) -> bytes:
    return _encoder.encode(envelope)


def check_texts(envelope: Envelope, *, prefix: str = "") -> None:
    """Raises InvalidField, its name after `prefix`, where an address or an id has a form that none has."""
    check_address(envelope.to, field=f"{prefix}to")
    if envelope.from_:
        check_address(envelope.from_, field=f"{prefix}from")
    if envelope.id:
        check_id(envelope.id, field=f"{prefix}id")
    if envelope.reply_to is not None:
        check_id(envelope.reply_to, field=f"{prefix}reply_to")
    if envelope.thread is not None:
        check_id(envelope.thread, field=f"{prefix}thread")


_is_id = re.compile(ID_PATTERN).fullmatch


def check_id(text: str, *, field: str = "id") -> None:
    """Raises InvalidField when `text` is no id."""
    if _is_id(text) is None:
        raise InvalidField(field, f"{text[:40]!r} must have 1 to 128 visible ASCII characters and no blanks")


# --- JSON from outside ------------------------------------------------------------------------------

_AT = re.compile(r" - at (`key` in )?`\$(.*)`$", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`$", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(.*)`$", re.DOTALL)
# Possessive: nothing to go back to, or each byte of a long text would be remembered for that (50 times its size).
_TEXTS = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")
_STEP = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_MARKS = {
    b"\xef\xbb\xbf": "it begins with a byte order mark; leave that out",
    b"\xff\xfe": "it looks like UTF-16; send UTF-8",
    b"\xfe\xff": "it looks like UTF-16; send UTF-8",
}


def decode_body(body: bytes | bytearray | memoryview, decoder: msgspec.json.Decoder[T], known: Iterable[str] = ()) -> T:
    """Parse JSON from outside. When a name comes twice in one object, the last one counts.

    known: the fields at the top, for the hint on an unknown one. Raises InvalidJson, InvalidField.
    """
    try:
        value = decoder.decode(body)
    except msgspec.ValidationError as error:
        raise invalid_field(error, decoder.type, body, known) from error
    except RecursionError as error:
        raise _too_deep() from error
    except UnicodeDecodeError as error:
        raise InvalidJson("it is not UTF-8") from error
    except msgspec.DecodeError as error:
        raise InvalidJson(_MARKS.get(bytes(body[:3])) or _MARKS.get(bytes(body[:2])) or str(error)) from error
    if _is_deep(bytes(body)):
        raise _too_deep()
    return value


def _too_deep() -> InvalidField:
    return InvalidField("body", f"is nested deeper than {MAX_DEPTH} levels")


def _is_deep(body: bytes) -> bool:
    """True when valid JSON is nested deeper than MAX_DEPTH. The interpreter's own limit depends on who calls: what just
    passes when it comes in could fail when it is read again.
    """
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return False
    brackets = _TEXTS.sub(b"", body).translate(None, _NO_BRACKETS)
    return max(accumulate(map(_STEP.__getitem__, brackets)), default=0) > MAX_DEPTH


def invalid_field(
    error: msgspec.ValidationError, kind: Any, body: bytes | bytearray | memoryview, known: Iterable[str] = ()
) -> InvalidField:
    """Turn msgspec's message, which ends in ``- at `$.path` ``, into our error with a plain path and plain words.

    kind: the type that the body was decoded into. known: the fields at the top, for the hint on an unknown one.
    """
    text = str(error)
    at = _AT.search(text)
    path = at[2].lstrip(".") if at else ""
    reason = text[: at.start()] if at else text
    if (unknown := _UNKNOWN.match(reason)) is not None:
        name = unknown[1][:80]
        hint = did_you_mean(name, list(known)) if known and not path else ""
        return InvalidField(f"{path}.{name}" if path else name, f"there is no such field.{hint}")
    if (missing := _MISSING.match(reason)) is not None:
        return InvalidField(f"{path}.{missing[1]}" if path else missing[1], "is missing")
    words = expectation(kind, path, reason, is_name=at is not None and at[1] is not None)
    if path.endswith("labels[...]"):
        path = _path_of_label(body, path)
    return InvalidField(path or "body", words or reason[:1].lower() + reason[1:])


def _path_of_label(body: bytes | bytearray | memoryview, path: str) -> str:
    """`labels['line']` for `labels[...]`, where msgspec does not say which label is wrong."""
    try:
        raw = msgspec.Raw(body)
        for name in path.removesuffix("[...]").split("."):
            raw = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])[name]
        labels = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
        for name, value in labels.items():
            try:
                msgspec.json.decode(value, type=Label)
            except msgspec.ValidationError:
                return f"{path.removesuffix('[...]')}[{name[:80]!r}]"
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError):
        pass  # what follows the wrong label is broken, too
    return path


def envelope_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of an envelope as clients send it, with the parts under `$defs`."""
    schema = msgspec.json.schema(Envelope)
    # What the hub fills in has no default that a schema could tell.
    for name in ("id", "from", "timestamp"):
        del schema["$defs"]["Envelope"]["properties"][name]["default"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Envelope", **schema}


def text_of(content: Content) -> str:
    """The plain text of a message: its text parts, joined by newlines."""
    if isinstance(content, str):
        return content
    return "\n".join(part.text for part in content if isinstance(part, TextPart))
