"""Receipts: what became of a message, as events in the log."""

from typing import Literal

import msgspec

from autoglm.channels.delivery import Delivery
from autoglm.core.clock import now_ms
from autoglm.core.envelope import State
from autoglm.core.ports import NewRecord

AckState = Literal["delivered", "read", "acknowledged"]


class Receipt(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One step of a message. Steps are never taken back; each happens once for each recipient, `queued` once for each
    attempt that failed for now."""

    message: str
    """The id of the message."""
    state: State
    time: int
    """Milliseconds of the Unix epoch."""
    by: str = ""
    """Whose step it is: the recipient's address."""
    code: str = ""
    """The vendor's own code, of a message that went out by a channel."""
    detail: str = ""
    """Why, in words for people."""
    detail_zh: str = ""
    """The same in Chinese, where it is known."""
    attempt: int = 0
    """The number of the attempt to send it out, from 1."""
    retry_at: int = 0
    """Milliseconds of the Unix epoch: not before then it is tried again."""
    version: int = 1


def ends_sending(step: Receipt) -> bool:
    """Whether nothing is left to send of a message to a channel. What a vendor or a reader tell of a part that they
    have names no attempt, and ends nothing: other parts may wait.
    """
    return step.state in ("failed", "expired", "cancelled") or (step.state != "queued" and step.attempt > 0)


def subject_of_message(id: str) -> str:
    """Where a message's receipts are read."""
    return f"receipts:{id}"


def subject_of_sender(address: str) -> str:
    """Where the receipts for all messages of a sender are read."""
    return f"receipts-for:{address}"


def receipt_record(
    id: str, sender: str, state: State, *, by: str = "", detail: str = "", detail_zh: str = "", time_ms: int = 0
) -> NewRecord:
    """The event to append. Its id makes a repeated step the same event; the space keeps it apart from clients' ids."""
    receipt = Receipt(message=id, state=state, time=time_ms or now_ms(), by=by, detail=detail, detail_zh=detail_zh)
    return _record(receipt, sender, f"receipt {id} {by} {state}")


def delivery_record(
    id: str, sender: str, state: State, delivery: Delivery, *, by: str, attempt: int, retry_at_ms: int = 0
) -> NewRecord:
    """The event of an attempt to send a message out by a channel."""
    receipt = Receipt(
        message=id, state=state, time=now_ms(), by=by, code=delivery.code, detail=delivery.reason.en,
        detail_zh=delivery.reason.zh, attempt=attempt, retry_at=retry_at_ms,
    )  # fmt: skip
    step = f"queued {attempt}" if state == "queued" else state
    return _record(receipt, sender, f"receipt {id} {by} {step}")


def _record(receipt: Receipt, sender: str, record_id: str) -> NewRecord:
    return NewRecord(
        id=record_id,
        digest=b"receipt",  # the first report of a step counts: a later one with other words is a repeat
        subjects=(subject_of_message(receipt.message), subject_of_sender(sender)),
        body=msgspec.json.encode(receipt),
    )
