"""A person is believed before a program, a program before a retry, and all before the automatic signals."""

import math

import pytest

from autoglm.inference.decision import Feedback, Outcome
from autoglm.inference.engine.quality import quality_of

DONE = Outcome(status=200)


def said(source: str, quality: float, time_ms: int = 0) -> Feedback:
    return Feedback(decision="d", time_ms=time_ms, quality=quality, source=source)


def test_nothing_is_known_of_an_answer_that_nobody_judged() -> None:
    assert quality_of(DONE, ()) is None


@pytest.mark.parametrize(
    ("feedback", "wanted"),
    [
        ((said("retry", 0.1), said("program", 0.7), said("person", 0.9)), (0.9, 1.0)),
        ((said("retry", 0.1), said("program", 0.7)), (0.7, 1.0)),
        ((said("retry", 0.1),), (0.1, 0.3)),
        ((said("person", 0.0, time_ms=5), said("person", 1.0, time_ms=9)), (1.0, 1.0)),
    ],
)
def test_the_most_credible_and_latest_judgement_counts(
    feedback: tuple[Feedback, ...], wanted: tuple[float, float]
) -> None:
    flawed = Outcome(status=200, signals={"json_valid": 0.0})
    assert quality_of(flawed, feedback) == wanted
    assert quality_of(flawed, feedback[::-1]) == wanted


def test_a_flaw_says_more_than_its_absence_and_neither_as_much_as_a_judge() -> None:
    flawless = quality_of(Outcome(status=200, signals={"json_valid": 1.0, "not_cut_off": 1.0}), ())
    flawed = quality_of(Outcome(status=200, signals={"json_valid": 0.0, "not_cut_off": 1.0}), ())
    assert flawless is not None
    assert flawed is not None
    assert flawed[0] < flawless[0] < 1.0
    assert flawless[1] < flawed[1] < 1.0


def test_a_failure_says_nothing_about_the_model_but_a_judge_may() -> None:
    failed = Outcome(status=502, signals={"not_empty": 0.0})
    assert quality_of(failed, ()) is None
    assert quality_of(failed, (said("person", 0.0),)) == (0.0, 1.0)


@pytest.mark.parametrize(("told", "wanted"), [(math.nan, 0.0), (-3.0, 0.0), (7.0, 1.0), (math.inf, 1.0)])
def test_judgements_outside_the_scale_are_cut(told: float, wanted: float) -> None:
    assert quality_of(DONE, (said("person", told),)) == (wanted, 1.0)
