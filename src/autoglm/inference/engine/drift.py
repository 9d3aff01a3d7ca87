"""Notices that an arm no longer behaves as predicted: a cumulative sum (CUSUM) on both sides.

Source: Page 1954; on residuals instead of raw values, so that a change of the requests is no drift.
"""

import msgspec

TOLERANCE = 0.15
"""Residuals may be off by this much for ever."""

THRESHOLD = 7.0
"""Of the sum beyond the tolerance. For a residual of deviation 0.45 a false alarm has odds of about
exp(-2 * TOLERANCE * THRESHOLD / 0.45^2) = 0.7% an excursion; a fall of 0.4 is noticed in 5 / (0.4 - 0.1) = 17."""


class Drift(msgspec.Struct, kw_only=True):
    """Of one arm. Both sums start again after an alarm."""

    fallen: float = 0.0
    risen: float = 0.0
    alarms: int = 0

    def observe(self, residual: float, weight: float = 1.0) -> bool:
        """residual: outcome minus prediction. True when the arm has drifted: forget, then learn again."""
        self.fallen = max(0.0, self.fallen + weight * (-residual - TOLERANCE))
        self.risen = max(0.0, self.risen + weight * (residual - TOLERANCE))
        if max(self.fallen, self.risen) < THRESHOLD:
            return False
        self.fallen = self.risen = 0.0
        self.alarms += 1
        return True
