"""Predicts each arm's quality for a request, chooses by the objective, and learns from what came of it.

Quality is learned; latency and cost are predictions of the pool that come with each option. The choice is a
distribution that is written down: all but a small share goes to the leader, the share to those that might be better.
`decide` changes nothing and draws its chance from the decision's id; all that is known is a fold over `learn`. Not for
use from two threads at once.
"""

import math
from collections.abc import Mapping, Sequence
from hashlib import blake2b

import msgspec
import numpy as np

from autoglm.core.errors import InvalidField, StateBroken
from autoglm.inference.decision import Arm, Candidate, Weights
from autoglm.inference.engine.bandit import Lines
from autoglm.inference.engine.belief import Belief
from autoglm.inference.engine.context import LINEAR_WIDTH, Context, chance, context_of
from autoglm.inference.engine.drift import Drift
from autoglm.inference.engine.exploration import Exploration, draw
from autoglm.inference.engine.knn import CELLS, Neighbours
from autoglm.inference.engine.objective import score
from autoglm.inference.engine.quality import FLAWLESS
from autoglm.inference.features import Features

ARMS = 256
"""Beyond it the arm that learned the longest ago is given up."""

VERSION = 4
"""Of the state. Another one is refused: the ledger's records make a new state."""

_DIGEST_BYTES = 16
"""Before the state: a damaged number would be learned from for ever."""

JUDGED = 0.5
"""Outcomes of less weight say little: from any number of them, no arm counts as known."""

_FIRST_ARMS = 8

_MOST = 1e9
"""Seconds or cost: more is cut, so that candidates stay finite."""

_RENORMALISE = 1e-3
"""The common scale below which stored figures are brought back to a scale of 1."""

_PRIOR_WORTH = 2.0
"""Outcomes that the mean over the other arms, or the hint, counts for."""

_LINE_MOST = 30.0
"""Outcomes that the line counts for at most: what is no line, it cannot learn."""

_AFAR = 0.5
"""What an outcome counts in each of the two views from afar, the wide circle and the line."""

_COIN = 0.2
"""Variance of an outcome that is 0 or 1, at usual odds; what `LearnerSettings.neighbours` is meant for."""

_NOISE_RATE = 0.01
"""Share of the noise's estimate that one outcome renews."""

_LEAST_NOISE = 0.02
"""However sure the judges seem: a tenth of a coin's."""

_MOST_TRUST = 5.0
"""Of the logarithm of the odds: 0.993, so that a change of the world is seen within some dozen outcomes."""

_FIRST_TRUST = 1.5
"""Features usually tell something: odds of 4.5 to 1."""

_LEAST_KEPT = 1e-9
"""Of the past at an alarm, where its logarithm has to be a number."""

_LEAST_NOTICE = 0.1
"""Part of a flaw's weight that holds however few answers are judged: a model that broke is noticed without judges."""

_TRUST_KEEPS = 0.998
"""Share of the evidence for or against the features that one more outcome leaves."""


class LearnerSettings(msgspec.Struct, frozen=True, kw_only=True):
    explore_share: float = 0.03
    """Of choices, at most, that do not go to the leader once the arms are known here."""
    young_share: float = 0.3
    """The same where candidates that may be better have fewer than `settled_after` outcomes like this request."""
    quality_floor: float = 0.8
    """Share of the best candidate's predicted quality below which none leads."""
    floor_deviations: float = 1.0
    """To lead, the prediction less this many deviations must pass the floor; to be tried, it and as many more."""
    neighbours: float = 8.0
    """Outcomes in the narrow circle that weigh as much as all that is known from farther away."""
    settled_after: float = 10.0
    """Outcomes after which an arm is known: a new one may lead, and extra exploration ends."""
    half_life: float = 2000.0
    """Learned outcomes (of all arms) after which one counts half."""
    drift_keeps: float = 10.0
    """All of an arm's outcomes count for so many, moved to its new level, once it was seen to drift."""
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
    output_tokens: float = 0.0
    """Of the answer, from which the two were predicted; noted with the candidate."""
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
    """Sum of the weights it learned with, of those that say enough (JUDGED)."""
    learned_at: int = 0
    """The step of its last outcome."""
    noticed: float = 0.0
    """Answers that told of themselves, judged or not."""
    weight: float = 0.0
    """Of all its outcomes, discounted up to then."""
    quality: float = 0.0
    """Their weighted sum."""
    faded: float = 0.0
    """Minus the logarithm of what alarms of drift have left of an outcome that was learned before all of them."""
    drift: Drift = msgspec.field(default_factory=Drift)


