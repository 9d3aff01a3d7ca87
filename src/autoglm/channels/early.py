"""Early reports: a vendor may tell what became of a message before the hub has its ticket on disk.

A gateway that calls the hook before it answers the request does so, and a device that confirms at once.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from autoglm.core.clock import monotonic_s

MOST = 256
"""Of more, the oldest are forgotten: where others use the same account, most reports are about messages of theirs."""
KEPT_S = 60.0

Report = Callable[[], Awaitable[None]]


class _Early(NamedTuple):
    channel: str
    ticket: str
    report: Report
    until_s: float
    """Monotonic."""


class EarlyReports:
    """Reports whose ticket nobody knows: in memory, each until its ticket is noted, or for KEPT_S."""

    def __init__(self) -> None:
        self._kept: OrderedDict[int, _Early] = OrderedDict()
        self._count = 0

    def keep(self, channel: str, ticket: str, report: Report) -> int:
        """Before looking for the ticket, which may be noted meanwhile. Returns what `withdraw` wants."""
        now_s = monotonic_s()
        while self._kept and (len(self._kept) >= MOST or next(iter(self._kept.values())).until_s < now_s):
            self._kept.popitem(last=False)
        self._count += 1
        self._kept[self._count] = _Early(channel, ticket, report, now_s + KEPT_S)
        return self._count

    def withdraw(self, number: int) -> bool:
        """The ticket was known after all. False: the report was taken already, when it was noted."""
        return self._kept.pop(number, None) is not None

    def take(self, channel: str, ticket: str) -> list[Report]:
        """Those of a ticket that is noted now, in their order; whoever asks makes them."""
        found = [number for number, early in self._kept.items() if early[:2] == (channel, ticket)]
        return [self._kept.pop(number).report for number in found]
