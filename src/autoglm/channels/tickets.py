"""Tickets: the vendors' ids of messages that went out, by which later receipts and replies name them.

A message in several parts has one for each, and has arrived when all of its parts have. Vendors may use one again:
then it is the newest message's.
"""

import hashlib

from autoglm.channels.outbox.attempts import earlier_parts
from autoglm.core.ports import Log, NewRecord

_MOST_PARTS = 10_000


def ticket_record(channel: str, ticket: str, message: str) -> NewRecord:
    """The note, to be appended together with the receipt."""
    subject = _subject_of(channel, ticket)
    return NewRecord(id=f"{subject} {message}", digest=b"ticket", subjects=(subject,), body=message.encode())


async def message_of(log: Log, channel: str, ticket: str) -> str | None:
    """The id of the message; None where it is unknown."""
    records = await log.read_last(_subject_of(channel, ticket), limit=1)
    return records[0].body.decode() if records else None


async def note_arrival(log: Log, channel: str, ticket: str, message: str) -> bool:
    """The vendor says that what went out under this ticket has arrived. Returns whether the whole message has.

    Not before its last part went out, and never where the vendor gave some part no ticket of its own.
    """
    if not (earlier := await earlier_parts(log, message)):
        return True
    arrivals = f"arrivals:{message}"
    id = f"arrival {_subject_of(channel, ticket)} {message}"
    await log.append(NewRecord(id=id, digest=b"arrival", subjects=(arrivals,), body=b""))
    return len(await log.read(arrivals, limit=_MOST_PARTS)) > earlier


def _subject_of(channel: str, ticket: str) -> str:
    return f"ticket {channel} {hashlib.blake2b(ticket.encode(), digest_size=20).hexdigest()}"  # of any form and length
