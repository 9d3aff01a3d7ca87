"""The replay's estimate is near the truth, its interval holds it, and it says where the log says nothing."""

import math
import random
from collections.abc import Sequence

import pytest

from autoglm.inference.decision import Arm, Candidate, Decision, Outcome, Weights
from autoglm.inference.engine.objective import PREFERENCES
from autoglm.inference.engine.replay import COST, LATENCY, POLICIES, Policy, Step, doubly_robust, policy_named
from autoglm.inference.features import Features

ARMS = (Arm("one"), Arm("two"), Arm("three"))
LOGGED = (0.9, 0.06, 0.04)
"""Propensities."""


def decision(
    qualities: Sequence[float] = (0.5, 0.5, 0.5), propensities: Sequence[float] = LOGGED, chosen: int = 0,
    latencies_s: Sequence[float] = (1.0, 1.0, 1.0), costs: Sequence[float] = (1.0, 1.0, 1.0),
) -> Decision:  # fmt: skip
    candidates = tuple(
        Candidate(
            arm=arm, quality=quality, deviation=0.1, latency_s=latency_s, cost=cost, score=quality,
            propensity=propensity, ruled_out="" if propensity else "below the floor",
        )
        for arm, quality, propensity, latency_s, cost in zip(
            ARMS, qualities, propensities, latencies_s, costs, strict=True
        )
    )  # fmt: skip
    return Decision(
        id="d", time_ms=0, tenant="", prefer="best", weights=Weights(1.0, 0.0, 0.0), features=Features(api="/chat"),
        candidates=candidates, chosen=chosen, is_exploration=False,
    )  # fmt: skip


def log(seed: int, steps: int = 300, judged: float = 0.5) -> tuple[list[Step], list[tuple[float, ...]]]:
    """(steps, each candidate's true quality): predictions are wrong by up to 0.2, and half of the steps are judged."""
    chance = random.Random(seed)
    bias = [chance.uniform(-0.2, 0.2) for _ in ARMS]
    found, truths = [], []
    for _ in range(steps):
        truth = tuple(chance.uniform(0.2, 0.8) for _ in ARMS)
        chosen = chance.choices(range(len(ARMS)), LOGGED)[0]
        quality = float(chance.random() < truth[chosen]) if chance.random() < judged else None
        guesses = [value + error for value, error in zip(truth, bias, strict=True)]
        found.append(Step(decision=decision(guesses, chosen=chosen), quality=quality))
        truths.append(truth)
    return found, truths


def always(place: int) -> Policy:
    return policy_named(f"always:{ARMS[place].model}", slo_s=1.0, cost_scale=1.0)


def test_of_200_logs_the_interval_holds_the_truth_in_at_least_90_percent() -> None:
    covered, errors, model_errors = [0] * 3, [0.0] * 3, [0.0] * 3
    for seed in range(200):
        steps, truths = log(seed, steps=150)
        for place in range(3):
            truth = sum(values[place] for values in truths) / len(truths)
            estimate = doubly_robust(steps, always(place))
            assert estimate is not None
            covered[place] += estimate.low <= truth <= estimate.high
            errors[place] += (estimate.value - truth) / 200
            model_errors[place] += abs(estimate.direct - truth) / 200
    assert min(covered) >= 180
    assert max(map(abs, errors)) < 0.03, "it has no bias, though the model has"
    assert min(model_errors) > 0.08


def test_the_interval_is_narrow_where_the_log_says_much() -> None:
    steps, _ = log(1, steps=2000)
    usual, rare = doubly_robust(steps, always(0)), doubly_robust(steps, always(2))
    assert usual is not None
    assert rare is not None
    assert usual.high - usual.low < 0.1 < rare.high - rare.low
    assert usual.effective_n > 5 * rare.effective_n


def test_a_log_that_never_chose_it_leaves_the_interval_wide() -> None:
    steps = [Step(decision=decision(), quality=0.5) for _ in range(200)]
    estimate = doubly_robust(steps, always(2))
    assert estimate is not None
    assert estimate.effective_n == 0.0
    assert estimate.high - estimate.low > 0.2


def test_what_the_log_could_not_have_chosen_is_counted() -> None:
    steps = [Step(decision=decision(propensities=(1.0, 0.0, 0.0)), quality=1.0) for _ in range(10)]
    estimate = doubly_robust(steps, always(1))
    assert estimate is not None
    assert (estimate.unsupported, estimate.value) == (1.0, 0.5)


def test_the_policy_of_the_log_itself_is_worth_what_was_seen() -> None:
    steps, _ = log(2)
    seen = [step.quality for step in steps if step.quality is not None]
    estimate = doubly_robust(steps, lambda one: [candidate.propensity for candidate in one.candidates])
    assert estimate is not None
    assert estimate.ips == pytest.approx(sum(seen) / len(seen))
    assert estimate.judged == len(seen)
    assert estimate.effective_n == pytest.approx(len(seen))


def test_without_a_judged_step_there_is_no_estimate() -> None:
    assert doubly_robust([Step(decision=decision())], always(0)) is None
    assert doubly_robust([], always(0)) is None
    assert (
        doubly_robust([Step(decision=decision(), quality=1.0)], policy_named("always:x", slo_s=1, cost_scale=1)) is None
    )


def test_time_and_cost_are_replayed_too() -> None:
    outcome = Outcome(status=200, took_s=3.0, cost=0.5)
    steps = [Step(decision=decision(chosen=number % 2), outcome=outcome) for number in range(100)]
    took, cost = doubly_robust(steps, always(0), LATENCY), doubly_robust(steps, always(0), COST)
    assert took is not None
    assert cost is not None
    assert took.self_normalised == pytest.approx(3.0)
    assert cost.self_normalised == pytest.approx(0.5)
    assert all(math.isfinite(number) for number in (took.low, took.high, cost.low, cost.high))


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("best", [1.0, 0.0, 0.0]),
        ("fast", [0.0, 1.0, 0.0]),
        ("cheap", [0.0, 0.0, 1.0]),
        ("order", [1.0, 0.0, 0.0]),
        ("always:two", [0.0, 1.0, 0.0]),
        ("always:four", None),
        ("random", [1 / 3] * 3),
    ],
)
def test_policies_by_name(name: str, wanted: list[float] | None) -> None:
    given = decision((0.9, 0.8, 0.7), latencies_s=(9.0, 1.0, 5.0), costs=(1.0, 0.9, 0.1))
    assert policy_named(name, slo_s=8.0, cost_scale=1.0)(given) == wanted


def test_an_unknown_policy_is_refused_and_all_preferences_are_known() -> None:
    assert set(PREFERENCES) < set(POLICIES)
    for name in ("worst", "always:"):
        with pytest.raises(KeyError):
            policy_named(name, slo_s=1.0, cost_scale=1.0)


def test_what_told_no_usage_is_not_taken_for_free() -> None:
    streamed = [Step(decision=decision(), outcome=Outcome(status=200, took_s=3.0)) for _ in range(20)]
    assert doubly_robust(streamed, always(0), COST) is None
    told = [Step(decision=decision(), outcome=Outcome(status=200, tokens_in=5, tokens_out=9, cost=0.5))] * 20
    found = doubly_robust(streamed + told, always(0), COST)
    assert found is not None
    assert (found.n, found.judged) == (40, 20)
    assert found.value == pytest.approx(1.0 - 0.5 / LOGGED[0])
    free = [Step(decision=decision(), outcome=Outcome(status=200, tokens_in=5, tokens_out=9))] * 20
    found = doubly_robust(free, always(0), COST)
    assert found is not None
    assert found.value == pytest.approx(0.0)
