"""The mailbox channel: messages wait in the log until their reader comes.

A message is one record, readable under its recipient (`to:user:alice`), its group, its thread with a model, and, when a
model shall answer it, under `work`. Receipts are further records (see receipts.py).
"""

import contextlib
import hashlib
import re
from collections.abc import Callable, Sequence

import msgspec

from autoglm.channels.delivery import Words
from autoglm.channels.ends import Ends
from autoglm.channels.expiry import Expiries, expiry_note
from autoglm.channels.groups import Groups, how_to_make
from autoglm.channels.outbox.attempts import words_of_expired
from autoglm.channels.outbox.subjects import OUTBOX, subject_of_channel
from autoglm.channels.payers import asker_of, payer_note, payer_of
from autoglm.channels.receipts import (
    AckState,
    Receipt,
    ends_sending,
    receipt_record,
    subject_of_message,
    subject_of_sender,
)
from autoglm.core.address import parse_address
from autoglm.core.clock import now_ms
from autoglm.core.envelope import Envelope, JsonPart, decode_envelope, encode_envelope
from autoglm.core.errors import HubError, InvalidField, NotFound, RevisionMismatch, UnknownRecipient
from autoglm.core.ids import uuid7
from autoglm.core.lasting import Asker
from autoglm.core.payer import Payer
from autoglm.core.ports import Appended, KeyValue, Log, NewRecord, Record, Waiter

WORK = "work"
"""The subject of messages that a model shall answer."""
_is_reserved = re.compile(r"stream|answer-[0-9a-f]{40}|notice-[0-9a-f]{32}").fullmatch

_encode = msgspec.json.Encoder(order="deterministic").encode


class Sent(msgspec.Struct, frozen=True):
    id: str
    seq: int
    is_new: bool


