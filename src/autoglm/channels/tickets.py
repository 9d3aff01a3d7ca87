"""Tickets: the vendors' ids of messages that went out, by which later receipts and replies name them.

A message in several parts has one for each, and has arrived when all of its parts have.
"""

import hashlib

from autoglm.core.ports import Log, NewRecord

_SUBJECT = "tickets"
_MOST_PARTS = 10_000


def ticket_record(channel: str, ticket: str, message: str, *, has_more: bool = False) -> NewRecord:
    """The note, to be appended together with the receipt. has_more: it is of a part that others follow."""
    of_message = _parts_of(message) if has_more else _last_of(message)
    return NewRecord(id=_id(channel, ticket), digest=b"ticket", subjects=(_SUBJECT, of_message), body=message.encode())


async def message_of(log: Log, channel: str, ticket: str) -> str | None:
    """The id of the message; None where it is unknown."""
    record = await log.get(_id(channel, ticket))
    return None if record is None else record.body.decode()


async def note_arrival(log: Log, channel: str, ticket: str, message: str) -> bool:
    """The vendor says that what went out under this ticket has arrived. Returns whether the whole message has.

    Not before its last part went out, and never where the vendor gave some part no ticket of its own.
    """
    if not (parts := await log.read(_parts_of(message), limit=_MOST_PARTS)):
        return True
    arrivals = _arrivals_of(message)
    await log.append(NewRecord(id=f"arrival {_id(channel, ticket)}", digest=b"arrival", subjects=(arrivals,), body=b""))
    last = await log.read(_last_of(message), limit=1)
    return bool(last) and len(await log.read(arrivals, limit=_MOST_PARTS)) > len(parts)


def _id(channel: str, ticket: str) -> str:
    return f"ticket {channel} {hashlib.blake2b(ticket.encode(), digest_size=20).hexdigest()}"  # of any form and length


def _parts_of(message: str) -> str:
    return f"tickets-of-parts:{message}"


def _last_of(message: str) -> str:
    return f"ticket-of-end:{message}"


def _arrivals_of(message: str) -> str:
    return f"arrivals:{message}"
