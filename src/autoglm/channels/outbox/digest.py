"""Digests: where more waits than the vendor takes, several messages go out as one. None loses a word in it."""

import time
from collections.abc import Sequence

import msgspec

from autoglm.channels.choices import CHOICES
from autoglm.channels.outbox.lane import URGENT
from autoglm.channels.pieces import utf8_bytes
from autoglm.channels.questions import QUESTION
from autoglm.core.envelope import Envelope, text_of

DIGEST = "digest"
"""The label of a digest: how many messages are in it. Its id is that of the first."""
_LARGEST_SHARE = 0.5
"""A message that would take more of a digest goes by itself."""


def fits_a_digest(envelope: Envelope, digest_bytes: int) -> bool:
    """Plain, not urgent, in no conversation, and short; no question, whose buttons and answers are its own."""
    return (
        isinstance(envelope.content, str)
        and envelope.priority < URGENT
        and envelope.thread is None
        and not envelope.labels.keys() & {QUESTION, CHOICES}
        and utf8_bytes(line_of(envelope)) <= digest_bytes * _LARGEST_SHARE
    )


def line_of(envelope: Envelope) -> str:
    """A message as it stands in a digest; the time is this machine's."""
    clock = time.strftime("%H:%M", time.localtime(envelope.timestamp / 1000))
    return f"{clock} {envelope.from_}: {text_of(envelope.content).strip()}"


def packed(envelopes: Sequence[Envelope], digest_bytes: int) -> tuple[Envelope, int] | None:
    """(the digest, how many of the first messages are in it); None when it would have one only."""
    lines: list[str] = []
    size_bytes = utf8_bytes(_head(len(envelopes)))
    for envelope in envelopes:
        line = line_of(envelope)
        size_bytes += 1 + utf8_bytes(line)
        if size_bytes > digest_bytes:
            break
        lines.append(line)
    if len(lines) < 2:
        return None
    text = "\n".join([_head(len(lines)), *lines])
    priority = max(envelope.priority for envelope in envelopes[: len(lines)])
    made = msgspec.structs.replace(
        envelopes[0], content=text, kind="chat", labels={DIGEST: str(len(lines))}, reply_to=None, priority=priority
    )  # fmt: skip
    return made, len(lines)


def _head(count: int) -> str:
    return f"[{count} 条消息 / {count} messages]"