class Mailbox:
    """Send, read, wait, acknowledge. `run` in a task: it reports messages that expire."""

    def __init__(
        self, log: Log, keyvalue: KeyValue, groups: Groups, serves_model: Callable[[str], bool],
        check_channel: Callable[[Envelope], None] | None = None, *, ends: Ends | None = None,
    ) -> None:  # fmt: skip
        """check_channel: raises UnknownRecipient, InvalidField where no channel can carry the message.

        ends: those of the outbox, where there is one.
        """
        self._check_channel = check_channel or _no_channel
        self._ends = ends or Ends(log)
        self._log = log
        self._keyvalue = keyvalue
        self._serves_model = serves_model
        self.groups = groups
        self._expiries = Expiries(log, keyvalue)

    # --- out ---

    async def send(
        self, envelope: Envelope, *, sender: str, payer: Payer | None = None, asker: Asker | None = None,
        beside: Sequence[NewRecord] = (), is_own: bool = False,
    ) -> Sent:  # fmt: skip
        """Store a message; returns once it is on disk. `sender` is used where the envelope has no `from`.

        payer: who pays for it when it goes to a model; None where the sender's address has to tell. asker: by what
        right, beside a payer.
        beside: records that are stored with it, or not at all. is_own: the id may be one of the hub's own.
        Raises UnknownRecipient, InvalidField, DuplicateId, StorageFull.
        """
        now = now_ms()
        stamped = _stamped(envelope, sender, now)
        try:
            subjects = self._checked_subjects(stamped, now, is_own=is_own)
        except HubError:
            # What was accepted stays accepted: its recipient may be gone by the time of a repeat.
            repeated = await self._repeated(stamped) if envelope.id else None
            if repeated is None:
                raise
            return repeated
        message = _record(stamped, subjects)
        notes = [payer_note(stamped.id, payer, asker)] if payer is not None and _is_for_model(stamped) else []
        notes += beside
        if stamped.expires_at is None:
            appended, *_ = await self._log.append_all([message, *notes])
        else:
            expiry = expiry_note(stamped.id, stamped.expires_at)
            appended, *_, note = await self._log.append_all([message, *notes, expiry])
            if note.is_new:
                self._expiries.add(stamped.expires_at, note.seq)
        return Sent(stamped.id, appended.seq, appended.is_new)

    def hand_in(
        self, envelope: Envelope, *, sender: str, waiter: Waiter[Sequence[Appended]], payer: Payer | None = None
    ) -> str | None:
        """As `send`, without a coroutine, for a message with nothing special: its id, and the waiter is told when it is
        on disk. None: nothing was done, `send` has to look at it. Raises QueueFull, StoreBroken.
        """
        if envelope.expires_at is not None or (payer is not None and _is_for_model(envelope)):
            return None
        now = now_ms()
        stamped = _stamped(envelope, sender, now)
        try:
            subjects = self._checked_subjects(stamped, now)
        except HubError:
            return None
        self._log.hand_in(_record(stamped, subjects), waiter)
        return stamped.id

    async def _repeated(self, envelope: Envelope) -> Sent | None:
        """The message that is there already, when this is a repeat of it."""
        record = await self._log.get(envelope.id)
        if record is None or _digest(decode_envelope(record.body)) != _digest(envelope):
            return None
        return Sent(envelope.id, record.seq, False)

    def _checked_subjects(self, envelope: Envelope, now: int, *, is_own: bool = False) -> tuple[str, ...]:
        if envelope.expires_at is not None and envelope.expires_at <= now:
            raise InvalidField("expires_at", f"is in the past; this hub's clock says {now}")
        if envelope.kind == "receipt":
            raise InvalidField("kind", "receipts are made by the hub; use /api/messages/{id}/ack")
        if not is_own and _is_reserved(envelope.id) is not None:
            raise InvalidField("id", f"{envelope.id!r} is one of the hub's own; choose another")
        return self._subjects(envelope)

    def _subjects(self, envelope: Envelope) -> tuple[str, ...]:
        """Where the message is read. Raises UnknownRecipient."""
        address = parse_address(envelope.to)
        subjects = [f"to:{envelope.to}"]
        match address.scheme:
            case "group":
                try:
                    members = self.groups.get(address.rest).members
                except NotFound:
                    way_out = f"this hub has no such group; {how_to_make(address.rest)}"
                    raise UnknownRecipient(envelope.to, way_out) from None
                subjects += [f"to:{member}" for member in members]
            case "model":
                if not self._serves_model(address.rest):
                    way_out = "no instance serves this model; GET /v1/models lists those there are"
                    raise UnknownRecipient(envelope.to, way_out)
                subjects.append(WORK)
                if envelope.kind == "task":
                    _check_task(envelope)
                    subjects.append(f"tasks-of:{envelope.from_}")
            case "channel":
                self._check_channel(envelope)
                subjects += [OUTBOX, subject_of_channel(address.rest.split("/", 1)[0])]
            case "site":
                raise UnknownRecipient(envelope.to, "this hub is not joined to another site")
            case "user" | "device":
                pass
        if envelope.reply_to is not None and not envelope.from_.startswith("model:"):
            subjects.append(subject_of_replies(envelope.reply_to))
        if envelope.thread is not None and (person := _who_talks_with_a_model(envelope)) is not None:
            subjects.append(_thread_subject(person, envelope.thread))
        return tuple(subjects)

    # --- in ---

    async def read(self, address: str, *, after: int, limit: int, wait_s: float = 0.0) -> list[Record]:
        """Messages to an address with seq > after; waits up to wait_s for the first one."""
        if wait_s > 0:
            return await self._log.next(f"to:{address}", after=after, limit=limit, timeout_s=wait_s)
        return await self._log.read(f"to:{address}", after=after, limit=limit)

    async def follow(self, address: str, *, after: int, timeout_s: float) -> list[Record]:
        """Messages to an address and receipts for what it sent, in one order; waits for the first one."""
        return await self._log.next(f"to:{address}", subject_of_sender(address), after=after, timeout_s=timeout_s)

    async def thread(self, person: str, thread: str, *, limit: int) -> list[Envelope]:
        """What a person (or a device) and models said to each other in a thread: the newest messages, oldest first.

        Threads of one name are each person's own: a name is no secret, and others may write into theirs.
        """
        records = await self._log.read_last(_thread_subject(person, thread), limit=limit)
        return [decode_envelope(record.body) for record in records]

    async def work(self, *, after: int, timeout_s: float) -> list[Record]:
        """Messages that a model shall answer."""
        return await self._log.next(WORK, after=after, timeout_s=timeout_s)

    async def get(self, id: str) -> tuple[Envelope, Record]:
        """Raises NotFound."""
        # Receipts and notes have a space in their ids.
        record = None if " " in id else await self._log.get(id)
        if record is None:
            raise NotFound("message", id[:128])
        return decode_envelope(record.body), record

    async def payer(self, id: str) -> Payer | None:
        """Who pays for a message to a model; None where that was not said when it was sent."""
        return await payer_of(self._log, id)

    async def asker(self, id: str) -> Asker | None:
        """By whose right a model is asked; None where that was not said when it was sent."""
        return await asker_of(self._log, id)

    async def last_seq(self) -> int:
        return await self._log.last_seq()

    # --- receipts ---

    async def report(self, envelope: Envelope, state: AckState, *, by: str) -> int:
        """Append a step that the recipient `by` reports; returns its seq. Reporting twice is once."""
        async with self._ends.written(envelope.id):  # what somebody has read does not expire after that
            appended = await self._log.append(receipt_record(envelope.id, envelope.from_, state, by=by))
        return appended.seq

    async def fail(self, envelope: Envelope, detail: str) -> None:
        """Append that the message will never be answered, and why, unless it has ended."""
        await self._end(
            envelope, [receipt_record(envelope.id, envelope.from_, "failed", by=envelope.to, detail=detail)]
        )

    async def cancel(self, envelope: Envelope) -> None:
        """Append that the sender took it back, unless it has ended."""
        await self._end(envelope, [receipt_record(envelope.id, envelope.from_, "cancelled", by=envelope.to)])

    async def answer(self, message: Envelope, answer: Envelope) -> None:
        """Store a model's answer and that the message thereby is delivered, in one step; nothing, if it has ended."""
        stamped = msgspec.structs.replace(answer, timestamp=now_ms())
        delivered = receipt_record(message.id, message.from_, "delivered", by=message.to)
        await self._end(message, [_record(stamped, self._subjects(stamped)), delivered])

    async def _end(self, message: Envelope, records: Sequence[NewRecord]) -> None:
        """Of a message to a model."""
        async with self._ends.written(message.id):
            if not await self._ends.has_ended(message.id):
                await self._log.append_all(records)

    async def is_settled(self, envelope: Envelope) -> bool:
        """True when a message to a model needs no more work: answered, failed, expired or cancelled."""
        await self._expire(envelope)
        return bool(await self._log.read(subject_of_message(envelope.id), limit=1))

    async def wait_settled(self, envelope: Envelope, wait_s: float) -> None:
        """Returns when a message to a model needs no more work, or after wait_s."""
        await self._log.next(subject_of_message(envelope.id), after=0, limit=1, timeout_s=wait_s)

    async def tasks_of(self, sender: str, *, after: int, limit: int) -> list[tuple[Envelope, int]]:
        """The tasks of a sender with their numbers, oldest first."""
        records = await self._log.read(f"tasks-of:{sender}", after=after, limit=limit)
        return [(decode_envelope(record.body), record.seq) for record in records]

    async def receipts(self, envelope: Envelope, record: Record) -> list[Receipt]:
        """All steps of a message, `accepted` first."""
        await self._expire(envelope)
        accepted = Receipt(message=envelope.id, state="accepted", time=record.time_ms)
        return [accepted, *await self._ends.steps(envelope.id)]

    async def recipient_of(self, envelope: Envelope, record: Record, by: str | None) -> str:
        """Whose acknowledgement this is. Raises InvalidField when `by` did not get the message.

        Whoever may read a model's inbox looks over its shoulder only: a step of theirs would look like its answer.
        """
        if envelope.to.startswith("model:"):
            raise InvalidField("id", "the message went to a model: the hub reports its steps, and nobody else")
        if not envelope.to.startswith("group:"):
            if by not in (None, envelope.to):
                raise InvalidField("by", f"the message went to {envelope.to!r}, not to {by!r}")
            return envelope.to
        if by is None:
            raise InvalidField("by", "the message went to a group: say which member acknowledges it")
        if not await self.was_sent_to(envelope, record, by):
            raise InvalidField("by", f"{by[:80]!r} was no member of {envelope.to!r} when the message was sent")
        return by

    async def was_sent_to(self, envelope: Envelope, record: Record, address: str) -> bool:
        """True when the message reached the address, by itself or as a member of the group at that moment."""
        if envelope.to == address:
            return True
        if not envelope.to.startswith("group:"):
            return False
        found = await self._log.read(f"to:{address}", after=record.seq - 1, limit=1)
        if found and found[0].seq == record.seq:
            return True
        # The log does not hand out what has expired; then today's members must do.
        has_expired = envelope.expires_at is not None and envelope.expires_at <= now_ms()
        return has_expired and self.groups.has_member(envelope.to.removeprefix("group:"), address)

    # --- readers that the hub remembers ---

    async def cursor(self, address: str, reader: str) -> int:
        """How far this reader has confirmed to have come."""
        entry = await self._keyvalue.get(_cursor_key(address, reader))
        return int(entry.value) if entry else 0

    async def confirm(self, address: str, reader: str, seq: int) -> None:
        """The reader has everything up to `seq`: those messages are delivered, but for a model's (see `recipient_of`).

        Going back is ignored.
        """
        if address.startswith("model:"):
            if seq > 0:
                await self._advance(_cursor_key(address, reader), min(seq, await self.last_seq()))
            return
        known = await self.cursor(address, reader)
        while known < seq:
            found = await self._log.read(f"to:{address}", after=known, limit=500)
            records = [record for record in found if record.seq <= seq]
            if not records:
                break
            envelopes = [decode_envelope(record.body) for record in records]
            async with self._ends.written(*(entry.id for entry in envelopes if entry.expires_at is not None)):
                await self._log.append_all(
                    [receipt_record(entry.id, entry.from_, "delivered", by=address) for entry in envelopes]
                )
            known = await self._advance(_cursor_key(address, reader), records[-1].seq)

    async def _advance(self, key: str, seq: int) -> int:
        """Move a cursor forward; returns where it is then, which is further on when another call was faster."""
        while True:
            entry = await self._keyvalue.get(key)
            if entry is not None and int(entry.value) >= seq:
                return int(entry.value)
            with contextlib.suppress(RevisionMismatch):
                await self._keyvalue.put(key, str(seq).encode(), expected_revision=entry.revision if entry else 0)
                return seq

    # --- expiry ---

    async def run(self) -> None:
        """Report messages that expire unread, until cancelled. On a full disk the reports wait."""
        await self._expiries.run(self._expire_id)

    async def _expire_id(self, id: str) -> bool:
        record = await self._log.get(id)
        return record is None or await self._expire(decode_envelope(record.body))

    async def _expire(self, envelope: Envelope) -> bool:
        """Append `expired` when the time is over and nobody has the message. False while that is not known."""
        if envelope.expires_at is None:
            return True
        if envelope.expires_at > now_ms():
            return False
        async with self._ends.written(envelope.id) as is_free:
            if is_free and not any(_spares_expiry(envelope, step) for step in await self._ends.steps(envelope.id)):
                await self._append_expired(envelope, envelope.expires_at)
            return is_free

    async def _append_expired(self, envelope: Envelope, expires_at: int) -> None:
        is_for_channel = envelope.to.startswith("channel:")
        words = await words_of_expired(self._log, envelope.id) if is_for_channel else Words("", "")
        await self._log.append(receipt_record(
            envelope.id, envelope.from_, "expired", by=envelope.to, detail=words.en, detail_zh=words.zh,
            time_ms=expires_at,
        ))  # fmt: skip


