"""Which free instance gets a call, and whether it would be in time there.

The free one that should be done soonest, unless it would miss
the call's objective for the first token and another would not. A conversation stays where its start is cached while
that costs hardly any time.
"""

import math

from autoglm.core.errors import Overloaded
from autoglm.inference.affinity import PrefixTable, may_stay, prefix_of
from autoglm.inference.call import Call
from autoglm.inference.fairness import FairShares
from autoglm.inference.instance import Instance
from autoglm.inference.latency import UNKNOWN_FIRST_TOKEN_S, Prediction

_CROWD = 0.1
"""A full instance counts as so much slower than an empty one: of nearly equal ones the emptier is taken."""
_TOO_LATE_S = 1e6
"""An instance that would miss the objective for the first token is taken when none would meet it."""
_AT_HOME = 1.1
"""A conversation stays where its start is cached while that takes at most so many times as long as the quickest."""


class Placement:
    """Pure but for what calls and tables remember: it starts nothing and waits for nothing."""

    def __init__(self, shares: FairShares, first_token_s: float | None) -> None:
        """shares: estimates the calls' lengths. first_token_s: the objective of calls that bring none."""
        self.shares = shares
        self.prefixes = PrefixTable()
        self._first_token_s = first_token_s

    def soonest(self, call: Call, free: list[Instance], now_s: float) -> Instance | None:
        """Of those with a free slot, the one with the least predicted time to the last byte; None when there is none.

        One that is ejected has its trial due: it comes first. One without a record is tried out by one request; until
        that is answered, it is taken for one that needs a second.
        """
        if len(free) < 2:
            return free[0] if free else None
        prompt_tokens, output_tokens = call.estimate or self.shares.estimate(call)
        if call.prefix is None:
            call.prefix = prefix_of(call)
        home, cached_tokens = self.prefixes.home_of(call.prefix) if call.prefix else ("", 0.0)
        by_s = self.first_token_by_s(call) if self.has_objective(call) else None
        best = at_home = None
        best_s = home_s = least = fewest = math.inf
        for entry in free:
            held, latency = len(entry.held), entry.latency
            running = held + entry.foreign_running
            least = running if running < least else least  # `min` takes 0.1 us for each instance
            uncached_tokens = prompt_tokens
            if home and entry.name == home:
                at_home = entry
                uncached_tokens = max(0.0, prompt_tokens - cached_tokens)
            if entry.is_ejected and not held:
                finish_s = 0.0
            elif latency.is_known:
                finish_s = latency.rank_s(uncached_tokens, output_tokens, running, now_s)
                finish_s *= 1.0 + _CROWD * running / entry.limit
            else:
                finish_s = (UNKNOWN_FIRST_TOKEN_S if held else 0.0) + running / entry.limit
            if by_s is not None and now_s + latency.first_s(uncached_tokens) > by_s:
                finish_s += _TOO_LATE_S
            if entry is at_home:
                home_s = finish_s
            if finish_s < best_s or (finish_s == best_s and running < fewest):
                best, best_s, fewest = entry, finish_s, running
        if at_home is not None and home_s <= _AT_HOME * best_s and may_stay(at_home.load, int(least)):
            return at_home
        return best or free[0]

    def predicted(self, call: Call, instance: Instance) -> Prediction:
        """How long the call would take there, were it to start now; of one without a record, a guess."""
        prompt_tokens, output_tokens = self.shares.estimate(call)
        home, cached_tokens = self.prefixes.home_of(call.prefix) if call.prefix else ("", 0.0)
        if home == instance.name:
            prompt_tokens = max(0.0, prompt_tokens - cached_tokens)
        return instance.latency.predict(prompt_tokens, output_tokens, instance.load)

    def has_objective(self, call: Call) -> bool:
        """False for a call that cannot come too late."""
        return call.deadline_s is not None or call.first_token_by_s is not None or self._first_token_s is not None

    def first_token_by_s(self, call: Call) -> float | None:
        """When its first token should come, by its own wish or by the settings; None when no objective holds.

        None holds for a call that had a slot already: it lost its time to a failure, and is not refused for that.
        """
        if call.first_token_by_s is None and self._first_token_s is not None:
            call.first_token_by_s = call.arrived_s + self._first_token_s
        return None if call.was_started else call.first_token_by_s

    def lateness(self, call: Call, instances: list[Instance], start_s: float) -> Overloaded | None:
        """Why a call that starts at `start_s` on one of them is too late; None when it is not, or nobody knows."""
        by_s = self.first_token_by_s(call)
        if by_s is None and call.deadline_s is None:
            return None
        if not all(entry.latency.is_known for entry in instances):
            return None
        late_s = math.inf
        for entry in instances:
            first_token_s, finish_s = self.predicted(call, entry)
            late_s = min(
                late_s,
                max(
                    start_s + first_token_s - (math.inf if by_s is None else by_s),
                    start_s + finish_s - (math.inf if call.deadline_s is None else call.deadline_s),
                ),
            )
        if late_s <= 0.0:
            return None
        return Overloaded(call.model, late_s, min(60.0, max(1.0, late_s)))

    def hopelessly_late(
        self, call: Call, fitting: list[Instance], free: Instance | None, ahead: int, now_s: float
    ) -> Overloaded | None:
        """Why it would be too late on the best free instance, and also if it waited for a slot of another one."""
        late = None if free is None else self.lateness(call, [free], now_s)
        if free is not None and late is None:
            return None
        busy = [entry for entry in fitting if entry.state == "ready" and not entry.is_free(now_s)]
        wait_s = predicted_wait_s(busy, ahead, now_s)
        if wait_s is None:
            return late
        late_elsewhere = self.lateness(call, busy, now_s + wait_s)
        return None if late_elsewhere is None else late or late_elsewhere


def quickest(instances: list[Instance], prompt_tokens: float, output_tokens: float) -> Prediction:
    """The best of their predictions, each of the two times for itself."""
    predictions = [entry.latency.predict(prompt_tokens, output_tokens, entry.load) for entry in instances]
    return Prediction(
        min((prediction.first_token_s for prediction in predictions), default=math.inf),
        min((prediction.finish_s for prediction in predictions), default=math.inf),
    )


def predicted_wait_s(candidates: list[Instance], ahead: int, now_s: float) -> float | None:
    """When `ahead` requests and one more have got a slot, at the pace of the last answers; None when nobody knows."""
    ready = [entry for entry in candidates if entry.state == "ready" and entry.may_recover(now_s) is not None]
    slowest_s = max((entry.held_s for entry in ready), default=0.0)
    if not slowest_s:
        return None
    per_s = sum(int(entry.limit) / (entry.held_s or slowest_s) for entry in ready)
    return (ahead + 1) / per_s + min((entry.may_recover(now_s) or 0.0 for entry in ready), default=0.0)
