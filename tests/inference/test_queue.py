"""Who is next: class, fair share, deadline, arrival; and what waiting does to a class. Time is given, nothing waits."""

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoglm.inference.fairness import FairShares
from autoglm.inference.queue import LIFT_EVERY, Waiter, WaitQueue, next_of
from inference.calls import call_of

AGING_S = 10.0


class Line:
    """A queue, its tenants, and a clock."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.shares = FairShares()
        self.queue = WaitQueue(("m", "/chat/completions", frozenset()))
        self.now_s = 0.0
        self.since_lift = LIFT_EVERY
        self.names: dict[int, str] = {}

    def add(self, name: str = "", *, tenant: str = "t", priority: int = 5, deadline_s: float | None = None) -> Waiter:
        call = call_of(100, tenant=tenant, priority=priority, deadline_s=deadline_s)
        call.arrived_s = self.now_s
        call.arrival = len(self.names) + 1
        self.names[call.arrival] = name
        waiter = Waiter(call, 1e9, self.loop.create_future())
        owner = self.shares.tenant(tenant)
        self.shares.enter(owner)
        self.queue.push(waiter, owner)
        return waiter

    def leave(self, waiter: Waiter) -> None:
        assert waiter.lane is not None
        self.shares.leave(waiter.lane.tenant)
        self.queue.leave(waiter)

    def start(self) -> str:
        """As the scheduler does it. Returns the name of who was next."""
        may_lift = self.since_lift >= LIFT_EVERY - 1
        found = next_of([self.queue], self.now_s, AGING_S, may_lift=may_lift)
        assert found is not None
        self.leave(found.waiter)
        self.since_lift = 0 if found.is_lifted else self.since_lift + 1
        self.shares.charge(found.waiter.call)
        return self.names[found.waiter.call.arrival]

    def drain(self) -> list[str]:
        return [self.start() for _ in range(self.queue.alive)]


@pytest.fixture
def line() -> Iterator[Line]:
    loop = asyncio.new_event_loop()
    yield Line(loop)
    loop.close()


def test_class_goes_before_deadline_and_deadline_before_arrival(line: Line) -> None:
    line.add("first")
    line.add("second")
    line.add("late", deadline_s=90.0)
    line.add("soon", deadline_s=50.0)
    line.add("urgent", priority=9)
    line.add("humble", priority=0, deadline_s=1.0)
    assert line.drain() == ["urgent", "soon", "late", "first", "second", "humble"]


def test_tenants_take_turns_however_much_one_has_waiting(line: Line) -> None:
    for _ in range(6):
        line.add("heavy", tenant="heavy")
    for _ in range(2):
        line.add("light", tenant="light")
    assert line.drain()[:4] == ["heavy", "light", "heavy", "light"]


def test_an_earlier_deadline_gains_nothing_over_another_tenant(line: Line) -> None:
    for _ in range(3):
        line.add("patient", tenant="a")
        line.add("pressed", tenant="b", deadline_s=1.0)
    assert line.drain() == ["patient", "pressed"] * 3


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.one_of(st.none(), st.floats(0, 100))), min_size=1, max_size=60))
def test_within_a_tenant_the_order_is_that_of_class_deadline_and_arrival(asks: list[tuple[int, float | None]]) -> None:
    loop = asyncio.new_event_loop()
    line = Line(loop)
    for number, (priority, deadline_s) in enumerate(asks):
        line.add(str(number), priority=priority, deadline_s=deadline_s)
    wanted = sorted(range(len(asks)), key=lambda n: (-asks[n][0], 1e9 if asks[n][1] is None else asks[n][1], n))
    assert line.drain() == [str(number) for number in wanted]
    assert (line.queue.alive, line.queue.bands) == (0, {})
    loop.close()


# --- aging ---


@pytest.mark.parametrize("priority", [0, 4, 8])
def test_under_a_permanent_flood_the_lowest_is_served_within_its_bound(line: Line, priority: int) -> None:
    """The flood is served as it comes, one a second: `(10 - p) * aging_s`, then LIFT_EVERY starts for each older."""
    for number in range(3):
        line.add(f"low {number}", priority=priority)
    served_s: dict[str, float] = {}
    while len(served_s) < 3:
        line.now_s += 1.0
        line.add("flood", priority=9, tenant=f"t{line.now_s % 7}")
        name = line.start()
        if name != "flood":
            served_s[name] = line.now_s
        assert line.now_s < 1000
    for number in range(3):
        assert served_s[f"low {number}"] <= (10 - priority) * AGING_S + LIFT_EVERY * (number + 1)
    assert served_s["low 0"] > (9 - priority) * AGING_S


def test_without_waiting_for_a_class_more_nobody_is_lifted(line: Line) -> None:
    line.add("low", priority=8)
    line.now_s = AGING_S * 1.9
    line.add("high", priority=9)
    assert line.start() == "high"


def test_a_flood_of_aged_low_ones_leaves_most_starts_to_the_high_class(line: Line) -> None:
    for _ in range(400):
        line.add("low", priority=0)
    line.now_s = 1000.0
    started = []
    for _ in range(100):
        line.add("high", priority=9)
        started.append(line.start())
    assert started.count("low") == 100 // LIFT_EVERY


def test_the_one_that_waited_longest_is_lifted_first(line: Line) -> None:
    line.add("older", priority=0, tenant="greedy")
    line.shares.charge(call_of(9999, tenant="greedy"))
    line.now_s = 1.0
    line.add("younger", priority=0, tenant="modest")
    line.now_s = 500.0
    line.add("high", priority=9)
    assert line.start() == "older"


def test_in_its_own_class_a_backlog_gains_nothing_by_age(line: Line) -> None:
    """Else a tenant that piles up requests would shut out all who come later."""
    for _ in range(10):
        line.add("pile", tenant="heavy")
    line.start()
    line.now_s = 500.0
    line.add("new", tenant="light")
    assert "new" in (line.start(), line.start())


# --- leaving ---


def test_who_left_is_not_next_and_does_not_stay_in_memory(line: Line) -> None:
    waiters = [line.add(str(number)) for number in range(5000)]
    for waiter in waiters[:-1]:
        line.leave(waiter)
    band = line.queue.bands[5]
    assert len(band.by_arrival._entries) < 50
    assert line.drain() == ["4999"]
    assert not line.shares.tenant("t").is_waiting
    assert line.shares.tenant("t").lanes == set()


def test_how_many_are_ahead_counts_fair_turns(line: Line) -> None:
    for _ in range(50):
        line.add("heavy", tenant="heavy")
    line.add("urgent", priority=9)
    assert line.queue.ahead_of(call_of(1, tenant="new")) == 2  # the urgent one, and one of the heavy tenant
    assert line.queue.ahead_of(call_of(1, tenant="heavy")) == 51
    assert line.queue.ahead_of(call_of(1, tenant="heavy", priority=9)) == 1


def test_a_call_that_waits_once_more_keeps_its_place_beside_what_is_left_of_it(line: Line) -> None:
    first = line.add("first")
    line.add("second")
    line.leave(first)
    again = Waiter(first.call, 1e9, line.loop.create_future())
    owner = line.shares.tenant("t")
    line.shares.enter(owner)
    line.queue.push(again, owner)
    assert line.queue.alive == 2
    assert next_of([line.queue], line.now_s, AGING_S, may_lift=True) is not None
