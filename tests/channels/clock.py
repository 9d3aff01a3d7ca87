"""Time that a test moves: the clocks of all parts that are loaded, and of the event loop. No wait is a real one.

It goes on by itself, too, as every deadline of a test needs it to.
"""

import time

from autoglm.core import clock


class Clock:
    def __init__(self) -> None:
        self._ahead_s = 0.0
        self._set_s = 0.0

    def now_ms(self) -> int:
        """Milliseconds of the Unix epoch, as the hub under test sees them."""
        return clock.now_ms() + round(1000 * (self._ahead_s + self._set_s))

    def monotonic_s(self) -> float:
        return time.monotonic() + self._ahead_s

    def pass_s(self, seconds: float) -> None:
        """So much time is over now; what was to happen in it happens in the next turns of the event loop."""
        self._ahead_s += seconds

    def set_by_s(self, seconds: float) -> None:
        """Somebody puts the wall clock forward, or back."""
        self._set_s += seconds
