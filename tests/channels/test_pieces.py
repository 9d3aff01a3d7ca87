"""Cutting text: nothing is lost, nothing is over the limit, and no visible character is broken."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoglm.channels import pieces
from autoglm.channels.pieces import Measure, cut, truncated, utf8_bytes, utf16_units

FAMILY, FLAG, WAVE = "👨\u200d👩\u200d👧", "🇨🇳", "👋🏽"
TEXTS = st.lists(st.sampled_from([*"ab。 \n，é压", FAMILY, FLAG, WAVE, "e\u0301", "\u200b"]), max_size=300).map("".join)


@given(TEXTS, st.integers(64, 200), st.sampled_from([utf8_bytes, utf16_units, len]))
def test_pieces_fit_and_are_the_text(text: str, limit: int, measure: Measure) -> None:
    pieces = cut(text, limit, measure=measure)
    assert all(measure(piece) <= limit for piece in pieces)
    if len(pieces) > 1:
        pieces = [re.sub(rf"^\({index}/{len(pieces)}\) ", "", piece) for index, piece in enumerate(pieces, 1)]
    assert "".join(pieces) == text


@given(TEXTS, st.integers(64, 200))
def test_no_visible_character_is_broken(text: str, limit: int) -> None:
    pieces = cut(text, limit, numbered=False)
    for whole in (FAMILY, FLAG, WAVE, "e\u0301"):
        assert sum(piece.count(whole) for piece in pieces) == text.count(whole)


@pytest.mark.parametrize(("limit", "count"), [(2048, 1), (2047, 2)])
def test_the_limit_is_reached_to_the_byte(limit: int, count: int) -> None:
    assert len(cut("压" * 682 + "ab", limit)) == count


def test_a_cut_is_where_the_text_has_a_break() -> None:
    first, second = cut("The press is down. " * 3 + "x" * 30, 64, numbered=False)
    assert (first, second) == ("The press is down. " * 3, "x" * 30)


def test_hundreds_of_pieces_have_room_for_their_numbers() -> None:
    pieces = cut("x" * 12_000, 64)
    assert pieces[-1].startswith(f"({len(pieces)}/{len(pieces)}) ")
    assert len(pieces) > 100
    assert max(map(len, pieces)) <= 64


@given(TEXTS, st.integers(8, 100))
def test_what_is_truncated_says_so(text: str, limit: int) -> None:
    short = truncated(text, limit)
    assert utf8_bytes(short) <= limit
    assert short == text or (short.endswith("…") and text.startswith(short[:-1]))


def test_half_a_surrogate_pair_does_not_end_it() -> None:
    assert cut("\ud83d" * 100, 64, numbered=False)


def test_a_text_of_flags_takes_work_by_its_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was by the square of it: 1 MB of flags stopped the hub for two minutes."""
    is_region, looks = pieces._is_region, [0]

    def counted(character: str) -> bool:
        looks[0] += 1
        return is_region(character)

    monkeypatch.setattr(pieces, "_is_region", counted)
    counts = []
    for flags in (2_000, 8_000):
        looks[0] = 0
        assert "".join(cut("🇨🇳" * flags, 512, numbered=False)) == "🇨🇳" * flags
        counts.append(looks[0])
    assert counts[1] < 6 * counts[0]
