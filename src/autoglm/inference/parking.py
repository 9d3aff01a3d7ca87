"""Where messages wait whose sender has used up a budget: outside the room of those that can go on, each payer apart.

A payer's first messages are kept by their numbers; of the others only the lowest number, from which on the log is read
again once there is room. So a payer takes a bounded amount of memory and nobody else's place, and loses nothing.
"""

import random
from collections import deque

from autoglm.core.clock import monotonic_s, now_ms
from autoglm.core.payer import Payer
from autoglm.inference.progress import OverBudget

MAX_PARKED = 1_000
"""Messages of one payer that are kept by number."""
FEW = 8
"""As many are tried at a time while the budget has no room; twice as many each time that all of them had."""
MANY = 512
_MAX_BACK_OFF_S = 60.0


class Lot:
    """One payer's messages."""

    __slots__ = ("_back_off_s", "_came_back", "_many", "_tried", "due_s", "left", "looked_at", "parked", "refused")

    def __init__(self, refused: OverBudget) -> None:
        self.refused = refused
        """By which budget the last of them."""
        self.parked: deque[tuple[int, str]] = deque()
        """(number in the log, id); who was tried in vain goes to the end, so that each gets its turn."""
        self.left: int | None = None
        """The lowest number of those that found no place; none of them is older."""
        self.looked_at: int | None = None
        """The same, while the log is read again from there on."""
        self.due_s = 0.0
        self._back_off_s = 1.0
        self._many = FEW
        self._tried = self._came_back = 0
        self._rest(monotonic_s())

    def park(self, seq: int, id: str) -> bool:
        """False when there is no place: then the message is left in the log."""
        self._came_back += 1
        if len(self.parked) < MAX_PARKED:
            self.parked.append((seq, id))
            return True
        self.leave(seq)
        return False

    def leave(self, seq: int) -> None:
        """This message, and maybe later ones, are in the log only."""
        self.left = seq if self.left is None else min(self.left, seq)

    def is_due(self, now_s: float) -> bool:
        return now_s >= self.due_s

    def take(self, now_s: float) -> list[tuple[int, str]]:
        """Those to try now; the more, the better it went the last time. Empty when none is parked."""
        if self._tried and not self._came_back:
            self._many, self._back_off_s = min(MANY, 2 * self._many), 1.0
        elif self._tried:
            is_over = 0 < self.refused.resets_at_ms <= now_ms()  # the period for which they were refused
            self._many, self._back_off_s = FEW, 1.0 if is_over else min(_MAX_BACK_OFF_S, 2 * self._back_off_s)
        self._rest(now_s)
        taken = [self.parked.popleft() for _ in range(min(self._many, len(self.parked)))]
        self._tried, self._came_back = len(taken), 0
        return taken

    def _rest(self, now_s: float) -> None:
        rest_s = self._back_off_s * random.uniform(0.8, 1.2)  # noqa: S311  # jitter
        closed_s = (self.refused.resets_at_ms - now_ms()) / 1000
        if 0.0 < closed_s < rest_s:  # up to a minute would pass in which there is room and nobody comes
            rest_s = closed_s + random.uniform(0.0, 1.0)  # noqa: S311
        self.due_s = now_s + rest_s


class Parking:
    """The lots of all payers. As many as the budgets have accounts, at most."""

    def __init__(self) -> None:
        self.lots: dict[Payer, Lot] = {}

    def __len__(self) -> int:
        return sum(len(lot.parked) for lot in self.lots.values())

    def park(self, payer: Payer, seq: int, id: str, refused: OverBudget) -> bool:
        """As `Lot.park`. refused: by which budget."""
        lot = self.lots.get(payer)
        if lot is None:
            lot = self.lots[payer] = Lot(refused)
        lot.refused = refused
        return lot.park(seq, id)

    def refusal_of(self, payer: Payer, seq: int) -> OverBudget | None:
        """What a message waits for that is in the log only; None when it is not for a budget."""
        lot = self.lots.get(payer)
        if lot is None:
            return None
        is_left = any(first is not None and seq >= first for first in (lot.left, lot.looked_at))
        return lot.refused if is_left else None

    def due(self, now_s: float) -> list[Lot]:
        """Whose time has come to try again. Lots that have emptied since are forgotten."""
        for payer, lot in tuple(self.lots.items()):
            if lot.is_due(now_s) and not lot.parked and lot.left is None and lot.looked_at is None:
                del self.lots[payer]
        return [lot for lot in self.lots.values() if lot.is_due(now_s)]

    def first_left(self) -> int | None:
        """The lowest number of all that are left in the log."""
        left = (seq for lot in self.lots.values() for seq in (lot.left, lot.looked_at) if seq is not None)
        return min(left, default=None)