def subject_of_replies(id: str) -> str:
    """Where what people and programs answer to a message is read."""
    return f"replies:{id}"


def _no_channel(envelope: Envelope) -> None:
    raise unknown_channel(envelope)


def unknown_channel(envelope: Envelope) -> UnknownRecipient:
    channel = envelope.to.removeprefix("channel:").split("/", 1)[0]
    way_out = f"this hub has no channel {channel!r}; /api/capabilities lists what there is"
    return UnknownRecipient(envelope.to, way_out)


def with_seq(record: Record) -> bytes:
    """The message as clients see it: its JSON with `seq` added, without decoding it."""
    return b'%b,"seq":%d}' % (record.body[:-1], record.seq)


def is_receipt(record: Record) -> bool:
    return record.id.startswith("receipt ")


def _stamped(envelope: Envelope, sender: str, now: int) -> Envelope:
    """With what its sender may leave to the hub."""
    if envelope.id and envelope.from_ and envelope.timestamp:
        return envelope
    return msgspec.structs.replace(
        envelope,
        id=envelope.id or uuid7(),
        from_=envelope.from_ or sender,
        timestamp=envelope.timestamp or now,
    )


def _record(stamped: Envelope, subjects: tuple[str, ...]) -> NewRecord:
    return NewRecord(
        id=stamped.id,
        digest=_digest(stamped),
        subjects=subjects,
        body=encode_envelope(stamped),
        expires_at_ms=stamped.expires_at,
    )


