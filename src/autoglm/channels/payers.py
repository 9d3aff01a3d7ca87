"""Which key posted a message to a model: noted in the log beside it, in the same transaction.

Not in the message: its readers have no business with it, and its sender could write there what he likes.
"""

import msgspec

from autoglm.core.payer import Payer
from autoglm.core.ports import Log, NewRecord

_SUBJECT = "payers"


class _Note(msgspec.Struct, frozen=True, kw_only=True):
    version: int = 1
    key: str
    tenant: str


_decode = msgspec.json.Decoder(_Note).decode


def payer_note(id: str, payer: Payer) -> NewRecord:
    """The note, to be appended together with the message. Who posts a message once more does not pay for it."""
    body = msgspec.json.encode(_Note(key=payer.key, tenant=payer.tenant))
    return NewRecord(id=_note_id(id), digest=b"payer", subjects=(_SUBJECT,), body=body)


async def payer_of(log: Log, id: str) -> Payer | None:
    """None for a message that no key posted, and for one from before this was noted."""
    record = await log.get(_note_id(id))
    if record is None:
        return None
    note = _decode(record.body)
    return Payer(note.key, note.tenant)


def _note_id(id: str) -> str:
    return f"payer {id}"  # no message has a blank in its id
