"""What an answer of a model would take, by what its instances do now and did lately."""

from typing import NamedTuple

from autoglm.inference.call import Call
from autoglm.inference.scheduler import NOTHING, Scheduler


class Forecast(NamedTuple):
    latency_s: float
    """To the last byte, with the wait for a slot."""
    compute_s: float
    """The part of it in which the instance works."""


_UNKNOWN_S = 1.0


def forecast(
    scheduler: Scheduler, call: Call, model: str, now_s: float, excluded: frozenset[str] = NOTHING
) -> Forecast | None:
    """For the instance that would finish first; None when no instance of the model can take the call."""
    best: Forecast | None = None
    for instance in scheduler.candidates(model, call.api):
        wait_s = instance.may_recover(now_s)
        if wait_s is None or instance.name in excluded:
            continue
        compute_s = instance.held_s or instance.mean_s or _UNKNOWN_S
        if not instance.is_free(now_s):
            wait_s += compute_s * (1 + scheduler.waiting_for(instance)) / instance.limit
        if best is None or wait_s + compute_s < best.latency_s:
            best = Forecast(wait_s + compute_s, compute_s)
    return best
