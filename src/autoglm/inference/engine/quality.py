"""How good an answer was, from what people, programs and the answer itself say about it."""

from collections.abc import Sequence

from autoglm.inference.decision import Feedback, Outcome

_WEIGHTS = {"person": 1.0, "program": 1.0, "retry": 0.3}
"""In the order in which they are believed. That the user asked again may have other reasons than the answer."""

FLAWLESS = 0.8
"""An answer in which no signal found a flaw may still be wrong."""

_WEIGHT_WITHOUT_FLAW = 0.1
_WEIGHT_OF_FLAW = 0.5
"""That the JSON is broken says more than that it is whole."""


def quality_of(outcome: Outcome, feedback: Sequence[Feedback]) -> tuple[float, float] | None:
    """(quality in [0, 1], weight of that evidence in (0, 1]), or None when nothing is known.

    A person is believed before a program, a program before a retry by the user, all before the automatic signals; of
    one source, the latest. An answer that failed says nothing about the model: that is the pool's to learn.
    """
    for source, weight in _WEIGHTS.items():
        judged = [one for one in feedback if one.source == source]
        if judged:
            latest = max(judged, key=lambda one: one.time_ms)
            return _within(latest.quality), weight
    if outcome.status >= 400 or not outcome.signals:
        return None
    worst = _within(min(outcome.signals.values()))
    return FLAWLESS * worst, _WEIGHT_WITHOUT_FLAW + (_WEIGHT_OF_FLAW - _WEIGHT_WITHOUT_FLAW) * (1.0 - worst)


def _within(value: float) -> float:
    """NaN, which no comparison holds for, counts as 0."""
    return min(value, 1.0) if value > 0.0 else 0.0
