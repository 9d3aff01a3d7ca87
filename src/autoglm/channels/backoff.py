"""How long to wait before the next attempt."""

import random

FIRST_S = 1.0
LONGEST_S = 60.0
"""The pauses of what keeps its own connection up."""


def pause_s(failures: int, first_s: float, longest_s: float) -> float:
    """After so many failures in turn, from 1: doubled for each, and drawn between half of it and all of it, so that
    many who failed together do not come back together ("equal jitter", aws.amazon.com/builders-library,
    "Timeouts, retries, and backoff with jitter").
    """
    return drawn_s(min(longest_s, first_s * 2.0 ** min(failures - 1, 30)))


def drawn_s(whole_s: float) -> float:
    """Between half of a pause and all of it."""
    return random.uniform(whole_s / 2, whole_s)  # noqa: S311  # jitter


class BackOff:
    """`pause_s` after each failure, from FIRST_S to LONGEST_S; `reset` after each success."""

    def __init__(self) -> None:
        self._failures = 0

    def pause_s(self) -> float:
        self._failures += 1
        return pause_s(self._failures, FIRST_S, LONGEST_S)

    def reset(self) -> None:
        self._failures = 0
