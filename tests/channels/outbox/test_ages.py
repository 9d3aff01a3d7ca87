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


def test_it_is_over_when_it_has_waited_for_so_long(clocks: Clocks) -> None:
    known = Ages()
    clocks.pass_s(2 * DAY_S)
    assert not known.is_over(START_MS, 3 * DAY_S)
    assert known.is_over(START_MS, 3 * DAY_S, in_s=DAY_S + 1)
    clocks.pass_s(DAY_S + 1)
    assert known.is_over(START_MS, 3 * DAY_S)


def test_a_clock_that_jumps_ahead_makes_nothing_old(clocks: Clocks) -> None:
    known = Ages()
    clocks.pass_s(GRACE_S + 1)
    clocks.wall_ms += round(1000 * 365 * DAY_S)
    assert not known.is_over(START_MS, 3 * DAY_S)
    taken_ms = clocks.wall_ms  # what comes after the jump is counted by the new time
    clocks.pass_s(3 * DAY_S + 1)
    assert known.is_over(taken_ms, 3 * DAY_S)


def test_after_a_start_there_is_time_for_the_network_to_come_up(clocks: Clocks) -> None:
    known = Ages()
    before_ms = START_MS - round(1000 * 10 * DAY_S)
    assert not known.is_over(before_ms, 3 * DAY_S)
    clocks.pass_s(GRACE_S + 1)
    assert known.is_over(before_ms, 3 * DAY_S)


def test_a_short_time_to_give_up_is_no_longer_after_a_start(clocks: Clocks) -> None:
    known = Ages()
    clocks.pass_s(61)
    assert known.is_over(START_MS, 60.0)