class _Version(msgspec.Struct, frozen=True):
    version: int


class _State(msgspec.Struct, frozen=True, kw_only=True):
    version: int
    steps: int
    scale: float
    noise: float
    trust: float
    known: list[Known]
    cells: list[tuple[tuple[float, ...], int]]
    figures: bytes
    grams: bytes
    moments: bytes


class Learner:
    def __init__(self, settings: LearnerSettings) -> None:
        self.settings = settings
        self._exploration = Exploration(settings)
        self._steps = 0
        self._scale = 1.0
        self._known: list[Known] = []
        self._rows: dict[Arm, int] = {}
        """Row 0 of the arrays is for arms without an outcome and stays empty."""
        self._neighbours = Neighbours(_FIRST_ARMS)
        self._lines = Lines(_FIRST_ARMS)
        self._noise = _COIN
        """Variance of an outcome around its prediction: near 0.2 for thumbs, far less for graded scores."""
        self._trust = _FIRST_TRUST
        """Logarithm of the odds that the features tell anything: by how much better a prediction from like requests
        was than the arm's mean. Where they tell nothing, what looks like a difference is noise, and costs."""
        self._gamma: float = 2.0 ** (-1.0 / settings.half_life)

    def decide(
        self, features: Features, options: Sequence[Option], weights: Weights, *,
        seed: str, slo_s: float, cost_scale: float, floor: float = 1.0,
    ) -> Choice:  # fmt: skip
        """Choose among `options`; at least one must not be ruled out, else ValueError.

        floor: the part of the quality floor that holds for this one. seed: the decision's id.
        slo_s, cost_scale: see `objective.score`. Propensities are exact: the chosen one is drawn from them.
        """
        able = [index for index, option in enumerate(options) if not option.ruled_out]
        if not able:
            raise ValueError("all options are ruled out")
        beliefs = self._believe(context_of(features), [option.arm for option in options])
        latencies_s = [_finite(option.latency_s) for option in options]
        costs = [_finite(option.cost) for option in options]
        scores = [
            score(weights, belief.quality, latency_s, cost, slo_s=slo_s, cost_scale=cost_scale)
            for belief, latency_s, cost in zip(beliefs, latencies_s, costs, strict=True)
        ]
        share = floor * self.settings.quality_floor
        spread = self._exploration.distribution(able, beliefs, scores, weights.quality, share)
        chosen = draw(spread.propensities, chance(seed))
        candidates = tuple(
            Candidate(
                arm=option.arm,
                quality=belief.quality,
                deviation=belief.deviation,
                latency_s=latency_s,
                cost=cost,
                output_tokens=option.output_tokens,
                score=value,
                propensity=propensity,
                ruled_out=option.ruled_out or ("" if propensity else self._exploration.below(belief, spread.floor)),
            )
            for option, belief, latency_s, cost, value, propensity in zip(
                options, beliefs, latencies_s, costs, scores, spread.propensities, strict=True
            )
        )
        return Choice(candidates=candidates, chosen=chosen, is_exploration=chosen != spread.leader)

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
        surprise = (quality - expected.quality) ** 2
        gain = (quality - expected.overall) ** 2 - (quality - expected.alike) ** 2
        trust = self._trust * _TRUST_KEEPS + weight * gain / (2.0 * self._noise)
        self._trust = min(max(trust, -_MOST_TRUST), _MOST_TRUST)
        self._noise = max(self._noise + weight * _NOISE_RATE * (surprise - self._noise), _LEAST_NOISE)
        self._steps += 1
        self._scale *= self._gamma
        if self._scale < _RENORMALISE:
            self._neighbours.scale(self._scale)
            self._scale = 1.0
        if expected.evidence >= self.settings.settled_after:
            moved = known.drift.observe(quality - expected.quality, weight)
            if moved:
                self._forget(row, moved)
        self._neighbours.add(context, row, weight / self._scale, quality)
        keep = self._gamma ** (self._steps - known.learned_at)
        self._lines.add(row, context.linear, weight, quality - self.settings.prior_quality, keep)
        known.learned_at = self._steps
        known.weight = known.weight * keep + weight
        known.quality = known.quality * keep + weight * quality
        if weight >= JUDGED:
            known.outcomes += weight

    def notice(self, features: Features, arm: Arm, quality: float, *, weight: float) -> None:
        """Take in what an answer tells of itself, as `learn` does, while little of the arm is judged.

        Later, that nothing is wrong with an answer teaches no more: it is the same of all arms, and where few answers
        are judged, the many others would drown the judges' word. A flaw still counts, as if flaws were judged as
        seldom as answers of this arm are, for they are among those, too.
        """
        known = self._known[self._row_of(arm) - 1]
        known.noticed += 1.0
        if known.outcomes >= self.settings.settled_after:
            if quality >= FLAWLESS:
                return
            weight *= min(1.0, max(_LEAST_NOTICE, known.outcomes / known.noticed))
        self.learn(features, arm, quality, weight=weight)

    def age_of(self, arm: Arm) -> float:
        """To be remembered with an outcome that has just been learned, for `correct`: how far the arm's past has faded.

        The logarithm of the whole discount; 0 for an arm that is not known.
        """
        row = self._rows.get(arm)
        return 0.0 if row is None else self._known[row - 1].faded - self._steps * math.log(self._gamma)

    def correct(
        self, features: Features, arm: Arm, was: tuple[float, float], now: tuple[float, float], age: float
    ) -> None:
        """Judge an outcome anew; was, now: (quality, weight), the weight no less than before. age: when it was learned.

        All that is kept are sums, of which as much is corrected as discount and alarms have left of the outcome.
        """
        row = self._rows.get(arm)
        if row is None:
            return
        (old, old_weight), (quality, weight) = was, now
        left = math.exp(min(0.0, age - self.age_of(arm)))
        more, total = left * (weight - old_weight), left * (weight * quality - old_weight * old)
        known, context = self._known[row - 1], context_of(features)
        self._neighbours.correct(context, row, more / self._scale, total / self._scale)
        undue = self._gamma ** (known.learned_at - self._steps)  # what follows is discounted when the arm next learns
        more, total = more * undue, total * undue
        self._lines.correct(row, context.linear, more, total - more * self.settings.prior_quality)
        known.weight += more
        known.quality = min(max(known.quality + total, 0.0), known.weight)
        if weight >= JUDGED:
            known.outcomes += weight - (old_weight if old_weight >= JUDGED else 0.0)

    def state(self) -> bytes:
        """All that was learned, at most 4 MB; the same learner always gives the same bytes."""
        arms = len(self._known) + 1
        state = msgspec.msgpack.encode(
            _State(
                version=VERSION,
                steps=self._steps,
                scale=self._scale,
                noise=self._noise,
                trust=self._trust,
                known=self._known,
                cells=self._neighbours.keys(),
                figures=self._neighbours.figures[:arms, :, : self._neighbours.used].tobytes(),
                grams=self._lines.grams[:arms].tobytes(),
                moments=self._lines.moments[:arms].tobytes(),
            )
        )
        return _digest(state) + state

    @classmethod
    def restore(cls, state: bytes, settings: LearnerSettings) -> "Learner":
        """The learner as it was. Raises StateBroken when `state` is damaged or of another version."""
        digest, packed = state[:_DIGEST_BYTES], state[_DIGEST_BYTES:]
        if digest != _digest(packed):
            raise StateBroken("the learner", "its checksum is wrong")
        try:
            version = msgspec.msgpack.decode(packed, type=_Version).version
            if version != VERSION:
                raise StateBroken("the learner", f"it is of version {version}, not {VERSION}")
            read = msgspec.msgpack.decode(packed, type=_State)
        except msgspec.DecodeError as error:
            raise StateBroken("the learner", str(error)) from error
        try:
            return cls._restored(read, settings)
        except ValueError as error:  # LinAlgError is one
            raise StateBroken("the learner", str(error)) from error

    @classmethod
    def _restored(cls, read: _State, settings: LearnerSettings) -> "Learner":
        """Raises ValueError: a checksum is right as well where somebody else wrote the state."""
        arms, cells = len(read.known) + 1, len(read.cells)
        if arms > ARMS + 1 or cells > CELLS:
            raise ValueError(f"it has {arms - 1} arms and {cells} cells, of at most {ARMS} and {CELLS}")
        figures = np.frombuffer(read.figures, np.float32).reshape(arms, 2, cells)
        grams = np.frombuffer(read.grams).reshape(arms, LINEAR_WIDTH, LINEAR_WIDTH)
        moments = np.frombuffer(read.moments).reshape(arms, LINEAR_WIDTH)
        numbers = (figures, grams, moments, (read.scale, read.noise, read.trust))
        if not all(np.isfinite(array).all() for array in numbers):
            raise ValueError("a number in it is infinite or none")
        learner = cls(settings)
        learner._steps, learner._scale, learner._known = read.steps, read.scale, read.known
        learner._noise, learner._trust = read.noise, read.trust
        learner._rows = {known.arm: row for row, known in enumerate(read.known, 1)}
        learner._make_room(arms)
        neighbours, lines = learner._neighbours, learner._lines
        neighbours.index(read.cells)
        neighbours.figures[:arms, :, :cells] = figures
        lines.grams[:arms], lines.moments[:arms] = grams, moments
        for row in range(1, arms):
            lines.solve(row)
        return learner

    def _believe(self, context: Context, arms: Sequence[Arm]) -> list[Belief]:
        """Near outcomes, then far ones and the line, then the mean of the other arms: each counts by its evidence.

        That, and the mean of all of the arm's outcomes, are two experts, mixed by the odds that each has earned
        (Vovk 1990, "Aggregating strategies").
        """
        settings, scale = self.settings, self._scale
        prior, relative_noise = settings.prior_quality, self._noise / _COIN
        near_worth, base_worth = settings.neighbours * relative_noise, _PRIOR_WORTH * relative_noise
        rows = [self._rows.get(arm, 0) for arm in arms]
        near = self._neighbours.nearby(context, rows)
        lines, line_evidence = self._lines.predict(rows, context.linear)
        all_wide, all_sum = sum(near.wide), sum(near.wide_sum)
        trust = 1.0 / (1.0 + math.exp(-self._trust))
        beliefs = []
        for place, (line, counted) in enumerate(zip(lines, line_evidence, strict=True)):
            row, wide, wide_sum = rows[place], near.wide[place], near.wide_sum[place]
            known = self._known[row - 1] if row else None
            base = settings.hints.get(arms[place].model, -1.0)
            if base < 0.0:
                others, others_sum = (all_wide - wide) * scale, (all_sum - wide_sum) * scale
                base = (others_sum + _PRIOR_WORTH * prior) / (others + _PRIOR_WORTH)
            since = self._steps - known.learned_at if known else 0
            # Halves: both speak of the same outcomes.
            line_counts = _AFAR * min(counted * self._gamma**since, _LINE_MOST)
            far_counts = _AFAR * min(wide * scale, settings.neighbours)
            far = wide_sum / wide if wide > 0.0 else 0.0
            afar = (far_counts * far + line_counts * (prior + line) + base_worth * base) / (
                far_counts + line_counts + base_worth
            )
            near_counts = near.narrow[place] * scale
            alike = (near.narrow_sum[place] * scale + near_worth * afar) / (near_counts + near_worth)
            alike = min(max(alike, 0.0), 1.0)
            weight, total = (known.weight, known.quality) if known else (0.0, 0.0)
            overall = (total + base_worth * base) / (weight + base_worth)
            quality = trust * alike + (1.0 - trust) * overall
            evidence = near_counts + far_counts + line_counts
            # Of a coin at most; the rest keeps a prediction of 0 or 1 from being certain.
            variance = min(self._noise, quality * (1.0 - quality) + 0.02)
            deviation = math.sqrt(variance / (evidence + _PRIOR_WORTH))
            outcomes = 0.0 if known is None else known.outcomes
            is_settled = outcomes >= settings.settled_after
            beliefs.append(Belief(quality, deviation, evidence, near_counts, alike, overall, outcomes, is_settled))
        return beliefs

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
            self._neighbours.forget(row, 0.0, 0.0)
            self._lines.forget(row, 0.0, 0.0)
        self._rows[arm] = row
        return row

    def _forget(self, row: int, moved: float) -> None:
        """Keep a few of its outcomes, as they would be now: it has moved, but what tells requests apart has not."""
        known = self._known[row - 1]
        keep = min(1.0, self.settings.drift_keeps / max(self._neighbours.total(row) * self._scale, 1.0))
        known.faded -= math.log(max(keep, _LEAST_KEPT))
        known.weight *= keep
        known.quality = min(max(known.quality * keep + moved * known.weight, 0.0), known.weight)
        self._neighbours.forget(row, keep, moved)
        self._lines.forget(row, keep, moved)

    def _make_room(self, rows: int) -> None:
        room = len(self._neighbours.figures)
        if rows > room:
            wanted = min(max(rows, 2 * room), ARMS + 1)
            self._neighbours.grow(wanted)
            self._lines.grow(wanted)


def _finite(value: float) -> float:
    return _MOST if math.isnan(value) else min(max(value, 0.0), _MOST)


def _digest(state: bytes) -> bytes:
    return blake2b(state, digest_size=_DIGEST_BYTES).digest()
