"""What would have happened under another policy: from the log of decisions, with an interval."""

from collections.abc import Sequence

import msgspec

from autoglm.core.errors import InvalidField
from autoglm.core.ports import Record
from autoglm.inference.decision import Feedback
from autoglm.inference.engine.account import Concluded, read_events
from autoglm.inference.engine.objective import PREFERENCES
from autoglm.inference.engine.quality import quality_of
from autoglm.inference.engine.replay import (
    COST,
    LATENCY,
    POLICIES,
    QUALITY,
    Estimate,
    Step,
    doubly_robust,
    policy_named,
)


class Answerable(msgspec.Struct, frozen=True, kw_only=True):
    """One measure under the policy that chose, and under the other one."""

    measure: str
    """`quality` (0 to 1, of judged answers), `latency_s`, or `cost`."""
    logged: float | None
    """The mean of what came out; null when nothing of it is known."""
    estimate: Estimate | None
    """Null when the log has nothing to say."""


class WhatIf(msgspec.Struct, frozen=True, kw_only=True):
    policy: str
    decisions: int
    """How many were looked at."""
    measures: list[Answerable]


def what_if(records: Sequence[Record], policy: str, *, slo_s: float, cost_scale: float) -> WhatIf:
    """records: the newest of the log of decisions, oldest first. Some 50 us a decision: call it in a thread.

    Raises InvalidField for a policy that there is not.
    """
    kind, _, model = policy.partition(":")
    if not (kind == "always" and model) and policy not in (*PREFERENCES, "random", "order"):
        raise InvalidField("policy", f"must be one of {', '.join(POLICIES)}")
    steps = steps_of(records)
    chosen = policy_named(policy, slo_s=slo_s, cost_scale=cost_scale)
    measures = []
    for measure in (QUALITY, LATENCY, COST):
        seen = [value for step in steps if (value := measure.observed(step)) is not None]
        measures.append(
            Answerable(
                measure=measure.name,
                logged=sum(seen) / len(seen) if seen else None,
                estimate=doubly_robust(steps, chosen, measure),
            )
        )
    return WhatIf(policy=policy, decisions=len(steps), measures=measures)


def steps_of(records: Sequence[Record]) -> list[Step]:
    """The decisions whose chosen model answered. Quality counts only where a person or a program has judged it."""
    concluded: dict[str, Concluded] = {}
    feedback: dict[str, list[Feedback]] = {}
    for event in read_events(records):
        if isinstance(event, Concluded):
            concluded[event.decision.id] = event
        else:
            feedback.setdefault(event.feedback.decision, []).append(event.feedback)
    steps = []
    for id, event in concluded.items():
        if event.outcome.moved_to:
            continue
        judged = quality_of(event.outcome, feedback[id]) if id in feedback else None
        steps.append(Step(decision=event.decision, outcome=event.outcome, quality=judged[0] if judged else None))
    return steps
