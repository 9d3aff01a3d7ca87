"""Pauses between attempts to connect."""

import random
from collections.abc import Iterator

FIRST_S = 1.0
LONGEST_S = 60.0


def pauses_s() -> Iterator[float]:
    """Seconds without end: doubled each time, each drawn at random between half and all of it, so that hubs that lost a
    vendor together do not come back at one moment. Begin anew after a connection that worked.
    """
    pause_s = FIRST_S
    while True:
        yield pause_s * random.uniform(0.5, 1.0)  # noqa: S311  # spreads load, guards no secret
        pause_s = min(LONGEST_S, pause_s * 2)
