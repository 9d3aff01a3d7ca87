"""Reads a mail that came in: who wrote it, what it answers, its text and its attachments.

Nothing of it is trusted: charsets, lengths, nesting. Source: RFC 5322, RFC 2045 to 2047, RFC 3464 (reports).
"""

import re
from collections.abc import Iterator
from email.errors import MessageError
from email.header import decode_header
from email.message import Message
from email.parser import BytesParser
from email.policy import compat32
from email.utils import getaddresses, parsedate_to_datetime
from typing import NamedTuple

from autoglm.channels.adapters.mail.html_text import text_of_html
from autoglm.channels.adapters.mail.letter import LOOP_HEADER
from autoglm.channels.pieces import truncated

HEADER_BYTES = 256 * 1024
FIELD_BYTES = 16 * 1024
WORK = 4_000_000
"""Lines times containers: what email.parser does for each. 2.5 s of CPU (measured with 3.9 million)."""
_MOST_CONTAINERS = 500
"""However they are nested: email.parser goes down by recursion, and Python's bound of that is 1,000."""
TEXT_CHARACTERS = 1024 * 1024
_MOST_PARTS = 200
_MOST_ATTACHMENTS = 50
_MOST_LEVELS = 20
_MOST_NAMED = 20
_VALUE_CHARACTERS = 8192
_MOST_REFERENCES = 200
_CONTAINER = re.compile(rb"^content-type:\s*(?:multipart|message)/", re.IGNORECASE | re.MULTILINE)
_LONG_FIELD = re.compile(rb"^content-[a-z-]+:[^\n]*(?:\n[ \t][^\n]*)*", re.IGNORECASE | re.MULTILINE)
_MESSAGE_ID = re.compile(r"<[^<>\s]{1,500}>")
_NOT_FOR_TEXT = frozenset({"idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined", "mbcs", "oem"})
_WIDER = {"gb2312": "gb18030", "gbk": "gb18030", "ascii": "utf-8", "iso8859-1": "cp1252"}
"""Mail programs name the smaller charset and use the larger one."""
_FAULTS = (MessageError, LookupError, ValueError, TypeError, AttributeError, RecursionError, AssertionError)
"""What Python's email package raises for broken mails."""


