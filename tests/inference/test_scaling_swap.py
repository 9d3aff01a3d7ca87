"""Whose turn it is where not all models fit: laws, and courses under a virtual clock."""

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoglm.inference.scaling.ledger import Need
from autoglm.inference.scaling.swap import Loaded, Step, Wanted, next_step, turns

NONE = Need(0, 0)
WAIT_S = 10.0


def loaded(name: str, **fields: Any) -> Loaded:
    usual: dict[str, Any] = {"group": name, "state": "ready", "ready_s": 100.0, "load_s": 2.0, "need": Need(1, 100)}
    return Loaded(name=name, **{**usual, **fields})


def wanted(group: str, **fields: Any) -> Wanted:
    usual: dict[str, Any] = {"waited_s": 1.0, "load_s": 2.0, "drain_s": 1.0, "need": Need(1, 100)}
    return Wanted(group=group, **{**usual, **fields})


def step(workers: list[Loaded], waiting: list[Wanted], room: Need = NONE) -> Step | None:
    return next_step(workers, waiting, room, swap_wait_s=WAIT_S)


def test_who_fits_starts_at_once() -> None:
    assert step([loaded("a", demand=3)], [wanted("b")], Need(1, 100)) == Step(start="b")


def test_of_those_who_wait_the_one_is_next_that_would_be_done_first() -> None:
    waiting = [wanted("slow", load_s=9), wanted("long", drain_s=7), wanted("quick", waited_s=0.1)]
    assert [entry.group for entry in turns(waiting, WAIT_S)] == ["quick", "long", "slow"]


def test_who_has_waited_too_long_is_before_them() -> None:
    waiting = [wanted("quick"), wanted("late", waited_s=11, load_s=60), wanted("later", waited_s=12, load_s=90)]
    assert [entry.group for entry in turns(waiting, WAIT_S)] == ["later", "late", "quick"]


def test_the_busy_keep_their_room_until_somebody_has_waited_too_long() -> None:
    busy = [loaded("a", demand=1)]
    assert step(busy, [wanted("b", waited_s=9.9)]) is None
    assert step(busy, [wanted("b", waited_s=10.0)]) == Step(start="b", stop=("a",))


def test_who_has_just_become_idle_stays_for_as_long_as_its_load_would_take() -> None:
    assert step([loaded("a", idle_s=1.9)], [wanted("b")]) is None
    assert step([loaded("a", idle_s=2.0)], [wanted("b")]) == Step(start="b", stop=("a",))
    assert step([loaded("a", idle_s=0.1)], [wanted("b", waited_s=10)]) == Step(start="b", stop=("a",))


def test_who_was_just_loaded_serves_for_as_long_as_that_took() -> None:
    overdue = [wanted("b", waited_s=60)]
    assert step([loaded("a", demand=1, load_s=20, ready_s=19)], overdue) is None
    assert step([loaded("a", demand=1, load_s=20, ready_s=20)], overdue) is not None
    assert step([loaded("a", demand=1, state="starting")], overdue) is None


def test_room_that_comes_free_is_waited_for() -> None:
    workers = [loaded("a", state="leaving", demand=1), loaded("b", idle_s=60)]
    assert step(workers, [wanted("c")]) is None


def test_who_rests_goes_before_the_busy_and_a_second_worker_before_the_only_one() -> None:
    late = [wanted("c", waited_s=20)]
    assert step([loaded("a", demand=1), loaded("b", idle_s=60)], late) == Step(start="c", stop=("b",))
    pair = [loaded("a", demand=1), loaded("b", demand=5), loaded("b-2", group="b", demand=5)]
    assert step(pair, late) == Step(start="c", stop=("b",))


def test_nobody_leaves_in_vain() -> None:
    """The small one is asked first, as it rests for longer, but its room is too small and the large one's is enough."""
    workers = [loaded("small", idle_s=90, need=Need(1, 10)), loaded("large", idle_s=60)]
    assert step(workers, [wanted("c")]) == Step(start="c", stop=("large",))
    assert step(workers, [wanted("huge", need=Need(1, 1000))]) is None


def test_nobody_takes_the_room_that_one_who_is_overdue_needs() -> None:
    waiting = [wanted("large", waited_s=20, need=Need(2, 200)), wanted("small", need=Need(1, 10))]
    assert step([loaded("a", demand=1, state="starting")], waiting, Need(1, 100)) is None


groups = st.sampled_from("abcdef")
needs = st.builds(Need, st.integers(1, 3), st.integers(1, 300))
workers = st.lists(
    st.builds(
        lambda group, **fields: Loaded(name=group, group=group, **fields), groups,
        state=st.sampled_from(["starting", "ready", "leaving"]), demand=st.integers(0, 3),
        idle_s=st.floats(0, 100), ready_s=st.floats(0, 100), load_s=st.floats(0, 30), need=needs,
    ),
    max_size=6, unique_by=lambda entry: entry.name,
)  # fmt: skip
waiters = st.lists(
    st.builds(
        Wanted, group=st.sampled_from("uvwxyz"), waited_s=st.floats(0, 100), load_s=st.floats(0, 30),
        drain_s=st.floats(0, 30), need=needs,
    ),
    max_size=4, unique_by=lambda entry: entry.group,
)  # fmt: skip


