"""Nothing is given up because a clock was set."""

import pytest

from autoglm.channels.outbox import ages
from autoglm.channels.outbox.ages import GRACE_S, Ages

DAY_S = 86_400.0
START_MS = 1_790_000_000_000


class Clocks:
    """The wall clock, which may be set, and the one that nobody sets."""

    def __init__(self) -> None:
        self.wall_ms, self.steady_s = START_MS, 50.0

    def pass_s(self, seconds: float) -> None:
        self.wall_ms += round(1000 * seconds)
        self.steady_s += seconds


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    made = Clocks()
    monkeypatch.setattr(ages, "now_ms", lambda: made.wall_ms)
    monkeypatch.setattr(ages, "monotonic_s", lambda: made.steady_s)
    return made


OLD, NEW = 10, 20
"""Numbers of messages: one from before the start, one that came after it."""


def aged() -> Ages:
    made = Ages()
    made.start_seq = OLD
    return made


def test_it_is_over_when_it_has_waited_for_so_long(clocks: Clocks) -> None:
    known = aged()
    known.mark(NEW)
    clocks.pass_s(2 * DAY_S)
    assert not known.is_over(NEW, START_MS, 3 * DAY_S)
    assert known.is_over(NEW, START_MS, 3 * DAY_S, in_s=DAY_S + 1)
    clocks.pass_s(DAY_S + 1)
    assert known.is_over(NEW, START_MS, 3 * DAY_S)


@pytest.mark.parametrize("up_s", [60.0, 30 * DAY_S])
def test_a_clock_that_jumps_ahead_makes_nothing_old(clocks: Clocks, up_s: float) -> None:
    known = aged()
    known.mark(NEW - 1)
    clocks.pass_s(up_s)
    known.mark(NEW)
    taken_ms = clocks.wall_ms
    clocks.pass_s(GRACE_S + 1)
    clocks.wall_ms += round(1000 * 365 * DAY_S)
    assert not known.is_over(NEW, taken_ms, 3 * DAY_S)
    clocks.pass_s(3 * DAY_S)
    assert known.is_over(NEW, taken_ms, 3 * DAY_S)


def test_a_clock_that_is_put_back_lets_nothing_wait_for_ever(clocks: Clocks) -> None:
    known = aged()
    clocks.wall_ms += round(1000 * 300 * DAY_S)
    known.mark(NEW)
    taken_ms = clocks.wall_ms
    clocks.wall_ms -= round(1000 * 300 * DAY_S)
    clocks.pass_s(2 * DAY_S)
    assert not known.is_over(NEW, taken_ms, 3 * DAY_S)
    clocks.pass_s(DAY_S + 1)
    assert known.is_over(NEW, taken_ms, 3 * DAY_S)


def test_messages_between_two_marks_are_no_older_than_they_are(clocks: Clocks) -> None:
    known = aged()
    known.mark(NEW)
    clocks.pass_s(50)
    known.mark(NEW + 1)
    taken_ms = clocks.wall_ms
    clocks.pass_s(61)
    assert not known.is_over(NEW + 1, taken_ms, 61.5)
    assert known.is_over(NEW + 1, taken_ms, 60.0)


def test_after_a_start_there_is_time_for_the_network_to_come_up(clocks: Clocks) -> None:
    known = aged()
    before_ms = START_MS - round(1000 * 10 * DAY_S)
    assert not known.is_over(OLD, before_ms, 3 * DAY_S)
    clocks.pass_s(GRACE_S + 1)
    assert known.is_over(OLD, before_ms, 3 * DAY_S)


def test_a_short_time_to_give_up_is_no_longer_after_a_start(clocks: Clocks) -> None:
    known = aged()
    clocks.pass_s(61)
    assert known.is_over(OLD, START_MS, 60.0)
