"""Fair shares between tenants: virtual token counters, one set of them for the queues of all models.

Source: Sheng et al. 2024, "Fairness in Serving Large Language Models" (arXiv 2401.00588), the VTC algorithm. There a
token is charged when it comes; here an estimate is charged at dispatch and corrected once the usage is known. So
between two tenants that both wait all the time, the difference of what they got is bounded by
`2 * U * (S + 1)`, U the costliest request or estimate and S the slots (the paper's M, too, counts what is in flight).
"""

import heapq
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from autoglm.inference.call import Call

if TYPE_CHECKING:
    from autoglm.inference.queue import Lane

MAX_TENANTS = 10_000
"""How many are remembered. Whom a return would lift anyway is forgotten first: that costs him nothing."""
MOST_ESTIMATED_TOKENS = 32_768
"""Of prompt or answer: pictures are long, but few tokens. What it really was is charged in the end."""

_BYTES_PER_TOKEN = 4
_MOST_BYTES = _BYTES_PER_TOKEN * MOST_ESTIMATED_TOKENS
_FIRST_GUESS_TOKENS = 256.0
_SMOOTHING = 0.1  # weight of the newest answer in the running mean of lengths
_OUTLIER = 8.0
"""A longer answer than so many means counts as one of that length: none moves a mean far."""
# Quotes within a text are escaped in JSON, so no prompt can hold this.
_MAX_TOKENS = re.compile(rb'"max_(?:completion_|output_)?tokens"\s*:\s*(\d{1,9})')


class Ranked(Protocol):
    """What has a counter that changes."""

    @property
    def counter(self) -> float: ...

    @property
    def is_waiting(self) -> bool: ...


Item = TypeVar("Item", bound=Ranked)


class Ranking(Generic[Item]):
    """Finds the item with the smallest counter; of equals, the one that was placed first.

    A heap. Each change of a counter places its item anew, O(log n); outdated entries go when they come up, or when
    they are half of all.
    """

    __slots__ = ("_heap", "_limit", "_placed")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Item]] = []
        self._placed = 0
        self._limit = 64

    def place(self, item: Item) -> None:
        self._placed += 1
        heapq.heappush(self._heap, (item.counter, self._placed, item))
        if len(self._heap) > self._limit:
            newest = {id(entry[2]): entry for entry in sorted(self._heap, reverse=True) if _is_true(entry)}
            self._heap = sorted(newest.values())
            self._limit = 2 * len(self._heap) + 64

    def least(self) -> Item | None:
        heap = self._heap
        while heap and not _is_true(heap[0]):
            heapq.heappop(heap)
        return heap[0][2] if heap else None


def _is_true(entry: tuple[float, int, Ranked]) -> bool:
    return entry[2].is_waiting and entry[2].counter == entry[0]


class Tenant:
    """Who pays for requests. `counter`: weighted tokens that he got, divided by his weight."""

    __slots__ = ("counter", "lanes", "name", "output_tokens", "waiting", "weight")

    def __init__(self, name: str, weight: float) -> None:
        self.name = name
        self.weight = weight
        self.counter = 0.0
        self.output_tokens = 0.0
        """Running mean of his answers' lengths; 0 until there is one."""
        self.waiting = 0
        """Requests of his in the queues."""
        self.lanes: set[Lane] = set()
        """Where those are."""

    @property
    def is_waiting(self) -> bool:
        return self.waiting > 0


class Charge:
    """What one attempt costs its tenant, from its dispatch until it is settled."""

    __slots__ = ("amount", "output_tokens", "prompt_tokens", "tenant")

    def __init__(self, tenant: Tenant, prompt_tokens: float, output_tokens: float, amount: float) -> None:
        self.tenant = tenant
        self.prompt_tokens = prompt_tokens
        """Estimated, as the next."""
        self.output_tokens = output_tokens
        self.amount = amount
        """On the tenant's counter, in weighted tokens divided by his weight."""


