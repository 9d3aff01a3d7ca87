"""Forwards a model's stream to the client as it comes, and looks at no more of it than it must."""

from autoglm.gateway.exchange import Exchange
from autoglm.gateway.usage import has_content, has_reasoning, usage_of
from autoglm.inference.control_text import Stripper
from autoglm.inference.kept import Kept
from autoglm.inference.sse import Tail, flaw_of_end, split_events

_EVENT_ENDS = (b"\n\n", b"\n\r\n")


class Relay:
    """Satisfies `core.ports.Sink`. Events go out whole: after a cut, half of one would swallow the error event."""

    __slots__ = (
        "_exchange", "_has_text", "_has_thoughts", "_kept", "_push", "_rest", "_stripper", "_tail", "keep_pace",
    )  # fmt: skip

    def __init__(self, exchange: Exchange, stripper: Stripper | None, kept: Kept | None = None) -> None:
        """kept: gets the stream as the instance sends it."""
        self._exchange = exchange
        self._push = exchange.push
        self.keep_pace = exchange.keep_pace
        self._stripper = stripper
        self._tail = Tail()
        self._rest = b""
        self._has_text = self._has_thoughts = False
        self._kept = kept

    @property
    def is_slow(self) -> bool:
        return self._exchange.is_slow

    def take(self, chunk: bytes) -> None:
        self._tail.add(chunk)
        if self._kept is not None:
            self._kept.add(chunk)
        if not self._has_text:  # looked for until it was seen once
            self._has_text = has_content(chunk)
            self._has_thoughts = self._has_thoughts or has_reasoning(chunk)
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
        self._push(self._rest if self._stripper is None else self._stripper.feed(b"", is_last=True))
        self._exchange.tokens_in, self._exchange.tokens_out = usage_of(self._tail.last())

    @property
    def is_reasoning_only(self) -> bool:
        """True when it had nothing for the user: many clients would take that for success."""
        return self._has_thoughts and not self._has_text
