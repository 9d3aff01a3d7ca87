"""How a choice is spread over the arms: most to the leader, a small share to those that may be better.

Pure: the same beliefs and scores give the same distribution, which is written down with each decision.
"""

import math
from typing import TYPE_CHECKING, NamedTuple

from autoglm.inference.engine.belief import Belief

if TYPE_CHECKING:
    from autoglm.inference.engine.learner import LearnerSettings

_HALF_ROOT = 1.0 / math.sqrt(2.0)


class Distribution(NamedTuple):
    leader: int
    """Index of the best known option by the objective."""
    propensities: list[float]
    """Of each option; their sum is 1."""
    floor: float
    """The quality below which none is chosen."""


class Exploration:
    def __init__(self, settings: "LearnerSettings") -> None:
        self._settings = settings

    def below(self, belief: Belief, floor: float) -> str:
        """Why it is not chosen, were it not ruled out before; empty when it may be."""
        if belief.quality + self._settings.floor_deviations * belief.deviation >= floor:
            return ""
        return f"quality {belief.quality:.2f} is below the floor of {floor:.2f}"

    def distribution(
        self, able: list[int], beliefs: list[Belief], scores: list[float], weight: float, share: float
    ) -> Distribution:
        """able: options that can be chosen, at least one. weight: of quality. share: of the best quality, below which
        none leads.
        """
        settings, slack = self._settings, self._settings.floor_deviations
        young_share = settings.young_share if settings.explore_share else 0.0
        judged = sum(beliefs[index].outcomes for index in able)
        # Until all are known, or could have got known by the share of the young; later, who is unknown is new here.
        is_beginning = judged * young_share < settings.settled_after * len(able) and not all(
            beliefs[index].is_settled for index in able
        )
        settled = [index for index in able if beliefs[index].is_settled and not is_beginning]
        leading = settled or able
        floor = share * max(beliefs[index].quality for index in leading)
        sure = [index for index in leading if beliefs[index].quality - slack * beliefs[index].deviation >= floor]
        sure = sure or [index for index in leading if beliefs[index].quality >= floor]
        # While nothing is known, the order of the options is all there is.
        leader = max(sure, key=scores.__getitem__) if judged else able[0]
        others = [index for index in able if index != leader and not self.below(beliefs[index], floor)]
        propensities = [0.0] * len(beliefs)
        if settled and others:
            odds = [_odds(beliefs[index], beliefs[leader], scores[leader] - scores[index], weight) for index in others]
            total = sum(odds)
            for index, odd in zip(others, odds, strict=True):
                wanted = odd / total if total else 1.0 / len(others)
                propensities[index] = settings.explore_share * 0.5 * (1.0 / len(others) + wanted)
            self._add_young(propensities, others, odds, beliefs, young_share)
        elif others:
            trying = young_share if judged else settings.explore_share
            # Each a little, most to those that are farthest from being known.
            needs = [max(1.0, settings.settled_after - beliefs[index].outcomes) for index in others]
            for index, need in zip(others, needs, strict=True):
                propensities[index] = trying * need / sum(needs)
        propensities[leader] = 1.0 - sum(propensities)
        return Distribution(leader, propensities, floor)

    def _add_young(
        self, propensities: list[float], others: list[int], odds: list[float], beliefs: list[Belief],
        young_share: float,
    ) -> None:  # fmt: skip
        """More for arms that may be better and are little known here, where requests recur; never for a new arm."""
        enough = self._settings.settled_after
        needs = [
            min(1.0, 2.0 * odd) * max(0.0, 1.0 - beliefs[index].evidence / enough) if beliefs[index].is_settled else 0.0
            for index, odd in zip(others, odds, strict=True)
        ]
        total = sum(needs)
        if total > 0.0:
            recurring = min(1.0, sum(belief.near for belief in beliefs) / enough)
            extra = max(0.0, young_share - self._settings.explore_share) * recurring * max(needs) / total
            for index, need in zip(others, needs, strict=True):
                propensities[index] += extra * need


def _odds(other: Belief, leader: Belief, lead: float, weight: float) -> float:
    """The odds that the other is better, `lead` of score behind; 0 when that would take over two deviations."""
    deviation = weight * math.hypot(other.deviation, leader.deviation)
    if lead >= 2.0 * deviation:
        return 0.0
    return 0.5 * math.erfc(lead / deviation * _HALF_ROOT)


def draw(propensities: list[float], number: float) -> int:
    """The index in whose part of [0, 1) `number` falls."""
    last = 0
    for index, propensity in enumerate(propensities):
        if propensity > 0.0:
            last = index
            number -= propensity
            if number < 0.0:
                return index
    return last  # what rounding left over
