"""What goes out: an envelope as a mail, and the mail's bytes."""

import base64
import binascii
import hashlib
import re
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import unquote_to_bytes

import msgspec

from autoglm.channels.adapters.mail.addresses import MailAddress
from autoglm.channels.adapters.mail.message_id import FOREIGN_THREAD, message_id, thread_root
from autoglm.channels.channel import Cannot
from autoglm.channels.delivery import Delivery, Words, permanent, too_large
from autoglm.channels.pieces import truncated
from autoglm.core.envelope import AudioPart, Envelope, FilePart, ImagePart, JsonPart, Part, text_of

LOOP_HEADER = "X-AutoGLM-Loop"
"""On each mail of a hub: another hub, or this one, that gets it back does not answer."""
INCOMING_ID = "mail-"
"""How the ids of mails that came in begin: they are no Message-IDs of ours."""
_SUBJECT_CHARACTERS = 200
_NAME_CHARACTERS = 120
_MOST_ATTACHMENTS = 100
_LAST_S = 253_402_300_799
"""The end of the year 9999, where dates end; a sender's clock may say more."""
_is_type = re.compile(r"[a-z0-9][a-z0-9.+-]{0,63}/[a-z0-9][a-z0-9.+-]{0,63}").fullmatch
_AUDIO = {"wav": "audio/wav", "mp3": "audio/mpeg"}


class Attachment(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    content_type: str
    data: bytes | None = None
    """None: the blob `file_id`, which is read when it is sent."""
    file_id: str = ""


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """A mail before it becomes bytes. Nothing in it can start a header line of its own."""

    to: str
    needs_utf8: bool
    """Only a server with SMTPUTF8 can carry it."""
    subject: str
    text: str
    message_id: str
    references: tuple[str, ...]
    sent_ms: int
    is_urgent: bool
    attachments: tuple[Attachment, ...]

    @property
    def size_bytes(self) -> int:
        """Of what is in memory, before it is encoded."""
        return len(self.text) + sum(len(entry.data or b"") for entry in self.attachments)


def compose_letter(envelope: Envelope, to: MailAddress, domain: str, *, limit_bytes: int) -> Letter:
    """Raises Cannot: nothing that a mail can hold, or more than `limit_bytes`."""
    text = text_of(envelope.content)
    parts = envelope.content if isinstance(envelope.content, list) else []
    found = [_attachment(part, number) for number, part in enumerate(parts, 1)]
    attachments = tuple(entry for entry in found if isinstance(entry, Attachment))
    text = "\n".join([text, *(entry for entry in found if isinstance(entry, str))]).strip("\n")
    if not text.strip() and not attachments:
        raise Cannot(
            permanent("empty", Words("the message holds nothing that a mail can carry", "消息中没有邮件可承载的内容"))
        )
    size = len(text.encode("utf-8", "replace")) + sum(len(entry.data or b"") for entry in attachments)
    if size > limit_bytes or len(attachments) > _MOST_ATTACHMENTS:
        raise Cannot(_over(size, limit_bytes))
    return Letter(
        to=to.text, needs_utf8=to.needs_utf8, subject=_subject(envelope, text, attachments), text=text,
        message_id=message_id(envelope.id, to.text, domain), references=_references(envelope, to, domain),
        sent_ms=envelope.timestamp, is_urgent=envelope.priority >= 8, attachments=attachments,
    )  # fmt: skip


def to_bytes(letter: Letter, sender: str, display_name: str, blobs: Mapping[str, bytes]) -> bytes:
    """The mail as SMTP carries it: lines of at most 998 bytes, 7 bit but for addresses that need UTF-8.

    blobs: the bytes of each attachment that has a `file_id`. The same input gives the same bytes.
    """
    from email.headerregistry import Address
    from email.message import EmailMessage
    from email.policy import SMTP
    from email.utils import format_datetime

    mail = EmailMessage(policy=SMTP.clone(cte_type="7bit", utf8=letter.needs_utf8, max_line_length=78))
    mail["From"] = Address(_one_line(display_name, _NAME_CHARACTERS), addr_spec=sender)
    mail["To"] = Address(username=letter.to.rpartition("@")[0], domain=letter.to.rpartition("@")[2])
    mail["Subject"] = letter.subject
    mail["Date"] = format_datetime(datetime.fromtimestamp(min(letter.sent_ms / 1000, _LAST_S), UTC))
    mail["Message-ID"] = letter.message_id
    if letter.references:
        mail["In-Reply-To"] = letter.references[-1]
        mail["References"] = " ".join(letter.references)
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: whoever answers by machine shall not
    mail["X-Auto-Response-Suppress"] = "OOF, AutoReply"  # the same for Exchange
    mail[LOOP_HEADER] = sender
    if letter.is_urgent:
        mail["Importance"] = "high"
        mail["X-Priority"] = "1"
    text = letter.text.encode("utf-8", "replace").decode()
    mail.set_content(text, cte="quoted-printable" if _is_mostly_ascii(text) else "base64")
    for entry in letter.attachments:
        data = blobs[entry.file_id] if entry.data is None else entry.data
        kind, _, subtype = entry.content_type.partition("/")
        mail.add_attachment(data, maintype=kind, subtype=subtype, filename=entry.name, cte="base64")
    if letter.attachments:
        # No text can hold it: in base64 there is no `_`, and in quoted-printable `=` is followed by hex digits.
        mail.set_boundary("=_" + hashlib.sha256(letter.message_id.encode()).hexdigest()[:40])
    return mail.as_bytes()


def _references(envelope: Envelope, to: MailAddress, domain: str) -> tuple[str, ...]:
    """The thread's first mail, and the mail of the hub that this one follows."""
    found = [] if envelope.thread is None else [thread_root(envelope.thread, domain)]
    if envelope.reply_to is not None and not envelope.reply_to.startswith(INCOMING_ID):
        found.append(message_id(envelope.reply_to, to.text, domain))
    return tuple(found)


def _subject(envelope: Envelope, text: str, attachments: tuple[Attachment, ...]) -> str:
    """A mail of somebody's thread begins with `Re:`, or mail programs would not show it there."""
    title = envelope.labels.get("title", "")
    first = next((line for line in text.splitlines() if line.strip()), "")
    names = attachments[0].name if attachments else ""
    subject = _one_line(title, _SUBJECT_CHARACTERS) or _one_line(first, _SUBJECT_CHARACTERS) or names
    is_answer = envelope.thread is not None and envelope.thread.startswith(FOREIGN_THREAD)
    return f"Re: {subject}" if is_answer and not subject.lower().startswith("re:") else subject


def _one_line(text: str, limit: int) -> str:
    """Without what could end a header line, or is not seen: controls, line and paragraph separators, surrogates."""
    seen = (" " if unicodedata.category(one) in ("Cc", "Zl", "Zp", "Cs") else one for one in text[: 4 * limit])
    return truncated(" ".join("".join(seen).split()), limit, measure=len)


def _attachment(part: Part, number: int) -> Attachment | str | None:
    """What a part becomes; a str is a line of the text."""
    match part:
        case ImagePart():
            url = part.image_url.url
            return _of_data_url(url, "", f"picture-{number}") if url.startswith("data:") else url
        case AudioPart():
            data = _decoded(part.input_audio.data)
            kind = _AUDIO.get(part.input_audio.format, "application/octet-stream")
            return Attachment(
                name=f"audio-{number}.{_file_name(part.input_audio.format, 'bin')}", content_type=kind, data=data
            )
        case FilePart():
            return _file(part, number)
        case JsonPart():
            data = msgspec.json.format(msgspec.json.encode(part.json), indent=2)
            return Attachment(name=f"data-{number}.json", content_type="application/json", data=data)
        case _:
            return None


def _file(part: FilePart, number: int) -> Attachment | None:
    name = _file_name(part.file.filename or "", f"file-{number}")
    if part.file.file_data is not None:
        return _of_data_url(part.file.file_data, name, name)
    if part.file.file_id is not None:
        return Attachment(name=name, content_type=_guessed(name), file_id=part.file.file_id)
    return None


def _of_data_url(url: str, name: str, fallback: str) -> Attachment:
    """Source: RFC 2397. Raises Cannot."""
    head, comma, body = url.removeprefix("data:").partition(",")
    kind, *options = head.lower().split(";")
    if not url.startswith("data:") or not comma:
        raise Cannot(
            permanent("bad_attachment", Words("an attachment is no data: address", "附件不是有效的 data: 地址"))
        )
    data = _decoded(body) if "base64" in [option.strip() for option in options] else unquote_to_bytes(body)
    kind = kind if _is_type(kind) and not kind.startswith(("multipart/", "message/")) else "application/octet-stream"
    return Attachment(name=name or fallback + _ending(kind), content_type=_plain_kind(kind), data=data)


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):  # ValueError: not ASCII
        raise Cannot(
            permanent("bad_attachment", Words("an attachment is no base64", "附件不是有效的 base64"))
        ) from None


