"""Message-IDs that carry the hub's own ids, so that an answer by mail names the message that it answers.

`<ID.TARGET@domain>`, where ID is escaped to letters, digits, `-`, `_` and `=XX`, and TARGET tells apart the same
message to two people. A thread's first mail, which nobody ever sent, is `<ID+thread@domain>`. Source: RFC 5322, 3.6.4.
"""

import hashlib
import re
from typing import NamedTuple

_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
_ESCAPE = re.compile(r"=([0-9A-F]{2})")
_is_escaped = re.compile(r"(?:[A-Za-z0-9_-]|=[0-9A-F]{2})+").fullmatch
_is_tag = re.compile(r"[0-9a-f]{12}").fullmatch
_THREAD = "+thread"
FOREIGN_THREAD = "mail:"
"""A thread that began with a mail of somebody else's: what follows is that mail's Message-ID, without brackets."""
_is_foreign_root = re.compile(r"[\x21-\x3b\x3d\x3f-\x7e]{1,120}").fullmatch  # no brackets; with the prefix a legal id


class OwnId(NamedTuple):
    """What a Message-ID of the hub says."""

    message: str | None
    thread: str | None


def message_id(envelope_id: str, target: str, domain: str) -> str:
    """Of the mail that carries a message. target: the address that it goes to."""
    return f"<{_escaped(envelope_id)}.{_tag_of(target)}@{domain}>"


def went_to(text: str, address: str) -> bool:
    """Whether the mail of this Message-ID of the hub, with its brackets, went to that address."""
    return text.rpartition("@")[0].rpartition(".")[2] == _tag_of(address)


def thread_root(thread: str, domain: str) -> str:
    """What all mails of a thread name first in References."""
    if thread.startswith(FOREIGN_THREAD) and _is_foreign_root(root := thread.removeprefix(FOREIGN_THREAD)):
        return f"<{root}>"
    return f"<{_escaped(thread)}{_THREAD}@{domain}>"


def own_id(text: str, domain: str) -> OwnId | None:
    """The reverse of both; None for what is not of this hub. text: with its brackets."""
    local, _, host = text.removeprefix("<").removesuffix(">").rpartition("@")
    if host.lower() != domain:
        return None
    if local.endswith(_THREAD):
        name = local.removesuffix(_THREAD)
        return OwnId(None, _unescaped(name)) if _is_escaped(name) else None
    name, _, tag = local.rpartition(".")
    return OwnId(_unescaped(name), None) if _is_tag(tag) and _is_escaped(name) else None


def thread_of(root: str, domain: str) -> str:
    """The thread whose first mail has this Message-ID: the hub's own thread, or one named after somebody's mail.

    root: with its brackets. A Message-ID that makes no legal id is hashed.
    """
    if (own := own_id(root, domain)) is not None and own.thread is not None:
        return own.thread
    bare = root.removeprefix("<").removesuffix(">")
    return FOREIGN_THREAD + (bare if _is_foreign_root(bare) else hashlib.sha256(bare.encode()).hexdigest())


def _tag_of(target: str) -> str:
    return hashlib.sha256(target.lower().encode()).hexdigest()[:12]


def _escaped(text: str) -> str:
    return "".join(chr(byte) if byte in _PLAIN else f"={byte:02X}" for byte in text.encode())


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda found: chr(int(found[1], 16)), text)
