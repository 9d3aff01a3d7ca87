"""Cuts text for vendors that take only so much at once, counted in bytes or in UTF-16 units or in characters."""

import re
import unicodedata
from collections.abc import Callable

Measure = Callable[[str], int]
_JOINER = "\u200d"
_BREAKS = re.compile(r"\n\n|\n|[。！？!?；;]|\. |[，,、]| ")
_LEAST_SHARE = 0.5
"""A cut at a natural place may leave a piece that much smaller than it could be."""


def utf8_bytes(text: str) -> int:
    return len(text.encode("utf-8", "replace"))


def utf16_units(text: str) -> int:
    return len(text.encode("utf-16-le", "replace")) // 2


def cut(text: str, limit: int, *, measure: Measure = utf8_bytes, numbered: bool = True) -> list[str]:
    """Pieces of at most `limit` each, as `measure` counts; joined (without their numbers) they are the text.

    Cut where the text has a natural break, never inside what is seen as one character: a letter and its combining
    marks, an emoji with its modifiers, the parts of a family, the two letters of a flag. numbered: each piece of
    several begins with `(1/3) `, which counts. limit: at least 64. An empty text is one empty piece.
    """
    if measure(text) <= limit:
        return [text]
    if not numbered:
        return _cut(text, limit, measure)
    width = 1
    while True:
        pieces = _cut(text, limit - (4 + 2 * width), measure)
        if len(str(len(pieces))) <= width:
            return [f"({index}/{len(pieces)}) {piece}" for index, piece in enumerate(pieces, 1)]
        width = len(str(len(pieces)))


def truncated(text: str, limit: int, *, measure: Measure = utf8_bytes, mark: str = "…") -> str:
    """The beginning of the text, with a mark where something was left out; never longer than `limit`."""
    if measure(text) <= limit:
        return text
    return text[: _fitting(text, 0, limit - measure(mark), measure)] + mark


def _cut(text: str, limit: int, measure: Measure) -> list[str]:
    pieces = []
    start = 0
    while start < len(text):
        end = _fitting(text, start, limit, measure)
        if end < len(text):
            end = _natural_end(text, start, end)
        pieces.append(text[start:end])
        start = end
    return pieces


def _fitting(text: str, start: int, limit: int, measure: Measure) -> int:
    """The furthest end such that text[start:end] fits and no visible character is cut."""
    low, high = start, min(len(text), start + limit)  # a character counts one at least
    while low < high:
        middle = (low + high + 1) // 2
        if measure(text[start:middle]) <= limit:
            low = middle
        else:
            high = middle - 1
    end = low
    while start < end < len(text) and _is_inside(text, end, start):
        end -= 1
    return end if end > start else max(low, start + 1)  # one visible character that is over the limit: cut it


def _natural_end(text: str, start: int, end: int) -> int:
    least = start + int((end - start) * _LEAST_SHARE)
    places = [found.end() for found in _BREAKS.finditer(text, least, end)]
    for place in reversed(places):
        if not _is_inside(text, place, start):
            return place
    return end


def _is_inside(text: str, at: int, start: int) -> bool:
    """True when a cut before text[at] would break what is seen as one character. After UAX 29, its usual cases.

    start: of the piece, where no character is broken: looking further back would take a text of flags for ever.
    """
    before, after = text[at - 1], text[at]
    if _JOINER in (before, after) or (before == "\r" and after == "\n"):
        return True
    if unicodedata.category(after) in ("Mn", "Me", "Mc") or "\U0001f3fb" <= after <= "\U0001f3ff":
        return True
    if "\U000e0020" <= after <= "\U000e007f":  # the tags of a region's flag
        return True
    if _is_region(before) and _is_region(after):
        run = 0
        while run < at - start and _is_region(text[at - 1 - run]):
            run += 1
        return run % 2 == 1
    return False


def _is_region(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"
