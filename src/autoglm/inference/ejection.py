"""Who is taken out of the pool for a while, for how long, and how many at one time.

Failures in a row or answers far slower than those of its peers eject an instance. Ejections may never take most of a
pool away: they are capped, and ignored where too few healthy instances are left (panic).
Who got longer prompts than its peers is not slow: the time to the first byte is at most in proportion to what has to
be read for it, for it is a constant and a time for each token (see latency.py).
Source: Envoy's documentation, "Outlier detection" and "Panic threshold"; what is slow is judged by medians here,
since a pool of models has too few requests for Envoy's success rates.
"""

import random
from bisect import bisect_left
from collections.abc import Callable, Iterable
from itertools import islice
from math import floor
from statistics import median_low
from typing import TYPE_CHECKING

from autoglm.inference.settings import PoolSettings

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Iterator

    from autoglm.inference.instance import Instance

Kind = tuple[str, bool]
"""(model, is it a stream): requests whose times to the first byte can be compared, their lengths apart."""
Sample = tuple[float, float, float, int]
"""Seconds to the first byte; uncached tokens of the prompt; tokens of the prompts ahead of it; requests there, itself
included. A plain tuple, since one is made for each request."""

MAX_GROWTH = 10
_JITTER = 0.1
"""Part of a pause by which it may be longer, so that those ejected together do not all come back at once."""
SAMPLES = 9
"""Times kept of an instance for each kind: their median forgets a burst of long prompts soon."""
MIN_SAMPLES = 5
_MIN_GAP_S = 0.1
"""Below that nobody feels a difference, and it may be the machine's and not the instance's."""
_SHORT_TOKENS = 32.0
"""Prompts below that take the same time: it is the constant's."""
_TIGHTEST = MIN_SAMPLES
"""Of a peer's times, so many that tell most of a prompt's length are looked at."""
_PEERS = 8
"""So many peers are asked what a prompt of some length takes, which is looked at for suspects only."""


def ejection_s(base_s: float, count: int) -> float:
    """The pause of the `count`-th ejection (from 1) without a good time between them."""
    return base_s * min(count, MAX_GROWTH) * random.uniform(1.0, 1.0 + _JITTER)  # noqa: S311  # jitter


def decayed(count: int, good_s: float, base_s: float) -> int:
    """What a count of ejections is worth after `good_s` seconds in the pool: one less for each `base_s`."""
    return max(0, count - int(good_s / base_s))


def has_room(ejected: int, total: int, max_share: float) -> bool:
    """True when one more of `total` may be ejected. One always may."""
    return ejected < max(1, floor(total * max_share + 1e-9))


def usual_s(samples: Iterable[Sample]) -> float:
    """Their median time. Raises StatisticsError when there are none."""
    return median_low(samples)[0]


def to_read(sample: Sample) -> float:
    """Tokens that were read before its first one, at most: its prompt, and what was longer than that ahead of it.

    Prompts like its own do not count though they are ahead: a slow instance has more of them.
    """
    _, own, ahead, beside = sample
    return max(_SHORT_TOKENS, own + max(0.0, ahead - (beside - 1) * own))


def at_most_s(samples: Iterable[Sample], tokens: float) -> float:
    """What one who has answered so needs for `tokens`, at most: with k times as much to read, k times as long.

    Of the bounds that at least MIN_SAMPLES times give, the median of the tightest.
    """
    bounds = sorted(sample[0] * max(1.0, tokens / to_read(sample)) for sample in samples)
    return median_low(bounds[:_TIGHTEST])


def exceeds(took_s: float, typical_s: float, factor: float) -> bool:
    return took_s > factor * typical_s and took_s - typical_s > _MIN_GAP_S


