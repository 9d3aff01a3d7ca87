"""Forwards a model's stream to the client as it comes, and looks at no more of it than it must."""

import re
from collections.abc import Callable

from autoglm.core.clock import monotonic_s
from autoglm.gateway.exchange import Exchange
from autoglm.inference.control_text import Stripper
from autoglm.inference.kept import Kept
from autoglm.inference.sse import Tail, flaw_of_end, split_events
from autoglm.inference.usage import has_content, has_reasoning, usage_of

_EVENT_ENDS = (b"\n\n", b"\n\r\n")
_MAX_HELD_BYTES = 256 * 1024
# The events that end a stream, as in `sse` (an empty reason, which some servers send until then, is none); and one
# without choices, which is where OpenAI tells the usage.
_END = re.compile(
    rb'"finish_reason"\s*:\s*"[^"]|^data:\s*\[DONE\]|"type"\s*:\s*"response\.(?:completed|incomplete|failed)"'
    rb'|"choices"\s*:\s*\[\s*\]',
    re.MULTILINE,
)
_USAGE_ALONE = re.compile(rb'\A(?=.*"choices"\s*:\s*\[\s*\])(?=.*"usage"\s*:\s*\{)', re.DOTALL)
_BETWEEN_EVENTS = re.compile(rb"(?<=\n\n)|(?<=\n\r\n)")


class Relay:
    """Satisfies `core.ports.Sink`. Events go out whole: after a cut, half of one would swallow the error event."""

    __slots__ = (
        "_exchange", "_has_text", "_has_thoughts", "_kept", "_push", "_rest", "_stripper", "_tail", "ended_s", "events",
        "first_token_s", "keep_pace",
    )  # fmt: skip

    def __init__(
        self, exchange: Exchange, stripper: Stripper | None, kept: Kept | None = None,
        push: Callable[[bytes], None] | None = None,
    ) -> None:  # fmt: skip
        """kept: gets the stream as the instance sends it. push: takes what is to be sent; the exchange when absent."""
        self._exchange = exchange
        self._push = push or exchange.push
        self.keep_pace = exchange.keep_pace
        self._stripper = stripper
        self._tail = Tail()
        self._rest = b""
        self._has_text = self._has_thoughts = False
        self._kept = kept
        self.first_token_s = 0.0
        """When the first word, thought or tool call came; monotonic, 0 until then."""
        self.ended_s = 0.0
        """When it ended well; monotonic."""
        self.events = 0
        """How many came: about as many as tokens, for answers that tell no usage."""

    @property
    def is_slow(self) -> bool:
        return self._exchange.is_slow

    def take(self, chunk: bytes) -> None:
        self._tail.add(chunk)
        if self._kept is not None:
            self._kept.add(chunk)
        self.events += chunk.count(b"data:")
        if not self._has_text:  # looked for until it was seen once
            self._has_text = has_content(chunk)
            self._has_thoughts = self._has_thoughts or has_reasoning(chunk)
            if not self.first_token_s and (self._has_text or self._has_thoughts):
                self.first_token_s = monotonic_s()
        if self._stripper is not None:
            chunk = self._stripper.feed(chunk)
        elif self._rest or not chunk.endswith(_EVENT_ENDS):
            chunk, self._rest = split_events(self._rest + chunk)
        self._push(chunk)

    def flaw(self) -> str:
        """Why the stream, which is over, is no answer; empty when it ended well."""
        return flaw_of_end(self._tail.last())

    def finish(self) -> None:
        """The stream ended well: send the rest, note what it took."""
        self.ended_s = monotonic_s()
        self._push(self._rest if self._stripper is None else self._stripper.feed(b"", is_last=True))
        self._exchange.tokens_in, self._exchange.tokens_out = usage_of(self._tail.last())

    @property
    def is_reasoning_only(self) -> bool:
        """True when it had nothing for the user: many clients would take that for success."""
        return self._has_thoughts and not self._has_text


def _has_words(event: bytes) -> bool:
    return has_content(event) or has_reasoning(event)


class Hold:
    """Keeps back the events that end a stream, until it is said that they may go: the client then knows the answer
    for a whole one, so it must be counted before. What comes after them and has content or thoughts lets them go as
    well: of several choices each has an end of its own.
    """

    __slots__ = ("_held", "_push")

    def __init__(self, push: Callable[[bytes], None]) -> None:
        self._push = push
        self._held = b""

    def take(self, chunk: bytes) -> None:
        """Whole lines of events."""
        if not self._held and _END.search(chunk) is None:
            self._push(chunk)
            return
        for event in _BETWEEN_EVENTS.split(chunk):
            is_end = _END.search(event) is not None
            if self._held and (_has_words(event) or len(self._held) > _MAX_HELD_BYTES):
                self._push(self._held)
                self._held = b""
            if is_end or self._held:
                self._held += event
            else:
                self._push(event)

    def release(self, *, without_usage: bool = False) -> None:
        """Let them go; without_usage: but for an event that has only that, for a client that did not ask for it."""
        held, self._held = self._held, b""
        self._push(without_usage_event(held) if without_usage else held)


def without_usage_event(events: bytes) -> bytes:
    """A stream without the event that has no choice but the usage."""
    parts = [part for part in _BETWEEN_EVENTS.split(events) if _USAGE_ALONE.match(part) is None]
    return b"".join(parts)
