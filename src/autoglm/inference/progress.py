"""How far a message to a model has come: what it waits for, or since when which instance works on it.

Known to this run of the hub only: after a restart the attempts are counted anew.
"""

from typing import Literal

import msgspec

from autoglm.core.clock import monotonic_s, now_ms
from autoglm.inference.call import Call
from autoglm.inference.scheduler import Scheduler

Phase = Literal["held_back", "waiting_for_slot", "asking", "pausing"]


class Progress(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`held_back`: as many for its model are in work as may be. `pausing`: until the next attempt, after a failure."""

    phase: Phase
    attempts: int
    """Times that it was begun, the present one included."""
    ahead: int | None = None
    """While it waits for a slot: requests of higher or the same priority that came before it."""
    starts_in_s: float | None = None
    """Predicted until it has a slot, at the recent pace of the instances; or until the next attempt."""
    running_since: int = 0
    """Unix time in ms at which the instance got it."""
    model: str = ""
    instance: str = ""
    error: str = ""
    """What came of the attempt before."""


class Work:
    """On one message, by the correspondent."""

    __slots__ = ("attempts", "call", "error", "next_s")

    def __init__(self) -> None:
        self.attempts = 0
        self.call: Call | None = None
        """While a model is asked."""
        self.next_s = 0.0
        """Monotonic time of the next attempt; 0 when there is none to wait for."""
        self.error = ""

    def progress(self, scheduler: Scheduler) -> Progress:
        call, attempts, error = self.call, self.attempts, self.error
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