class FairShares:
    """The counters of all tenants."""

    def __init__(
        self, *, input_weight: float = 1.0, output_weight: float = 2.0, weights: Mapping[str, float] | None = None
    ) -> None:
        """input_weight, output_weight: the cost of a token. weights: of tenants; 1 for those that are not named."""
        self._input_weight = input_weight
        self._output_weight = output_weight
        self._weights = dict(weights or {})
        self._tenants: dict[str, Tenant] = {}
        self._waiting: Ranking[Tenant] = Ranking()
        self._last: Tenant | None = None
        """Who was served last of those that then had nothing more in the queue."""
        self._output_tokens = _FIRST_GUESS_TOKENS

    def __len__(self) -> int:
        return len(self._tenants)

    def tenant(self, name: str) -> Tenant:
        found = self._tenants.get(name)
        if found is None:
            if len(self._tenants) >= MAX_TENANTS:
                self._forget()
            found = self._tenants[name] = Tenant(name, self._weights.get(name, 1.0))
        return found

    def _forget(self) -> None:
        """Those that wait stay, and a few whose counters a return would not lift."""
        waiting = [tenant for tenant in self._tenants.values() if tenant.waiting]
        idle = [tenant for tenant in self._tenants.values() if not tenant.waiting]
        kept = heapq.nlargest(MAX_TENANTS // 2, idle, key=lambda tenant: tenant.counter)
        self._tenants = {tenant.name: tenant for tenant in (*waiting, *kept)}

    # --- the queue ---

    def enter(self, tenant: Tenant) -> None:
        """One more of his requests waits. Who comes back has saved up nothing: he is lifted to those that wait."""
        if not tenant.waiting:
            self._lift(tenant)
            tenant.waiting = 1
            self._waiting.place(tenant)
        else:
            tenant.waiting += 1

    def leave(self, tenant: Tenant) -> None:
        """One of his requests waits no more."""
        tenant.waiting -= 1

    def _lift(self, tenant: Tenant) -> None:
        least = self._waiting.least() or self._last
        if least is not None and least.counter > tenant.counter:
            tenant.counter = least.counter

    # --- what requests cost ---

    def estimate(self, call: Call) -> tuple[float, float]:
        """(prompt tokens, output tokens) that a call will probably take; made once for each call."""
        if call.estimate is not None:
            return call.estimate
        tenant, body = self._tenants.get(call.tenant), call.body
        size = len(body)
        prompt_tokens = size / _BYTES_PER_TOKEN if size < _MOST_BYTES else MOST_ESTIMATED_TOKENS
        output_tokens = (tenant is not None and tenant.output_tokens) or self._output_tokens
        at = body.find(b'"max_')
        if at >= 0:
            limit = _MAX_TOKENS.match(body, at) or _MAX_TOKENS.search(body, at + 1)
            if limit is not None:
                call.bound_tokens = bound = float(limit[1])
                output_tokens = min(output_tokens, bound)
        call.estimate = estimate = (prompt_tokens, output_tokens)
        return estimate

    def charge(self, call: Call) -> Charge:
        """A request starts: charge what it will probably cost."""
        tenant = self._tenants.get(call.tenant) or self.tenant(call.tenant)
        if not tenant.waiting:
            if tenant is not self._last:
                self._lift(tenant)
            self._last = tenant
        prompt_tokens, output_tokens = call.estimate or self.estimate(call)
        amount = (self._input_weight * prompt_tokens + self._output_weight * output_tokens) / tenant.weight
        tenant.counter += amount
        if tenant.waiting:
            self._moved(tenant)
        return Charge(tenant, prompt_tokens, output_tokens, amount)

    def settle(self, charge: Charge, tokens_in: float, tokens_out: float, *, is_whole: bool) -> None:
        """Correct a charge by what it really was.

        is_whole: the answer came to its end, so that its length teaches.
        """
        tenant = charge.tenant
        if is_whole and tokens_out:
            mean, length = tenant.output_tokens, tokens_out
            if length > _FIRST_GUESS_TOKENS:  # no mean is so short that less would be too long
                length = min(length, _OUTLIER * (mean or self._output_tokens) + _FIRST_GUESS_TOKENS)
            tenant.output_tokens = mean + (length - mean) * _SMOOTHING if mean else length
            if length > _FIRST_GUESS_TOKENS:
                length = min(length, _OUTLIER * self._output_tokens + _FIRST_GUESS_TOKENS)
            self._output_tokens += (length - self._output_tokens) * _SMOOTHING
        amount = (self._input_weight * tokens_in + self._output_weight * tokens_out) / tenant.weight
        tenant.counter += amount - charge.amount
        charge.amount = amount
        if tenant.waiting:
            self._moved(tenant)

    def _moved(self, tenant: Tenant) -> None:
        self._waiting.place(tenant)
        for lane in tenant.lanes:
            lane.place()
