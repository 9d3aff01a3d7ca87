"""What comes in by a channel: checked for its sender, joined to what it answers, and put into the mailbox."""

import contextlib
from functools import partial
from typing import Literal, Protocol, get_args

import msgspec
import structlog

from autoglm.channels.channel import REFUSALS
from autoglm.channels.delivery import Delivery
from autoglm.channels.early import KEPT_S, EarlyReports
from autoglm.channels.mailbox import Mailbox
from autoglm.channels.outbox.attempts import sent_with
from autoglm.channels.outbox.dead_letters import DeadLetters
from autoglm.channels.questions import open_question
from autoglm.channels.receipts import delivery_record, receipt_record
from autoglm.channels.routes.event import event_of
from autoglm.channels.routes.notifier import Notifier
from autoglm.channels.settings import ChannelSettings
from autoglm.channels.tickets import message_of, note_arrival
from autoglm.core.clock import now_ms
from autoglm.core.envelope import Envelope, State, decode_envelope, text_of
from autoglm.core.errors import DuplicateId, Forbidden, InvalidField, NotFound, UnknownRecipient
from autoglm.core.ports import Log

_AGREEMENT_ZH = (
    "收到",
    "已收到",
    "知道了",
    "我知道了",
    "确认",
    "已确认",
    "好",
    "好的",
    "明白",
    "明白了",
    "行",
    "在处理",
    "处理中",
)
_AGREEMENT_EN = (
    "ok",
    "okay",
    "ack",
    "acknowledged",
    "confirmed",
    "got it",
    "roger",
    "yes",
    "on it",
    "will do",
    "1",
    "👍",
)
_AGREEMENT = frozenset((*_AGREEMENT_ZH, *_AGREEMENT_EN))
_LOOKED_BACK = 20
_LONGEST_ANSWER = 200
_AGREED_WITHIN_MS = 24 * 3_600_000
_STATES: dict[str, State] = {"delivered": "delivered", "read": "read", "permanent": "failed"}

Result = Literal["taken", "duplicate", "refused", "failed"]
"""refused: of a sender who is not named or may not, or what the hub will never take. failed: the store cannot now."""

log = structlog.get_logger()


class Door(Protocol):
    """Asked about each sender whom the settings name. Both raise Forbidden, and what they say is written down under the
    message's id; where that fails, they raise StorageFull or QueueFull.
    """

    def check_send(self, envelope: Envelope) -> None:
        """As it would be stored; `to` is empty for an event, whose recipients the routes name."""
        ...

    def check_acknowledge(self, envelope: Envelope) -> None:
        """What it answers was sent to this sender; whether that may be acknowledged, where no answer may be sent."""
        ...


