"""Receipts: what became of a message, as events in the log."""

from typing import Literal

import msgspec

from autoglm.core.clock import now_ms
from autoglm.core.envelope import State
from autoglm.core.ports import NewRecord

AckState = Literal["delivered", "read", "acknowledged"]


class Receipt(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One step of a message. Steps are never taken back; each happens once for each recipient."""

    message: str
    """The id of the message."""
    state: State
    time: int
    """Milliseconds of the Unix epoch."""
    by: str = ""
    """Whose step it is: the recipient's address."""
    detail: str = ""
    """Why it failed, in words for people."""
    version: int = 1


def subject_of_message(id: str) -> str:
    """Where a message's receipts are read."""
    return f"receipts:{id}"


def subject_of_sender(address: str) -> str:
    """Where the receipts for all messages of a sender are read."""
    return f"receipts-for:{address}"


def receipt_record(
    id: str, sender: str, state: State, *, by: str = "", detail: str = "", time_ms: int = 0
) -> NewRecord:
    """The event to append. Its id makes a repeated step the same event; the space keeps it apart from clients' ids."""
    receipt = Receipt(message=id, state=state, time=time_ms or now_ms(), by=by, detail=detail)
    return NewRecord(
        id=f"receipt {id} {by} {state}",
        digest=b"receipt",  # the first report of a step counts: a later one with other words is a repeat
        subjects=(subject_of_message(id), subject_of_sender(sender)),
        body=msgspec.json.encode(receipt),
    )
