"""What an entry of the audit says, and its canonical bytes.

Its body is chained and stays. What is about a person is apart from it: the body has only the sha256 of a random salt
and that. So it can be erased and the chain still verifies, and without the salt nobody finds it out again by trying.
"""

import base64
import hashlib
import os
from typing import Literal, get_args

import msgspec

from autoglm.core.errors import InvalidField
from autoglm.core.ports import JournalEntry, NewJournalEntry

Kind = Literal[
    "decision", "act", "login", "token", "policy", "clock", "conflict", "settle", "erase", "acknowledge", "head",
    "start", "stop",
]  # fmt: skip
Outcome = Literal["allowed", "denied", "failed"]
KINDS: tuple[Kind, ...] = get_args(Kind)
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
VERSION = 1
SALT_BYTES = 16
_MAX_TEXT = 2000
"""Characters of a free text. No message is ever put there."""


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """The site's word that the chain up to and with entry `seq` has this digest."""

    site: str
    kid: str
    seq: int
    digest: str
    """64 hexadecimal digits."""
    at_ms: int
    signature: str
    """Ed25519 over `signed_bytes`; base64url without padding."""

    def signed_bytes(self) -> bytes:
        return b"autoglm-audit-head-v1\n" + _encode((self.site, self.kid, self.seq, self.digest, self.at_ms))


class Loss(msgspec.Struct, frozen=True, kw_only=True):
    """The site's word that it knows of entries which are lost, as by a backup that was restored: they are no alarm."""

    site: str
    kid: str
    seq: int
    """The last entry of which it is known that it is lost."""
    digest: str
    """Its own: 64 hexadecimal digits. Another entry may have its number by now."""
    kept_seq: int
    """The last one that is still there: what is lost came behind it."""
    found_ms: int
    """When it was found out that they are."""
    signature: str
    """Ed25519 over `signed_bytes`; base64url without padding."""

    def signed_bytes(self) -> bytes:
        said = (self.site, self.kid, self.seq, self.digest, self.kept_seq, self.found_ms)
        return b"autoglm-audit-loss-v1\n" + _encode(said)


class Fact(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body, as it is before it has its place in the chain."""

    version: int
    kind: Kind
    action: str
    outcome: Outcome
    at_ms: int
    """By the trusted clock; of a summary, when it was written."""
    is_clock_trusted: bool = True
    boot: int = 0
    """Boots since the last signed time, by which one may judge how far an untrusted clock may be off."""
    reason: str = ""
    """A code such as `scope_lost`."""
    policy_version: int = 0
    """Of the snapshot by which it was decided; 0 without one."""
    request_id: str = ""
    is_offline: bool = False
    """Was the hub cut off from the centre?"""
    count: int = 1
    """More than one: so many equal decisions from first_ms to last_ms."""
    first_ms: int = 0
    last_ms: int = 0
    about: int = 0
    """The seq of the entry that a conflict or a settlement is about; of a `rolled_back` start, the one that is lost."""
    erased: tuple[tuple[int, int], ...] = ()
    """The first and last seq of each run of entries that lost what was personal."""
    head: Head | None = None
    loss: Loss | None = None
    """That somebody acknowledges."""
    commitment: str = ""
    """sha256 of the salt and what is personal, in hexadecimal digits; empty where nothing is."""


class Entry(Fact, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The body in its place."""

    seq: int
    prev: str
    """The digest of the entry before."""

    @property
    def begins_ms(self) -> int:
        return self.first_ms or self.at_ms

    @property
    def ends_ms(self) -> int:
        return self.last_ms or self.at_ms


class Personal(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What can be erased. `who` is the principal's address."""

    who: str = ""
    name: str = ""
    credential: str = ""
    resource: str = ""
    client: str = ""
    """The network address that it came from."""
    token: tuple[str, ...] = ()
    """`jti:...` and `kid:...` of the token that was shown."""
    scope: str = ""
    """His own, by which it was allowed."""
    role: str = ""
    """Of the policy, where no scope of his own allowed it. Neither: the hub lets everybody do that to what is his."""
    about: str = ""
    """What policies looked at, where scopes looked at the resource: whom a message went to."""
    labels: tuple[str, ...] = ()
    """Of the message: `label_digest` of each, sorted. Who knows a label can ask for it, and nobody reads one here."""
    text: str = ""
    """In words: why a conflict, why it was settled so, who asked for an erasure."""


_encode = msgspec.json.Encoder().encode
_decode_entry = msgspec.json.Decoder(Entry).decode
_decode_personal = msgspec.json.Decoder(Personal).decode
NOBODY = Personal()


def draft(fact: Fact, personal: Personal = NOBODY) -> NewJournalEntry:
    """For the journal. `fact.commitment` is set here. Raises InvalidField for what is no text."""
    salt = content = None
    try:
        if personal != NOBODY:
            salt, content = os.urandom(SALT_BYTES), _encode(personal)
            # Rather than msgspec.structs.replace, which costs 3 us: the commitment is the body's last field.
            body = b'%b,"commitment":"%b"}' % (_encode(fact)[:-1], _digest(salt, content).encode())
        else:
            body = _encode(fact)
    except UnicodeEncodeError as error:
        raise InvalidField("audit", "half a surrogate pair cannot be written down") from error
    return NewJournalEntry(
        at_ms=fact.at_ms, kind=fact.kind, action=fact.action, outcome=fact.outcome, body=body,
        who=personal.who or None, salt=salt, personal=content,
    )  # fmt: skip


def read_entry(body: bytes) -> Entry:
    """Raises msgspec.MsgspecError, ValueError when these are not the canonical bytes of an entry."""
    entry = _decode_entry(body)
    if _encode(entry) != body:
        raise ValueError("the bytes are not canonical")
    return entry


def read_personal(entry: JournalEntry) -> Personal:
    """Empty once it was erased. Raises msgspec.MsgspecError when it is damaged."""
    return NOBODY if entry.personal is None else _decode_personal(entry.personal)


def commits_to(entry: Entry, salt: bytes, personal: bytes) -> bool:
    return len(salt) == SALT_BYTES and entry.commitment == _digest(salt, personal)


def clipped(text: str, longest: int = _MAX_TEXT) -> str:
    """As much of a text of somebody's own as an entry takes."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def label_digest(label: str) -> str:
    """96 bits, in 16 letters."""
    return base64.urlsafe_b64encode(hashlib.sha256(label.encode("utf-8", "surrogatepass")).digest()[:12]).decode()


def _digest(salt: bytes, personal: bytes) -> str:
    return hashlib.sha256(salt + personal).hexdigest()
