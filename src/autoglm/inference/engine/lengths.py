"""How many tokens an answer will have, by model and kind of request: from that follow its time and its cost.

Three means, each shrunk to the one above it: of this arm for such requests, of the arm, of all answers. Where little is
known of the one, the other speaks (empirical Bayes with a fixed weight; Efron and Morris 1975).
"""

from collections.abc import Mapping

from autoglm.inference.decision import Arm
from autoglm.inference.features import Features

USUAL_OUTPUT_TOKENS = 200.0
"""Of an answer, before there is one to learn from."""
MAX_NEW = 1_024
"""Means of fewer than _PROVEN answers: the one that had none for longest makes room."""
MAX_PROVEN = 3_072
"""Means of more. Clients name kinds of requests as they like, and new names must not push out what is in use: nothing
new takes a place here before it has proven itself (a segmented LRU; Karedla, Love and Wherry 1994)."""
_PROVEN = 5.0
_MEMORY = 50.0
"""Answers that a mean counts for at most: beyond, the oldest fade."""
_SHRINKS = 3.0
"""Answers that the mean above counts for."""

Mean = tuple[float, float]
"""(answers it counts for, their mean)."""


class Lengths:
    """A fold over answers: the same in the same order give the same means. What is forgotten goes by the mean above."""

    def __init__(self, means: Mapping[str, Mean] | None = None) -> None:
        """means: as `means` gave them."""
        self._new: dict[str, Mean] = {}
        """Both with the one last that had the latest answer."""
        self._proven: dict[str, Mean] = {}
        for key, mean in (means or {}).items():
            self._put(key, mean)

    @property
    def means(self) -> dict[str, Mean]:
        return self._new | self._proven

    def add(self, features: Features, arm: Arm, tokens: float) -> None:
        """tokens: of a whole answer, at least 1."""
        for key in _keys(features, arm):
            counted, mean = self._mean(key)
            counted = min(counted + 1.0, _MEMORY)
            self._new.pop(key, None)
            self._proven.pop(key, None)
            self._put(key, (counted, mean + (tokens - mean) / counted))

    def _mean(self, key: str) -> Mean:
        return self._proven.get(key) or self._new.get(key) or (0.0, 0.0)

    def _put(self, key: str, mean: Mean) -> None:
        place, most = (self._proven, MAX_PROVEN) if mean[0] >= _PROVEN else (self._new, MAX_NEW)
        place[key] = mean
        if len(place) > most:
            del place[next(iter(place))]

    def expected(self, features: Features, arm: Arm) -> float:
        expected = USUAL_OUTPUT_TOKENS
        for key in _keys(features, arm):
            counted, mean = self._mean(key)
            # The mean of all has nothing above it but a guess.
            shrinks = _SHRINKS if key else 0.0
            if counted:
                expected = (counted * mean + shrinks * expected) / (counted + shrinks)
        return expected


def _keys(features: Features, arm: Arm) -> tuple[str, str, str]:
    """From all answers to those of this arm to such requests."""
    of_arm = f"{arm.model} {arm.profile}"
    return "", of_arm, f"{of_arm} {features.intent} {features.language} {features.wants_json:d}{features.has_code:d}"
