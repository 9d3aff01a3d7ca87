"""What is spent on second attempts, as a share of what was asked: a token bucket that requests fill.

Source: Finagle's documentation, "Retry budget"; gRPC A6, "Retry throttling".
"""

from autoglm.core.clock import monotonic_s

CAP = 100.0


class Allowance:
    """`share` of each request may be spent, and `per_s` in each second beside it. Never more than 100 at once."""

    def __init__(self, share: float, *, per_s: float = 0.0, start: float = 0.0) -> None:
        self._share = share
        self._per_s = per_s
        self._left = start
        self._seen = 0
        self._seen_s = monotonic_s()

    def take(self, requests: int) -> bool:
        """Spend one; False when there is none. requests: how many there were since the start."""
        now_s = monotonic_s()
        earned = self._share * (requests - self._seen) + self._per_s * (now_s - self._seen_s)
        self._seen, self._seen_s = requests, now_s
        self._left = min(CAP, self._left + earned)
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True

    def give_back(self) -> None:
        """What was taken was not needed."""
        self._left += 1.0
