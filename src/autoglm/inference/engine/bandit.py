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
        self.inverses = np.zeros((arms, LINEAR_WIDTH, LINEAR_WIDTH))
        self.coefficients = np.zeros((arms, LINEAR_WIDTH))
        self.inverses[:] = np.eye(LINEAR_WIDTH) / RIDGE

    def predict(self, arms: Sequence[int], linear: Vector) -> tuple[Vector, Vector]:
        """(value, evidence) for each arm: evidence counts outcomes that would say as much about this very request.

        1 / (x V^-1 x) counts outcomes at x; what the ridge alone would give is taken off.
        """
        values = self.coefficients[arms] @ linear
        leverages = (self.inverses[arms].reshape(-1, LINEAR_WIDTH) @ linear).reshape(-1, LINEAR_WIDTH) @ linear
        prior = RIDGE / float(linear @ linear)
        return values, np.maximum(1.0 / leverages - prior, 0.0)

    def add(self, arm: int, linear: Vector, weight: float, value: float, keep: float) -> None:
        """keep: what is left of earlier outcomes, in (0, 1]."""
        gram, moment = self.grams[arm], self.moments[arm]
        gram *= keep
        moment *= keep
        gram += weight * np.outer(linear, linear)
        moment += (weight * value) * linear
        self.solve(arm)

    def forget(self, arm: int, keep: float) -> None:
        self.grams[arm] *= keep
        self.moments[arm] *= keep
        self.solve(arm)

    def solve(self, arm: int) -> None:
        regular: NDArray[np.float64] = self.grams[arm] + RIDGE * np.eye(LINEAR_WIDTH)
        self.inverses[arm] = np.linalg.inv(regular)
        self.coefficients[arm] = self.inverses[arm] @ self.moments[arm]

    def grow(self, arms: int) -> None:
        more = Lines(arms - len(self.grams))
        self.grams = np.concatenate((self.grams, more.grams))
        self.moments = np.concatenate((self.moments, more.moments))
        self.inverses = np.concatenate((self.inverses, more.inverses))
        self.coefficients = np.concatenate((self.coefficients, more.coefficients))
