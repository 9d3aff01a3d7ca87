"""Questions to people: a message by each way to a person, and the first answer that comes back by any of them.

A question is a message with a note beside it in the log; its state follows from replies and receipts. So it outlives
the hub's restarts, and there is nothing that could disagree with the log.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import anyio
import msgspec
import structlog
from msgspec import Meta

from autoglm.channels.choices import ACTION, CHOICES, choice_of, choices_of, chosen_by, words_of
from autoglm.channels.mailbox import Mailbox, Sent, subject_of_replies
from autoglm.channels.receipts import Receipt, subject_of_message
from autoglm.core.address import check_address
from autoglm.core.clock import now_ms
from autoglm.core.envelope import AddressText, Envelope, IdText, Label, check_id, check_texts, decode_envelope
from autoglm.core.errors import InvalidField, NotFound, UnknownRecipient
from autoglm.core.ids import uuid7
from autoglm.core.ports import Log, NewRecord, Record

QUESTIONS = "questions"
"""Where in the log the notes of all questions are."""
QUESTION = "question"
"""The label of a question's messages: its id."""
MAX_EXPIRY_S = 2_592_000
_NOTE = "question "
_MAX_LABEL = 1024
_PAGE = 100
_ENDED = ("failed", "expired", "cancelled")
_HINT = "（回复编号或文字 / answer with the number or the words）"

State = Literal["open", "answered", "expired", "failed"]
Reach = Callable[[Envelope], Sequence[str]]
"""The addresses by which a message's recipient is reached beside its own, as the settings of people say."""

log = structlog.get_logger()


class NewQuestion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"from_": "from"}):
    to: AddressText
    """A person, a group, a device, or a channel's target."""
    question: Annotated[str, Meta(min_length=1, max_length=100_000)]
    choices: Annotated[list[Annotated[str, Meta(min_length=1, max_length=100)]], Meta(max_length=20)] = []
    """Answers to choose from; channels with buttons show them as such."""
    expires_in_s: Annotated[int, Meta(ge=1, le=MAX_EXPIRY_S)] = 86_400
    """So long an answer counts."""
    priority: Annotated[int, Meta(ge=0, le=9)] = 5
    labels: Annotated[dict[Annotated[str, Meta(max_length=128)], Label], Meta(max_length=60)] = {}
    id: IdText = ""
    """The key for deduplication, as of a message; a UUIDv7 when absent."""
    from_: AddressText = ""
    """Who asks; the key's own address when absent."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """One message of a question."""

    message: str
    """Its id."""
    to: str


class _Note(msgspec.Struct, frozen=True, kw_only=True):
    """What is stored beside the question's first message."""

    from_: str
    question: str
    choices: list[str]
    expires_at: int
    asked: list[Asked]
    version: int = 1


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    text: str
    """What the person said, or the action of the button: `approve`."""
    choice: str | None
    """The offered answer that is meant; None where none were offered, or another one was given."""
    by: str
    message: str
    """The reply's id."""
    time: int
    """Milliseconds of the Unix epoch, by this hub's clock."""


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """One message of a question, and what became of it."""

    to: str
    message: str
    steps: list[Receipt]


