"""What the tools give back: bounded, so that no answer fills an agent's context. Pure."""

from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from autoglm.client import Page

MAX_MESSAGES = 50
MAX_TEXT = 2000
"""Characters of one message."""
MAX_INSTANCES = 100
MAX_STEPS = 50

Json = dict[str, Any]


class Sent(BaseModel):
    """It is on the hub's disk."""

    id: str
    seq: int = Field(description="Its place in the hub's log")


class Told(Sent):
    warning: str = Field(
        default="", description="no-route, silenced or inhibited: nobody is told of the event; empty: somebody is"
    )


class Message(BaseModel):
    id: str
    seq: int = Field(description="Its place in the log; newer messages have higher ones")
    sender: str
    to: str
    time: str = Field(description="By the sender's clock, ISO 8601 in UTC")
    kind: str
    priority: int
    text: str
    is_cut: bool = Field(description=f"True when the text had more than {MAX_TEXT} characters")
    labels: dict[str, str]
    reply_to: str | None = Field(description="The id of the message that this one answers")


class Inbox(BaseModel):
    messages: list[Message] = Field(description="Oldest first")
    next: int = Field(description="Give it as `after` to go on")


class PersonsAnswer(BaseModel):
    id: str = Field(description="Of the question, for get_answer")
    state: Literal["open", "answered", "expired", "failed"] = Field(
        description="open: no answer yet; ask get_answer again later. failed: nobody was reached, see error"
    )
    answer: str | None = Field(description="What the person said")
    choice: str | None = Field(description="The offered answer that was chosen; null when another one was given")
    by: str | None = Field(description="Who answered")
    noticed_by: str | None = Field(description="Who has acknowledged the question without an answer")
    error: str | None


class Step(BaseModel):
    state: str = Field(
        description="accepted, queued (an attempt failed for now), sent, delivered, read, acknowledged; or failed, "
        "expired, cancelled. sent is not delivered"
    )
    time: str
    by: str
    detail: str


class Receipts(BaseModel):
    steps: list[Step] = Field(description="Oldest first")


class Instance(BaseModel):
    name: str
    models: list[str]
    state: str = Field(description="ready, or why it does not answer: down, cooling, blocked, starting, ...")
    running: int
    waiting: int
    error: str


class Instances(BaseModel):
    instances: list[Instance]
    left_out: int = Field(description=f"How many more there are than {MAX_INSTANCES}")


def inbox_of(page: Page) -> Inbox:
    return Inbox(messages=[_message(message) for message in page.messages], next=page.next)


def _message(message: Json) -> Message:
    text = _text(message["content"])
    return Message(
        id=message["id"], seq=message["seq"], sender=message["from"], to=message["to"],
        time=_time(message["timestamp"]), kind=message.get("kind", "chat"), priority=message.get("priority", 5),
        text=text[:MAX_TEXT], is_cut=len(text) > MAX_TEXT, labels=message.get("labels", {}),
        reply_to=message.get("reply_to"),
    )  # fmt: skip


def _text(content: str | list[Json]) -> str:
    """Text parts as they are; what else there is, by its type."""
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] if part["type"] == "text" else f"[{part['type']}]" for part in content)


def _time(at_ms: int) -> str:
    try:
        return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):  # a sender's clock says what it likes
        return str(at_ms)


def answer_of(question: Json) -> PersonsAnswer:
    answer = question["answer"] or {}
    text = answer.get("text")
    return PersonsAnswer(
        id=question["id"], state=question["state"], answer=None if text is None else text[:MAX_TEXT],
        choice=answer.get("choice"), by=answer.get("by"), noticed_by=question["acknowledged_by"] or None,
        error=question["error"][:MAX_TEXT] or None,
    )  # fmt: skip


def receipts_of(steps: list[Json]) -> Receipts:
    """The newest, where there are too many."""
    return Receipts(
        steps=[
            Step(
                state=step["state"], time=_time(step["time"]), by=step.get("by", ""),
                detail=step.get("detail", "")[:MAX_TEXT],
            )
            for step in steps[-MAX_STEPS:]
        ]
    )  # fmt: skip


def instances_of(pool: list[Json]) -> Instances:
    found = [
        Instance(
            name=one["name"], models=one["models"][:MAX_INSTANCES], state=one["state"], running=one["running"],
            waiting=one["waiting"], error=one["error"][:MAX_TEXT],
        )
        for one in pool[:MAX_INSTANCES]
    ]  # fmt: skip
    return Instances(instances=found, left_out=max(0, len(pool) - MAX_INSTANCES))
