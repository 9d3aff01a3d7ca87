"""The envelope: what every client sends and receives. Clients see plain JSON; unknown keys are errors.

Source for the content parts: OpenAI's chat completions API, message content.
"""

from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta

from autoglm.core.address import ADDRESS_PATTERN, parse_address
from autoglm.core.errors import InvalidField, InvalidJson

Kind = Literal["chat", "event", "alert", "log", "task", "receipt"]
KINDS: tuple[str, ...] = get_args(Kind)
State = Literal["accepted", "queued", "sent", "delivered", "read", "acknowledged", "failed", "expired", "cancelled"]
"""A message moves accepted -> queued -> sent -> delivered -> read|acknowledged, or ends failed, expired or cancelled."""
FINAL_STATES: frozenset[str] = frozenset({"acknowledged", "failed", "expired", "cancelled"})

ID_PATTERN = r"^[\x21-\x7e]{1,128}$"
AddressText = Annotated[str, Meta(pattern=ADDRESS_PATTERN, max_length=210, examples=["user:alice"])]
IdText = Annotated[str, Meta(pattern=ID_PATTERN, min_length=1, max_length=128)]
Milliseconds = Annotated[int, Meta(ge=0, le=2**53 - 1)]
Label = Annotated[str, Meta(max_length=1024)]


class TextPart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag="text"):
    text: str


class ImageUrl(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    url: str
    """An http(s) address or a `data:` URL."""
    detail: Literal["auto", "low", "high"] | None = None


class ImagePart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag="image_url"):
    image_url: ImageUrl


class InputAudio(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    data: str
    """Base64."""
    format: str


class AudioPart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag="input_audio"):
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


def decode_envelope(body: bytes | bytearray | memoryview) -> Envelope:
    """Parse what a client sent. Raises InvalidJson or InvalidField (with the path of the field)."""
    try:
        envelope = _decoder.decode(body)
    except msgspec.ValidationError as error:
        raise invalid_field(error) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidJson(str(error)) from error
    check_addresses(envelope)
    return envelope


def check_addresses(envelope: Envelope) -> None:
    """Raises InvalidField where an address fits the pattern but not the rules of its scheme."""
    parse_address(envelope.to, field="to")
    if envelope.from_:
        parse_address(envelope.from_, field="from")


def encode_envelope(envelope: Envelope) -> bytes:
    return _encoder.encode(envelope)


def invalid_field(error: msgspec.ValidationError) -> InvalidField:
    """Turn msgspec's message, which ends in ``- at `$.path` ``, into our error with a plain path."""
    reason, _, path = str(error).partition(" - at `$")
    field = path.rstrip("`").lstrip(".") or _named_in(reason)
    return InvalidField(field, reason[:1].lower() + reason[1:])


def _named_in(reason: str) -> str:
    """msgspec names a missing or an unknown field in backquotes and gives no path for it."""
    return reason.split("`")[1] if reason.count("`") >= 2 and "field" in reason else "body"


def envelope_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of an envelope, with the parts under `$defs`."""
    schema = msgspec.json.schema(Envelope)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Envelope", **schema}


def text_of(content: Content) -> str:
    """The plain text of a message: its text parts, joined by newlines."""
    if isinstance(content, str):
        return content
    return "\n".join(part.text for part in content if isinstance(part, TextPart))
