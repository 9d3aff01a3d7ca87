"""What a terminal shows: tables whose columns line up, sizes, times, and no control characters of strangers."""

import re
import shutil
import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime

# ESC and its kin could move the cursor, rename the window or type into it: C0 without tab and newline, DEL and C1.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
# They turn the order of what is read around (Unicode Technical Report 36, bidirectional spoofing).
_TURNING = re.compile("[\u202a-\u202e\u2066-\u2069]")
_UNITS = ("B", "kB", "MB", "GB", "TB")


def harmless(text: str) -> str:
    """The text without what could steer a terminal."""
    return _TURNING.sub("\ufffd", _CONTROL.sub("\ufffd", text.replace("\r", "")))


def width(text: str) -> int:
    """Columns that the text takes in a terminal: 2 for Chinese and other wide characters (Unicode Annex 11)."""
    return sum(_columns(character) for character in text)


def _columns(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def fitting(line: str) -> str:
    """As much of the line as the terminal shows in one row, so that it can be written over."""
    room = shutil.get_terminal_size().columns - 1
    while width(line) > room:
        line = line[:-1]
    return line


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows in aligned columns, the last one as wide as it likes. Each cell becomes one line."""
    lines = [[" ".join(harmless(cell).split()) for cell in row] for row in (headers, *rows)]
    widths = [max(width(line[column]) for line in lines) for column in range(len(headers))]
    return "\n".join(
        "  ".join(cell + " " * (wide - width(cell)) for cell, wide in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def size(size_bytes: float) -> str:
    """491_000_000 as '491 MB'."""
    for unit in _UNITS:
        if size_bytes < 999.5 or unit == _UNITS[-1]:
            break
        size_bytes /= 1000
    return f"{size_bytes:.1f} {unit}" if size_bytes < 9.95 and unit != "B" else f"{size_bytes:.0f} {unit}"


def local_time(time_ms: int) -> str:
    """Milliseconds of the Unix epoch as local time; the figure itself when no calendar has it."""
    try:
        return datetime.fromtimestamp(time_ms / 1000, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return str(time_ms)
