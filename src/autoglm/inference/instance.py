"""One instance of the pool: its slots, its health and how fast it was lately."""

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

from autoglm.core.clock import monotonic_s, now_ms
from autoglm.core.ports import Backend
from autoglm.inference.call import Call

if TYPE_CHECKING:
    from autoglm.inference.flight import Flight

State = Literal["starting", "ready", "down", "blocked"]
Pause = Literal["none", "throttled", "cooling", "broken"]

_SMOOTHING = 0.2  # weight of the newest answer in the running means: the last ~10 answers count
_UNKNOWN_S = 1.0
"""What an instance without a record is taken for once one request tries it out, so that it does not get them all."""
_MAX_GROWTH = 10


class Slot:
    """A request's place on an instance, from `Instance.start` to `Instance.finish`.

    `era` is the time between two pauses in which it began: what began before a pause says nothing about the time after.
    """

    __slots__ = ("call", "era", "instance", "is_recalled", "started_s", "waiting")

    def __init__(self, call: Call, instance: "Instance", era: int, started_s: float) -> None:
        self.call = call
        self.instance = instance
        self.era = era
        self.started_s = started_s
        self.is_recalled = False
        self.waiting: asyncio.Task[Any] | Flight | None = None
        """Whose wait for the first byte may be broken off, because the request can still move elsewhere."""

    def recall(self) -> None:
        """Break off the wait for the first byte: the instance is down, and another could answer."""
        waiting, self.waiting = self.waiting, None
        if waiting is not None:
            self.is_recalled = True
            waiting.cancel()


