"""One queue for all instances: a request starts only where a slot is free, the most urgent first.

Late binding (no queue per instance) keeps a slow instance from holding requests that a fast one could take. Under
overload those that would come too late are refused, at arrival or when their turn comes: otherwise all would wait as
long as they can bear, and nobody be served in time.
"""

import asyncio
import math
from collections.abc import Callable

from autoglm.core.clock import monotonic_s
from autoglm.core.errors import (
    PULL,
    DeadlineExceeded,
    HubError,
    NoInstanceFree,
    NotOffered,
    Overloaded,
    QueueFull,
    UnknownModel,
)
from autoglm.inference.accounting import Accounting
from autoglm.inference.call import AUTO, Call
from autoglm.inference.ejection import Ejections
from autoglm.inference.fairness import FairShares
from autoglm.inference.instance import Instance
from autoglm.inference.latency import Prediction
from autoglm.inference.placement import Placement, predicted_wait_s, quickest
from autoglm.inference.queue import LIFT_EVERY, Waiter, WaitQueue, next_of
from autoglm.inference.settings import PoolSettings, SchedulerSettings
from autoglm.inference.slot import Slot

NOTHING: frozenset[str] = frozenset()
Wish = tuple[str, str, frozenset[str]]
"""(model, API, instances that failed it): requests with the same wish can start on the same instances."""
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
        self.shares = FairShares(
            input_weight=settings.input_weight, output_weight=settings.output_weight, weights=settings.shares
        )
        self.placement = Placement(self.shares, settings.first_token_s)
        self._accounting = Accounting(self.shares, self.placement.prefixes)
        self.shed = 0
        """Requests refused because they would have come too late, since the start."""
        self._serving: dict[tuple[str, str], list[Instance]] = {}
        self._queues: dict[Wish, WaitQueue] = {}
        self._since_lift = LIFT_EVERY
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
        self._accounting.forget(instance.name)
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
        self._serving.clear()
        self._recall()
        self._fail_hopeless()
        self._dispatch()

    def candidates(self, model: str, api: str) -> list[Instance]:
        """The instances that serve `model` by `api`, whatever their state."""
        found = self._serving.get((model, api))
        if found is None:
            found = [instance for instance in self.instances.values() if instance.serves(model, api)]
            if found:  # names that nobody serves come from outside: they must not fill the memory
                self._serving[model, api] = found
        return found

    def models(self) -> list[str]:
        """All model names that some instance serves, in the order of the instances."""
        names = (name for instance in self.instances.values() for name in instance.models)
        return list(dict.fromkeys(names))

    def waiting_for(self, instance: Instance) -> int:
        """How many waiting requests this instance could take."""
        return sum(
            queue.alive
            for (model, api, excluded), queue in self._queues.items()
            if instance.serves(model, api) and instance.name not in excluded
        )

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
        """A slot of the free instance that should be done soonest; None when none is free, or none in time."""
        now_s = monotonic_s()
        if now_s >= self._wake_s:
            self._dispatch()  # a pause has just ended, and those who waited for that come first
        candidates = self.candidates(call.model, call.api)
        best: Instance | None
        if len(candidates) == 1 and not excluded and candidates[0].is_free(now_s):
            best = candidates[0]
        else:
            best = self.placement.soonest(call, self._free(candidates, excluded, now_s), now_s)
        if best is None:
            return None
        if best.held and self.placement.has_objective(call) and self.placement.lateness(call, [best], now_s):
            return None
        return self._start(call, best, now_s, has_choice=len(candidates) > 1)

    async def acquire(self, call: Call, excluded: frozenset[str] = NOTHING) -> Slot:
        """Wait for a slot. Raises UnknownModel, NotOffered, NoInstanceFree, QueueFull, DeadlineExceeded, Overloaded."""
        # No waiter is overtaken: a slot that one could use was given to it when it came free.
        slot = self.try_acquire(call, excluded)
        if slot is not None:
            return slot
        return await self._wait(call, excluded, self._admit(call, excluded))

    def release(self, slot: Slot, tokens_in: int = 0, tokens_out: int = 0) -> None:
        """Give a slot back. tokens_in, tokens_out: what the instance says that the answer took; 0 when it does not."""
        now_s = monotonic_s()
        slot.instance.finish(slot, now_s)
        if slot.charge is not None:  # else it was given back before
            self._accounting.end(slot, slot.charge, now_s, tokens_in, tokens_out)
        if self.waiting:
            self._dispatch()

    def _free(self, candidates: list[Instance], excluded: frozenset[str], now_s: float) -> list[Instance]:
        """Those with a free slot outside `excluded`; where too few are healthy, ejected ones do, too."""
        # The usual case is written out: a call for each instance would cost each request.
        free = [
            entry
            for entry in candidates
            if (entry.is_open and not entry.open_until_s and len(entry.held) + 1 <= entry.limit) or entry.is_free(now_s)
        ]
        if excluded:
            free = [entry for entry in free if entry.name not in excluded]
        return free or self.ejections.in_panic(candidates, excluded, now_s)

    def _start(self, call: Call, instance: Instance, now_s: float, *, has_choice: bool) -> Slot:
        slot = instance.start(call, now_s)
        call.was_started = True
        self._accounting.begin(slot, has_choice=has_choice)
        return slot

    # --- predictions ---

    def predicted(self, call: Call, instance: Instance) -> Prediction:
        """How long the call would take there, were it to start now; of one without a record, a guess."""
        return self.placement.predicted(call, instance)

    def predicted_for(self, model: str, api: str, prompt_tokens: float, output_tokens: float) -> Prediction:
        """How long a new request would take from its arrival, the wait for a slot included; infinite for none."""
        now_s = monotonic_s()
        candidates = self.candidates(model, api)
        free = [entry for entry in candidates if entry.is_free(now_s)]
        coming = [entry for entry in candidates if entry.may_recover(now_s) is not None]
        best = quickest(free or coming, prompt_tokens, output_tokens)
        if free or not coming:
            return best
        ahead = sum(queue.alive for queue in self._rivals(candidates))
        wait_s = predicted_wait_s(candidates, ahead, now_s) or 0.0
        return Prediction(wait_s + best.first_token_s, wait_s + best.finish_s)

    def predicted_wait_s(self, call: Call) -> float:
        """A forecast for Retry-After: the queue ahead, served at the recent pace; 1 to 60 s."""
        candidates = self.candidates(call.model, call.api)
        wait_s = predicted_wait_s(candidates, self._ahead_of(call, candidates), monotonic_s())
        return min(60.0, max(1.0, 1.0 if wait_s is None else wait_s))

    def outlook(self, call: Call) -> tuple[int, float | None]:
        """Of a call that waits: how many came before it, in its class or a higher one; seconds until it has a slot.

        Fair shares and aging may change the order. None when nobody knows the pace yet.
        """
        candidates = self.candidates(call.model, call.api)
        mine = (-call.priority, call.arrival)
        waiters = (waiter.call for queue in self._rivals(candidates) for waiter in queue.living())
        ahead = sum((-other.priority, other.arrival) < mine for other in waiters)
        return ahead, predicted_wait_s(candidates, ahead, monotonic_s())

    def _rivals(self, candidates: list[Instance]) -> list[WaitQueue]:
        """The queues that wait for any of these instances."""
        return [
            queue
            for (model, api, _), queue in self._queues.items()
            if any(entry.serves(model, api) for entry in candidates)
        ]

    def _ahead_of(self, call: Call, candidates: list[Instance]) -> int:
        return sum(queue.ahead_of(call) for queue in self._rivals(candidates))

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
        fitting = [entry for entry in candidates if entry.name not in excluded]
        hopeless = _hopeless(call, fitting, now_s, wait_s)
        if hopeless is not None:
            raise hopeless
        if self.waiting >= self.settings.max_queue:
            raise QueueFull(self.waiting, self.predicted_wait_s(call))
        by_s = self.placement.first_token_by_s(call)
        if by_s is not None or call.deadline_s is not None:
            # Free, but not taken: it would be late.
            best = self.placement.soonest(call, self._free(fitting, NOTHING, now_s), now_s)
            late = self.placement.hopelessly_late(call, fitting, best, self._ahead_of(call, fitting), now_s)
            if late is not None:
                self.shed += 1
                raise late
        if by_s is not None:
            wait_s = min(wait_s, max(0.0, by_s - now_s))
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

    # --- waiting ---

    async def _wait(self, call: Call, excluded: frozenset[str], wait_s: float) -> Slot:
        started_s = monotonic_s()
        if not call.arrival:
            self._arrivals += 1
            call.arrival = self._arrivals
        ready: asyncio.Future[Slot] = asyncio.get_running_loop().create_future()
        waiter = Waiter(call, started_s + wait_s, ready)
        queue = self._enter((call.model, call.api, excluded), waiter)
        if self.on_queued is not None:
            self.on_queued()
        self._set_wake_up()
        slot: Slot | None = None
        try:
            async with asyncio.timeout(wait_s):
                slot = await ready
            return slot
        except TimeoutError:
            raise self._gave_up(call, started_s) from None
        finally:
            self._leave(queue, waiter)
            if slot is None and ready.done() and not ready.cancelled() and ready.exception() is None:
                self.release(ready.result())  # it came in the very moment in which the caller gave up

    def _gave_up(self, call: Call, started_s: float) -> HubError:
        now_s = monotonic_s()
        if call.deadline_s is not None and now_s >= call.deadline_s:
            return DeadlineExceeded(call.patience_s)
        by_s = self.placement.first_token_by_s(call)
        if by_s is not None and now_s >= by_s:
            self.shed += 1
            return Overloaded(call.model, now_s - by_s, self.predicted_wait_s(call))
        reasons = [f"{entry.name}: {entry.error}" for entry in self.candidates(call.model, call.api) if entry.error]
        return NoInstanceFree(call.model, now_s - started_s, "; ".join(reasons), self.predicted_wait_s(call))

    def _enter(self, wish: Wish, waiter: Waiter) -> WaitQueue:
        tenant = self.shares.tenant(waiter.call.tenant)
        self.shares.enter(tenant)
        queue = self._queues.get(wish)
        if queue is None:
            queue = self._queues[wish] = WaitQueue(wish)
        queue.push(waiter, tenant)
        self.waiting += 1
        return queue

    def _leave(self, queue: WaitQueue, waiter: Waiter) -> None:
        """Count the waiter out, however it ended; the second time does nothing."""
        if waiter.is_waiting and waiter.lane is not None:
            self.waiting -= 1
            self.shares.leave(waiter.lane.tenant)
            queue.leave(waiter)
            if not queue.alive:
                del self._queues[queue.wish]

    def _fitting(self, queue: WaitQueue) -> list[Instance]:
        model, api, excluded = queue.wish
        candidates = self.candidates(model, api)
        return [entry for entry in candidates if entry.name not in excluded] if excluded else candidates

    def _dispatch(self) -> None:
        """Give free slots to those who wait, in their order over all models; refuse whom that comes too late for."""
        passed: set[WaitQueue] = set()
        while self.waiting:
            now_s = monotonic_s()
            open_queues = {
                queue: free
                for queue in self._queues.values()
                if queue not in passed and (free := self._free(self._fitting(queue), NOTHING, now_s))
            }
            may_lift = self._since_lift >= LIFT_EVERY - 1
            following = next_of(tuple(open_queues), now_s, self.settings.aging_s, may_lift=may_lift)
            if following is None:
                break
            waiter, queue, is_lifted = following
            if waiter.ready.done():
                self._leave(queue, waiter)
                continue  # it was cancelled in this very turn of the event loop
            call = waiter.call
            instances = self._fitting(queue)
            instance = self.placement.soonest(call, open_queues[queue], now_s)
            assert instance is not None, "the queue is open because one of them is free"
            if self.placement.lateness(call, [instance], now_s) is not None:
                late = self.placement.hopelessly_late(call, instances, instance, 0, now_s)
                if late is None:
                    passed.add(queue)  # a slot elsewhere, soon, is better than this one now
                    continue
                self._leave(queue, waiter)
                self.shed += 1
                waiter.ready.set_exception(late)
                continue
            self._leave(queue, waiter)
            self._since_lift = 0 if is_lifted else self._since_lift + 1
            waiter.ready.set_result(self._start(call, instance, now_s, has_choice=len(instances) > 1))
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
        for queue in tuple(self._queues.values()):
            fitting = self._fitting(queue)
            if any(entry.may_recover(now_s, in_panic=True) == 0.0 for entry in fitting):
                continue  # whoever waits there waits for no more than a slot
            for waiter in queue.living():
                hopeless = (
                    _hopeless(waiter.call, fitting, now_s, waiter.give_up_s - now_s)
                    if self.candidates(waiter.call.model, waiter.call.api)
                    else self.explain_absence(waiter.call)
                )
                if hopeless is not None:
                    self._leave(queue, waiter)
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


def _hopeless(call: Call, fitting: list[Instance], now_s: float, wait_s: float) -> NoInstanceFree | None:
    """The reason why none of the instances can take the call within wait_s; None while one may."""
    possible = (entry.may_recover(now_s, in_panic=True) for entry in fitting)
    recoveries = [recovery for recovery in possible if recovery is not None]
    if any(recovery <= wait_s for recovery in recoveries):
        return None
    reasons = [entry.condition for entry in fitting]
    return NoInstanceFree(call.model, 0.0, "; ".join(reasons) or "every one failed", min(recoveries, default=10.0))
