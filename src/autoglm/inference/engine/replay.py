"""What another policy would have been worth, from the log of this one: doubly robust, with an interval.

Of each logged decision, the model says what the other policy's choice would have brought; where it would have chosen
what was chosen, the true outcome corrects the model, by how much likelier the other policy was to choose it.
Source: Dudik et al. 2011 (doubly robust); Swaminathan and Joachims 2015 (self-normalised).
"""

import math
from collections.abc import Callable, Sequence

import msgspec

from autoglm.inference.decision import Candidate, Decision, Outcome
from autoglm.inference.engine.objective import PREFERENCES, score

Policy = Callable[[Decision], Sequence[float] | None]
"""The probability of each candidate, or None for a decision it has nothing to say about (its model was not there)."""

CLIP = 20.0
"""The largest importance weight of the clipped estimate."""

_DEVIATIONS = 1.96
"""95% of a normal distribution."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A decision and what came of it, as the ledger holds them."""

    decision: Decision
    outcome: Outcome | None = None
    quality: float | None = None
    """None: never judged."""


class Measure(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked about: how to read it from a step, and what was predicted before the outcome was known."""

    name: str
    observed: Callable[[Step], float | None]
    predicted: Callable[[Candidate], float]
    most: float = math.inf
    """Values lie in [0, most]."""


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    value: float
    low: float
    high: float
    """The 95% interval of `value`."""
    n: int
    """Steps the policy had something to say about."""
    judged: int
    """Those of them whose outcome is known."""
    effective_n: float
    """Kish's size of the judged steps under their importance weights: small means that the log says little."""
    unsupported: float
    """The policy's probability, on average, of what the log could not have chosen; there the model alone speaks."""
    direct: float
    """The model alone: no variance to speak of, all its bias."""
    ips: float
    """The weights alone: no bias, much variance."""
    self_normalised: float
    """Doubly robust, the correction divided by the sum of the weights."""
    clipped: float
    """Doubly robust, weights at most CLIP."""


def _cost(step: Step) -> float | None:
    """None also for what has no cost only because its instance told no usage, as of streams that nobody asks for it."""
    outcome = step.outcome
    is_told = outcome is not None and (outcome.cost or outcome.tokens_in or outcome.tokens_out)
    return outcome.cost if outcome is not None and is_told else None


QUALITY = Measure(name="quality", observed=lambda step: step.quality, predicted=lambda one: one.quality, most=1.0)
LATENCY = Measure(
    name="latency_s",
    observed=lambda step: step.outcome.took_s if step.outcome is not None and step.outcome.status < 400 else None,
    predicted=lambda one: one.latency_s,
)
COST = Measure(
    name="cost",
    observed=_cost,
    predicted=lambda one: one.cost,
)


def doubly_robust(steps: Sequence[Step], policy: Policy, model: Measure = QUALITY) -> Estimate | None:
    """The policy's mean of `model`, or None when no step bears on it.

    The predictions were made before the outcomes, so they need no second half of the log. Outcomes may be missing,
    as long as it does not depend on how they would have been.
    """
    rows = [row for row in (_row(step, policy, model) for step in steps) if row is not None]
    judged = [row for row in rows if row.residual is not None]
    if not judged:
        return None
    n, known = len(rows), len(judged)
    direct = sum(row.direct for row in rows) / n
    corrections = [row.weight * (row.residual or 0.0) for row in judged]
    total = sum(row.weight for row in judged)
    squares = sum(row.weight**2 for row in judged)
    value = direct + sum(corrections) / known
    # What these requests would have brought is asked, not what others would: the direct part is no sample.
    mean = sum(corrections) / known
    variance = sum((correction - mean) ** 2 for correction in corrections) / max(known - 1, 1) / known
    # As if one more step with the largest weight had been off by half the range: without it, a log that never chose
    # what the policy wants would seem to be certain.
    spread = model.most if math.isfinite(model.most) else max(abs(row.residual or 0.0) for row in judged)
    variance += (max(row.largest for row in rows) * 0.5 * spread / known) ** 2
    margin = _DEVIATIONS * math.sqrt(variance)

    def within(number: float) -> float:
        return min(max(number, 0.0), model.most)

    return Estimate(
        value=within(value),
        low=within(value - margin),
        high=within(value + margin),
        n=n,
        judged=known,
        effective_n=total**2 / squares if squares else 0.0,
        unsupported=sum(row.unsupported for row in rows) / n,
        direct=direct,
        ips=sum(row.weight * row.seen for row in judged) / known,
        self_normalised=within(direct + (sum(corrections) / total if total else 0.0)),
        clipped=within(direct + sum(min(row.weight, CLIP) * (row.residual or 0.0) for row in judged) / known),
    )


class _Row(msgspec.Struct, frozen=True):
    direct: float
    weight: float
    residual: float | None
    seen: float
    largest: float
    """The largest weight that this step could have had."""
    unsupported: float


def _row(step: Step, policy: Policy, model: Measure) -> _Row | None:
    candidates, chosen = step.decision.candidates, step.decision.chosen
    wanted = policy(step.decision)
    if wanted is None:
        return None
    direct = sum(share * model.predicted(one) for share, one in zip(wanted, candidates, strict=True) if share)
    ratios = [share / one.propensity for share, one in zip(wanted, candidates, strict=True) if one.propensity > 0.0]
    unsupported = sum(share for share, one in zip(wanted, candidates, strict=True) if one.propensity <= 0.0)
    seen = model.observed(step)
    took = candidates[chosen]
    weight = wanted[chosen] / took.propensity
    residual = None if seen is None else seen - model.predicted(took)
    return _Row(direct, weight, residual, seen or 0.0, max(ratios), unsupported)


POLICIES = ("fast", "balanced", "best", "cheap", "random", "order", "always:MODEL")
"""What `policy_named` knows."""


def policy_named(name: str, *, slo_s: float, cost_scale: float) -> Policy:
    """`fast` and its like: the leader under those weights; `always:MODEL`; `random`; `order`: the first that can.

    Raises KeyError for another name.
    """
    kind, _, model = name.partition(":")
    if kind == "always" and model:
        return lambda decision: _always(decision, model)
    if name == "random":
        return _random
    if name == "order":
        return lambda decision: _one(decision, _able(decision)[:1])
    weights = PREFERENCES[name]

    def leader(decision: Decision) -> Sequence[float] | None:
        able = [index for index in _able(decision) if not decision.candidates[index].ruled_out]

        def value(index: int) -> float:
            one = decision.candidates[index]
            return score(weights, one.quality, one.latency_s, one.cost, slo_s=slo_s, cost_scale=cost_scale)

        return _one(decision, sorted(able, key=value, reverse=True)[:1])

    return leader


def _able(decision: Decision) -> list[int]:
    return [index for index, one in enumerate(decision.candidates) if not one.ruled_out]


def _one(decision: Decision, chosen: Sequence[int]) -> Sequence[float] | None:
    return [float(index in chosen) for index in range(len(decision.candidates))] if chosen else None


def _random(decision: Decision) -> Sequence[float] | None:
    able = _able(decision)
    return [(index in able) / len(able) for index in range(len(decision.candidates))] if able else None


def _always(decision: Decision, model: str) -> Sequence[float] | None:
    return _one(decision, [index for index, one in enumerate(decision.candidates) if one.arm.model == model][:1])
