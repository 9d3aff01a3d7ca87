"""Takes control text out of a model's answers: `</answer>`, `<|begin_of_box|>`, `<think>...</think>`.

Off unless `[[model]] strip` names what to take out. Only the answer's content is changed; all other bytes stay.
"""

import msgspec


class TextStripper:
    """Removes markers from one choice's text, which comes in pieces that may split a marker."""

    def __init__(self, markers: tuple[str, ...]) -> None:
        """markers: words, and `A...B` for all from A to B. What would match everywhere is ignored."""
        split = [marker.partition("...") for marker in markers]
        self._spans = [(start, end) for start, dots, end in split if dots and start and end]
        self._words = [word for word, dots, _ in split if word and not dots]
        self._held = ""
        self._until = ""
        """The end that closes the span we are in; empty outside."""

    def feed(self, text: str, *, is_last: bool) -> str:
        """Returns what is sure to be no control text; holds back what may be the start of a marker."""
        text = self._held + text
        self._held = ""
        out: list[str] = []
        while text:
            if self._until:
                before, found, after = text.partition(self._until)
                if not found:
                    self._held = _possible_start(before, [self._until])
                    break
                self._until, text = "", after
                continue
            at, marker, end = self._first(text)
            if marker:
                out.append(text[:at])
                text, self._until = text[at + len(marker) :], end
                continue
            held = _possible_start(text, [*self._words, *(start for start, _ in self._spans)])
            out.append(text[: len(text) - len(held)])
            self._held = held
            break
        if is_last and not self._until:
            out.append(self._held)
            self._held = ""
        return "".join(out)

    def _first(self, text: str) -> tuple[int, str, str]:
        """(position, marker, end of its span) of the first marker in the text; an empty marker when there is none."""
        found = [(text.find(word), word, "") for word in self._words]
        found += [(text.find(start), start, end) for start, end in self._spans]
        there = [entry for entry in found if entry[0] >= 0]
        return min(there, key=lambda entry: (entry[0], -len(entry[1])), default=(0, "", ""))


def _possible_start(text: str, markers: list[str]) -> str:
    """The longest end of the text that is a proper beginning of a marker."""
    longest = max((len(marker) for marker in markers), default=0) - 1
    for length in range(min(longest, len(text)), 0, -1):
        tail = text[-length:]
        if any(marker.startswith(tail) for marker in markers):
            return tail
    return ""


class Stripper:
    """Filters one answer: `whole` for JSON, `feed` for a stream of server-sent events."""

    def __init__(self, markers: tuple[str, ...]) -> None:
        self._markers = markers
        self._choices: dict[int, TextStripper] = {}
        self._buffer = b""

    def whole(self, body: bytes) -> bytes:
        """A chat or text completion without the control text; anything else comes back as it is."""
        try:
            answer = msgspec.json.decode(body)
            for choice in answer["choices"]:
                holder, field = (choice["message"], "content") if "message" in choice else (choice, "text")
                if isinstance(holder.get(field), str):
                    holder[field] = TextStripper(self._markers).feed(holder[field], is_last=True)
        except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
            return body
        return msgspec.json.encode(answer)

    def feed(self, chunk: bytes, *, is_last: bool = False) -> bytes:
        """The events that are complete, filtered. `is_last` lets out what is left."""
        self._buffer += chunk
        lines = self._buffer.split(b"\n")
        self._buffer = b"" if is_last else lines.pop()
        return b"\n".join([self._line(line) for line in lines] + ([] if is_last else [b""]))

    def _line(self, line: bytes) -> bytes:
        if not line.startswith(b"data:") or not line[5:].lstrip().startswith(b"{"):
            return line
        try:
            event = msgspec.json.decode(line[5:])
            for choice in event["choices"]:
                index = choice.get("index", 0)
                strip = self._choices.setdefault(index, TextStripper(self._markers))
                is_end = choice.get("finish_reason") is not None
                holder, field = (choice["delta"], "content") if "delta" in choice else (choice, "text")
                text = holder.get(field)
                if isinstance(text, str):
                    holder[field] = strip.feed(text, is_last=is_end)
                elif is_end and (rest := strip.feed("", is_last=True)):
                    holder[field] = rest
        except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
            return line
        return b"data: " + msgspec.json.encode(event)
