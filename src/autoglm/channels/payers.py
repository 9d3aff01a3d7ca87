"""Which key posted a message to a model, and by what right: noted in the log beside it, in the same transaction.

Not in the message: its readers have no business with it, and its sender could write there what he likes.
"""

import msgspec

from autoglm.core.lasting import Asker
from autoglm.core.payer import Payer
from autoglm.core.ports import Log, NewRecord

_SUBJECT = "payers"


class _Note(msgspec.Struct, frozen=True, kw_only=True):
    version: int = 1
    key: str
    tenant: str
    asker: Asker | None = None
    """None in notes of before it was kept."""


_decode = msgspec.json.Decoder(_Note).decode


def payer_note(id: str, payer: Payer, asker: Asker | None) -> NewRecord:
    """The note, to be appended together with the message. Who posts a message once more does not pay for it."""
    body = msgspec.json.encode(_Note(key=payer.key, tenant=payer.tenant, asker=asker))
    return NewRecord(id=_note_id(id), digest=b"payer", subjects=(_SUBJECT,), body=body)


async def payer_of(log: Log, id: str) -> Payer | None:
    """None for a message that no key posted, and for one from before this was noted."""
    note = await _note_of(log, id)
    return None if note is None else Payer(note.key, note.tenant)


async def asker_of(log: Log, id: str) -> Asker | None:
    """As `payer_of`."""
    note = await _note_of(log, id)
    return None if note is None else note.asker


async def _note_of(log: Log, id: str) -> _Note | None:
    record = await log.get(_note_id(id))
    return None if record is None else _decode(record.body)


def _note_id(id: str) -> str:
    return f"payer {id}"  # no message has a blank in its id
