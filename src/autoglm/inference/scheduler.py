"""One queue for all instances: a request starts only where a slot is free, the most urgent first.

Late binding (no queue per instance) keeps a slow instance from holding requests that a fast one could take.
"""

import asyncio
import math
from collections.abc import Callable

from autoglm.core.clock import monotonic_s
from autoglm.core.errors import PULL, DeadlineExceeded, HubError, NoInstanceFree, NotOffered, QueueFull, UnknownModel
from autoglm.inference.call import AUTO, Call
from autoglm.inference.ejection import Ejections
from autoglm.inference.instance import Instance, Slot
from autoglm.inference.queue import Waiter, WaitQueue
from autoglm.inference.settings import PoolSettings, SchedulerSettings

Wish = tuple[str, str]
"""(model, API): requests with the same wish can start on the same instances."""
NOTHING: frozenset[str] = frozenset()
_DRAIN_LOOK_S = 0.05


class Scheduler:
    """Hands out slots. Every slot that `acquire` gives goes back by `release`."""

    def __init__(self, settings: SchedulerSettings, *, pool: PoolSettings | None = None, pull: str = PULL) -> None:
        """pull: the command that fetches a model for this hub."""
        self.settings = settings
        self.pull = pull
        self.instances: dict[str, Instance] = {}
        self.ejections = Ejections(pool or PoolSettings(), self.instances.values)
        self.is_draining = False
        self.waiting = 0
        self.on_queued: Callable[[], None] | None = None
        """Called when a request begins to wait: a worker may have to be started for it."""
        self._by_wish: dict[Wish, list[Instance]] = {}
        self._queues: dict[Wish, WaitQueue] = {}
        self._arrivals = 0
        self._wake_up: asyncio.TimerHandle | None = None
        self._wake_s = math.inf
        """When the next pause ends that somebody waits for; monotonic."""

    # --- what there is ---

    def add(self, instance: Instance) -> None:
        self.instances[instance.name] = instance
        instance.pool = self.ejections
        self.changed()

    def forget(self, instance: Instance) -> None:
        """It is gone. What still runs there keeps its slot until it ends."""
        self.instances.pop(instance.name, None)
        self.changed()

    async def remove(self, instance: Instance) -> None:
        """Drain an instance and forget it: no new requests from now on; returns when those that run there have ended.

        Cancelled, it leaves the instance draining; `Instance.rejoin` and `changed` take it back into use.
        """
        instance.drain()
        self.changed()
        while instance.held:
            await asyncio.sleep(_DRAIN_LOOK_S)
            instance.drain()  # again, for an operator may have resumed it, who cannot bring it back
        self.forget(instance)

    def changed(self) -> None:
        """Call after an instance's models, state or pause changed: who waits may start, move, or has waited in vain."""
        self._by_wish.clear()
        self._recall()
        self._fail_hopeless()
        self._dispatch()

    def candidates(self, model: str, api: str) -> list[Instance]:
        """The instances that serve `model` by `api`, whatever their state."""
        found = self._by_wish.get((model, api))
        if found is None:
            found = [instance for instance in self.instances.values() if instance.serves(model, api)]
            if found:  # names that nobody serves come from outside: they must not fill the memory
                self._by_wish[model, api] = found
        return found

    def models(self) -> list[str]:
        """All model names that some instance serves, in the order of the instances."""
        names = (name for instance in self.instances.values() for name in instance.models)
        return list(dict.fromkeys(names))

    def waiting_for(self, instance: Instance) -> int:
        """How many waiting requests this instance could take."""
        return sum(queue.alive for (model, api), queue in self._queues.items() if instance.serves(model, api))

    def has_other(self, call: Call, excluded: frozenset[str]) -> bool:
        """True when an instance outside `excluded` may take the call, now or when it has started or has a free slot."""
        now_s = monotonic_s()
        others = self.instances.values() if call.wanted == AUTO else self.candidates(call.model, call.api)
        return any(
            entry.name not in excluded and call.api in entry.apis and entry.may_recover(now_s) is not None
            for entry in others
        )

    # --- slots ---

    def try_acquire(self, call: Call, excluded: frozenset[str] = NOTHING) -> Slot | None:
        """A slot of the free instance that should answer soonest; None when none is free."""
        now_s = monotonic_s()
        if now_s >= self._wake_s:
            self._dispatch()  # a pause has just ended, and those who waited for that come first
        candidates = self.candidates(call.model, call.api)
        best = _soonest(candidates, excluded, now_s)
        if best is None:
            in_panic = self.ejections.in_panic(candidates, excluded, now_s)
            if not in_panic:
                return None
            best = min(in_panic, key=_load)
        return best.start(call, now_s)

    async def acquire(self, call: Call, excluded: frozenset[str] = NOTHING) -> Slot:
        """Wait for a slot. Raises UnknownModel, NotOffered, NoInstanceFree, QueueFull, DeadlineExceeded."""
        # No waiter is overtaken: a slot that one could use was given to it when it came free.
        slot = self.try_acquire(call, excluded)
        if slot is not None:
            return slot
        return await self._wait(call, excluded, self._admit(call, excluded))

    def release(self, slot: Slot) -> None:
        slot.instance.finish(slot, monotonic_s())
        if self.waiting:
            self._dispatch()

    # --- admission ---

    def _admit(self, call: Call, excluded: frozenset[str]) -> float:
        """How long the call may wait. Raises at once where waiting cannot help."""
        now_s = monotonic_s()
        candidates = self.candidates(call.model, call.api)
        if not candidates:
            raise self.explain_absence(call)
        wait_s = self.settings.max_wait_s
        if call.deadline_s is not None:
            if call.deadline_s <= now_s:
                raise DeadlineExceeded(call.patience_s)
            wait_s = min(wait_s, call.deadline_s - now_s)
        hopeless = _hopeless(call, candidates, excluded, now_s, wait_s)
        if hopeless is not None:
            raise hopeless
        if self.waiting >= self.settings.max_queue:
            raise QueueFull(self.waiting, self.predicted_wait_s(call))
        return wait_s

    def explain_absence(self, call: Call) -> HubError:
        """Why no instance takes this call, whatever its state."""
        serving = [entry for entry in self.instances.values() if call.model in entry.models]
        refusing = [entry for entry in serving if call.model in entry.refused_models and call.api in entry.apis]
        if refusing:
            return NoInstanceFree(call.model, 0.0, f"{refusing[0].name} refuses it: {refusing[0].error}", 60.0)
        if serving:
            is_embedding = call.api == "/embeddings"
            way_out = 'start a local one with mode = "embedding"' if is_embedding else "use /v1/chat/completions"
            return NotOffered(f"/v1{call.api}", call.model, way_out)
        silent = (entry for entry in self.instances.values() if not entry.models)
        unknown = [entry for entry in silent if entry.state in ("starting", "down")]
        if unknown:  # it tells its models when it comes up: until then nobody can say that it lacks this one
            entry = unknown[0]
            why = f"{entry.name} is {entry.state} and has not told its models yet"
            return NoInstanceFree(call.model, 0.0, f"{why}: {entry.error}" if entry.error else why, 2.0)
        return UnknownModel(call.model, self.models(), pull=self.pull)

    def predicted_wait_s(self, call: Call) -> float:
        """A forecast for Retry-After: the queue ahead, served at the recent pace; 1 to 60 s."""
        candidates = self.candidates(call.model, call.api)
        slots = sum(int(entry.limit) for entry in candidates if entry.state == "ready") or 1
        pace_s = max((entry.held_s for entry in candidates), default=0.0) or 1.0
        queue = self._queues.get((call.model, call.api))
        ahead = queue.alive if queue is not None else 0
        return min(60.0, max(1.0, (ahead + 1) * pace_s / slots))

    # --- waiting ---

    async def _wait(self, call: Call, excluded: frozenset[str], wait_s: float) -> Slot:
        started_s = monotonic_s()
        wish = (call.model, call.api)
        if not call.arrival:
            self._arrivals += 1
            call.arrival = self._arrivals
        ready: asyncio.Future[Slot] = asyncio.get_running_loop().create_future()
        waiter = Waiter(call, excluded, started_s + wait_s, ready)
        self._queues.setdefault(wish, WaitQueue()).push(waiter)
        self.waiting += 1
        if self.on_queued is not None:
            self.on_queued()
        self._set_wake_up()
        slot: Slot | None = None
        try:
            async with asyncio.timeout(wait_s):
                slot = await ready
            return slot
        except TimeoutError:
            waited_s = monotonic_s() - started_s
            if call.deadline_s is not None and monotonic_s() >= call.deadline_s:
                raise DeadlineExceeded(call.patience_s) from None
            reasons = [f"{entry.name}: {entry.error}" for entry in self.candidates(*wish) if entry.error]
            raise NoInstanceFree(call.model, waited_s, "; ".join(reasons), self.predicted_wait_s(call)) from None
        finally:
            self._leave(wish, waiter)
            if slot is None and ready.done() and not ready.cancelled() and ready.exception() is None:
                self.release(ready.result())  # it came in the very moment in which the caller gave up

    def _leave(self, wish: Wish, waiter: Waiter) -> None:
        """Count the waiter out, however it ended; the second time does nothing."""
        if waiter.is_waiting:
            self.waiting -= 1
            queue = self._queues[wish]
            queue.leave(waiter)
            if not queue.alive:
                del self._queues[wish]

    def _dispatch(self) -> None:
        """Give free slots to those who wait, in their order over all models."""
        while self.waiting:
            now_s = monotonic_s()
            best: tuple[Waiter, Instance, Wish] | None = None
            for wish, queue in self._queues.items():
                candidates = self.candidates(*wish)
                free = [entry for entry in candidates if entry.is_free(now_s)]
                free = free or self.ejections.in_panic(candidates, NOTHING, now_s)
                waiter = queue.most_urgent(free) if free else None
                if waiter is not None and (best is None or waiter.key < best[0].key):
                    instance = min((entry for entry in free if entry.name not in waiter.excluded), key=_load)
                    best = waiter, instance, wish
            if best is None:
                break
            waiter, instance, wish = best
            self._leave(wish, waiter)
            waiter.ready.set_result(instance.start(waiter.call, now_s))
        self._set_wake_up()

    def _recall(self) -> None:
        """Requests that still wait for the first byte of an instance that went down move where they can be answered."""
        for instance in self.instances.values():
            if instance.state == "down":
                excluded = frozenset((instance.name,))
                for slot in tuple(instance.held):
                    if slot.waiting is not None and self.has_other(slot.call, excluded):
                        slot.recall()

    def _fail_hopeless(self) -> None:
        """Who waits for what can no longer come in time is told now, not when the wait is over."""
        now_s = monotonic_s()
        for wish, queue in tuple(self._queues.items()):
            candidates = self.candidates(*wish)
            for waiter in queue.living():
                wait_s = waiter.give_up_s - now_s
                hopeless = (
                    _hopeless(waiter.call, candidates, waiter.excluded, now_s, wait_s)
                    if candidates
                    else self.explain_absence(waiter.call)
                )
                if hopeless is not None:
                    self._leave(wish, waiter)
                    waiter.ready.set_exception(hopeless)

    def _set_wake_up(self) -> None:
        """A cooling instance frees no slot by itself: look again when the next pause ends."""
        wake_s = math.inf
        if self.waiting:
            now_s = monotonic_s()
            ends = (entry.open_until_s for entry in self.instances.values() if entry.open_until_s > now_s)
            wake_s = min(ends, default=math.inf)
        if wake_s == self._wake_s:
            return
        self._wake_s = wake_s
        if self._wake_up is not None:
            self._wake_up.cancel()
            self._wake_up = None
        if wake_s < math.inf:
            self._wake_up = asyncio.get_running_loop().call_later(max(0.0, wake_s - monotonic_s()) + 0.001, self._woken)

    def _woken(self) -> None:
        self._wake_up = None
        self._wake_s = math.inf
        self._dispatch()


