"""Those who wait for a slot, and which of them is next: class, then fair share, then deadline, then arrival.

A class is the priority of a request, 0 to 9. While a higher class waits, the one of a lower class that waited longest
counts as one class higher for each `aging_s` that it waited longer than a newcomer. Within a class, waiting gives no
advantage over another tenant: there the fair share decides, or a tenant's backlog would outrank all who come later.

Bound: of the requests of a higher class c that come more than `(c - p + 1) * aging_s` after one of class p, at most
LIFT_EVERY - 1 pass it for itself and for each older one below c. So under a flood of the highest class that is served
as it comes, one of class p waits `(10 - p) * aging_s` and then LIFT_EVERY starts for each of those. The few that do
pass it are the other side: a flood of low ones never takes more than every LIFT_EVERY-th start of a higher class.
"""

import asyncio
import heapq
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from autoglm.inference.call import Call
from autoglm.inference.fairness import Ranking, Tenant
from autoglm.inference.slot import Slot

LIFT_EVERY = 4
"""While higher classes wait, at most every fourth start is one that aging lifted."""
_SLACK = 16


class Waiter:
    """A request in the queue."""

    __slots__ = ("call", "give_up_s", "is_waiting", "key", "lane", "ready", "since_s")

    def __init__(self, call: Call, give_up_s: float, ready: "asyncio.Future[Slot]") -> None:
        """give_up_s: monotonic. ready: gets the slot."""
        first_token_s, deadline_s = call.first_token_by_s, call.deadline_s
        due_s = min(
            math.inf if first_token_s is None else first_token_s, math.inf if deadline_s is None else deadline_s
        )
        self.key = (due_s, call.arrival)
        self.call = call
        self.since_s = call.arrived_s
        self.give_up_s = give_up_s
        self.ready = ready
        self.is_waiting = True
        self.lane: Lane | None = None

    @property
    def can_be_served(self) -> bool:
        """False also in the moment between its cancellation and its leaving."""
        return self.is_waiting and not self.ready.done()

    def urgency(self, now_s: float, aging_s: float) -> int:
        """Its class, and one more for each `aging_s` that it has waited."""
        return self.call.priority + int((now_s - self.since_s) / aging_s)


class _Heap:
    """Waiters by a key. Who left stays in it until he comes up, or until half of it are such: leaving costs O(1)."""

    __slots__ = ("_entries", "_pushed", "alive")

    def __init__(self) -> None:
        self._entries: list[tuple[float, int, int, Waiter]] = []
        self._pushed = 0
        """Tells entries of one key apart: a call that waits once more keeps its arrival, and its former entry stays."""
        self.alive = 0

    def push(self, key: tuple[float, int], waiter: Waiter) -> None:
        self._pushed += 1
        heapq.heappush(self._entries, (*key, self._pushed, waiter))
        self.alive += 1

    def first(self) -> Waiter | None:
        entries = self._entries
        while entries and not entries[0][3].is_waiting:
            heapq.heappop(entries)
        return entries[0][3] if entries else None

    def left(self) -> None:
        """One of them waits no more."""
        self.alive -= 1
        if len(self._entries) > 2 * self.alive + _SLACK:
            self._entries = [entry for entry in self._entries if entry[3].is_waiting]
            heapq.heapify(self._entries)

    def __iter__(self) -> Iterator[Waiter]:
        return (entry[3] for entry in self._entries if entry[3].is_waiting)


class Lane:
    """What one tenant has waiting in one class: the earliest deadline first, then in order of arrival."""

    __slots__ = ("_ranking", "tenant", "waiters")

    def __init__(self, tenant: Tenant, ranking: "Ranking[Lane]") -> None:
        self.tenant = tenant
        self.waiters = _Heap()
        self._ranking = ranking

    @property
    def counter(self) -> float:
        return self.tenant.counter

    @property
    def is_waiting(self) -> bool:
        return self.waiters.alive > 0

    def place(self) -> None:
        """The tenant's counter has changed."""
        self._ranking.place(self)


