"""What is kept of a decision: the events in the log, and the account that they add up to."""

from collections.abc import Iterable

import msgspec
import structlog

from autoglm.core.ids import uuid7
from autoglm.core.ports import NewRecord, Record
from autoglm.inference.decision import Arm, Decision, Feedback, Outcome
from autoglm.inference.features import Features

log = structlog.get_logger()

SUBJECT = "decisions"
"""Where all events are read, in the order in which they are learned."""


def subject_of(id: str) -> str:
    """Where the events of one decision are read."""
    return f"decision:{id}"


class Concluded(msgspec.Struct, frozen=True, kw_only=True, tag="concluded"):
    """A request that has come to its end."""

    decision: Decision
    outcome: Outcome
    version: int = 1


class Judged(msgspec.Struct, frozen=True, kw_only=True, tag="judged"):
    """A judgement that came later. It repeats what it judges, so that it can be learned alone."""

    feedback: Feedback
    features: Features
    arm: Arm
    version: int = 1


Event = Concluded | Judged

_encode = msgspec.json.Encoder().encode
decode_event = msgspec.json.Decoder(Event).decode


def read_events(records: Iterable[Record]) -> list[Event]:
    """Those that can be read: one that another version wrote, or that is damaged, must not hide the others."""
    events: list[Event] = []
    unreadable = 0
    for record in records:
        try:
            events.append(decode_event(record.body))
        except (msgspec.DecodeError, UnicodeDecodeError):
            unreadable += 1
    if unreadable:
        log.warning("decisions_not_readable", events=unreadable)
    return events


def subject_of_tenant(tenant: str) -> str:
    """Of the ends of his requests: others' traffic must not push them out of sight."""
    return f"{SUBJECT}-of:{tenant}"


def record_of(event: Event) -> NewRecord:
    """The record to append. Spaces keep its id apart from clients' ids; a judge's second word replaces nothing."""
    subjects: tuple[str, ...] = ()
    if isinstance(event, Concluded):
        id, name = event.decision.id, "decision"
        subjects = (subject_of_tenant(event.decision.tenant),)
    else:
        feedback = event.feedback
        id, name = feedback.decision, f"feedback {feedback.source} {uuid7()}"
    subjects = (SUBJECT, subject_of(id), *subjects)
    return NewRecord(id=f"{name} {id}", digest=b"decision", subjects=subjects, body=_encode(event))


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of one decision."""

    decision: Decision
    outcome: Outcome | None = None
    """None while the request runs."""
    feedback: tuple[Feedback, ...] = ()


def arm_of(decision: Decision, outcome: Outcome) -> Arm:
    """Who really answered, and is judged: the chosen arm, or the one that the request was moved to."""
    if not outcome.moved_to:
        return decision.candidates[decision.chosen].arm
    return Arm(outcome.moved_to, outcome.moved_profile) if outcome.moved_profile else Arm(outcome.moved_to)


def account_of(events: Iterable[Event]) -> Account | None:
    """The events of one decision, oldest first; None when its conclusion is not among them."""
    concluded: Concluded | None = None
    feedback: list[Feedback] = []
    for event in events:
        if isinstance(event, Concluded):
            concluded = event
        else:
            feedback.append(event.feedback)
    if concluded is None:
        return None
    return Account(decision=concluded.decision, outcome=concluded.outcome, feedback=tuple(feedback))