class Intake:
    """Satisfies `Inbox`, for one channel."""

    def __init__(
        self, settings: ChannelSettings, mailbox: Mailbox, notifier: Notifier, store: Log,
        *, door: Door, dead: DeadLetters, early: EarlyReports,
    ) -> None:  # fmt: skip
        """dead, early: the outbox's."""
        self._settings = settings
        self._mailbox = mailbox
        self._notifier = notifier
        self._log = store
        self._door = door
        self._dead = dead
        self._early = early
        self.refused = 0
        """Messages of senders that the settings do not name."""
        self.counts: dict[Result, int] = dict.fromkeys(get_args(Result), 0)
        """Messages by what became of them."""

    async def take(self, envelope: Envelope) -> bool:
        result: Result = "failed"
        try:
            result = await self._take(envelope)
        except Forbidden as refusal:
            result = "refused"
            log.warning(
                "sender_refused", channel=self._settings.name, sender=envelope.from_.partition("/")[2],
                envelope_id=envelope.id, reason=refusal.facts["reason"], note=str(refusal),
            )  # fmt: skip
        except REFUSALS:
            result = "refused"
            raise
        finally:
            self.counts[result] += 1
        return result != "refused"

    async def _take(self, envelope: Envelope) -> Result:
        if not self._is_known(envelope.from_):
            self.refused += 1
            sender = envelope.from_.partition("/")[2]
            log.warning(
                "sender_refused", channel=self._settings.name, sender=sender,
                note="the channel's `senders` do not name it",
            )  # fmt: skip
            return "refused"
        if await self._log.get(envelope.id) is not None:  # its "OK" was for what nobody had confirmed then
            log.info("repeat_left", channel=self._settings.name, envelope_id=envelope.id)
            return "duplicate"
        original = await self._original(envelope)
        if original is None and envelope.reply_to is not None:  # else it would count as the reply that a question has
            envelope = msgspec.structs.replace(envelope, reply_to=None)
        event = event_of(envelope) if original is None else None
        try:
            if original is not None:
                await self._answer(original, envelope)
            elif event is not None:
                self._door.check_send(msgspec.structs.replace(envelope, to=event.to or ""))
                await self._notifier.submit(event, sender=envelope.from_)
            else:
                await self._send(envelope)
        except DuplicateId:  # the vendor hands the same message out again, in other words
            log.info("repeat_left", channel=self._settings.name, envelope_id=envelope.id)
            return "duplicate"
        return "taken"

    async def _send(self, envelope: Envelope) -> None:
        self._door.check_send(envelope)
        await self._mailbox.send(envelope, sender=envelope.from_)

    async def _answer(self, original: Envelope, envelope: Envelope) -> None:
        """Both or none: the acknowledgement of all that was read together, and the answer to whoever is answered.

        Who may not send may still acknowledge, as over HTTP: under an old policy alarms go out, and would never end.
        """
        acks = [receipt_record(one.id, one.from_, "acknowledged", by=one.to) for one in await self._sent_with(original)]
        answer = msgspec.structs.replace(envelope, to=original.from_, reply_to=original.id)
        try:
            self._door.check_send(answer)
        except Forbidden:
            self._door.check_acknowledge(envelope)
            await self._log.append_all(acks)
            raise
        try:
            await self._mailbox.send(answer, sender=envelope.from_, beside=acks)
        except (UnknownRecipient, InvalidField):  # such as a model or a channel that takes no answers
            await self._log.append_all(acks)
            await self._send(envelope)

    async def _sent_with(self, envelope: Envelope) -> list[Envelope]:
        """The messages that went out in one digest with this one, itself among them."""
        found = []
        for id in await sent_with(self._log, envelope.id):
            with contextlib.suppress(NotFound):  # retention took it
                found.append((await self._mailbox.get(id))[0])
        return found

    async def report(self, ticket: str, delivery: Delivery) -> None:
        if (state := _STATES.get(delivery.outcome)) is None:
            log.info("receipt_left", channel=self._settings.name, code=delivery.code)
            return
        early = self._early.keep(self._settings.name, ticket, partial(self._report, ticket, delivery, state))
        try:
            is_known = await self.message_of(ticket) is not None
        except BaseException:  # whoever reports does it again
            self._early.withdraw(self._settings.name, early)
            raise
        if not is_known:
            log.info(
                "receipt_of_unknown_message", channel=self._settings.name, code=delivery.code,
                note=f"it counts if its message is noted within {KEPT_S:g} s",
            )  # fmt: skip
        elif self._early.withdraw(self._settings.name, early):
            await self._report(ticket, delivery, state)

    async def _report(self, ticket: str, delivery: Delivery, state: State) -> None:
        if (id := await self.message_of(ticket)) is None:
            return
        try:
            first, _ = await self._mailbox.get(id)
        except NotFound:  # retention took it
            return
        if state == "delivered" and not await note_arrival(self._log, self._settings.name, ticket, id):
            return
        for envelope in await self._sent_with(first):
            if state == "failed" and not await self._has_failed(envelope):
                await self._dead.put(envelope, delivery, 1)
            record = delivery_record(envelope.id, envelope.from_, state, delivery, by=envelope.to, attempt=0)
            await self._log.append(record)

    async def _has_failed(self, envelope: Envelope) -> bool:
        """The vendor says so again: an operator may have dropped the dead letter, or sent it again."""
        _, record = await self._mailbox.get(envelope.id)
        return any(step.state == "failed" for step in await self._mailbox.receipts(envelope, record))

    async def message_of(self, ticket: str) -> str | None:
        return await message_of(self._log, self._settings.name, ticket)

    def _is_known(self, address: str) -> bool:
        return self._settings.knows(address.removeprefix(f"channel:{self._settings.name}/"))

    async def _original(self, envelope: Envelope) -> Envelope | None:
        """The hub's message that this one answers, if it went to this sender."""
        if envelope.reply_to is None:
            return await self._waiting_for(envelope)
        try:
            original, _ = await self._mailbox.get(envelope.reply_to)
        except NotFound:
            return None
        return original if original.to == envelope.from_ or self._went_to_many(original) else None

    def _went_to_many(self, original: Envelope) -> bool:
        """To a party, a tag or a group: the vendor knows its members, and only they know what a button of it holds."""
        return original.to.startswith(f"channel:{self._settings.name}/@")

    async def _waiting_for(self, envelope: Envelope) -> Envelope | None:
        """Vendors whose replies name no message: one of the answers that a question offers is for that question, a
        word of agreement for the last event that nobody confirmed."""
        text = text_of(envelope.content)
        if envelope.kind != "chat" or not 0 < len(text) <= _LONGEST_ANSWER:
            return None
        for record in reversed(await self._log.read_last(f"to:{envelope.from_}", limit=_LOOKED_BACK)):
            message = decode_envelope(record.body)
            if await open_question(self._log, message, text):
                return message
            if not is_agreement(text):
                continue
            if message.kind in ("event", "alert") and record.time_ms > now_ms() - _AGREED_WITHIN_MS:
                steps = await self._mailbox.receipts(message, record)
                if not any(step.state == "acknowledged" for step in steps):
                    return message
        return None


def is_agreement(text: str) -> bool:
    """Whether a text does nothing but confirm, in Chinese or English."""
    return text.strip().strip("。.!！~ ").casefold() in _AGREEMENT
