"""Predicts each arm's quality for a request, chooses by the objective, explores within a budget, and learns.

Quality is learned; latency and cost are predictions of the pool that come with each option. The choice is a
distribution that is written down: all but a small share goes to the leader, the share to those that might be better.
`decide` changes nothing and draws its chance from the decision's id; all that is known is a fold over `learn`. Not for
use from two threads at once.
"""

import math
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from autoglm.core.errors import InvalidField, StateBroken
from autoglm.inference.decision import Arm, Candidate, Weights
from autoglm.inference.engine.bandit import Lines
from autoglm.inference.engine.context import LINEAR_WIDTH, PLACE_WIDTH, Context, chance, context_of
from autoglm.inference.engine.drift import Drift
from autoglm.inference.engine.knn import CELLS, Neighbours
from autoglm.inference.engine.objective import score
from autoglm.inference.features import Features

Array = NDArray[np.float64]
Whole = NDArray[np.int64]

ARMS = 256
"""Beyond it the arm that learned the longest ago is given up."""

VERSION = 1
"""Of the state. Another one is refused: the ledger's records make a new state."""

_FIRST_ARMS = 8
_MOST = 1e9
"""Seconds or cost: more is cut, so that candidates stay finite."""

_RENORMALISE = 1e-6
"""The common scale below which stored figures are brought back to 1."""


class LearnerSettings(msgspec.Struct, frozen=True, kw_only=True):
    explore_share: float = 0.03
    """Of choices, at most, that do not go to the leader once the arms are known here."""
    young_share: float = 0.3
    """The same where candidates that may be better have fewer than `settled_after` outcomes like this request."""
    quality_floor: float = 0.6
    """Share of the best candidate's predicted quality below which none leads."""
    floor_deviations: float = 1.0
    """To lead, the prediction less this many deviations must pass the floor; to be tried, it and as many more."""
    neighbours: float = 8.0
    """Outcomes in the narrow circle that weigh as much as all that is known from farther away."""
    settled_after: float = 10.0
    """Outcomes after which an arm is known: a new one may lead, and extra exploration ends."""
    half_life: float = 2000.0
    """Learned outcomes (of all arms) after which one counts half."""
    drift_keeps: float = 0.1
    """What is left of an arm's outcomes when it was seen to drift."""
    prior_quality: float = 0.6
    """Of a model when there is no outcome at all."""
    hints: Mapping[str, float] = {}
    """Expected quality of models, by name, for as long as there are no outcomes, such as from their size."""


class Option(msgspec.Struct, frozen=True, kw_only=True):
    """An arm that could take the request, with what the pool predicts for it."""

    arm: Arm
    latency_s: float
    """To the last byte, with the time in the queue."""
    cost: float
    ruled_out: str = ""
    """Why it cannot take it, decided before learning: context too short, no images, ..."""


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    candidates: tuple[Candidate, ...]
    """One for each option, in their order."""
    chosen: int
    """Index into `candidates`."""
    is_exploration: bool
    """It is not the leader: the best known by the objective."""


class Known(msgspec.Struct, kw_only=True):
    """Of one arm, beside what its cells and its line hold."""

    arm: Arm
    outcomes: float = 0.0
    """Sum of the weights it learned with."""
    learned_at: int = 0
    """The step of its last outcome."""
    drift: Drift = msgspec.field(default_factory=Drift)


class _State(msgspec.Struct, frozen=True, kw_only=True):
    version: int
    steps: int
    scale: float
    known: list[Known]
    cells: int
    places: bytes
    intents: bytes
    weights: bytes
    sums: bytes
    grams: bytes
    moments: bytes


class _Belief(msgspec.Struct, frozen=True):
    quality: float
    deviation: float
    evidence: float
    """Outcomes like this request that would say as much."""


