"""How long answers get is learned by model and kind of request, and little knowledge leans on more."""

import pytest

from autoglm.inference.decision import Arm
from autoglm.inference.engine.lengths import MAX_NEW, MAX_PROVEN, USUAL_OUTPUT_TOKENS, Lengths
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


def of(intent: str) -> Features:
    return Features(api="/chat/completions", intent=intent)


def test_memory_is_bounded_and_what_is_beyond_goes_by_the_models_mean() -> None:
    lengths = Lengths()
    for number in range(40_000):
        lengths.add(of(f"intent-{number // 8}"), SMALL, 50.0)
    assert MAX_PROVEN <= len(lengths.means) <= MAX_NEW + MAX_PROVEN
    assert lengths.expected(of("intent-0"), SMALL) == pytest.approx(50.0)


@pytest.mark.parametrize("times", [1, 8])
def test_names_that_a_client_makes_up_keep_no_real_kind_from_being_learned(times: int) -> None:
    """times: how often each such name is sent, so that it may have proven itself."""
    lengths = Lengths()
    for number in range(6_000 * times):
        lengths.add(of(f"made-up-{number // times}"), SMALL, 20.0)
    for number in range(20):
        lengths.add(of("of-a-new-kind"), SMALL, 900.0)
        lengths.add(CODE, LARGE, 500.0)  # a model that is new, too
        for other in range(100):
            lengths.add(of(f"more-{number}-{other}"), SMALL, 20.0)
    assert lengths.expected(of("of-a-new-kind"), SMALL) > 600.0
    assert lengths.expected(CHAT, LARGE) > 300.0


def test_names_that_a_client_makes_up_push_out_nothing_that_is_in_use() -> None:
    lengths = Lengths()
    for _ in range(10):
        lengths.add(CODE, SMALL, 900.0)
    for number in range(20_000):
        lengths.add(of(f"made-up-{number}"), SMALL, 20.0)
    assert lengths.expected(CODE, SMALL) > 600.0


def test_what_is_restored_forgets_in_the_same_order() -> None:
    whole, before = Lengths(), Lengths()
    answers = [
        (of(f"intent-{number * 7919 % 9_000 // (number % 5 + 1)}"), float(number % 50 + 1)) for number in range(9_000)
    ]
    for features, tokens in answers[:5_000]:
        before.add(features, SMALL, tokens)
    restored = Lengths(before.means)
    for features, tokens in answers[5_000:]:
        restored.add(features, SMALL, tokens)
    for features, tokens in answers:
        whole.add(features, SMALL, tokens)
    assert list(restored.means.items()) == list(whole.means.items())