class Unreadable(Exception):
    """A mail that is not taken: `reason` is a word for the log."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class IncomingFile(NamedTuple):
    name: str
    content_type: str
    data: bytes


class Report(NamedTuple):
    """Of a delivery status notification."""

    ticket: str
    """Message-ID of the mail that it is about, or empty."""
    action: str
    """failed, delayed, delivered, relayed or expanded."""
    status: str
    """Enhanced code, such as 5.1.1."""
    recipients: tuple[str, ...] = ()
    """Addresses that it is about: the one that the mail was sent to, and where it had got to."""


class IncomingMail(NamedTuple):
    sender: str
    """Address in lower case; empty where there is none, or more than one."""
    message_id: str
    in_reply_to: str
    references: tuple[str, ...]
    subject: str
    sent_ms: int | None
    text: str
    files: tuple[IncomingFile, ...]
    left_out: tuple[str, ...]
    """Names and sizes of what was over a limit."""
    marks: dict[str, str]
    """Headers that tell who sent it, by their lower-case names."""
    confirmations: tuple[str, ...]
    """Values of Authentication-Results as they came, the newest first."""
    reports: tuple[Report, ...]


MARKS = (
    "auto-submitted", "precedence", "list-id", "return-path", LOOP_HEADER.lower(), "x-autoreply", "x-autorespond"
)  # fmt: skip


def read_mail(raw: bytes, *, attachment_bytes: int) -> IncomingMail:
    """Blocks for up to some seconds: call it in a thread. Raises Unreadable."""
    check_bounds(raw)
    try:
        return _read(BytesParser(policy=compat32).parsebytes(raw), attachment_bytes)
    except _FAULTS as error:
        raise Unreadable("broken") from error


def check_bounds(raw: bytes) -> None:
    """Raises Unreadable where parsing would take long. Itself linear."""
    raw = raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n")  # to email.parser a CR alone ends a line, too
    head = re.search(rb"\n\n", raw[: HEADER_BYTES + 2])
    if head is None and len(raw) > HEADER_BYTES:
        raise Unreadable("header_too_long")
    if any(found.end() - found.start() > FIELD_BYTES for found in _LONG_FIELD.finditer(raw)):
        raise Unreadable("header_too_long")
    containers = sum(1 for _ in _CONTAINER.finditer(raw))
    if containers > _MOST_CONTAINERS or raw.count(b"\n") * (1 + containers) > WORK:
        raise Unreadable("too_complicated")


def _read(message: "Message[str, str]", attachment_bytes: int) -> IncomingMail:
    body = _Body(attachment_bytes)
    body.add(message, 0)
    reports = tuple(_reports(message))
    in_reply_to = _ids(message, "in-reply-to")
    return IncomingMail(
        sender=_sender(message), message_id=next(iter(_ids(message, "message-id")), ""),
        in_reply_to=next(iter(in_reply_to), ""), references=_ids(message, "references") or in_reply_to,
        subject=_shown(next(iter(_values(message, "subject")), "")), sent_ms=_sent_ms(message),
        text=body.text(), files=tuple(body.files), left_out=tuple(body.left_out()),
        marks={name: values[0] for name in MARKS if (values := _values(message, name))},
        confirmations=tuple(_raw_values(message, "authentication-results")), reports=reports,
    )  # fmt: skip


class _Body:
    """Collects text and files, each within its limit."""

    def __init__(self, attachment_bytes: int) -> None:
        self._room = attachment_bytes
        self._parts = 0
        self._texts: list[str] = []
        self._left_out: list[str] = []
        self.files: list[IncomingFile] = []

    def text(self) -> str:
        return truncated(
            "\n\n".join(text.strip("\n") for text in self._texts if text.strip()), TEXT_CHARACTERS, measure=len
        )

    def left_out(self) -> list[str]:
        more = len(self._left_out) - _MOST_NAMED
        return self._left_out[:_MOST_NAMED] + ([f"and {more} more"] if more > 0 else [])

    def add(self, part: "Message[str, str]", level: int) -> None:
        self._parts += 1
        if self._parts > _MOST_PARTS or level > _MOST_LEVELS:
            self._left_out.append("a part")
            return
        kind = part.get_content_type()
        children = part.get_payload()
        if part.get_content_maintype() == "multipart" and isinstance(children, list):
            known = [child for child in children if isinstance(child, Message)]
            chosen = _best(known) if kind == "multipart/alternative" else known
            for child in chosen:
                self.add(child, level + 1)
        elif kind in ("text/plain", "text/html") and part.get_content_disposition() != "attachment":
            text = decoded(_data(part), part.get_content_charset())
            self._texts.append(text_of_html(text) if kind == "text/html" else text.replace("\r\n", "\n"))
        elif kind not in ("message/delivery-status", "text/rfc822-headers"):
            self._add_file(part, kind)

    def _add_file(self, part: "Message[str, str]", kind: str) -> None:
        name = _shown(part.get_filename() or "")[:200] or f"attachment-{len(self.files) + 1}"
        data = _data(part)
        if len(data) > self._room or len(self.files) >= _MOST_ATTACHMENTS:
            self._left_out.append(f"{name}, {len(data)} bytes")
            return
        self._room -= len(data)
        self.files.append(IncomingFile(name, kind, data))


def _best(alternatives: list["Message[str, str]"]) -> list["Message[str, str]"]:
    """The plain text where it says anything; else the last one, the richest (RFC 2046, section 5.1.4)."""
    plain = [one for one in alternatives if one.get_content_type() == "text/plain" and _data(one).strip()]
    return plain[:1] or alternatives[-1:]


def _data(part: "Message[str, str]") -> bytes:
    payload = part.get_payload()
    if isinstance(payload, list):  # a mail in a mail
        return b"\r\n".join(child.as_bytes() for child in payload if isinstance(child, Message))
    data = part.get_payload(decode=True)
    return data if isinstance(data, bytes) else b""


def _reports(message: "Message[str, str]") -> Iterator[Report]:
    """Source: RFC 3464, sections 2.2 and 2.3; RFC 6522."""
    children = message.get_payload()
    if message.get_content_type() != "multipart/report" or not isinstance(children, list):
        return
    ticket, blocks = "", []
    for child in (one for one in children if isinstance(one, Message)):
        inner = child.get_payload()
        match child.get_content_type():
            case "message/delivery-status" if isinstance(inner, list):
                blocks = [block for block in inner if isinstance(block, Message)]
            case "message/rfc822" if isinstance(inner, list) and inner and isinstance(inner[0], Message):
                ticket = next(iter(_ids(inner[0], "message-id")), "")
            case "text/rfc822-headers":
                found = BytesParser(policy=compat32).parsebytes(_data(child)[:HEADER_BYTES], headersonly=True)
                ticket = next(iter(_ids(found, "message-id")), "")
    envelope_ids = [value for block in blocks for value in _values(block, "original-envelope-id")]
    ticket = ticket or next(iter(_MESSAGE_ID.findall(_from_xtext(envelope_ids[0]))), "") if envelope_ids else ticket
    for block in blocks[:100]:
        action = next(iter(_values(block, "action")), "").strip().lower()
        status = re.match(r"\s*([245]\.\d{1,3}\.\d{1,3})", next(iter(_values(block, "status")), ""))
        if action:
            yield Report(ticket, action, status[1] if status is not None else "", tuple(_recipients(block)))


def _recipients(block: "Message[str, str]") -> Iterator[str]:
    """Source: RFC 3464, sections 2.3.1 and 2.3.2; RFC 6533, section 3 (utf-8)."""
    for value in (*_values(block, "original-recipient"), *_values(block, "final-recipient")):
        kind, _, address = value.partition(";")
        if kind.strip().lower() in ("rfc822", "utf-8"):
            yield from dict.fromkeys([address.strip(" \t<>"), _from_xtext(address.strip(" \t<>"))])


def _from_xtext(text: str) -> str:
    return re.sub(r"\+([0-9A-F]{2})", lambda found: chr(int(found[1], 16)), text)


def _sender(message: "Message[str, str]") -> str:
    """Encoded words are no part of an address (RFC 2047, section 5): once decoded, `=?utf-8?q?boss=40corp.example=2C?=`
    would be one, before that which the mail server has looked at.
    """
    found = [address for _, address in getaddresses(_raw_values(message, "from")) if "@" in address]
    return found[0].lower() if len(found) == 1 else ""


def _values(message: "Message[str, str]", name: str) -> list[str]:
    """All values of a header, decoded, each cut at 8,192 characters."""
    return [_decoded_header(value) for value in _raw_values(message, name)]


def _raw_values(message: "Message[str, str]", name: str) -> list[str]:
    """As `_values`, with encoded words as they came: for what is read by its structure."""
    found: list[str] = []
    for key, value in message.raw_items():
        if key.lower() == name and len(found) < _MOST_PARTS:
            text = str(value)[:_VALUE_CHARACTERS]
            if not text.isascii():  # bytes as they came: UTF-8 by RFC 6532, or what a program left unencoded
                text = decoded(text.encode("utf-8", "surrogateescape"), None)
            found.append(text)
    return found


def _decoded_header(value: str) -> str:
    if "=?" not in value:
        return value
    try:
        pieces = decode_header(value)
    except _FAULTS:
        return value
    return "".join(piece if isinstance(piece, str) else decoded(piece, charset) for piece, charset in pieces)


def decoded(data: bytes, charset: str | None) -> str:
    """Never fails: a charset that is unknown or wrong is guessed, UTF-8 before GB18030."""
    import codecs

    for name in (charset, "utf-8", "gb18030"):
        try:
            known = codecs.lookup((name or "utf-8").strip("'\" ")).name
            if known not in _NOT_FOR_TEXT:
                return data.decode(_WIDER.get(known, known)).replace("\x00", "")
        except (LookupError, ValueError):  # UnicodeDecodeError is one; a NUL in the name another
            continue
    return data.decode("utf-8", "replace").replace("\x00", "")


def _ids(message: "Message[str, str]", name: str) -> tuple[str, ...]:
    return tuple(_MESSAGE_ID.findall(" ".join(_values(message, name))))[:_MOST_REFERENCES]


def _shown(text: str) -> str:
    """On one line, without what is not seen."""
    if "=?" in text:
        text = _decoded_header(text)
    return truncated(" ".join("".join(one if one.isprintable() else " " for one in text).split()), 500, measure=len)


def _sent_ms(message: "Message[str, str]") -> int | None:
    try:
        return max(0, int(parsedate_to_datetime(_values(message, "date")[0]).timestamp() * 1000))
    except (IndexError, ValueError, TypeError, OverflowError, OSError):
        return None
