"""How many workers a group should have, from what was asked of it lately.

Knative's autoscaler for pods: the mean demand over a stable window sets the number; over a short panic window it
notices a burst, and while there is one the number only grows.
Source: Knative Serving, "Autoscaling" (concurrency, stable and panic window, scale-to-zero, rates).
"""

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from autoglm.inference.scaling.settings import ScalingSettings


class Sample(NamedTuple):
    """What was seen at one moment. Samples are taken at even intervals."""

    at_s: float
    """Monotonic."""
    demand: int
    """Requests that run or wait."""
    ready: int
    """Workers that take requests."""


class Bounds(NamedTuple):
    """What the operator allows for one group."""

    replicas_min: int
    replicas_max: int
    slots: int
    """Of one worker."""


def desired_replicas(
    history: Sequence[Sample], now_s: float, bounds: Bounds, settings: ScalingSettings, *, quiet_s: float
) -> int:
    """Workers to have now, replicas_min to replicas_max. history: oldest first, at least `kept_s` of it.

    With none ready the answer is at most 1: whoever waits shares one cold start, and what is still needed after it
    follows then. Towards zero it goes when nothing was asked for `idle_s`; quiet_s: for how long nothing was.
    """
    if not history:
        return bounds.replicas_min
    target = bounds.slots * settings.utilisation
    newest = history[-1]
    wanted = 0
    if newest.demand or quiet_s < settings.idle_s:
        stable = math.ceil(_mean(history, now_s, settings.stable_window_s) / target)
        wanted = max(1, stable, _panic_replicas(history, now_s, target, settings))
    wanted = min(wanted, math.ceil(newest.ready * settings.scale_up_rate) if newest.ready else 1)
    wanted = max(wanted, math.floor(newest.ready / settings.scale_down_rate))
    return min(bounds.replicas_max, max(bounds.replicas_min, wanted))


def kept_s(settings: ScalingSettings) -> float:
    """How long samples matter."""
    return settings.stable_window_s + settings.panic_window_s


def sample_interval_s(settings: ScalingSettings) -> float:
    """Six looks within the panic window; fewer where the windows are so far apart that there were over 600 to keep."""
    return max(settings.panic_window_s / 6, settings.stable_window_s / 600)


def _panic_replicas(history: Sequence[Sample], now_s: float, target: float, settings: ScalingSettings) -> int:
    """The most that a burst within the last stable window called for; 0 when there was none.

    A burst is over when for a whole stable window no moment was one.
    """
    sums = [0, *accumulate(sample.demand for sample in history)]
    most, start, is_burst = 0, 0, False
    for index, sample in enumerate(history):
        while history[start].at_s <= sample.at_s - settings.panic_window_s:
            start += 1
        if sample.at_s <= now_s - settings.stable_window_s:
            continue
        wanted = (sums[index + 1] - sums[start]) / (index + 1 - start) / target
        if wanted >= settings.panic_threshold * max(1, sample.ready):
            is_burst = True
        if is_burst:
            most = max(most, math.ceil(wanted))
    return most


def _mean(history: Sequence[Sample], now_s: float, window_s: float) -> float:
    """Of the demand within the window; of the newest sample when all are older."""
    recent = [sample.demand for sample in history if sample.at_s > now_s - window_s] or [history[-1].demand]
    return sum(recent) / len(recent)
