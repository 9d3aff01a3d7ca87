"""Ages: how long messages wait, on a machine whose clock may be set while they do."""

from autoglm.core.clock import monotonic_s, now_ms

GRACE_S = 3_600.0
"""Nothing is given up sooner after a start: the network may not be up yet, nor the clock right."""


class Ages:
    """Counts from when it is made, by a clock that nobody sets. Before that there are only the times in the log."""

    def __init__(self) -> None:
        self._start_ms, self._start_s = now_ms(), monotonic_s()

    def is_over(self, time_ms: int, limit_s: float, *, in_s: float = 0.0) -> bool:
        """Whether what the hub took at time_ms waits for longer than limit_s, or will in in_s from now."""
        up_s = monotonic_s() - self._start_s
        before_s = max(0.0, (self._start_ms - time_ms) / 1000)
        age_s = min((now_ms() - time_ms) / 1000, before_s + up_s)  # a clock that jumps ahead makes nothing old
        return age_s + in_s > limit_s and up_s + in_s > min(limit_s, GRACE_S)
