"""Early reports: a vendor may tell what became of a message before the hub has its ticket on disk.

A gateway that calls the hook before it answers the request does so, and a device that confirms at once.
"""

from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from autoglm.core.clock import monotonic_s

MOST = 256
"""Of more on a channel, the oldest are forgotten: where others use its account, most are about messages of theirs."""
KEPT_S = 60.0

Report = Callable[[], Awaitable[None]]


@dataclass(eq=False)
class Early:
    ticket: str
    report: Report
    until_s: float
    """Monotonic."""
    is_taken: bool = False


class EarlyReports:
    """Reports whose ticket nobody knows: in memory, each until its ticket is noted, or for KEPT_S."""

    def __init__(self) -> None:
        self._kept: dict[str, deque[Early]] = {}
        """By channel."""

    def keep(self, channel: str, ticket: str, report: Report) -> Early:
        """Before looking for the ticket, which may be noted meanwhile. Returns what `withdraw` wants."""
        now_s = monotonic_s()
        kept = self._kept.setdefault(channel, deque(maxlen=MOST))
        while kept and kept[0].until_s < now_s:
            kept.popleft()
        kept.append(early := Early(ticket, report, now_s + KEPT_S))
        return early

    def withdraw(self, channel: str, early: Early) -> bool:
        """The ticket was known after all. False: the report was taken already, when it was noted."""
        with suppress(ValueError):  # newer ones have pushed it out
            self._kept[channel].remove(early)
        return not early.is_taken

    def take(self, channel: str, ticket: str) -> list[Report]:
        """Those of a ticket that is noted now, in their order; whoever asks makes them."""
        kept = self._kept.get(channel, ())
        found = [early for early in kept if early.ticket == ticket]
        for early in found:
            early.is_taken = True
            self._kept[channel].remove(early)
        return [early.report for early in found]
