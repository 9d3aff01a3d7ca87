"""One instance of the pool: its slots, its health and how fast it was lately."""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterable
from typing import Literal

from autoglm.core.clock import monotonic_s, now_ms
from autoglm.core.ports import Backend
from autoglm.inference.call import Call
from autoglm.inference.ejection import SAMPLES, Ejections, Kind, Sample, decayed, ejection_s
from autoglm.inference.engine_load import EngineLoad
from autoglm.inference.latency import LatencyModel
from autoglm.inference.process import WorkerProcess
from autoglm.inference.slot import Slot

State = Literal["starting", "ready", "down", "blocked", "idle", "draining", "stopped"]
"""Of a local one: idle has no process and starts when somebody asks; draining is about to stop; stopped stays so."""
Pause = Literal["none", "throttled", "cooling", "broken", "slow"]

_SMOOTHING = 0.2  # weight of the newest answer in the running means: the last ~10 answers count
_FIRST_HINT_GAP_S = 0.5
_FALL_S = 1.0
"""A process whose connections have closed is gone within this time, or it lives: it has its memory to give back."""
_MAX_HINT_GAP_S = 60.0
"""An instance that closes idle connections as a habit is probed for it less and less often."""


class Instance:
    """Counts what runs on one endpoint and decides whether it may take more.

    `slots` is what the operator allows; `limit` is what the endpoint bears, learned from its throttling by additive
    increase and multiplicative decrease (Chiu, Jain 1989).
    """

    engine_load: EngineLoad | None
    """The engine's own word on its load; None when it is unknown or old."""
    foreign_running: int
    """Requests of other clients there, running and waiting; 0 when unknown."""

    __slots__ = (
        "_alarm", "_drained", "_era", "_failures_in_row", "_falls", "_hint_gap_s", "_in_pool_s", "_is_trial_running",
        "_next_hint_s", "_openings", "_pause", "_throttles_in_row", "_told_until_s", "apis", "backend",
        "context_tokens", "ejections", "engine_load", "error", "failures", "failures_to_open", "foreign_running",
        "held", "held_s", "is_draining", "is_ejected", "is_open", "is_suspect", "is_unseen", "latency", "limit",
        "mean_s", "models", "name", "open_s", "open_until_s", "pool", "process", "provider", "refused_models", "served",
        "since_ms", "slots", "state", "suspected_s", "suspicion_gap_s", "throttles", "times_s",
    )  # fmt: skip

    def __init__(
        self, name: str, provider: str, *, models: Iterable[str], slots: int, apis: Iterable[str],
        failures_to_open: int = 5, open_s: float = 30.0,
    ) -> None:  # fmt: skip
        self.name = name
        self.provider = provider
        self.models = tuple(models)
        self.refused_models: set[str] = set()
        self.context_tokens: dict[str, int] = {}
        """The longest context of a model here, as error replies told it."""
        self.apis = frozenset(apis)
        self.slots, self.limit = slots, float(slots)
        self.backend: Backend | None = None
        self.process: WorkerProcess | None = None
        """Of an instance that runs on this machine as a child of the hub."""
        self.state: State = "starting"
        self.is_draining = False
        """The operator or the scaling takes it out: what runs may end, nothing begins."""
        self.is_suspect = False
        """A request found it dead or waits for it in vain: it is probed right now, and gets no other meanwhile."""
        self.is_open = False
        """Ready, and neither of those two."""
        self.error = ""
        self.since_ms = now_ms()
        self.engine_load, self.foreign_running, self.latency = None, 0, LatencyModel()
        self.held: set[Slot] = set()
        """The slots in use. A set, so that giving one back twice frees it once."""
        self.served = self.failures = self.throttles = self.ejections = 0
        """Since the start of the hub."""
        self.mean_s = self.held_s = 0.0
        """Running means of seconds to the first byte, and for which a slot was taken; 0 until there is one, so that a
        new instance gets tried."""
        self.times_s: dict[Kind, deque[Sample]] = {}
        """The newest times to the first byte, to compare with those of its peers."""
        self.is_unseen = False
        """There are new ones."""
        self.open_until_s = 0.0
        """Monotonic time at which the present pause ends; 0 when there is none."""
        self.is_ejected = False
        """The present pause is (also) ours, for its failures or its slowness, and no trial has succeeded yet."""
        self.failures_to_open, self.open_s = failures_to_open, open_s
        self.pool: Ejections | None = None
        """Set by the scheduler: what its peers permit."""
        self._told_until_s = 0.0
        """Up to here the vendor told us to wait, which no panic overrules."""
        self._pause: Pause = "none"
        self._era = self._openings = self._falls = self._failures_in_row = self._throttles_in_row = 0
        self._in_pool_s = monotonic_s()
        """Since when it is in the pool again, after an ejection or an outage; monotonic."""
        self._is_trial_running = False
        self.suspected_s, self.suspicion_gap_s = -math.inf, 0.0
        """When that was the last time, monotonic; and for how long a mere wait then arouses no suspicion again."""
        self._alarm: Callable[[], None] | None = None
        self._next_hint_s, self._hint_gap_s = 0.0, _FIRST_HINT_GAP_S
        self._drained: asyncio.Event | None = None

    @property
    def running(self) -> int:
        return len(self.held)

    @property
    def load(self) -> int:
        """Requests that run there, those of other clients included."""
        return len(self.held) + self.foreign_running

    # --- may it take a request? ---

    def is_free(self, now_s: float) -> bool:
        """True when a request could start here at once."""
        if not self.is_open or len(self.held) + 1 > self.limit:
            return False
        # After the pause one request is let through; its outcome ends the pause or renews it.
        return not self.open_until_s or (now_s >= self.open_until_s and not self._is_trial_running)

    def is_free_in_panic(self, now_s: float) -> bool:
        """The same if it were not ejected."""
        return self.is_open and len(self.held) + 1 <= self.limit and now_s >= self._told_until_s

    def may_recover(self, now_s: float, *, in_panic: bool = False) -> float | None:
        """Seconds until it may take requests again: 0 when it can or only its slots are taken, None when unknown.

        in_panic: an ejection does not count, for where it is the last hope it is ignored.
        """
        if self.is_draining:
            return None
        if self.state == "starting":
            return 0.0
        if self.state != "ready":
            return None if self.process is None else self.process.comes_back_s
        until_s = self._told_until_s if in_panic and self.is_ejected else self.open_until_s
        return max(0.0, until_s - now_s)

    def serves(self, model: str, api: str) -> bool:
        return api in self.apis and model in self.models and model not in self.refused_models

    @property
    def is_doubtful(self) -> bool:
        """It failed last time, or is out: a request that has failed elsewhere is better off with others."""
        return self._failures_in_row > 0 or self.is_ejected or not self.is_member

    @property
    def is_member(self) -> bool:
        """It is up, and nobody takes it out. A suspicion alone changes nothing: it is over in a moment."""
        return self.state == "ready" and not self.is_draining

    # --- a request's life ---

    def start(self, call: Call, now_s: float) -> Slot:
        """Take a slot. Every slot goes back by `finish`."""
        slot = Slot(call, self, self._era, now_s)
        if self.open_until_s and now_s >= self.open_until_s:  # else it is a time of panic
            if self._pause == "throttled" and not self.is_ejected:
                self._end_pause()  # the lower limit is answer enough: no need for a trial
            else:
                slot.is_trial = self._is_trial_running = True
        self.held.add(slot)
        return slot

    def finish(self, slot: Slot, now_s: float) -> None:
        """The slot is free again, whatever came of the request."""
        if slot not in self.held:
            return
        self.held.remove(slot)
        slot.waiting = None
        self.held_s = _smoothed(self.held_s, now_s - slot.started_s)
        if slot.is_trial and slot.era == self._era:
            self._is_trial_running = False
        if self.is_draining and not self.held and self._drained is not None:
            self._drained.set()

    def succeeded(self, slot: Slot, first_byte_s: float, *, is_complete: bool) -> None:
        """The answer has begun well. Only a complete one (see `completed`) ends a row of failures."""
        self.served += 1
        self.mean_s = _smoothed(self.mean_s, first_byte_s)
        slot.first_byte_s = first_byte_s
        slot.came_whole = slot.is_complete = is_complete
        latency = self.latency
        latency.ahead_tokens = max(0.0, latency.ahead_tokens - slot.uncached_tokens)
        if not is_complete:
            latency.began(slot.uncached_tokens, slot.ahead_tokens, first_byte_s)
        kind = (slot.call.model, slot.call.is_stream)
        times = self.times_s.get(kind)
        if times is None:
            times = self.times_s[kind] = deque(maxlen=SAMPLES)
        times.append((first_byte_s, slot.uncached_tokens, slot.ahead_tokens, slot.beside))
        self.is_unseen = True
        if slot.era != self._era:
            return
        if self.open_until_s and not self._ends_pause(slot, kind, first_byte_s):
            return
        self._throttles_in_row = 0
        if self.limit < self.slots:
            self.limit = min(float(self.slots), self.limit + 1.0 / self.limit)
        if is_complete:
            self.completed(slot)

    def _ends_pause(self, slot: Slot, kind: Kind, first_byte_s: float) -> bool:
        """A good answer during a pause: of a trial it ends the pause, unless it is as slow as before."""
        if not slot.is_trial:
            return True  # in panic, or from before: it proves nothing
        if self._pause == "slow" and self.pool is not None and self.pool.is_slow(self, kind, slot.took(first_byte_s)):
            self.eject("slow", f"still {first_byte_s:.2g} s to the first byte")
            return False
        self._end_pause()
        return True

    def completed(self, slot: Slot) -> None:
        """The answer came to its end."""
        slot.is_complete = True
        if slot.era == self._era:
            self._failures_in_row = 0
            self.error = ""

    def failed(self, slot: Slot, reason: str) -> None:
        """A failure of the instance itself: enough of them in a row eject it, and so does that of a trial."""
        self.error = reason
        self.failures += 1
        if slot.era != self._era:
            return  # began before it was ejected: one outage is one ejection, however many it hit
        self._failures_in_row += 1
        if slot.is_trial or (self._failures_in_row >= self.failures_to_open and not self.is_ejected):
            self.eject("broken", reason)

    def eject(self, kind: Literal["broken", "slow"], reason: str) -> bool:
        """Take no requests for a while that grows with each time. False when too many of its peers are out already."""
        if not self.is_ejected and self.pool is not None and not self.pool.may_eject(self):
            return False
        now_s = monotonic_s()
        if not self.is_ejected:
            self._openings = decayed(self._openings, now_s - self._in_pool_s, self.open_s)
        self._openings += 1
        self.ejections += 1
        self.is_ejected = True
        self.times_s.clear()  # they are those of the time before
        self._begin_pause(kind, ejection_s(self.open_s, self._openings), reason)
        return True

    def overdue(self, slot: Slot, waited_s: float) -> None:
        """A request waits for its first byte for longer than it should: as good as an answer that was so slow."""
        slot.is_overdue = True
        kind = (slot.call.model, slot.call.is_stream)
        self.times_s.setdefault(kind, deque(maxlen=SAMPLES)).append(slot.took(waited_s))
        self.is_unseen = True

    def throttled(self, slot: Slot, reason: str, pause_s: float) -> None:
        """The endpoint said "too many at once": half the slots, and a short pause that grows while it says so."""
        self.throttles += 1
        if slot.era != self._era:  # the same burst: one decrease is enough (as in TCP's congestion control, RFC 5681)
            self._begin_pause("throttled", pause_s, reason)  # but the longest of its pauses holds
            return
        self.limit = max(1.0, min(self.limit, float(self.running or 1)) / 2)
        self._begin_pause("throttled", pause_s * 2 ** min(self._throttles_in_row, 5), reason)
        self._throttles_in_row += 1

    def cool(self, pause_s: float, reason: str) -> None:
        """Take no requests for a while, then one as a trial. Of two pauses the longer one holds."""
        self._begin_pause("cooling", pause_s, reason)

    def _begin_pause(self, kind: Pause, pause_s: float, reason: str) -> None:
        until_s = monotonic_s() + pause_s
        if kind in ("throttled", "cooling"):
            self._told_until_s = max(self._told_until_s, until_s)
        if until_s > self.open_until_s:
            if not self.open_until_s:
                self.since_ms = now_ms()
            self.error = reason
            self.open_until_s = until_s
            self._pause = kind
            self._era += 1
            self._is_trial_running = False

    def _end_pause(self) -> None:
        if self.is_ejected:
            self._in_pool_s = monotonic_s()
        self.is_ejected = False
        self.open_until_s = self._told_until_s = 0.0
        self._pause = "none"
        self._is_trial_running = False
        self.since_ms = now_ms()

    # --- its state ---

    def take_load(self, load: EngineLoad | None, foreign: int) -> None:
        """A reading of the engine's metrics; None when there is none that still holds."""
        self.engine_load = load
        self.foreign_running = foreign

    def move(self, state: State, error: str = "") -> None:
        """Enter a state. `blocked` is left by the operator only (`resume`)."""
        if (state, error) != (self.state, self.error):
            self.since_ms = now_ms()
        if state == "ready" and self.state != "ready":
            self._failures_in_row = 0
            self.context_tokens.clear()  # it may have been started anew with another
            if self.is_ejected:  # it was restarted: what it did is that of an earlier life
                told_until_s = self._told_until_s
                self._end_pause()
                if told_until_s > monotonic_s():
                    self.cool(told_until_s - monotonic_s(), self.error)
            self._in_pool_s = monotonic_s()
        self.state = state
        self.error = error
        self._set_open()

    def lost(self, reason: str) -> None:
        """A probe found it dead or hung. One that comes and goes is taken back later each time (`found`)."""
        self._falls = decayed(self._falls, monotonic_s() - self._in_pool_s, self.open_s) + 1
        self._hint_gap_s = _FIRST_HINT_GAP_S
        self.move("down", reason)

    def found(self) -> None:
        """A probe found it well: it is ready, or, when it fell repeatedly of late, first has to pass a pause."""
        falls = self._falls
        self.move("ready")
        if falls > 1 and (self.pool is None or self.pool.may_eject(self)):
            self.ejections += 1
            self.is_ejected = True
            reason = f"it went down {falls} times within a short time"
            self._begin_pause("broken", ejection_s(self.open_s, falls - 1), reason)

    def watched(self, alarm: Callable[[], None] | None) -> None:
        """alarm: has it probed at once; None when nobody probes it any more."""
        self._alarm = alarm
        if alarm is None:
            self.is_suspect = False
            self._set_open()

    def suspect(self) -> None:
        """It may be dead or hung: have it probed now. Until that is done it gets nothing new."""
        if self._alarm is not None and self.is_open:
            self.suspected_s = monotonic_s()
            self.is_suspect = True
            self._set_open()
            self._alarm()

    def hung_up(self) -> None:
        """It ended a connection that waited for work, as one that dies does; and one that is only tidy."""
        now_s = monotonic_s()
        if now_s >= self._next_hint_s:
            self._hint_gap_s = min(2 * self._hint_gap_s, _MAX_HINT_GAP_S)
            self._next_hint_s = now_s + self._hint_gap_s
            self.suspect()

    def cleared(self) -> None:
        """The probe is done; `state` says with what result."""
        self.is_suspect = False
        self._set_open()

    def drain(self) -> asyncio.Event:
        """Take nothing new, let end what runs. The event is set once nothing runs any more (see `shown_state`)."""
        self.is_draining = True
        self._set_open()
        self._drained = self._drained or asyncio.Event()
        if not self.held:
            self._drained.set()
        return self._drained

    def rejoin(self) -> None:
        """Back into use after `drain`."""
        self.is_draining = False
        self._drained = None
        self._set_open()

    async def fell(self) -> bool:
        """True when its process has ended and will be started again; it then is shown so, and is worth waiting for."""
        if self.process is None or self.state not in ("ready", "starting"):
            return False
        pid = self.process.pid
        if not await self.process.ends_within(_FALL_S):
            return False
        if self.state == "ready" and self.process.pid == pid:  # its supervisor has not seen it yet
            self.move("starting", self.error)
        return self.state in ("ready", "starting")

    def resume(self) -> None:
        """The operator says that the cause is gone: forget blocks, pauses, refused models, draining, and its times."""
        self.rejoin()
        self.latency, self.held_s = LatencyModel(), 0.0
        self.refused_models.clear()
        self.context_tokens.clear()
        if self.open_until_s:
            self._end_pause()
        self._era += 1
        self._openings = self._falls = self._failures_in_row = self._throttles_in_row = 0
        self.limit = float(self.slots)
        self.error = ""
        if self.state == "blocked":
            self.move("ready" if self.backend is not None else "down")
        self._set_open()

    def _set_open(self) -> None:
        self.is_open = self.state == "ready" and not self.is_draining and not self.is_suspect

    @property
    def shown_state(self) -> str:
        """The state for people: `cooling` while it pauses, `draining` and then `drained` when it is taken out.

        `asleep` until a request wakes it.
        """
        if self.is_draining:
            return "draining" if self.held else "drained"
        if self.process is not None and self.process.is_asleep and self.state == "ready" and not self.held:
            return "asleep"
        return "cooling" if self.state == "ready" and self.open_until_s > monotonic_s() else self.state

    @property
    def condition(self) -> str:
        """Why it takes nothing, and the way out where there is one: for the words of an error."""
        way_out = {
            "draining": f"'autoglm pool resume {self.name}' takes it back into use",
            "drained": f"'autoglm pool resume {self.name}' takes it back into use",
            "stopped": f"'autoglm pool start {self.name}' starts it",
        }
        state = self.shown_state
        return f"{self.name} is {state}: {self.error or way_out.get(state, 'no reason known')}"


def _smoothed(mean: float, newest: float) -> float:
    return newest if mean == 0.0 else mean + _SMOOTHING * (newest - mean)
