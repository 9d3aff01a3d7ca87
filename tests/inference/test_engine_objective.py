"""The objective: more quality is better, more time and cost never are, and every score is finite."""

import math

from hypothesis import given
from hypothesis import strategies as st

from autoglm.inference.decision import Weights
from autoglm.inference.engine.objective import PREFERENCES, WORST_LATENCY, lateness, score

weights = st.builds(Weights, st.floats(0, 10), st.floats(0, 10), st.floats(0, 10))
qualities = st.floats(0, 1)
amounts = st.floats(0, allow_nan=False)


def at(given: Weights, quality: float, latency_s: float, cost: float) -> float:
    return score(given, quality, latency_s, cost, slo_s=8.0, cost_scale=2.0)


@given(weights, qualities, qualities, amounts, amounts)
def test_more_quality_is_never_worse(given: Weights, one: float, two: float, latency_s: float, cost: float) -> None:
    assert at(given, min(one, two), latency_s, cost) <= at(given, max(one, two), latency_s, cost)


@given(weights, qualities, amounts, amounts, amounts)
def test_more_time_is_never_better(given: Weights, quality: float, one: float, two: float, cost: float) -> None:
    assert at(given, quality, max(one, two), cost) <= at(given, quality, min(one, two), cost)


@given(weights, qualities, amounts, amounts, amounts)
def test_more_cost_is_never_better(given: Weights, quality: float, one: float, two: float, latency_s: float) -> None:
    assert at(given, quality, latency_s, max(one, two)) <= at(given, quality, latency_s, min(one, two))


@given(weights, qualities, amounts, amounts)
def test_every_score_is_finite(given: Weights, quality: float, latency_s: float, cost: float) -> None:
    assert math.isfinite(at(given, quality, latency_s, cost))


def test_beyond_the_objective_each_further_one_costs_a_whole_and_within_it_a_half() -> None:
    assert [lateness(time_s, 8.0) for time_s in (0.0, 4.0, 8.0, 16.0, 24.0)] == [0.0, 0.25, 0.5, 1.5, 2.5]
    assert lateness(1e12, 8.0) == WORST_LATENCY


def test_the_scale_of_cost_is_its_end() -> None:
    only_cost = Weights(quality=0.0, latency=0.0, cost=1.0)
    assert [at(only_cost, 1.0, 0.0, cost) for cost in (0.0, 1.0, 2.0, 99.0)] == [0.0, -0.5, -1.0, -1.0]


def test_fast_takes_the_faster_of_two_answers_in_time_and_best_the_better() -> None:
    better, faster = (0.9, 7.0, 0.1), (0.8, 1.0, 0.1)
    assert at(PREFERENCES["fast"], *faster) > at(PREFERENCES["fast"], *better)
    assert at(PREFERENCES["best"], *better) > at(PREFERENCES["best"], *faster)


def test_cheap_takes_the_cheaper_where_balanced_does_not() -> None:
    dear, cheap = (0.9, 2.0, 1.0), (0.7, 2.0, 0.1)
    assert at(PREFERENCES["cheap"], *cheap) > at(PREFERENCES["cheap"], *dear)
    assert at(PREFERENCES["balanced"], *dear) > at(PREFERENCES["balanced"], *cheap)
