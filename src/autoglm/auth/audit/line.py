"""An entry as a line of JSON, as files and commands have it: with the very bytes that are chained, so it verifies."""

from datetime import UTC, datetime

import msgspec

from autoglm.core.ports import JournalEntry


class _Line(msgspec.Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    entry: msgspec.Raw
    hash: str
    salt: str = ""
    personal: msgspec.Raw = msgspec.Raw(b"null")


class _Filed(msgspec.Struct):
    """What the journal is searched by, out of the body."""

    seq: int
    at_ms: int
    kind: str
    action: str
    outcome: str


class _Who(msgspec.Struct):
    who: str = ""


_LAST_S = 253_402_300_799.0  # the end of the year 9999
_encode = msgspec.json.Encoder().encode
_decode_line = msgspec.json.Decoder(_Line).decode
_decode_filed = msgspec.json.Decoder(_Filed).decode
_decode_who = msgspec.json.Decoder(_Who).decode


def to_line(row: JournalEntry, *, with_personal: bool = True) -> bytes:
    """Ends with a line break, and has no other."""
    line = _Line(entry=msgspec.Raw(row.body), hash=row.digest.hex())
    if with_personal and row.personal is not None and row.salt is not None:
        line.salt, line.personal = row.salt.hex(), msgspec.Raw(row.personal)
    # Only in bytes that somebody changed is there a break to begin with; they do not verify either way.
    return _encode(line).replace(b"\n", b" ") + b"\n"


def time_of(row: JournalEntry) -> str:
    """ISO 8601 in UTC, of whatever somebody may have written there."""
    at_s = min(max(row.at_ms / 1000, 0.0), _LAST_S)
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds")[:23] + "Z"


def from_line(line: bytes) -> JournalEntry:
    """Raises ValueError (msgspec's errors are some) for what is no such line. What it says is not verified."""
    read = _decode_line(line)
    body = bytes(read.entry)
    filed = _decode_filed(body)
    if not 0 < filed.seq < 1 << 62:
        raise ValueError("its seq is out of range")
    salt = personal = who = None
    if read.salt:
        salt, personal = bytes.fromhex(read.salt), bytes(read.personal)
        who = _decode_who(personal).who or None
    return JournalEntry(
        seq=filed.seq, digest=bytes.fromhex(read.hash), at_ms=filed.at_ms, kind=filed.kind, action=filed.action,
        outcome=filed.outcome, body=body, who=who, salt=salt, personal=personal,
    )  # fmt: skip
