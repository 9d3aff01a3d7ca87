"""Which model gets room next where not all fit, and who makes it.

Of those that are asked for and do not run, the one that would be done first: time to load and to serve its queue
(shortest job first). Who runs keeps its room while it is asked for, so that A B A A C A loads each model once; who has
waited `swap_wait_s` is next, and the busy make room, too. So the longest wait for a start is that time, plus the
requests that run, plus the loads of those that waited longer.

A worker that has just become idle stays for as long as its own load would take, at most until another is overdue: its
next request may be a moment away, and a start would cost as much (the ski-rental rule; Iyer, Druschel 2001,
"anticipatory scheduling").
"""

from collections.abc import Sequence
from typing import Literal

import msgspec

from autoglm.inference.scaling.ledger import Need

State = Literal["starting", "ready", "leaving"]


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """A worker that holds room."""

    name: str
    group: str
    state: State
    """leaving: it takes nothing new, and its room comes free."""
    demand: int = 0
    """Requests that run on it, and those that wait for its group."""
    idle_s: float = 0.0
    """For how long nothing was asked of it."""
    ready_s: float = 0.0
    """For how long it has been ready."""
    load_s: float = 0.0
    """What its start takes."""
    need: Need

    def may_leave(self, *, is_overdue: bool) -> bool:
        """Whether it may make room for another; is_overdue: for one that has waited too long.

        The busy stay for at least as long as it took to load them: else all time would go into loading.
        """
        if self.state != "ready":
            return False
        if is_overdue:
            return self.demand == 0 or self.ready_s >= self.load_s
        return self.demand == 0 and self.idle_s >= self.load_s


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A group that is asked for and has no worker."""

    group: str
    waited_s: float
    """Since the first of its requests found none."""
    load_s: float
    drain_s: float
    """What its queue takes once it is loaded."""
    need: Need


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """What to do now: send away those of `stop`, or, when there are none, start a worker of `start`."""

    start: str
    stop: tuple[str, ...] = ()


def next_step(loaded: Sequence[Loaded], wanted: Sequence[Wanted], room: Need, *, swap_wait_s: float) -> Step | None:
    """None when nothing can be done now: nobody wants a start, or the time or the room has not come."""
    coming = sum((entry.need for entry in loaded if entry.state == "leaving"), Need())
    for entry in turns(wanted, swap_wait_s):
        if entry.need.fits(room):
            return Step(start=entry.group)
        if entry.need.fits(room + coming):
            return None  # the room that comes free is for this one
        is_overdue = entry.waited_s >= swap_wait_s
        leaving = _those_to_leave(loaded, entry.need, room + coming, is_overdue=is_overdue)
        if leaving:
            return Step(start=entry.group, stop=leaving)
        if is_overdue:
            return None  # nobody behind it may take the room that it needs
    return None


def turns(wanted: Sequence[Wanted], swap_wait_s: float) -> list[Wanted]:
    """In the order in which they get room: the overdue by their wait, then the others by their predicted finish."""
    overdue = sorted((entry for entry in wanted if entry.waited_s >= swap_wait_s), key=lambda entry: -entry.waited_s)
    others = [entry for entry in wanted if entry.waited_s < swap_wait_s]
    return [*overdue, *sorted(others, key=lambda entry: entry.load_s + entry.drain_s)]


def _those_to_leave(loaded: Sequence[Loaded], need: Need, room: Need, *, is_overdue: bool) -> tuple[str, ...]:
    """Workers whose room makes `need` fit, none of them in vain; empty when there are not enough.

    The idle first, those longest idle before others; for an overdue group also the busy, those of groups that keep
    another worker before the last of a group.
    """
    ready = [entry.group for entry in loaded if entry.state == "ready"]
    candidates = [entry for entry in loaded if entry.may_leave(is_overdue=is_overdue)]
    candidates.sort(
        key=lambda entry: (entry.demand > 0, ready.count(entry.group) == 1, entry.demand, -entry.idle_s),
    )
    leaving: list[Loaded] = []
    for entry in candidates:
        if need.fits(room + _sum(leaving)):
            break
        leaving.append(entry)
    if not need.fits(room + _sum(leaving)):
        return ()
    for entry in tuple(leaving):
        others = [other for other in leaving if other is not entry]
        if need.fits(room + _sum(others)):
            leaving = others
    return tuple(entry.name for entry in leaving)


def _sum(entries: Sequence[Loaded]) -> Need:
    return sum((entry.need for entry in entries), Need())
