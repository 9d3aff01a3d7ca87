"""Attempts: noted in the log before a request goes out, so that after a crash it is known which ones are in doubt."""

import msgspec

from autoglm.channels.delivery import Delivery, Words, transient
from autoglm.channels.outbox.lane import Tried
from autoglm.channels.receipts import Receipt, ends_sending, subject_of_message
from autoglm.core.clock import now_ms
from autoglm.core.ports import Log, NewRecord

SUBJECT = "attempts"
_MOST = 10_000


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """A request that is about to go out."""

    messages: tuple[str, ...]
    """The ids of the messages in it: several in a digest."""
    channel: str
    target: str
    number: int
    part: int
    """Of a message in several parts, from 0."""
    time: int
    """Milliseconds of the Unix epoch."""
    is_answered: bool = False
    """The vendor took this part; others follow."""
    version: int = 1


class Found(msgspec.Struct, frozen=True):
    """What the log says of a message from before this start."""

    tried: Tried
    is_settled: bool = False
    doubt: Delivery | None = None
    """Its last request went out, and nothing is known of how that ended."""
    reason: Words = Words("", "")
    """Why it did not go out so far."""


_decode = msgspec.json.Decoder(Attempt).decode
_receipt = msgspec.json.Decoder(Receipt).decode


def attempt_record(messages: tuple[str, ...], channel: str, target: str, *, number: int, part: int) -> NewRecord:
    attempt = Attempt(messages=messages, channel=channel, target=target, number=number, part=part, time=now_ms())
    return NewRecord(
        id=f"attempt {messages[0]} {number} {part}",
        digest=b"attempt",
        subjects=(SUBJECT, *(_subject_of(id) for id in messages)),
        body=msgspec.json.encode(attempt),
    )


def answer_record(message: str, channel: str, target: str, *, number: int, part: int) -> NewRecord:
    """That the vendor took a part which is not the last: it is not sent again, however long the next one waits."""
    attempt = Attempt(
        messages=(message,), channel=channel, target=target, number=number, part=part, time=now_ms(), is_answered=True
    )  # fmt: skip
    return NewRecord(
        id=f"attempt {message} {number} {part} answered", digest=b"attempt", subjects=(_subject_of(message),),
        body=msgspec.json.encode(attempt),
    )  # fmt: skip


async def find(log: Log, id: str) -> Found:
    """What is known of a message that another run of the hub may have tried."""
    steps = [_receipt(record.body) for record in await log.read(subject_of_message(id), limit=_MOST)]
    if any(ends_sending(step) for step in steps):
        return Found(Tried(), is_settled=True)
    reason = Words(steps[-1].detail, steps[-1].detail_zh) if steps else Words("", "")
    attempts = [_decode(record.body) for record in await log.read(_subject_of(id), limit=_MOST)]
    if not attempts:
        return Found(Tried(), reason=reason)
    last = attempts[-1]
    if last.is_answered:
        return Found(Tried(last.number, last.part + 1), reason=reason)
    tried = Tried(last.number, last.part if len(last.messages) == 1 else 0)
    if any(step.attempt == last.number for step in steps):
        return Found(tried, reason=reason)
    words = Words(
        "the hub stopped while a request was on its way; it may have been delivered",
        "发送途中本机停止运行，消息可能已送达",
    )
    return Found(tried, doubt=transient("interrupted", words, is_in_doubt=True))


async def words_of_expired(log: Log, id: str) -> Words:
    """What had become of a message until its time was over; empty when it was never tried."""
    found = await find(log, id)
    if found.doubt is not None:
        return found.doubt.reason
    if (parts := found.tried.parts) > 0:
        return Words(f"only its first {parts} part{'s' if parts > 1 else ''} went out", f"只发出了前 {parts} 段")
    return found.reason


async def sent_with(log: Log, id: str) -> tuple[str, ...]:
    """The ids of all messages of the request by which this one went out last, itself among them."""
    attempts = await log.read_last(_subject_of(id), limit=1)
    return _decode(attempts[0].body).messages if attempts else (id,)


async def earlier_parts(log: Log, id: str) -> int:
    """How many parts of a message the vendor has taken, its last one left out."""
    attempts = [_decode(record.body) for record in await log.read(_subject_of(id), limit=_MOST)]
    return sum(attempt.is_answered for attempt in attempts)


async def recent(log: Log, limit: int) -> list[Attempt]:
    """The last attempts of all channels, oldest first."""
    return [_decode(record.body) for record in await log.read_last(SUBJECT, limit=limit)]


def _subject_of(id: str) -> str:
    return f"attempts:{id}"
