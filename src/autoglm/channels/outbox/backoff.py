"""How long to wait before the next attempt."""

import random


def pause_s(failures: int, first_s: float, longest_s: float) -> float:
    """After so many failures in turn, from 1: doubled for each, and drawn between half of it and all of it, so that
    many who failed together do not come back together ("equal jitter", aws.amazon.com/builders-library,
    "Timeouts, retries, and backoff with jitter").
    """
    whole_s = min(longest_s, first_s * 2.0 ** min(failures - 1, 30))
    return random.uniform(whole_s / 2, whole_s)  # noqa: S311  # jitter
