"""Sends a request a second time when its first byte is late, and takes the answer that comes first.

Only before the first byte, after the 95th percentile of the times to it, within a share of all requests, and only into
a slot that is free anyway. The loser's connection closes, so that its instance stops.
Source: Dean, Barroso 2013, "The tail at scale": hedged requests deferred to the 95th percentile.
"""

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from autoglm.inference.ejection import Kind

if TYPE_CHECKING:
    from autoglm.inference.answer import Answer

QUANTILE = 0.95
_KEPT = 200
_NEEDED = 20
"""Times before anything is said to be late."""
_FRESH = 10
"""So many new times may come before the quantile is computed anew."""
MIN_LATE_S = 0.05


class FirstBytes:
    """The newest times to the first byte of each model, over all instances."""

    def __init__(self) -> None:
        self.count = 0
        """Answers since the start."""
        self._times_s: dict[Kind, deque[float]] = {}
        self._late_s: dict[Kind, tuple[int, float]] = {}

    def add(self, kind: Kind, took_s: float) -> None:
        self.count += 1
        times = self._times_s.get(kind)
        if times is None:
            times = self._times_s[kind] = deque(maxlen=_KEPT)
        times.append(took_s)

    def late_s(self, kind: Kind) -> float | None:
        """What 95% of the newest 200 answers were faster than, at least 50 ms; None while fewer than 20 are known."""
        known = self._late_s.get(kind)
        if known is not None and self.count - known[0] < _FRESH:
            return known[1]
        times = self._times_s.get(kind)
        if times is None or len(times) < _NEEDED:
            return None
        late_s = max(MIN_LATE_S, sorted(times)[int(QUANTILE * len(times))])
        self._late_s[kind] = self.count, late_s
        return late_s


class Hedge:
    """The second attempt of a call. `task` ends with its answer, or None when it has none; never with an error."""

    __slots__ = ("instance", "task")

    def __init__(self, instance: str, task: "asyncio.Task[Answer | None]") -> None:
        self.instance = instance
        self.task = task

    async def drop(self) -> None:
        """The first attempt has answered: end this one, and close its connection."""
        self.task.cancel()
        await asyncio.wait((self.task,))
        if not self.task.cancelled() and (answer := self.task.result()) is not None:
            await answer.finish()
