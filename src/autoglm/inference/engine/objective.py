"""One number for an answer's quality, its time and its cost, so that a request can say which matters."""

from autoglm.inference.decision import Weights

PREFERENCES: dict[str, Weights] = {
    "fast": Weights(quality=1.0, latency=3.0, cost=0.1),
    "balanced": Weights(quality=1.0, latency=0.2, cost=0.2),
    "best": Weights(quality=1.0, latency=0.02, cost=0.0),
    "cheap": Weights(quality=1.0, latency=0.05, cost=0.8),
}
"""What `x-autoglm-prefer` names. Scores compare only under the same weights."""

FLOORS: dict[str, float] = {"fast": 0.75, "balanced": 1.0, "best": 1.0, "cheap": 0.75}
"""Part of the quality floor that holds: who wants it fast or cheap gives up some quality for that."""

WORST_LATENCY = 10.0
"""The latency term's end: beyond ten objectives late, later is no worse, and no score becomes infinite."""

_WITHIN = 0.5
"""What the whole time of the objective costs: an answer in time still is better sooner."""


def score(
    weights: Weights, quality: float, latency_s: float, cost: float, *, slo_s: float, cost_scale: float
) -> float:  # fmt: skip
    """`w_q * q - w_l * lateness - w_c * min(cost / cost_scale, 1)`, higher is better.

    slo_s: the time to the last byte that the caller would like, > 0. cost_scale: the cost that is as bad as any, > 0.
    Rises with quality, falls (or stays) with latency and cost; finite for all arguments that are not NaN.
    """
    spent = min(max(cost, 0.0) / cost_scale, 1.0)
    return weights.quality * quality - weights.latency * lateness(latency_s, slo_s) - weights.cost * spent


def lateness(latency_s: float, slo_s: float) -> float:
    """Half of the objective that is used, plus by how many objectives it is missed; in [0, WORST_LATENCY].

    The usual hinge, `max(0, T / SLO - 1)`, sees no difference between two answers in time; then `fast` would take
    the better one, however much slower. The half keeps the slope inside below the slope outside.
    """
    share = max(latency_s, 0.0) / slo_s
    return min(_WITHIN * min(share, 1.0) + max(share - 1.0, 0.0), WORST_LATENCY)
