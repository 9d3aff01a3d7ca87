"""How far a message to a model has come: what it waits for, or since when which instance works on it.

Known to this run of the hub only: after a restart the attempts are counted anew.
"""

from typing import Literal

import msgspec

from autoglm.core.clock import monotonic_s, now_ms
from autoglm.inference.call import Call
from autoglm.inference.scheduler import Scheduler

Phase = Literal["held_back", "waiting_for_slot", "asking", "pausing", "over_budget"]


class Progress(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`held_back`: as many for its model are in work as may be. `pausing`: until the next attempt, after a failure.
    `over_budget`: until a budget has room again.
    """

    phase: Phase
    attempts: int
    """Times that it was begun, the present one included."""
    ahead: int | None = None
    """While it waits for a slot: requests of higher or the same priority that came before it."""
    starts_in_s: float | None = None
    """Predicted until it has a slot, at the recent pace of the instances; or until the next attempt; or until the
    budget begins anew, from when on it waits for its turn."""
    running_since: int = 0
    """Unix time in ms at which the instance got it."""
    model: str = ""
    instance: str = ""
    error: str = ""
    """What came of the attempt before."""
    budget: str = ""
    """The name of the budget that has no room."""
    limit: str = ""
    """Which of its limits that is: `tokens`, `requests`, `money`; `accounts` where too many are in use."""
    resets_at: int = 0
    """Unix time in ms at which that budget begins anew."""


class OverBudget(msgspec.Struct, frozen=True):
    """Which budget a message waits for."""

    budget: str
    limit: str
    resets_at_ms: int
    """0 where that is not what is waited for."""

    def progress(self, attempts: int) -> Progress:
        left_s = max(0.0, (self.resets_at_ms - now_ms()) / 1000) if self.resets_at_ms else None
        return Progress(
            phase="over_budget", attempts=attempts, starts_in_s=None if left_s is None else round(left_s, 1),
            budget=self.budget, limit=self.limit, resets_at=self.resets_at_ms,
        )  # fmt: skip


class Work:
    """On one message, by the correspondent."""

    __slots__ = ("attempts", "call", "error", "next_s", "over_budget")

    def __init__(self) -> None:
        self.attempts = 0
        self.call: Call | None = None
        """While a model is asked."""
        self.next_s = 0.0
        """Monotonic time of the next attempt; 0 when there is none to wait for."""
        self.error = ""
        self.over_budget: OverBudget | None = None
        """Since a budget had no room for it, until one has."""

    def progress(self, scheduler: Scheduler) -> Progress:
        call, attempts, error = self.call, self.attempts, self.error
        if self.over_budget is not None:
            return self.over_budget.progress(attempts)
        if call is None:
            if not self.next_s:
                return Progress(phase="held_back", attempts=attempts, error=error)
            left_s = max(0.0, self.next_s - monotonic_s())
            return Progress(phase="pausing", attempts=attempts, starts_in_s=round(left_s, 1), error=error)
        for instance in scheduler.instances.values():
            for slot in instance.held:
                if slot.call is call:
                    return Progress(
                        phase="asking", attempts=attempts, model=call.model, instance=instance.name, error=error,
                        running_since=now_ms() - round((monotonic_s() - slot.started_s) * 1000),
                    )  # fmt: skip
        ahead, wait_s = scheduler.outlook(call)
        starts_in_s = None if wait_s is None else round(wait_s, 1)
        return Progress(
            phase="waiting_for_slot",
            attempts=attempts,
            ahead=ahead,
            starts_in_s=starts_in_s,
            model=call.model,
            error=error,
        )