def _spares_expiry(envelope: Envelope, step: Receipt) -> bool:
    """After this step a message does not expire: it has ended, or somebody has it."""
    if envelope.to.startswith("channel:"):
        return ends_sending(step) or step.state == "acknowledged"
    return step.state != "queued"


def _is_for_model(envelope: Envelope) -> bool:
    return envelope.to.startswith("model:")


def _check_task(envelope: Envelope) -> None:
    """Raises InvalidField: a model could make nothing of it, and its sender would wait in vain."""
    parts = envelope.content if isinstance(envelope.content, list) else []
    if not any(isinstance(part, JsonPart) and isinstance(part.json, dict) for part in parts):
        raise InvalidField("content", "a task needs a json part with a chat completion's body; see /api/tasks")


def _who_talks_with_a_model(envelope: Envelope) -> str | None:
    if envelope.to.startswith("model:"):
        return envelope.from_
    return envelope.to if envelope.from_.startswith("model:") else None


def _thread_subject(person: str, thread: str) -> str:
    return f"thread:{person} {thread}"  # neither holds a blank


def _cursor_key(address: str, reader: str) -> str:
    return f"cursor {address} {reader}"  # both may hold slashes, neither a blank


def _digest(envelope: Envelope) -> bytes:
    """What makes two messages equal: all that the sender means. The times may differ, as a retry makes them anew."""
    meant = (
        envelope.from_, envelope.to, envelope.content, envelope.kind, envelope.labels, envelope.priority,
        envelope.reply_to, envelope.thread,
    )  # fmt: skip
    return hashlib.blake2b(_encode(meant), digest_size=16).digest()
