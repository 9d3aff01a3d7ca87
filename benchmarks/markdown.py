"""Tables in Markdown, for the pages that report.py fills."""

from collections.abc import Sequence
from typing import Literal

Language = Literal["en", "zh"]
Cell = str | float | int | None


def table(head: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    lines = [head, ["---"] * len(head), *([_text(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _text(cell: Cell) -> str:
    match cell:
        case None:
            return "–"
        case float():
            return f"{cell:,.0f}" if abs(cell) >= 1000 else f"{cell:.4g}"
        case int():
            return f"{cell:,}"
        case _:
            return cell


def aligned(text: str) -> str:
    """The same tables with columns of one width and nothing bold, for a terminal."""
    text = text.replace("**", "")
    blocks = [[line[2:-2].split(" | ") for line in block.splitlines()] for block in text.split("\n\n")]
    return "\n\n".join(_aligned(block) for block in blocks)


def _aligned(rows: list[list[str]]) -> str:
    rows = [row for row in rows if set(row) != {"---"}]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def percent(share: float | None) -> str | None:
    return None if share is None else f"{100 * share:.1f}%"