class Instance:
    """Counts what runs on one endpoint and decides whether it may take more.

    `slots` is what the operator allows; `limit` is what the endpoint bears, learned from its throttling by additive
    increase and multiplicative decrease (Chiu, Jain 1989).
    """

    __slots__ = (
        "_era", "_failures_in_row", "_is_trial_running", "_openings", "_pause", "_throttles_in_row", "apis", "backend",
        "error", "failures_to_open", "held", "held_s", "limit", "mean_s", "models", "name", "open_s", "open_until_s",
        "provider", "refused_models", "served", "since_ms", "slots", "state",
    )  # fmt: skip

    def __init__(
        self, name: str, provider: str, *, models: Iterable[str], slots: int, apis: Iterable[str],
        failures_to_open: int = 5, open_s: float = 30.0,
    ) -> None:  # fmt: skip
        self.name = name
        self.provider = provider
        self.models = tuple(models)
        self.refused_models: set[str] = set()
        self.apis = frozenset(apis)
        self.slots = slots
        self.limit = float(slots)
        self.backend: Backend | None = None
        self.state: State = "starting"
        self.error = ""
        self.since_ms = now_ms()
        self.held: set[Slot] = set()
        """The slots in use. A set, so that giving one back twice frees it once."""
        self.served = 0
        self.mean_s = 0.0
        """Running mean of seconds to the first byte; 0 until there is one, so that a new instance gets tried."""
        self.held_s = 0.0
        """Running mean of seconds for which a slot was taken; 0 until there is one."""
        self.open_until_s = 0.0
        """Monotonic time at which the present pause ends; 0 when there is none."""
        self.failures_to_open = failures_to_open
        self.open_s = open_s
        self._pause: Pause = "none"
        self._era = 0
        self._failures_in_row = 0
        self._throttles_in_row = 0
        self._openings = 0
        self._is_trial_running = False

    @property
    def running(self) -> int:
        return len(self.held)

    # --- may it take a request? ---

    def is_free(self, now_s: float) -> bool:
        """True when a request could start here at once."""
        if self.state != "ready" or len(self.held) + 1 > self.limit:
            return False
        # After the pause one request is let through; its outcome ends the pause or renews it.
        return not self.open_until_s or (now_s >= self.open_until_s and not self._is_trial_running)

    def may_recover(self, now_s: float) -> float | None:
        """Seconds until it may take requests again: 0 when it can or only its slots are taken, None when unknown."""
        if self.state == "starting":
            return 0.0
        if self.state != "ready":
            return None
        return max(0.0, self.open_until_s - now_s)

    def predicted_s(self) -> float:
        """Expected time to the first byte, were one more request to start now."""
        running = len(self.held)
        if self.mean_s == 0.0 and running == 0:
            return 0.0
        return (self.mean_s or _UNKNOWN_S) * (1.0 + running / self.limit)

    def serves(self, model: str, api: str) -> bool:
        return api in self.apis and model in self.models and model not in self.refused_models

    # --- a request's life ---

    def start(self, call: Call, now_s: float) -> Slot:
        """Take a slot. Every slot goes back by `finish`."""
        if self.open_until_s:
            if self._pause == "throttled":
                self._end_pause()  # the lower limit is answer enough: no need for a trial
            else:
                self._is_trial_running = True
        slot = Slot(call, self, self._era, now_s)
        self.held.add(slot)
        return slot

    def finish(self, slot: Slot, now_s: float) -> None:
        """The slot is free again, whatever came of the request."""
        if slot not in self.held:
            return
        self.held.remove(slot)
        slot.waiting = None
        self.held_s = _smoothed(self.held_s, now_s - slot.started_s)
        if slot.era == self._era:
            self._is_trial_running = False

    def succeeded(self, slot: Slot, first_byte_s: float, *, is_complete: bool) -> None:
        """The answer has begun well. Only a complete one (see `completed`) ends a row of failures."""
        self.served += 1
        self.mean_s = _smoothed(self.mean_s, first_byte_s)
        if slot.era != self._era:
            return
        if self.open_until_s:
            self._end_pause()
            self._openings = 0
        self._throttles_in_row = 0
        if self.limit < self.slots:
            self.limit = min(float(self.slots), self.limit + 1.0 / self.limit)
        if is_complete:
            self.completed(slot)

    def completed(self, slot: Slot) -> None:
        """The answer came to its end."""
        if slot.era == self._era:
            self._failures_in_row = 0
            self.error = ""

    def failed(self, slot: Slot, reason: str) -> None:
        """A failure of the instance itself: enough of them in a row open the breaker."""
        self.error = reason
        if slot.era != self._era:
            return  # began before the breaker opened: one outage is one opening, however many it hit
        self._failures_in_row += 1
        if self._failures_in_row >= self.failures_to_open or self.open_until_s:
            self._openings += 1
            self._begin_pause("broken", self.open_s * min(self._openings, _MAX_GROWTH), reason)

    def throttled(self, slot: Slot, reason: str, pause_s: float) -> None:
        """The endpoint said "too many at once": half the slots, and a short pause that grows while it says so."""
        if slot.era != self._era:
            return  # the same burst: one decrease is enough (as in TCP's congestion control, RFC 5681)
        self.limit = max(1.0, min(self.limit, float(self.running or 1)) / 2)
        self._begin_pause("throttled", pause_s * 2 ** min(self._throttles_in_row, 5), reason)
        self._throttles_in_row += 1

    def cool(self, pause_s: float, reason: str) -> None:
        """Take no requests for a while, then one as a trial. Of two pauses the longer one holds."""
        self._begin_pause("cooling", pause_s, reason)

    def _begin_pause(self, kind: Pause, pause_s: float, reason: str) -> None:
        self.error = reason
        until_s = monotonic_s() + pause_s
        if until_s > self.open_until_s:
            if not self.open_until_s:
                self.since_ms = now_ms()
            self.open_until_s = until_s
            self._pause = kind
            self._era += 1
            self._is_trial_running = False

    def _end_pause(self) -> None:
        self.open_until_s = 0.0
        self._pause = "none"
        self._is_trial_running = False
        self.since_ms = now_ms()

    # --- its state ---

    def move(self, state: State, error: str = "") -> None:
        """Enter a state. `blocked` is left by the operator only (`resume`)."""
        if (state, error) != (self.state, self.error):
            self.since_ms = now_ms()
        if state == "ready" and self.state != "ready":
            self._failures_in_row = 0
            if self._pause == "broken":  # it was restarted: its failures are those of an earlier life
                self._end_pause()
        self.state = state
        self.error = error

    def resume(self) -> None:
        """The operator says that the cause is gone: forget blocks, pauses and refused models."""
        self.refused_models.clear()
        if self.open_until_s:
            self._end_pause()
        self._era += 1
        self._openings = self._failures_in_row = self._throttles_in_row = 0
        self.limit = float(self.slots)
        self.error = ""
        if self.state == "blocked":
            self.move("ready" if self.backend is not None else "down")

    @property
    def shown_state(self) -> str:
        """The state for people: `cooling` while it pauses."""
        return "cooling" if self.state == "ready" and self.open_until_s > monotonic_s() else self.state


def _smoothed(mean: float, newest: float) -> float:
    return newest if mean == 0.0 else mean + _SMOOTHING * (newest - mean)
