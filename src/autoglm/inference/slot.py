"""A request's place on an instance, and what is noted of the attempt that it is for."""

import asyncio
from typing import TYPE_CHECKING, Any

from autoglm.inference.call import Call
from autoglm.inference.ejection import Sample

if TYPE_CHECKING:
    from autoglm.inference.fairness import Charge
    from autoglm.inference.flight import Flight
    from autoglm.inference.hedge import Hedge
    from autoglm.inference.instance import Instance


class Slot:
    """From `Instance.start` to `Instance.finish`.

    `era` is the time between two pauses in which it began: what began before a pause says nothing about the time after.
    """

    # Class attributes, not slots: most requests leave most of them alone, and one of these is made for each.
    is_recalled = False
    is_trial = False
    """It shows whether the instance may come back."""
    is_overdue = False
    """Its wait so far was taken down as a time to the first byte."""
    waiting: "asyncio.Task[Any] | Flight | None" = None
    """Whose wait for the first byte may be broken off, because the request can still move elsewhere."""
    hedge: "Hedge | None" = None
    """A second attempt beside this one."""
    charge: "Charge | None" = None
    """What it costs the tenant; None when nobody counts, or it is settled."""
    uncached_tokens = 0.0
    """Of its prompt; see latency.py."""
    ahead_tokens = 0.0
    """Of the other prompts that had no answer yet when it started."""
    beside = 0
    """Requests that ran then, this one included."""
    first_byte_s = 0.0
    """From its start; 0 until an answer has begun well."""
    came_whole = False
    """True when the answer came in one piece, so that its first byte tells nothing of its first token."""
    is_complete = False
    was_left = False
    """True when nobody wants the answer any more."""

    def __init__(self, call: Call, instance: "Instance", era: int, started_s: float) -> None:
        self.call = call
        self.instance = instance
        self.era = era
        self.started_s = started_s

    def took(self, first_byte_s: float) -> Sample:
        """Its time, as it is compared with others."""
        return first_byte_s, self.uncached_tokens, self.ahead_tokens, self.beside

    def recall(self) -> None:
        """Break off the wait for the first byte: the instance is down, and another could answer."""
        waiting, self.waiting = self.waiting, None
        if waiting is not None:
            self.is_recalled = True
            waiting.cancel()