class Learner:
    def __init__(self, settings: LearnerSettings) -> None:
        self.settings = settings
        self._steps = 0
        self._scale = 1.0
        self._known: list[Known] = []
        self._rows: dict[Arm, int] = {}
        """Row 0 of the arrays is for arms without an outcome and stays empty."""
        self._neighbours = Neighbours(_FIRST_ARMS)
        self._lines = Lines(_FIRST_ARMS)
        self._gamma: float = 2.0 ** (-1.0 / settings.half_life)

    def decide(
        self, features: Features, options: Sequence[Option], weights: Weights, *,
        seed: str, slo_s: float, cost_scale: float,
    ) -> Choice:  # fmt: skip
        """Choose among `options`; at least one must not be ruled out, else ValueError.

        seed: the decision's id. slo_s, cost_scale: see `objective.score`. Propensities are exact: the chosen one is
        drawn from them.
        """
        open_options = [index for index, option in enumerate(options) if not option.ruled_out]
        if not open_options:
            raise ValueError("all options are ruled out")
        beliefs = self._believe(context_of(features), [option.arm for option in options])
        latencies_s = [_finite(option.latency_s) for option in options]
        costs = [_finite(option.cost) for option in options]
        scores = [
            score(weights, belief.quality, latency_s, cost, slo_s=slo_s, cost_scale=cost_scale)
            for belief, latency_s, cost in zip(beliefs, latencies_s, costs, strict=True)
        ]
        leader, propensities, floor = self._distribution(options, open_options, beliefs, scores, weights.quality)
        chosen = _draw(propensities, chance(seed))
        candidates = tuple(
            Candidate(
                arm=option.arm,
                quality=belief.quality,
                deviation=belief.deviation,
                latency_s=latency_s,
                cost=cost,
                score=value,
                propensity=propensity,
                ruled_out=option.ruled_out
                or ("" if propensity else f"quality {belief.quality:.2f} is below the floor of {floor:.2f}"),
            )
            for option, belief, latency_s, cost, value, propensity in zip(
                options, beliefs, latencies_s, costs, scores, propensities, strict=True
            )
        )
        return Choice(candidates=candidates, chosen=chosen, is_exploration=chosen != leader)

    def learn(self, features: Features, arm: Arm, quality: float, *, weight: float = 1.0) -> None:
        """Take in one outcome. quality: in [0, 1], cut there. weight: of the evidence, in (0, 1], cut there.

        Raises InvalidField when one of the two is no finite number.
        """
        for name, number in (("quality", quality), ("weight", weight)):
            if not math.isfinite(number):
                raise InvalidField(name, f"{number} is no finite number")
        quality, weight = min(max(quality, 0.0), 1.0), min(weight, 1.0)
        if weight <= 0.0:
            return
        context = context_of(features)
        row = self._row_of(arm)
        known = self._known[row - 1]
        expected = self._believe(context, [arm])[0]
        self._steps += 1
        self._scale *= self._gamma
        if self._scale < _RENORMALISE:
            self._neighbours.scale(self._scale)
            self._scale = 1.0
        if expected.evidence >= self.settings.settled_after and known.drift.observe(quality - expected.quality, weight):
            self._neighbours.forget(row, self.settings.drift_keeps)
            self._lines.forget(row, self.settings.drift_keeps)
        self._neighbours.add(context, row, weight / self._scale, quality)
        keep = self._gamma ** (self._steps - known.learned_at)
        self._lines.add(row, context.linear, weight, quality - self.settings.prior_quality, keep)
        known.learned_at = self._steps
        known.outcomes += weight

    def state(self) -> bytes:
        """All that was learned, at most 6 MB; the same learner always gives the same bytes."""
        arms, cells = len(self._known) + 1, self._neighbours.used
        return msgspec.msgpack.encode(
            _State(
                version=VERSION,
                steps=self._steps,
                scale=self._scale,
                known=self._known,
                cells=cells,
                places=_pack(self._neighbours.places[:, :cells]),
                intents=_pack(self._neighbours.intents[:cells]),
                weights=_pack(self._neighbours.weights[:arms, :cells]),
                sums=_pack(self._neighbours.sums[:arms, :cells]),
                grams=_pack(self._lines.grams[:arms]),
                moments=_pack(self._lines.moments[:arms]),
            )
        )

    @classmethod
    def restore(cls, state: bytes, settings: LearnerSettings) -> "Learner":
        """The learner as it was. Raises StateBroken when `state` is damaged or of another version."""
        try:
            read = msgspec.msgpack.decode(state, type=_State)
        except (msgspec.DecodeError, ValueError) as error:
            raise StateBroken("the learner", str(error)) from error
        if read.version != VERSION:
            raise StateBroken("the learner", f"it is of version {read.version}, not {VERSION}")
        arms, cells = len(read.known) + 1, read.cells
        if not (arms <= ARMS + 1 and 0 <= cells <= CELLS and 0.0 < read.scale <= 1.0):
            raise StateBroken("the learner", f"{len(read.known)} arms, {cells} cells, scale {read.scale}")
        learner = cls(settings)
        learner._steps, learner._scale, learner._known = read.steps, read.scale, read.known
        learner._rows = {known.arm: row for row, known in enumerate(read.known, 1)}
        learner._make_room(arms)
        neighbours, lines = learner._neighbours, learner._lines
        neighbours.used = cells
        neighbours.places[:, :cells] = _unpack(read.places, (PLACE_WIDTH, cells))
        neighbours.intents[:cells] = _unpack_whole(read.intents, cells)
        neighbours.weights[:arms, :cells] = _unpack(read.weights, (arms, cells))
        neighbours.sums[:arms, :cells] = _unpack(read.sums, (arms, cells))
        lines.grams[:arms] = _unpack(read.grams, (arms, LINEAR_WIDTH, LINEAR_WIDTH))
        lines.moments[:arms] = _unpack(read.moments, (arms, LINEAR_WIDTH))
        neighbours.index()
        for row in range(1, arms):
            lines.solve(row)
        return learner

    def _believe(self, context: Context, arms: Sequence[Arm]) -> list[_Belief]:
        """Near outcomes, then far ones with the line, then the mean over all arms: each counts by its evidence."""
        settings = self.settings
        rows = [self._rows.get(arm, 0) for arm in arms]
        near = self._neighbours.nearby(context, rows)
        lines, line_evidence = self._lines.predict(rows, context.linear)
        scale = self._scale
        prior, worth = settings.prior_quality, 2.0
        pooled = (near.pooled_sum * scale + worth * prior) / (near.pooled * scale + worth)
        beliefs = []
        for arm, row, wide, wide_sum, narrow, narrow_sum, line, counted in zip(
            arms, rows, near.wide.tolist(), near.wide_sum.tolist(), near.narrow.tolist(), near.narrow_sum.tolist(),
            lines.tolist(), line_evidence.tolist(), strict=True,
        ):  # fmt: skip
            base = settings.hints.get(arm.model, pooled)
            age = self._steps - self._known[row - 1].learned_at if row else 0
            line_counts = min(counted * self._gamma**age, settings.neighbours)
            far_counts = min(wide * scale, settings.neighbours)
            far = far_counts * wide_sum / wide if wide > 0.0 else 0.0
            from_afar = (far + line_counts * (prior + line) + worth * base) / (far_counts + line_counts + worth)
            narrow_counts = narrow * scale
            quality = (narrow_sum * scale + settings.neighbours * from_afar) / (narrow_counts + settings.neighbours)
            quality = min(max(quality, 0.0), 1.0)
            evidence = narrow_counts + 0.5 * (far_counts + line_counts)
            deviation = math.sqrt((quality * (1.0 - quality) + 0.02) / (evidence + worth))
            beliefs.append(_Belief(quality, deviation, evidence))
        return beliefs

    def _distribution(
        self, options: Sequence[Option], open_options: list[int], beliefs: list[_Belief], scores: list[float],
        quality_weight: float,
    ) -> tuple[int, list[float], float]:  # fmt: skip
        """(leader, propensity of each option, quality floor)."""
        settings = self.settings
        settled = [index for index in open_options if self._is_settled(options[index].arm)]
        able = settled or open_options
        floor = settings.quality_floor * max(beliefs[index].quality for index in able)
        slack = settings.floor_deviations
        sure = [index for index in able if beliefs[index].quality - slack * beliefs[index].deviation >= floor]
        sure = sure or [index for index in able if beliefs[index].quality >= floor]
        leader = max(sure, key=lambda index: (scores[index], -index))
        others = [
            index
            for index in open_options
            if index != leader and beliefs[index].quality + slack * beliefs[index].deviation >= floor
        ]
        propensities = [0.0] * len(options)
        if not others:
            propensities[leader] = 1.0
            return leader, propensities, floor
        if not settled:
            share = 1.0 / (len(others) + 1)
            for index in others:
                propensities[index] = share
            propensities[leader] = 1.0 - share * len(others)
            return leader, propensities, floor
        odds = [_odds(index, leader, beliefs, scores, quality_weight) for index in others]
        total = sum(odds)
        for index, odd in zip(others, odds, strict=True):
            wanted = odd / total if total else 1.0 / len(others)
            propensities[index] = settings.explore_share * 0.5 * (1.0 / len(others) + wanted)
        self._add_young(propensities, others, odds, options, beliefs)
        propensities[leader] = 1.0 - sum(propensities)
        return leader, propensities, floor

    def _add_young(
        self, propensities: list[float], others: list[int], odds: list[float], options: Sequence[Option],
        beliefs: list[_Belief],
    ) -> None:  # fmt: skip
        """More for arms that may be better and are little known here; never for a new arm."""
        needs = [
            min(1.0, 2.0 * odd) * max(0.0, 1.0 - beliefs[index].evidence / self.settings.settled_after)
            if self._is_settled(options[index].arm)
            else 0.0
            for index, odd in zip(others, odds, strict=True)
        ]
        total = sum(needs)
        extra = max(0.0, self.settings.young_share - self.settings.explore_share)
        if total > 0.0:
            for index, need in zip(others, needs, strict=True):
                propensities[index] += extra * max(needs) * need / total

    def _is_settled(self, arm: Arm) -> bool:
        row = self._rows.get(arm, 0)
        return row > 0 and self._known[row - 1].outcomes >= self.settings.settled_after

    def _row_of(self, arm: Arm) -> int:
        row = self._rows.get(arm)
        if row is not None:
            return row
        if len(self._known) < ARMS:
            self._known.append(Known(arm=arm, learned_at=self._steps))
            row = len(self._known)
            self._make_room(row + 1)
        else:
            oldest = min(range(ARMS), key=lambda index: self._known[index].learned_at)
            del self._rows[self._known[oldest].arm]
            self._known[oldest] = Known(arm=arm, learned_at=self._steps)
            row = oldest + 1
            self._neighbours.forget(row, 0.0)
            self._lines.forget(row, 0.0)
        self._rows[arm] = row
        return row

    def _make_room(self, rows: int) -> None:
        room = len(self._neighbours.weights)
        if rows > room:
            wanted = min(max(rows, 2 * room), ARMS + 1)
            self._neighbours.grow(wanted)
            self._lines.grow(wanted)


