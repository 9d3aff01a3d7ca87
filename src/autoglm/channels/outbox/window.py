"""How much a vendor takes: at most so many requests in any stretch of so many seconds."""

from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress

_MARGIN = 1.02
"""The vendor counts when requests arrive, which is not evenly later."""


class Window:
    """Counts the starts of requests, by monotonic seconds. Several windows hold at once."""

    def __init__(self, windows: Sequence[tuple[int, float]], shared: "Window | None" = None) -> None:
        """windows: (requests, seconds), as in `Limits`. shared: holds beside them, for several of these together."""
        self._windows = [(deque[float](maxlen=count), seconds * _MARGIN) for count, seconds in windows]
        self._shared = shared

    def wait_s(self, now_s: float) -> float:
        """How long until one more request may start; 0 when it may now."""
        waits = [starts[0] + seconds - now_s for starts, seconds in self._windows if len(starts) == starts.maxlen]
        return max(0.0, *waits, 0.0 if self._shared is None else self._shared.wait_s(now_s))

    def room(self, now_s: float) -> int | None:
        """How many requests may start now by what is not shared; None where there is no limit."""
        for starts, seconds in self._windows:  # once over, they stay so: forgotten, for there may be a million
            while starts and starts[0] <= now_s - seconds:
                starts.popleft()
        return min(((starts.maxlen or 0) - len(starts) for starts, _ in self._windows), default=None)

    def take(self, now_s: float) -> None:
        """One starts now."""
        self.recall((now_s,))
        if self._shared is not None:
            self._shared.take(now_s)

    def give_back(self, start_s: float) -> None:
        """What was to start then did not go out."""
        for starts, _ in self._windows:
            with suppress(ValueError):  # it is over, and was forgotten
                starts.remove(start_s)
        if self._shared is not None:
            self._shared.give_back(start_s)

    def recall(self, times_s: Iterable[float]) -> None:
        """Requests started then, in this order; what is shared has counted them."""
        for starts, _ in self._windows:
            starts.extend(times_s)

    def used_for_s(self, now_s: float) -> float:
        """How long the last start still counts in some window; 0 or less when none does."""
        return max((starts[-1] + seconds - now_s for starts, seconds in self._windows if starts), default=0.0)

    def starts(self) -> tuple[float, ...]:
        """All that are remembered, for `recall` of another one with the same windows."""
        return max((tuple(starts) for starts, _ in self._windows), key=len, default=())
