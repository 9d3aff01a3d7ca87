"""Who is taken out of the pool for a while, for how long, and how many at one time.

Failures in a row or answers far slower than those of its peers eject an instance. Ejections may never take most of a
pool away: they are capped, and ignored where too few healthy instances are left (panic).
Source: Envoy's documentation, "Outlier detection" and "Panic threshold"; what is slow is judged by medians here,
since a pool of models has too few requests for Envoy's success rates.
"""

import random
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from math import floor
from statistics import median_low
from typing import TYPE_CHECKING

from autoglm.inference.settings import PoolSettings

if TYPE_CHECKING:
    from autoglm.inference.instance import Instance

Kind = tuple[str, bool]
"""(model, is it a stream): requests whose times to the first byte can be compared."""

MAX_GROWTH = 10
_JITTER = 0.1
"""Part of a pause by which it may be longer, so that those ejected together do not all come back at once."""
SAMPLES = 9
"""Times kept of an instance for each kind: their median forgets a burst of long prompts soon."""
MIN_SAMPLES = 5
_MIN_GAP_S = 0.1
"""Below that nobody feels a difference, and it may be the machine's and not the instance's."""


def ejection_s(base_s: float, count: int) -> float:
    """The pause of the `count`-th ejection (from 1) without a good time between them."""
    return base_s * min(count, MAX_GROWTH) * random.uniform(1.0, 1.0 + _JITTER)  # noqa: S311  # jitter


def decayed(count: int, good_s: float, base_s: float) -> int:
    """What a count of ejections is worth after `good_s` seconds in the pool: one less for each `base_s`."""
    return max(0, count - int(good_s / base_s))


def has_room(ejected: int, total: int, max_share: float) -> bool:
    """True when one more of `total` may be ejected. One always may."""
    return ejected < max(1, floor(total * max_share + 1e-9))


def is_slow(own: Sequence[float], typical_s: float, factor: float) -> bool:
    """True when the median of enough times is `factor` times what is typical of the peers (0: not known)."""
    if len(own) < MIN_SAMPLES or not typical_s:
        return False
    return exceeds(median_low(own), typical_s, factor)


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
        usual = [
            median_low(times)
            for entry in self._instances()
            if entry is not instance
            and not entry.is_ejected
            and (times := entry.times_s.get(kind)) is not None
            and len(times) >= MIN_SAMPLES
        ]
        return median_low(usual) if usual else 0.0

    def is_slow(self, instance: "Instance", kind: Kind, took_s: float) -> bool:
        """True when one answer of it was an outlier."""
        typical_s = self.typical_s(instance, kind)
        return bool(self.settings.slow_factor and typical_s) and exceeds(took_s, typical_s, self.settings.slow_factor)

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
                        found.setdefault(kind, []).append(median_low(times))
        for times_s in found.values():
            times_s.sort()
        return found

    def _look_at(self, instance: "Instance", usual: dict[Kind, list[float]], factor: float) -> bool:
        instance.is_unseen = False
        if instance.is_ejected or not instance.is_open:
            return False
        for kind, times in instance.times_s.items():
            typical_s = _median_without(usual.get(kind, []), median_low(times))
            if is_slow(times, typical_s, factor):
                reason = f"{median_low(times):.2g} s to the first byte, where its peers need {typical_s:.2g} s"
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
