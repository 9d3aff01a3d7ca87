"""How many tokens an answer will have, by model and kind of request: from that follow its time and its cost.

Three means, each shrunk to the one above it: of this arm for such requests, of the arm, of all answers. Where little is
known of the one, the other speaks (empirical Bayes with a fixed weight; Efron and Morris 1975).
"""

from collections.abc import Mapping

from autoglm.inference.decision import Arm
from autoglm.inference.features import Features

USUAL_OUTPUT_TOKENS = 200.0
"""Of an answer, before there is one to learn from."""
_MAX_MEANS = 4_096
"""Of all kinds; what comes later goes by the arm's mean, or the mean of all."""
_MEMORY = 50.0
"""Answers that a mean counts for at most: beyond, the oldest fade."""
_SHRINKS = 3.0
"""Answers that the mean above counts for."""

Mean = tuple[float, float]
"""(answers it counts for, their mean)."""


class Lengths:
    """A fold over answers: the same in the same order give the same means."""

    def __init__(self, means: Mapping[str, Mean] | None = None) -> None:
        self.means: dict[str, Mean] = dict(means or {})

    def add(self, features: Features, arm: Arm, tokens: float) -> None:
        """tokens: of a whole answer, at least 1."""
        for key in _keys(features, arm):
            counted, mean = self.means.get(key, (0.0, 0.0))
            if not counted and len(self.means) >= _MAX_MEANS:
                continue
            counted = min(counted + 1.0, _MEMORY)
            self.means[key] = counted, mean + (tokens - mean) / counted

    def expected(self, features: Features, arm: Arm) -> float:
        expected = USUAL_OUTPUT_TOKENS
        for key in _keys(features, arm):
            counted, mean = self.means.get(key, (0.0, 0.0))
            # The mean of all has nothing above it but a guess.
            shrinks = _SHRINKS if key else 0.0
            if counted:
                expected = (counted * mean + shrinks * expected) / (counted + shrinks)
        return expected


def _keys(features: Features, arm: Arm) -> tuple[str, str, str]:
    """From all answers to those of this arm to such requests."""
    of_arm = f"{arm.model} {arm.profile}"
    return "", of_arm, f"{of_arm} {features.intent} {features.language} {features.wants_json:d}{features.has_code:d}"