class _Band:
    """One class: the tenants' lanes by their counters, and all its waiters by arrival."""

    __slots__ = ("by_arrival", "lanes", "ranking")

    def __init__(self) -> None:
        self.lanes: dict[str, Lane] = {}
        self.ranking: Ranking[Lane] = Ranking()
        self.by_arrival = _Heap()

    def push(self, waiter: Waiter, tenant: Tenant) -> None:
        lane = self.lanes.get(tenant.name)
        if lane is None:
            lane = self.lanes[tenant.name] = Lane(tenant, self.ranking)
            tenant.lanes.add(lane)
        waiter.lane = lane
        lane.waiters.push(waiter.key, waiter)
        self.by_arrival.push((waiter.since_s, waiter.call.arrival), waiter)
        if lane.waiters.alive == 1:
            lane.place()

    def leave(self, waiter: Waiter, lane: Lane) -> None:
        waiter.is_waiting = False
        lane.waiters.left()
        self.by_arrival.left()
        if not lane.is_waiting:
            del self.lanes[lane.tenant.name]
            lane.tenant.lanes.discard(lane)

    def head(self) -> Waiter | None:
        lane = self.ranking.least()
        return lane.waiters.first() if lane is not None else None


class WaitQueue:
    """Those with the same wish. Entering, leaving and finding the next cost O(log n)."""

    __slots__ = ("alive", "bands", "wish")

    def __init__(self, wish: tuple[str, str, frozenset[str]]) -> None:
        """wish: model, API, instances that failed them."""
        self.wish = wish
        self.bands: dict[int, _Band] = {}
        """By class; none is empty."""
        self.alive = 0

    def push(self, waiter: Waiter, tenant: Tenant) -> None:
        """The tenant has been told already (`FairShares.enter`)."""
        band = self.bands.get(waiter.call.priority)
        if band is None:
            band = self.bands[waiter.call.priority] = _Band()
        band.push(waiter, tenant)
        self.alive += 1

    def leave(self, waiter: Waiter) -> None:
        band = self.bands[waiter.call.priority]
        assert waiter.lane is not None, "it was pushed"
        band.leave(waiter, waiter.lane)
        self.alive -= 1
        if not band.lanes:
            del self.bands[waiter.call.priority]

    def living(self) -> list[Waiter]:
        """In no order."""
        return [waiter for band in self.bands.values() for waiter in band.by_arrival if waiter.can_be_served]

    def ahead_of(self, call: Call) -> int:
        """How many will probably start before a request that enters now; aging is left out of account."""
        ahead = 0
        for priority, band in self.bands.items():
            if priority > call.priority:
                ahead += band.by_arrival.alive
            elif priority == call.priority:
                mine = band.lanes.get(call.tenant)
                turns = (mine.waiters.alive if mine is not None else 0) + 1
                ahead += min(band.by_arrival.alive, turns * (len(band.lanes) + (mine is None)) - 1)
        return ahead


class Next(NamedTuple):
    """Who starts next, and in which of the queues it waits."""

    waiter: Waiter
    queue: WaitQueue
    is_lifted: bool
    """True when it is in no waiting class's turn, but older than those."""


def next_of(queues: Sequence[WaitQueue], now_s: float, aging_s: float, *, may_lift: bool) -> Next | None:
    """The next one of those queues; None when they are empty. Its request may just have been cancelled."""
    highest = max((priority for queue in queues for priority in queue.bands), default=None)
    if highest is None:
        return None
    best: Next | None = None
    best_rank = (math.inf, math.inf, 0)
    for queue in queues:
        band = queue.bands.get(highest)
        waiter = band.head() if band is not None else None
        if waiter is not None and waiter.lane is not None:
            rank = (waiter.lane.counter, *waiter.key)
            if best is None or rank < best_rank:
                best, best_rank = Next(waiter, queue, is_lifted=False), rank
    if best is None or not may_lift:
        return best
    urgency = best.waiter.urgency(now_s, aging_s)
    for queue in queues:
        for priority, band in queue.bands.items():
            oldest = band.by_arrival.first() if priority < highest else None
            if oldest is not None and oldest.urgency(now_s, aging_s) > urgency:
                best, urgency = Next(oldest, queue, is_lifted=True), oldest.urgency(now_s, aging_s)
    return best
