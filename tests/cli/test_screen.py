"""What a terminal shows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoglm.cli.screen import harmless, local_time, size, table, width


@pytest.mark.parametrize(
    ("text", "columns"), [("abc", 3), ("中文", 4), ("e\u0301", 1), ("ＡＢ", 4), ("a\u200db", 2), ("", 0)]
)
def test_wide_characters_take_two_columns(text: str, columns: int) -> None:
    assert width(text) == columns


@given(st.lists(st.lists(st.text(), min_size=2, max_size=2), max_size=5))
def test_columns_line_up(rows: list[list[str]]) -> None:
    """The second column begins at the same place in every line, whatever the first one holds."""
    marked = [(first, f"|{second}") for first, second in rows]
    lines = table(("name", "|"), marked).split("\n")
    assert len(lines) == len(rows) + 1
    assert (
        len({width(line[: line.rindex("  |") + 2]) if line.count("  |") == 1 else None for line in lines} - {None}) <= 1
    )


@given(st.text())
def test_nothing_steers_the_terminal(text: str) -> None:
    clean = harmless(text)
    assert not any(character < " " and character not in "\n\t" for character in clean)
    assert not set(clean) & set("\x7f\x9b\u202e\u2066")
    assert harmless(clean) == clean


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (491_000_000, "491 MB"), (10**16, "10000 TB")],
)
def test_sizes_are_short(size_bytes: int, text: str) -> None:
    assert size(size_bytes) == text


@given(st.integers(0, 2**53))
def test_any_time_can_be_shown(time_ms: int) -> None:
    assert local_time(time_ms)
