"""Ages: how long messages wait, on a machine whose clock may be set while they do."""

from bisect import bisect_right
from math import inf

from autoglm.core.clock import monotonic_s, now_ms

GRACE_S = 3_600.0
"""Nothing is given up sooner after a start: the network may not be up yet, nor the clock right."""
_MARK_EVERY_S = 60.0
_MOST_MARKS = 50_000


class Ages:
    """Counts from when it is made, by a clock that nobody sets. Before that there are only the times in the log."""

    def __init__(self) -> None:
        self.start_seq = 0
        """The last message from before."""
        self._start_ms, self._start_s = now_ms(), monotonic_s()
        self._marks: list[tuple[int, float]] = []
        """Numbers of messages and when they came, once a minute: who came between is younger by a minute at most."""

    def mark(self, seq: int) -> None:
        """This message has come now, and those after it come later."""
        now_s = monotonic_s()
        if seq > self.start_seq and (not self._marks or now_s - self._marks[-1][1] >= _MARK_EVERY_S):
            self._marks.append((seq, now_s))
            del self._marks[:-_MOST_MARKS]

    def is_over(self, seq: int, time_ms: int, limit_s: float, *, in_s: float = 0.0) -> bool:
        """Whether a message that the hub took at time_ms waits for longer than limit_s, or will in in_s from now."""
        up_s = monotonic_s() - self._start_s
        by_wall_s = (now_ms() - time_ms) / 1000
        if seq <= self.start_seq:
            age_s = up_s + max(0.0, (self._start_ms - time_ms) / 1000)
        else:
            index = bisect_right(self._marks, (seq, inf)) - 1
            age_s = monotonic_s() - (self._marks[index][1] if index >= 0 else self._start_s)
        if by_wall_s >= 0:  # else the clock was ahead when the message came
            age_s = min(age_s, by_wall_s)
        return age_s + in_s > limit_s and up_s + in_s > min(limit_s, GRACE_S)
