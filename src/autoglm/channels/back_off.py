"""The pauses of what keeps its own connection up: doubled from failure to failure, each drawn at random."""

import random

FIRST_S = 1.0
LONGEST_S = 60.0


class BackOff:
    """`pause_s` after each failure, `reset` after each success."""

    def __init__(self) -> None:
        self._next_s = FIRST_S

    def pause_s(self) -> float:
        """Between half of the next pause and all of it, so that many who failed together do not come together."""
        pause_s, self._next_s = self._next_s, min(self._next_s * 2, LONGEST_S)
        return pause_s * random.uniform(0.5, 1.0)  # noqa: S311  # jitter

    def reset(self) -> None:
        self._next_s = FIRST_S
