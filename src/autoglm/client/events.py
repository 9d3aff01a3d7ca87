"""Server-sent events: bytes in, events out. Source: WHATWG HTML, section 9.2.6."""

import re
from typing import Any, Literal, NamedTuple

_LINE_END = re.compile(rb"\r\n|\r|\n")


class Event(NamedTuple):
    """Something that concerns an address: a message to it, a word of an answer, a receipt for what it sent."""

    kind: Literal["message", "delta", "receipt"]
    data: dict[str, Any]
    """As docs/api.md shows it."""
    seq: int | None
    """The place in the log; None for deltas, which are never stored."""


class ServerSent(NamedTuple):
    event: str
    data: str
    id: str


class EventParser:
    """Feed it bytes as they come. Lines end at CR and LF only: JSON may hold U+2028 and the like as they are."""

    def __init__(self) -> None:
        self._rest = b""
        self._event = "message"
        self._data: list[bytes] = []
        self._id = ""

    def feed(self, chunk: bytes) -> list[ServerSent]:
        """The events that are complete now."""
        buffer = self._rest + chunk
        # A CR at the end may be half of a CR LF.
        held = b"\r" if buffer.endswith(b"\r") else b""
        *lines, rest = _LINE_END.split(buffer[: len(buffer) - len(held)])
        self._rest = rest + held
        events = []
        for line in lines:
            if line:
                self._field(line)
                continue
            if self._data:
                events.append(ServerSent(self._event, b"\n".join(self._data).decode("utf-8", "replace"), self._id))
            self._event, self._data = "message", []
        return events

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        match name:
            case b"data":
                self._data.append(value)
            case b"event":
                self._event = value.decode("utf-8", "replace")
            case b"id" if b"\0" not in value:
                self._id = value.decode("utf-8", "replace")
            case _:
                pass  # a comment, or a field of a later version
