"""What the engine has learned: which arm answers what how well, how long answers get, and what they cost.

Imports numpy: load it in a thread, once the hub is ready.
"""

import msgspec

from autoglm.core.errors import StateBroken
from autoglm.inference.decision import Arm, Outcome
from autoglm.inference.engine.account import Concluded, Event
from autoglm.inference.engine.learner import Learner, LearnerSettings
from autoglm.inference.engine.quality import quality_of
from autoglm.inference.features import Features

USUAL_OUTPUT_TOKENS = 200.0
"""Of an answer, before there is one to learn from."""
_SMOOTHING = 0.05
_MAX_MEANS = 4_096
"""Models times intents whose mean lengths are kept; further ones go by the mean of all."""
_VERSION = 1
_UNKNOWN = Outcome(status=0)


class _State(msgspec.Struct, frozen=True, kw_only=True):
    version: int
    learner: bytes
    output_tokens: dict[str, float]
    costs: dict[str, float]
    events: int


class Lessons:
    """A fold over events: the same events in the same order give the same state."""

    def __init__(self, settings: LearnerSettings) -> None:
        self.learner = Learner(settings)
        self.events = 0
        self._output_tokens: dict[str, float] = {}
        self._costs: dict[str, float] = {}

    def take(self, event: Event) -> None:
        """Learn from one event."""
        self.events += 1
        if not isinstance(event, Concluded):
            self._learn(event.features, event.arm, quality_of(_UNKNOWN, (event.feedback,)))
            return
        decision, outcome = event.decision, event.outcome
        if outcome.moved_to:
            return  # another model answered: it says nothing about the one that was chosen
        arm = decision.candidates[decision.chosen].arm
        if outcome.tokens_out:
            self._add(self._output_tokens, _key(arm, decision.features.intent), outcome.tokens_out)
            self._add(self._output_tokens, "", outcome.tokens_out)
        if outcome.cost:
            self._add(self._costs, "", outcome.cost)
        self._learn(decision.features, arm, quality_of(outcome, ()))

    def output_tokens(self, arm: Arm, intent: str) -> float:
        """How long an answer will be, about."""
        means = self._output_tokens
        return means.get(_key(arm, intent)) or means.get("") or USUAL_OUTPUT_TOKENS

    @property
    def usual_cost(self) -> float:
        """The running mean of what answers cost; 0 when that is not known."""
        return self._costs.get("", 0.0)

    def state(self) -> bytes:
        return msgspec.msgpack.encode(
            _State(
                version=_VERSION, learner=self.learner.state(), output_tokens=self._output_tokens, costs=self._costs,
                events=self.events,
            )
        )  # fmt: skip

    @classmethod
    def restore(cls, state: bytes, settings: LearnerSettings) -> "Lessons":
        """Raises StateBroken."""
        try:
            saved = msgspec.msgpack.decode(state, type=_State)
        except msgspec.DecodeError as error:
            raise StateBroken("the engine", str(error)) from error
        if saved.version != _VERSION:
            raise StateBroken("the engine", f"it is of version {saved.version}, not {_VERSION}")
        lessons = cls(settings)
        lessons.learner = Learner.restore(saved.learner, settings)
        lessons._output_tokens, lessons._costs, lessons.events = saved.output_tokens, saved.costs, saved.events
        return lessons

    def _learn(self, features: Features, arm: Arm, judged: tuple[float, float] | None) -> None:
        if judged is not None:
            quality, weight = judged
            self.learner.learn(features, arm, quality, weight=weight)

    def _add(self, means: dict[str, float], key: str, value: float) -> None:
        mean = means.get(key)
        if mean is None and len(means) >= _MAX_MEANS:
            return
        means[key] = value if mean is None else mean + _SMOOTHING * (value - mean)


def _key(arm: Arm, intent: str) -> str:
    return f"{arm.model} {arm.profile} {intent}"