@given(workers, waiters, needs)
def test_a_step_always_leads_to_a_start_that_fits(entries: list[Loaded], waiting: list[Wanted], room: Need) -> None:
    chosen = step(entries, waiting, room)
    if chosen is None:
        return
    need = next(entry.need for entry in waiting if entry.group == chosen.start)
    by_name = {entry.name: entry for entry in entries}
    going = [by_name[name] for name in chosen.stop]
    coming = [entry for entry in entries if entry.state == "leaving"] if going else []
    assert need.fits(sum((entry.need for entry in [*going, *coming]), room))
    is_overdue = any(entry.waited_s >= WAIT_S for entry in waiting)
    assert all(entry.may_leave(is_overdue=is_overdue) for entry in going)
    for one in going:
        others = [entry.need for entry in [*going, *coming] if entry is not one]
        assert not need.fits(sum(others, room)), "one of them goes in vain"


@given(workers, waiters, needs)
def test_without_somebody_overdue_the_busy_stay(entries: list[Loaded], waiting: list[Wanted], room: Need) -> None:
    patient = [msgspec.structs.replace(entry, waited_s=min(entry.waited_s, 9.9)) for entry in waiting]
    chosen = step(entries, patient, room)
    busy = {entry.name for entry in entries if entry.demand}
    assert chosen is None or not busy & set(chosen.stop)


class Machine:
    """One model at a time, one request at a time, under a virtual clock with steps of 0.1 s."""

    def __init__(self, arrivals: list[tuple[float, str]], *, load_s: float, serve_s: float) -> None:
        self.arrivals = sorted(arrivals)
        self.load_s, self.serve_s = load_s, serve_s
        self.model, self.state, self.until_s, self.ready_at_s, self.quiet_at_s = "", "none", 0.0, 0.0, 0.0
        self.queues: dict[str, list[float]] = {name: [] for _, name in arrivals}
        self.unserved_s: dict[str, float] = {}
        self.loads = 0
        self.waits_s: list[float] = []

    def run(self) -> None:
        tick = 0
        while self.arrivals or any(self.queues.values()) or self.state == "busy":
            self.advance(tick / 10)
            tick += 1
            assert tick < 100_000

    def advance(self, now_s: float) -> None:
        while self.arrivals and self.arrivals[0][0] <= now_s:
            at_s, name = self.arrivals.pop(0)
            self.queues[name].append(at_s)
        if self.state == "loading" and now_s >= self.until_s:
            self.state, self.ready_at_s, self.quiet_at_s = "ready", now_s, now_s
        if self.state in ("busy", "busy leaving") and now_s >= self.until_s:
            self.state, self.quiet_at_s = ("none" if "leaving" in self.state else "ready"), now_s
        if self.state == "ready" and self.queues[self.model]:
            self.waits_s.append(now_s - self.queues[self.model].pop(0))
            self.state, self.until_s = "busy", now_s + self.serve_s
        self.swap(now_s)

    def swap(self, now_s: float) -> None:
        entries = []
        if self.state != "none":
            demand = len(self.queues[self.model]) + (self.state == "busy")
            kind: Any = {"loading": "starting", "ready": "ready", "busy": "ready"}.get(self.state, "leaving")
            entries = [
                loaded(
                    self.model, state=kind, demand=demand, ready_s=now_s - self.ready_at_s, load_s=self.load_s,
                    idle_s=0.0 if demand else now_s - self.quiet_at_s,
                )
            ]  # fmt: skip
        absent = [n for n, queue in self.queues.items() if queue and (n != self.model or self.state == "none")]
        if "leaving" in self.state and self.queues[self.model]:
            absent.append(self.model)
        self.unserved_s = {name: self.unserved_s.get(name, now_s) for name in absent}
        waiting = [
            wanted(n, waited_s=now_s - since, load_s=self.load_s, drain_s=len(self.queues[n]) * self.serve_s)
            for n, since in self.unserved_s.items()
        ]
        chosen = step(entries, waiting, NONE if entries else Need(1, 100))
        if chosen is not None and chosen.stop:
            self.state = "busy leaving" if self.state == "busy" else "none"
        elif chosen is not None:
            self.model, self.state, self.until_s = chosen.start, "loading", now_s + self.load_s
            self.loads += 1


def test_requests_for_the_loaded_model_go_first_so_that_each_is_loaded_once() -> None:
    machine = Machine([(i / 10, name) for i, name in enumerate("ABAACA")], load_s=2, serve_s=0.5)
    machine.run()
    assert machine.loads == 3
    assert len(machine.waits_s) == 6


@pytest.mark.parametrize("names", ["AB", "ABC", "AAAAAAAB"])
def test_with_more_work_than_time_nobody_starves_and_most_time_goes_into_work(names: str) -> None:
    """Twice as much as it can do, for five minutes: as many arrivals, turns of at least as long as a load."""
    machine = Machine([(i / 4, names[i % len(names)]) for i in range(1200)], load_s=2, serve_s=0.5)
    now_s, longest_s = 0.0, 0.0
    while machine.arrivals:
        machine.advance(now_s)
        longest_s = max([longest_s, *(now_s - since_s for since_s in machine.unserved_s.values())])
        now_s = round(now_s + 0.1, 1)
    turns_s = (len(names) - 1) * (WAIT_S + 2 + 0.5 + 0.2)
    assert longest_s <= turns_s
    assert machine.loads <= now_s / (WAIT_S / 2)
    assert len(machine.waits_s) * 0.5 >= 0.6 * now_s


def test_an_endless_stream_is_interrupted_for_a_lone_request() -> None:
    machine = Machine([(i / 2, "A") for i in range(200)] + [(5.0, "B")], load_s=2, serve_s=0.5)
    machine.run()
    assert machine.loads == 3
    assert math.isfinite(max(machine.waits_s))