class Ejections:
    """What the instances of one pool are ejected for, seen together. `instances`: all there are at the moment."""

    def __init__(self, settings: PoolSettings, instances: Callable[[], Iterable["Instance"]]) -> None:
        self.settings = settings
        self._instances = instances

    def may_eject(self, instance: "Instance") -> bool:
        """True when none of its models would lose more than its share of instances."""
        everyone = tuple(self._instances())
        for model in instance.models:
            serving = [entry for entry in everyone if model in entry.models]
            ejected = sum(entry.is_ejected for entry in serving if entry is not instance)
            if not has_room(ejected, len(serving), self.settings.max_ejected_share):
                return False
        return True

    def in_panic(self, candidates: Iterable["Instance"], excluded: frozenset[str], now_s: float) -> "list[Instance]":
        """The ejected instances that may be used nevertheless, as too few healthy ones are left; mostly none.

        excluded: those that have failed the call in question; they neither help nor count.
        """
        left = [entry for entry in candidates if entry.is_member and entry.name not in excluded]
        ejected = [entry for entry in left if entry.is_ejected]
        if not ejected:
            return ejected
        healthy = sum(entry.open_until_s <= now_s for entry in left if not entry.is_ejected)
        if healthy >= self.settings.panic_share * len(left):
            return []
        return [entry for entry in ejected if entry.is_free_in_panic(now_s)]

    def typical_s(self, instance: "Instance", kind: Kind) -> float:
        """Median over its healthy peers of their usual time to the first byte; 0 when it has none to compare with."""
        usual = [usual_s(times) for times in self._peers_times(instance, kind)]
        return median_low(usual) if usual else 0.0

    def _peers_times(self, instance: "Instance", kind: Kind) -> "Iterator[deque[Sample]]":
        for entry in self._instances():
            if entry is not instance and not entry.is_ejected:
                times = entry.times_s.get(kind)
                if times is not None and len(times) >= MIN_SAMPLES:
                    yield times

    def is_slow(self, instance: "Instance", kind: Kind, sample: Sample) -> bool:
        """True when one answer of it was an outlier."""
        factor, typical_s = self.settings.slow_factor, self.typical_s(instance, kind)
        if not factor or not typical_s or not exceeds(sample[0], typical_s, factor):
            return False
        return self._exceeds_length(instance, kind, sample)

    def _exceeds_length(self, instance: "Instance", kind: Kind, sample: Sample) -> bool:
        """True when it took too long for what had to be read, too."""
        tokens = to_read(sample)
        bounds = [at_most_s(times, tokens) for times in islice(self._peers_times(instance, kind), _PEERS)]
        return bool(bounds) and exceeds(sample[0], median_low(bounds), self.settings.slow_factor)

    def eject_slow(self) -> "list[Instance]":
        """Look at all who have answered since the last look; returns whom that ejected."""
        factor = self.settings.slow_factor
        unseen = [entry for entry in self._instances() if entry.is_unseen] if factor else []
        if not unseen:
            return unseen
        usual = self._usual_s()
        return [entry for entry in unseen if self._look_at(entry, usual, factor)]

    def _usual_s(self) -> dict[Kind, list[float]]:
        """Each instance's usual time for each kind, ascending."""
        found: dict[Kind, list[float]] = {}
        for entry in self._instances():
            if not entry.is_ejected:
                for kind, times in entry.times_s.items():
                    if len(times) >= MIN_SAMPLES:
                        found.setdefault(kind, []).append(usual_s(times))
        for times_s in found.values():
            times_s.sort()
        return found

    def _look_at(self, instance: "Instance", usual: dict[Kind, list[float]], factor: float) -> bool:
        instance.is_unseen = False
        if instance.is_ejected or not instance.is_open:
            return False
        for kind, times in instance.times_s.items():
            if len(times) < MIN_SAMPLES:
                continue
            own_s = usual_s(times)
            typical_s = _median_without(usual.get(kind, []), own_s)
            if not typical_s or not exceeds(own_s, typical_s, factor):
                continue
            # The lengths are compared for those few alone that stand out by their times.
            if 2 * sum(self._exceeds_length(instance, kind, sample) for sample in times) > len(times):
                reason = f"{own_s:.2g} s to the first byte, where its peers need {typical_s:.2g} s"
                return instance.eject("slow", reason)
        return False

    def has_stand_in(self, instance: "Instance") -> bool:
        """True when another instance that is up serves one of its models."""
        return any(
            entry is not instance and entry.is_open and not set(entry.models).isdisjoint(instance.models)
            for entry in self._instances()
        )


def _median_without(ascending: list[float], own: float) -> float:
    """The low median of the others, without copying them for each; 0 when there are none."""
    others = len(ascending) - 1
    if others < 1:
        return 0.0
    middle = (others - 1) // 2
    return ascending[middle if middle < bisect_left(ascending, own) else middle + 1]
