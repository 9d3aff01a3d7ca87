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
    fallen_weight: float = 0.0
    risen_weight: float = 0.0
    """Of the outcomes since the sum was last 0: since then, as it seems, the arm is another one."""
    alarms: int = 0

    def observe(self, residual: float, weight: float = 1.0) -> float:
        """residual: outcome minus prediction. Returns by how much the arm's outcomes have moved, 0.0 without an alarm.

        The size of the change is the mean residual since the sum left 0 (Page's own estimate).
        """
        self.fallen, self.fallen_weight = _summed(self.fallen, self.fallen_weight, -residual, weight)
        self.risen, self.risen_weight = _summed(self.risen, self.risen_weight, residual, weight)
        if max(self.fallen, self.risen) < THRESHOLD:
            return 0.0
        if self.fallen > self.risen:
            moved = -(TOLERANCE + self.fallen / self.fallen_weight)
        else:
            moved = TOLERANCE + self.risen / self.risen_weight
        self.fallen = self.risen = self.fallen_weight = self.risen_weight = 0.0
        self.alarms += 1
        return moved


def _summed(total: float, counted: float, residual: float, weight: float) -> tuple[float, float]:
    total += weight * (residual - TOLERANCE)
    return (total, counted + weight) if total > 0.0 else (0.0, 0.0)
