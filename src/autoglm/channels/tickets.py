"""Tickets: the vendors' ids of messages that went out, by which later receipts and replies name them."""

import hashlib

from autoglm.core.ports import Log, NewRecord

_SUBJECT = "tickets"


def ticket_record(channel: str, ticket: str, message: str) -> NewRecord:
    """The note, to be appended together with the receipt."""
    return NewRecord(id=_id(channel, ticket), digest=b"ticket", subjects=(_SUBJECT,), body=message.encode())


async def message_of(log: Log, channel: str, ticket: str) -> str | None:
    """The id of the message; None where it is unknown."""
    record = await log.get(_id(channel, ticket))
    return None if record is None else record.body.decode()


def _id(channel: str, ticket: str) -> str:
    return f"ticket {channel} {hashlib.blake2b(ticket.encode(), digest_size=20).hexdigest()}"  # of any form and length
