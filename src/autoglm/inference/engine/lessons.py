"""What the engine has learned: which arm answers what how well, how long answers get, and what they cost.

Imports numpy: load it in a thread, once the hub is ready.
"""

import msgspec

from autoglm.core.errors import StateBroken
from autoglm.inference.decision import Outcome
from autoglm.inference.engine.account import Concluded, Event, Judged, arm_of
from autoglm.inference.engine.learner import Learner, LearnerSettings
from autoglm.inference.engine.lengths import Lengths, Mean
from autoglm.inference.engine.quality import quality_of

_SMOOTHING = 0.05
_VERSION = 4
_MOST_JUDGED = 4_096
"""Decisions whose judgement can be corrected; a later word on an older one counts as a new one."""
_UNKNOWN = Outcome(status=0)


class _State(msgspec.Struct, frozen=True, kw_only=True):
    version: int
    learner: bytes
    lengths: dict[str, Mean]
    usual_cost: float
    events: int
    judged: dict[str, tuple[float, float, float]]


class Lessons:
    """A fold over events: the same events in the same order give the same state."""

    def __init__(self, settings: LearnerSettings) -> None:
        self.learner = Learner(settings)
        self.events = 0
        self.lengths = Lengths()
        self.usual_cost = 0.0
        """The running mean of what answers cost; 0 when that is not known."""
        self._judged: dict[str, tuple[float, float, float]] = {}
        """What was learned of the decisions judged last: quality, weight, and the arm's age then."""

    def take(self, event: Event) -> None:
        """Learn from one event."""
        self.events += 1
        if not isinstance(event, Concluded):
            self._judge(event)
            return
        decision, outcome = event.decision, event.outcome
        if outcome.moved_to and not outcome.moved_profile:
            return  # nobody noted who answered; it says nothing about the one that was chosen
        arm = arm_of(decision, outcome)
        if outcome.tokens_out:
            self.lengths.add(decision.features, arm, outcome.tokens_out)
        if outcome.cost:
            self.usual_cost += (outcome.cost - self.usual_cost) * (_SMOOTHING if self.usual_cost else 1.0)
        noticed = quality_of(outcome, ())
        if noticed is not None:
            self.learner.notice(decision.features, arm, noticed[0], weight=noticed[1])

    def state(self) -> bytes:
        return msgspec.msgpack.encode(
            _State(
                version=_VERSION, learner=self.learner.state(), lengths=self.lengths.means,
                usual_cost=self.usual_cost, events=self.events, judged=self._judged,
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
        lessons.lengths, lessons.usual_cost, lessons.events = Lengths(saved.lengths), saved.usual_cost, saved.events
        lessons._judged = saved.judged
        return lessons

    def _judge(self, event: Judged) -> None:
        """Each decision weighs once, however often it is judged: by the latest word of those that weigh most."""
        judged = quality_of(_UNKNOWN, (event.feedback,))
        if judged is None:
            return
        id, (quality, weight) = event.feedback.decision, judged
        before = self._judged.pop(id, None)
        if before is None:
            self.learner.learn(event.features, event.arm, quality, weight=weight)
            before = (quality, weight, self.learner.age_of(event.arm))
        elif weight >= before[1]:
            self.learner.correct(event.features, event.arm, before[:2], judged, before[2])
            before = (quality, weight, before[2])
        self._judged[id] = before
        if len(self._judged) > _MOST_JUDGED:
            del self._judged[next(iter(self._judged))]
