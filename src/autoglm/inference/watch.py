"""Looks at the requests that wait for their first byte: who waits too long, and for which instance.

One timer for all of them, which runs only while there are any: a timer for each would cost each request 1 us.
"""

import asyncio
import math
from collections.abc import Callable

from autoglm.core.clock import monotonic_s
from autoglm.inference.hedge import FirstBytes
from autoglm.inference.instance import Instance
from autoglm.inference.scheduler import Scheduler
from autoglm.inference.slot import Slot

TICK_S = 0.05
_SLOW_TICKS = 4
"""Outliers are looked for with every fourth look."""
_SOONEST_S = 0.25
"""Silence that is shorter is no reason to probe."""
_PATIENCE = 4.0
"""So many times its usual time to the first byte is a reason."""


class Watch:
    def __init__(self, scheduler: Scheduler, times: FirstBytes, hedge: Callable[[Slot], None]) -> None:
        """hedge: sends a call a second time, if it may."""
        self._scheduler = scheduler
        self._settings = scheduler.ejections.settings
        self._times = times
        self._hedge = hedge
        self._looks = 0
        self.is_armed = False

    def arm(self) -> None:
        """Something runs. Called for each request, so callers look at `is_armed` first."""
        self.is_armed = True
        asyncio.get_running_loop().call_later(TICK_S, self._tick)

    def _tick(self) -> None:
        self.is_armed = False
        if self.look(monotonic_s()):
            self.arm()

    def look(self, now_s: float) -> bool:
        """One look at everything; True while anything runs."""
        self._looks += 1
        is_busy = False
        for instance in self._scheduler.instances.values():
            if instance.held:
                is_busy = True
                self._look_at(instance, now_s)
        if (self._looks % _SLOW_TICKS == 0 or not is_busy) and self._scheduler.ejections.eject_slow():
            self._scheduler.changed()
        return is_busy

    def _look_at(self, instance: Instance, now_s: float) -> None:
        longest_s = 0.0
        for slot in tuple(instance.held):
            if slot.waiting is None:
                continue
            waited_s = now_s - slot.started_s
            longest_s = max(longest_s, waited_s)
            if slot.hedge is None and waited_s > TICK_S:
                self._look_at_slot(slot, waited_s)
        if longest_s > self._suspicion_s(instance):
            self.suspect(instance, now_s)

    def _look_at_slot(self, slot: Slot, waited_s: float) -> None:
        kind = (slot.call.model, slot.call.is_stream)
        late_s = self._times.late_s(kind)
        if late_s is not None and waited_s > late_s:
            self._hedge(slot)
            if not slot.is_overdue and self._scheduler.ejections.is_slow(slot.instance, kind, slot.took(waited_s)):
                slot.instance.overdue(slot, waited_s)

    def _suspicion_s(self, instance: Instance) -> float:
        """The wait after which it may be hung. `suspect_after_s` holds for slow ones, too: a probe costs little."""
        longest_s = self._settings.suspect_after_s
        usual_s = instance.mean_s
        return min(longest_s, max(_SOONEST_S, _PATIENCE * usual_s)) if usual_s else longest_s

    def suspect(self, instance: Instance, now_s: float) -> None:
        """Have one that lets requests wait probed, unless it was a moment ago, or sends parts of other answers."""
        gap_s = self._settings.suspect_after_s
        heard_s = -math.inf if instance.backend is None else instance.backend.heard_s
        if now_s - instance.suspected_s >= max(gap_s, instance.suspicion_gap_s) and now_s - heard_s >= gap_s:
            instance.suspect()