def _soonest(instances: list[Instance], excluded: frozenset[str], now_s: float) -> Instance | None:
    """The free one with the least predicted time to its first byte; of equals the one with the least to do."""
    if len(instances) == 1 and not excluded:
        return instances[0] if instances[0].is_free(now_s) else None
    best: Instance | None = None
    best_s = math.inf
    for instance in instances:
        if instance.is_free(now_s) and instance.name not in excluded:
            predicted_s = instance.predicted_s()
            if predicted_s < best_s or (best is not None and predicted_s == best_s and instance.running < best.running):
                best, best_s = instance, predicted_s
    return best


def _load(instance: Instance) -> tuple[float, int]:
    return instance.predicted_s(), instance.running


def _hopeless(
    call: Call, candidates: list[Instance], excluded: frozenset[str], now_s: float, wait_s: float
) -> NoInstanceFree | None:
    """The reason why none of the candidates can take the call within wait_s; None while one may."""
    fitting = [entry for entry in candidates if entry.name not in excluded]
    possible = (entry.may_recover(now_s, in_panic=True) for entry in fitting)
    recoveries = [recovery for recovery in possible if recovery is not None]
    if any(recovery <= wait_s for recovery in recoveries):
        return None
    reasons = [f"{entry.name} is {entry.shown_state}: {entry.error or 'no reason known'}" for entry in fitting]
    return NoInstanceFree(call.model, 0.0, "; ".join(reasons) or "every one failed", min(recoveries, default=10.0))
