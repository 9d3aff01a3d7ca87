"""An inbox that holds channels to what the store needs of their messages."""

from autoglm.channels.channel import Resources
from autoglm.channels.delivery import Delivery
from autoglm.core.envelope import Envelope, check_texts, decode_envelope, encode_envelope
from autoglm.core.ports import Entry


class CheckedInbox:
    """Satisfies `Inbox`."""

    async def take(self, envelope: Envelope) -> bool:
        """Raises InvalidField, as the hub's own does."""
        check_texts(envelope)
        check_kept(envelope)
        return True

    async def report(self, ticket: str, delivery: Delivery) -> None:
        ticket.encode()
        delivery.reason.en.encode()

    async def message_of(self, ticket: str) -> str | None:
        ticket.encode()
        return "m-1" if ticket == "known" else None


def check_kept(envelope: Envelope) -> None:
    """What is taken must go to the disk and be the same when it is read again. Raises InvalidField: it is refused."""
    assert decode_envelope(encode_envelope(envelope)) == envelope


class NothingKept:
    """A store in which there is nothing, as far as channels read it here."""

    async def get(self, key: str) -> Entry | None:
        return None

    async def list(self, prefix: str = "") -> list[Entry]:
        return []

    async def put(self, key: str, value: bytes, *, expected_revision: int | None = None) -> int:
        return 1

    async def delete(self, key: str, *, expected_revision: int | None = None) -> None:
        return None


async def no_blob(id: str) -> bytes | None:
    return None


RESOURCES = Resources("c", no_blob, NothingKept())  # type: ignore[arg-type]  # what is not called is not there
