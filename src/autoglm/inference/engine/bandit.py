"""The bandit's linear models: for each arm, quality as a discounted ridge regression on the request's features.

Where few like requests were seen, a line through all of them still says something, and how little it knows.
Source: Li et al. 2010 (LinUCB, disjoint arms); Russac et al. 2019 (D-LinUCB, discounting).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from autoglm.inference.engine.context import LINEAR_WIDTH, Vector

RIDGE = 1.0
"""Worth one outcome with features of length 1."""


class Lines:
    """One regression for each arm. Discounts are brought up to date when an arm learns; until then the caller
    multiplies the evidence by what was forgotten since."""

    def __init__(self, arms: int) -> None:
        self.grams = np.zeros((arms, LINEAR_WIDTH, LINEAR_WIDTH))
        self.moments = np.zeros((arms, LINEAR_WIDTH))
        self._solved = np.zeros((arms, LINEAR_WIDTH + 1, LINEAR_WIDTH))
        """For each arm the inverse of its gram matrix, and below it the coefficients: one product gives both."""
        self._solved[:, :LINEAR_WIDTH] = np.eye(LINEAR_WIDTH) / RIDGE

    def predict(self, arms: Sequence[int], linear: Vector) -> tuple[list[float], list[float]]:
        """(value, evidence) for each arm: evidence counts outcomes that would say as much about this very request.

        1 / (x V^-1 x) counts outcomes at x; what the ridge alone would give is taken off.
        """
        products = (self._solved[arms].reshape(-1, LINEAR_WIDTH) @ linear).reshape(-1, LINEAR_WIDTH + 1)
        leverages: list[float] = (products[:, :LINEAR_WIDTH] @ linear).tolist()
        prior = RIDGE / float(linear @ linear)
        return products[:, LINEAR_WIDTH].tolist(), [max(1.0 / leverage - prior, 0.0) for leverage in leverages]

    def add(self, arm: int, linear: Vector, weight: float, value: float, keep: float) -> None:
        """keep: what is left of earlier outcomes, in (0, 1]."""
        gram, moment = self.grams[arm], self.moments[arm]
        gram *= keep
        moment *= keep
        gram += weight * np.outer(linear, linear)
        moment += (weight * value) * linear
        self.solve(arm)

    def correct(self, arm: int, linear: Vector, weight: float, total: float) -> None:
        """An outcome that was added weighs more by `weight`, its weighted value by `total`."""
        self.grams[arm] += weight * np.outer(linear, linear)
        self.moments[arm] += total * linear
        self.solve(arm)

    def forget(self, arm: int, keep: float, moved: float) -> None:
        """moved: added to the value of each outcome that is kept; the first feature is the constant."""
        self.grams[arm] *= keep
        self.moments[arm] *= keep
        self.moments[arm] += moved * self.grams[arm, 0]
        self.solve(arm)

    def solve(self, arm: int) -> None:
        regular: NDArray[np.float64] = self.grams[arm] + RIDGE * np.eye(LINEAR_WIDTH)
        inverse = np.linalg.inv(regular)
        self._solved[arm, :LINEAR_WIDTH] = inverse
        self._solved[arm, LINEAR_WIDTH] = inverse @ self.moments[arm]

    def grow(self, arms: int) -> None:
        more = Lines(arms - len(self.grams))
        self.grams = np.concatenate((self.grams, more.grams))
        self.moments = np.concatenate((self.moments, more.moments))
        self._solved = np.concatenate((self._solved, more._solved))
