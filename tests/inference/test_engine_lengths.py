"""How long answers get is learned by model and kind of request, and little knowledge leans on more."""

import pytest

from autoglm.inference.decision import Arm
from autoglm.inference.engine.lengths import USUAL_OUTPUT_TOKENS, Lengths
from autoglm.inference.features import Features

SMALL, LARGE = Arm("small"), Arm("large")
CODE, CHAT = (Features(api="/chat/completions", intent=intent) for intent in ("code", "chat"))


def test_without_an_answer_it_is_a_guess() -> None:
    assert Lengths().expected(CODE, SMALL) == USUAL_OUTPUT_TOKENS


def test_kinds_of_requests_and_models_are_told_apart() -> None:
    lengths = Lengths()
    for _ in range(100):
        lengths.add(CODE, SMALL, 300.0)
        lengths.add(CHAT, SMALL, 20.0)
        lengths.add(CODE, LARGE, 150.0)
    assert lengths.expected(CODE, SMALL) == pytest.approx(300.0, rel=0.05)
    assert lengths.expected(CHAT, SMALL) == pytest.approx(20.0, rel=0.5)
    assert lengths.expected(CODE, LARGE) == pytest.approx(150.0, rel=0.05)
    assert 20.0 < lengths.expected(CHAT, LARGE) < 170.0  # as long as its others, or as such answers of others


def test_one_answer_of_a_kind_moves_the_forecast_a_little() -> None:
    lengths = Lengths()
    for _ in range(30):
        lengths.add(CHAT, SMALL, 20.0)
    before = lengths.expected(CODE, SMALL)
    lengths.add(CODE, SMALL, 1000.0)
    assert before < lengths.expected(CODE, SMALL) < 500.0


def test_what_changed_is_followed() -> None:
    lengths = Lengths()
    for tokens in [20.0] * 500 + [200.0] * 150:
        lengths.add(CHAT, SMALL, tokens)
    assert lengths.expected(CHAT, SMALL) > 180.0


def test_memory_is_bounded_and_what_is_beyond_goes_by_the_models_mean() -> None:
    lengths = Lengths()
    for number in range(5_000):
        lengths.add(Features(api="/chat/completions", intent=f"intent-{number}"), SMALL, 50.0)
    assert len(lengths.means) == 4_096
    assert lengths.expected(Features(api="/chat/completions", intent="intent-4999"), SMALL) == pytest.approx(50.0)
