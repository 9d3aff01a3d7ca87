"""What many measurements of one thing say together."""

from collections.abc import Iterable, Sequence
from math import ceil
from statistics import median
from time import perf_counter

now_s = perf_counter
"""Seconds on a clock that all processes of a machine share (CLOCK_MONOTONIC)."""


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` (0 to 1) of the values do not exceed: the nearest-rank method.

    Raises ValueError when there is none.
    """
    if not values:
        raise ValueError("no values, no percentile")
    ordered = sorted(values)
    return ordered[max(0, ceil(share * len(ordered)) - 1)]


def middle(values: Iterable[float | None], digits: int = 2) -> float | None:
    """The median of those that could be measured, rounded; None when none could."""
    known = [value for value in values if value is not None]
    return round(median(known), digits) if known else None


def ratio(upper: float | None, lower: float | None, digits: int = 3) -> float | None:
    """None when either is missing, or the lower one is 0."""
    return None if upper is None or not lower else round(upper / lower, digits)