def _guessed(name: str) -> str:
    import mimetypes

    kind = (mimetypes.guess_type(name, strict=True)[0] or "").lower()
    return _plain_kind(kind) if _is_type(kind) else "application/octet-stream"


def _plain_kind(kind: str) -> str:
    """Texts go as bytes: their charset is not known. Mails and multiparts would be read as part of this mail."""
    return "application/octet-stream" if kind.startswith(("multipart/", "message/")) else kind


def _ending(kind: str) -> str:
    import mimetypes

    return mimetypes.guess_extension(kind) or ""


def _file_name(name: str, fallback: str) -> str:
    """The last step of a path, without what cannot stand in a file's name."""
    last = re.split(r"[/\\]", name)[-1]
    return _one_line(re.sub(r'[<>:"|?*]', "_", last), _NAME_CHARACTERS).strip(". ") or fallback


def _is_mostly_ascii(text: str) -> bool:
    """Then quoted-printable is shorter than base64, and can be read as it is."""
    return len(text) < 64 * 1024 and sum(not one.isascii() for one in text) * 8 < len(text) + 8


def _over(size: int, limit_bytes: int) -> Delivery:
    words = Words(
        f"the mail would have {size} bytes, and {limit_bytes} are the limit of this channel",
        f"邮件将有 {size} 字节，超过本渠道上限 {limit_bytes} 字节",
    )
    return too_large("too_large", words)