class Question(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    state: State
    """open: an answer may still come."""
    from_: str = msgspec.field(name="from")
    question: str
    choices: list[str]
    expires_at: int
    """Milliseconds of the Unix epoch."""
    answer: Answer | None
    acknowledged_by: str
    """Who has noticed, without an answer so far; empty while nobody has."""
    error: str
    """Why it failed: no message of it arrived, or can."""
    error_zh: str
    ways: list[Way]


_decode_note = msgspec.json.Decoder(_Note).decode


class Questions:
    def __init__(self, store: Log, mailbox: Mailbox, reach: Reach) -> None:
        self._log = store
        self._mailbox = mailbox
        self._reach = reach

    async def ask(self, new: NewQuestion, *, sender: str) -> Sent:
        """Returns once the question and its messages are on disk; a repeat completes what an earlier try began.

        Raises InvalidField, UnknownRecipient, DuplicateId, StorageFull, QueueFull.
        """
        first = _message_of(new, sender)
        check_texts(first)
        if first.to.startswith("model:"):
            raise InvalidField("to", "is a model; /v1/chat/completions and /api/tasks ask those")
        others = [to for to in dict.fromkeys(self._reach(first)) if to != first.to]
        asked = [Asked(message=first.id, to=first.to), *(Asked(message=_id(first.id, to), to=to) for to in others)]
        assert first.expires_at is not None
        note = _Note(
            from_=first.from_, question=new.question, choices=new.choices, expires_at=first.expires_at, asked=asked
        )
        beside = NewRecord(
            id=_note_id(first.id), digest=b"question", subjects=(QUESTIONS, f"questions-of:{first.from_}"),
            body=msgspec.json.encode(note),
        )  # fmt: skip
        sent = await self._mailbox.send(first, sender=sender, beside=[beside])
        known = note if sent.is_new else await self._note(sent.id)
        for one in known.asked[1:]:
            copy = msgspec.structs.replace(first, id=one.message, to=one.to, expires_at=known.expires_at)
            try:
                await self._mailbox.send(copy, sender=sender)
            except (UnknownRecipient, InvalidField) as error:  # the other ways still lead to the person
                log.warning("question_not_sent_by_way", to=one.to, reason=str(error))
        return sent

    async def sender(self, id: str) -> str:
        """Who asked. Raises NotFound."""
        return (await self._note(id)).from_

    async def labels(self, id: str) -> dict[str, str]:
        """As its sender gave them; none where the retention took its message."""
        try:
            envelope, _ = await self._mailbox.get(id)
        except NotFound:
            return {}
        return {name: value for name, value in envelope.labels.items() if name not in (QUESTION, CHOICES)}

    async def get(self, id: str) -> Question:
        """Raises NotFound."""
        note = await self._note(id)
        answer = await self._answer(note)
        ways = [await self._way(one) for one in note.asked]
        found = [way for way in ways if way is not None]
        has_failed = bool(found) and all(_end(way) is not None for way in found)
        state: State = "open"
        if answer is not None:
            state = "answered"
        elif note.expires_at <= now_ms():
            state = "expired"
        elif has_failed:
            state = "failed"
        ends = [(way.to, end) for way in found if state == "failed" and (end := _end(way)) is not None]
        noticed = (step.by for way in found for step in way.steps if step.state == "acknowledged")
        return Question(
            id=id, state=state, from_=note.from_, question=note.question, choices=note.choices,
            expires_at=note.expires_at, answer=answer, acknowledged_by=next(noticed, ""), ways=found,
            error="; ".join(f"{to}: {end.detail or end.state}" for to, end in ends),
            error_zh="；".join(f"{to}：{end.detail_zh or end.detail or end.state}" for to, end in ends),
        )  # fmt: skip

    async def wait(self, id: str, wait_s: float) -> Question:
        """As `get`, once it is open no more, or after wait_s."""
        subjects = [
            subject
            for one in (await self._note(id)).asked
            for subject in (subject_of_replies(one.message), subject_of_message(one.message))
        ]
        with anyio.move_on_after(wait_s):
            while True:
                after = await self._log.last_seq()  # before looking: what comes meanwhile is behind it
                question = await self.get(id)
                if question.state != "open":
                    return question
                left_s = max(0.0, (question.expires_at - now_ms()) / 1000)
                await self._log.next(*subjects, after=after, limit=1, timeout_s=min(left_s, wait_s))
        return await self.get(id)

    async def wait_end(self, id: str) -> Question:
        """Once it is open no more, however long that takes."""
        while (question := await self.wait(id, MAX_EXPIRY_S)).state == "open":
            pass
        return question

    async def _note(self, id: str) -> _Note:
        record = await self._log.get(_note_id(id))
        if record is None:
            raise NotFound("question", id[:128])
        return _decode_note(record.body)

    async def _way(self, asked: Asked) -> Way | None:
        """None where no message could be made, or retention took it."""
        try:
            envelope, record = await self._mailbox.get(asked.message)
        except NotFound:
            return None
        steps = await self._mailbox.receipts(envelope, record)
        return Way(to=asked.to, message=asked.message, steps=steps)

    async def _answer(self, note: _Note) -> Answer | None:
        """The first one, by whichever way it came."""
        found = [answer for one in note.asked if (answer := await self._answer_to(one, note)) is not None]
        return min(found, default=(0, None), key=lambda entry: entry[0])[1]

    async def _answer_to(self, asked: Asked, note: _Note) -> tuple[int, Answer] | None:
        after = 0
        while records := await self._log.read(subject_of_replies(asked.message), after=after, limit=_PAGE):
            for record in records:
                after = record.seq
                reply = decode_envelope(record.body)
                words = words_of(reply)
                is_nod = bool(note.choices) and reply.labels.get(ACTION) == "ack"
                if is_nod or not words or record.time_ms > note.expires_at or not await self._may_answer(asked, reply):
                    continue
                choice = chosen_by(reply, note.choices)
                answer = Answer(text=words, choice=choice, by=reply.from_, message=reply.id, time=record.time_ms)
                return record.seq, answer
        return None

    async def _may_answer(self, asked: Asked, reply: Envelope) -> bool:
        """Only who was asked: the recipient, a member of the group, or whom a channel counts to its party."""
        if reply.from_ == asked.to:
            return True
        channel, _, target = asked.to.partition("/")
        if target.startswith("@") and channel.startswith("channel:"):
            return reply.from_.startswith(f"{channel}/")
        envelope, record = await self._mailbox.get(asked.message)
        return await self._mailbox.was_sent_to(envelope, record, reply.from_)


def begun(note: Record) -> tuple[str, int]:
    """(id, expires_at) of the question of a note under QUESTIONS."""
    return note.id.removeprefix(_NOTE), _decode_note(note.body).expires_at


async def open_question(store: Log, message: Envelope, words: str) -> bool:
    """Whether a message is a question without a reply so far that offers this answer: one that names no message."""
    return (
        QUESTION in message.labels
        and (message.expires_at is None or message.expires_at > now_ms())
        and choice_of(choices_of(message), words) is not None
        and not await store.read(subject_of_replies(message.id), limit=1)
    )


def _message_of(new: NewQuestion, sender: str) -> Envelope:
    if new.id:
        check_id(new.id)
    check_address(new.to)
    id = new.id or uuid7()
    labels = dict(new.labels) | {QUESTION: id}
    if new.choices:
        labels[CHOICES] = json.dumps(new.choices, ensure_ascii=False)
        if len(labels[CHOICES]) > _MAX_LABEL:
            raise InvalidField("choices", f"have more than {_MAX_LABEL} characters as JSON")
    lines = [new.question, *(f"{number}. {choice}" for number, choice in enumerate(new.choices, 1))]
    return Envelope(
        id=id, to=new.to, from_=new.from_ or sender, labels=labels, priority=new.priority,
        content="\n".join([*lines, *([_HINT] if new.choices else [])]),
        expires_at=now_ms() + 1000 * new.expires_in_s,
    )  # fmt: skip


def _end(way: Way) -> Receipt | None:
    """The step with which it ended without an answer."""
    return next((step for step in way.steps if step.state in _ENDED), None)


def _id(question: str, to: str) -> str:
    """Of a further message; the same for a repeat."""
    return f"question-{hashlib.blake2b(msgspec.json.encode((question, to)), digest_size=16).hexdigest()}"


def _note_id(id: str) -> str:
    return f"{_NOTE}{id}"
