"""How many workers are wanted: laws for any history, and the course of a burst under a virtual clock."""

import math
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from autoglm.inference.scaling.desired import Bounds, Sample, desired_replicas, kept_s, sample_interval_s
from autoglm.inference.scaling.settings import ScalingSettings

SETTINGS = ScalingSettings()
BOUNDS = Bounds(replicas_min=0, replicas_max=8, slots=4)
TARGET = 4 * 0.7

histories = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 8)), min_size=1, max_size=70).map(
    lambda pairs: [Sample(float(index), demand, ready) for index, (demand, ready) in enumerate(pairs)]
)
limits = st.tuples(st.integers(0, 4), st.integers(4, 64), st.integers(1, 16)).map(lambda limit: Bounds(*limit))


def steady(seconds: int, demand: int, ready: int, *, since_s: int = 0) -> list[Sample]:
    return [Sample(float(second), demand, ready) for second in range(since_s, since_s + seconds)]


def desired(history: list[Sample], bounds: Bounds = BOUNDS, quiet_s: float = 0.0) -> int:
    return desired_replicas(history, history[-1].at_s, bounds, SETTINGS, quiet_s=quiet_s)


@given(histories, limits, st.floats(0, 1000))
def test_the_limits_of_the_operator_hold(history: list[Sample], bounds: Bounds, quiet_s: float) -> None:
    assert bounds.replicas_min <= desired(history, bounds, quiet_s) <= bounds.replicas_max


@given(histories, limits)
def test_with_demand_there_is_at_least_one(history: list[Sample], bounds: Bounds) -> None:
    history = [*history, Sample(history[-1].at_s + 1, 1, 0)]
    assert desired(history, bounds, quiet_s=math.inf) >= 1


@given(histories, limits)
def test_no_step_is_larger_than_the_rates_allow(history: list[Sample], bounds: Bounds) -> None:
    ready = history[-1].ready
    wanted = desired(history, bounds)
    assert wanted <= max(bounds.replicas_min, ready * SETTINGS.scale_up_rate, 1)
    assert wanted >= min(bounds.replicas_max, math.floor(ready / SETTINGS.scale_down_rate))


@given(histories, st.integers(0, 7))
def test_more_demand_never_wants_fewer(history: list[Sample], more: int) -> None:
    heavier = [sample._replace(demand=sample.demand + more) for sample in history]
    assert desired(heavier) >= desired(history)


@given(histories)
def test_the_number_never_falls_during_a_burst(history: list[Sample]) -> None:
    """Not for a whole stable window after its last moment, whatever is asked meanwhile."""
    burst = steady(6, 100, 1, since_s=1000)
    quiet = steady(50, 0, 8, since_s=1006)
    numbers = [desired([*history, *burst, *quiet[:seconds]]) for seconds in range(1, 50)]
    assert numbers == [8] * 49


def test_a_steady_demand_gets_what_the_target_says() -> None:
    assert desired(steady(120, 10, 4)) == math.ceil(10 / TARGET) == 4


def test_whoever_waits_for_the_first_worker_shares_one_start() -> None:
    assert desired(steady(3, 100, 0)) == 1


def test_a_burst_is_seen_within_the_panic_window() -> None:
    before = steady(120, 2, 1)
    numbers = [desired([*before, *steady(second, 20, 1, since_s=120)]) for second in range(1, 7)]
    assert numbers[0] == 1
    assert max(numbers) == numbers[-1] == math.ceil(20 / TARGET)
    stable = (20 * 6 + 2 * 54) / 60
    assert math.ceil(stable / TARGET) == 2, "the stable window alone would not have seen it"


def test_after_a_burst_the_number_falls_step_by_step() -> None:
    """Once the burst has left the stable window: at most by half at a time."""
    history = steady(10, 22, 1)
    ready, course = 1, []
    for second in range(10, 90):
        history.append(Sample(float(second), 2, ready))
        ready = desired(history)
        course.append(ready)
    steps = [(before, now) for before, now in pairwise(course) if now < before]
    assert max(course) == 8
    assert len(steps) >= 3
    assert all(now >= before // 2 for before, now in steps)
    assert course[-1] == 1


def test_to_zero_it_goes_after_the_idle_time_only() -> None:
    history = steady(66, 0, 1)
    assert desired(history, quiet_s=SETTINGS.idle_s - 1) == 1
    assert desired(history, quiet_s=SETTINGS.idle_s) == 0
    assert desired(history, BOUNDS._replace(replicas_min=1), quiet_s=math.inf) == 1


def test_nobody_has_asked_yet() -> None:
    assert desired_replicas((), 0.0, BOUNDS._replace(replicas_min=2), SETTINGS, quiet_s=math.inf) == 2


@given(st.floats(1, 3600), st.floats(1, 3600))
def test_what_is_kept_is_bounded(stable_s: float, panic_s: float) -> None:
    settings = ScalingSettings(stable_window_s=stable_s, panic_window_s=panic_s)
    assert kept_s(settings) / sample_interval_s(settings) <= 1300
