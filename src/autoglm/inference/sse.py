"""Server-sent events as models send them: the data of each, and whether a stream came to its proper end.

Sources: WHATWG HTML, section 9.2.6; OpenAI's API reference, streaming; Zhipu's list of finish reasons.
"""

import re
from collections.abc import Iterator

MAX_EVENT_BYTES = 8 << 20
FIRST_EVENT_BYTES = 64 * 1024
"""What has no end of an event for so long is not waited for: it goes on as it comes."""
TAIL_BYTES = 8192
"""How much of a stream's end is looked at: the last event with its usage, the finish reason, and `[DONE]`."""

# Quotes within a text are escaped in JSON, so a model cannot write any of these into its answer.
_FINISH = re.compile(rb'"finish_reason"\s*:\s*"([a-z_]{1,40})"')
_LAST_EVENT = re.compile(rb'"type"\s*:\s*"response\.(?:completed|incomplete|failed)"')
_DONE = re.compile(rb"^data:\s*\[DONE\]", re.MULTILINE)
_ERROR_EVENT = re.compile(rb'^data:\s*\{\s*"error"\s*:\s*[{"]', re.MULTILINE)
_FIELD = re.compile(rb"^(?:data|event):", re.MULTILINE)


class Events:
    """Feed it bytes as they come; it gives the data of each complete event."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        """What came since the last event, its line ends as line feeds."""
        self._return = b""
        """A carriage return at the end of a chunk: half of a line end, perhaps."""

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Data of the events that are complete now; several `data` lines are joined by a newline.

        Takes time that grows with the chunk, not with what came before it: a long event may come byte by byte.
        """
        chunk = self._return + chunk
        self._return = b"\r" if chunk.endswith(b"\r") else b""
        seam = max(0, len(self._buffer) - 1)
        self._buffer += chunk.removesuffix(b"\r").replace(b"\r\n", b"\n")
        if self._buffer.find(b"\n\n", seam) < 0:
            if len(self._buffer) > MAX_EVENT_BYTES:
                self._buffer.clear()  # no event is that long: garbage, which the missing end will show
            return
        *events, rest = bytes(self._buffer).split(b"\n\n")
        self._buffer = bytearray(rest if len(rest) <= MAX_EVENT_BYTES else b"")
        for event in events:
            lines = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:")]
            if lines:
                yield b"\n".join(lines)


class Tail:
    """Keeps the end of a stream of any length, at the cost of one append for each chunk."""

    __slots__ = ("_parts", "_size_bytes")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size_bytes = 0

    def add(self, chunk: bytes) -> None:
        self._parts.append(chunk)
        self._size_bytes += len(chunk)
        if self._size_bytes > 4 * TAIL_BYTES:
            self._parts = [self.last()]
            self._size_bytes = len(self._parts[0])

    def last(self) -> bytes:
        """At most TAIL_BYTES."""
        return b"".join(self._parts)[-TAIL_BYTES:]


def has_event(start: bytes) -> bool:
    """True when a stream's first bytes hold a whole event; comments, which say nothing, do not count."""
    end = max(start.rfind(b"\n\n"), start.rfind(b"\n\r\n"))
    return end >= 0 and _FIELD.search(start, 0, end) is not None


def split_events(data: bytes) -> tuple[bytes, bytes]:
    """(whole events, start of the next one). Data without an end of an event for 64 KiB are no events: all is whole."""
    at = max(data.rfind(b"\n\n") + 2, data.rfind(b"\n\r\n") + 3)
    if at < 3:
        return (data, b"") if len(data) > FIRST_EVENT_BYTES else (b"", data)
    return data[:at], data[at:]


def flaw_in(data: bytes) -> str:
    """Why an answer with these bytes is broken, though more may come; empty when nothing says so."""
    if b'"network_error"' in data and (finish := _FINISH.findall(data)) and finish[-1] == b"network_error":
        return "it lost its connection to the model (finish_reason network_error)"
    if b'"error"' in data and _ERROR_EVENT.search(data) is not None:
        return "it ended the stream with an error"
    return ""


def flaw_of_end(tail: bytes) -> str:
    """Why a stream with these last bytes is broken; empty when it ended by itself.

    `[DONE]`, a finish reason or a final event show that. A stream that merely stops is a broken one, though many
    clients take it for a finished answer.
    """
    flaw = flaw_in(tail)
    if not flaw and not any(end.search(tail) for end in (_FINISH, _DONE, _LAST_EVENT)):
        flaw = "the stream stopped without a finish reason"
    return flaw
