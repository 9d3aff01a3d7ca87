"""Those who wait for a slot, the most urgent first."""

import asyncio
import heapq
import math

from autoglm.inference.call import Call
from autoglm.inference.instance import Instance, Slot

_SLACK = 16


class Waiter:
    """A request in the queue. Orders by priority, then deadline, then arrival."""

    __slots__ = ("call", "excluded", "give_up_s", "is_waiting", "key", "ready")

    def __init__(self, call: Call, excluded: frozenset[str], give_up_s: float, ready: "asyncio.Future[Slot]") -> None:
        """excluded: instances that have failed the call. give_up_s: monotonic. ready: gets the slot."""
        self.key = (-call.priority, math.inf if call.deadline_s is None else call.deadline_s, call.arrival)
        self.call = call
        self.excluded = excluded
        self.give_up_s = give_up_s
        self.ready = ready
        self.is_waiting = True

    def __lt__(self, other: "Waiter") -> bool:
        return self.key < other.key

    @property
    def can_be_served(self) -> bool:
        """False also in the moment between its cancellation and its leaving."""
        return self.is_waiting and not self.ready.done()


class WaitQueue:
    """A heap. Who left stays in it until he comes to the top, or until half of it are such: leaving costs O(1)."""

    __slots__ = ("_heap", "alive")

    def __init__(self) -> None:
        self._heap: list[Waiter] = []
        self.alive = 0

    def push(self, waiter: Waiter) -> None:
        heapq.heappush(self._heap, waiter)
        self.alive += 1

    def leave(self, waiter: Waiter) -> None:
        waiter.is_waiting = False
        self.alive -= 1
        if len(self._heap) > 2 * self.alive + _SLACK:
            self._heap = self.living()
            heapq.heapify(self._heap)

    def living(self) -> list[Waiter]:
        """In no order."""
        return [waiter for waiter in self._heap if waiter.can_be_served]

    def most_urgent(self, free: list[Instance]) -> Waiter | None:
        """The first whom one of the free instances fits; None when there is none."""
        heap = self._heap
        while heap and not heap[0].is_waiting:
            heapq.heappop(heap)
        if not heap:
            return None
        if not heap[0].excluded and heap[0].can_be_served:
            return heap[0]
        # The first has just been cancelled, or is a retry that shuns an instance: those behind must not wait for it.
        fitting = (
            waiter
            for waiter in heap
            if waiter.can_be_served and any(entry.name not in waiter.excluded for entry in free)
        )
        return min(fitting, default=None)