def _odds(index: int, leader: int, beliefs: list[_Belief], scores: list[float], quality_weight: float) -> float:
    """The odds that this one is better than the leader; 0 when that would take more than two deviations."""
    deviation = quality_weight * math.hypot(beliefs[index].deviation, beliefs[leader].deviation)
    if deviation <= 0.0:
        return 0.0
    lead = (scores[leader] - scores[index]) / deviation
    return 0.5 * math.erfc(lead / math.sqrt(2.0)) if lead < 2.0 else 0.0


def _draw(propensities: list[float], number: float) -> int:
    """The index in whose part of [0, 1) `number` falls."""
    last = 0
    for index, propensity in enumerate(propensities):
        if propensity > 0.0:
            last = index
            number -= propensity
            if number < 0.0:
                return index
    return last  # what rounding left over


def _finite(value: float) -> float:
    return _MOST if math.isnan(value) else min(max(value, 0.0), _MOST)


def _pack(array: Array | Whole) -> bytes:
    return np.ascontiguousarray(array).tobytes()


def _unpack(data: bytes, shape: tuple[int, ...]) -> Array:
    if len(data) != 8 * math.prod(shape):
        raise StateBroken("the learner", f"{len(data)} bytes for {shape} numbers")
    array = np.frombuffer(data, dtype=np.float64).reshape(shape)
    if not np.isfinite(array).all():
        raise StateBroken("the learner", "a number is not finite")
    return array


def _unpack_whole(data: bytes, length: int) -> Whole:
    if len(data) != 8 * length:
        raise StateBroken("the learner", f"{len(data)} bytes for {length} intents")
    return np.frombuffer(data, dtype=np.int64)
