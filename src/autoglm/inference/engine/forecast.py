"""What an answer of a model would take, by what its instances do now and did lately."""

from typing import NamedTuple

from autoglm.inference.scheduler import NOTHING, Scheduler


class Forecast(NamedTuple):
    latency_s: float
    """To the last byte, with the wait for a slot."""
    compute_s: float
    """Of an instance that does nothing else."""
    pause_s: float
    """Until an instance may take requests again; 0 where one may, or only its slots are taken."""
    is_free: bool
    """It could start at once."""


def forecast(
    scheduler: Scheduler, model: str, api: str, *, now_s: float, prompt_tokens: float = 0.0,
    output_tokens: float = 0.0, excluded: frozenset[str] = NOTHING,
) -> Forecast | None:  # fmt: skip
    """For a request that came now; None when no instance outside `excluded` can take it."""
    able = [
        entry
        for entry in scheduler.candidates(model, api)
        if entry.name not in excluded and entry.may_recover(now_s) is not None
    ]
    if not able:
        return None
    compute_s = min(entry.latency.predict(prompt_tokens, output_tokens, 0).finish_s for entry in able)
    latency_s = scheduler.predicted_for(model, api, prompt_tokens, output_tokens).finish_s
    pause_s = min(entry.may_recover(now_s) or 0.0 for entry in able)
    is_free = any(entry.is_free(now_s) for entry in able)
    return Forecast(max(latency_s, compute_s), compute_s, pause_s, is_free)
