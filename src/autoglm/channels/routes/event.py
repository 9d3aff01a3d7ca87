"""Events: what happened, before it is known whom it concerns."""

import hashlib
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from autoglm.core.address import check_address
from autoglm.core.envelope import (
    AddressText,
    Envelope,
    IdText,
    Label,
    Milliseconds,
    check_id,
    decode_body,
    text_of,
)
from autoglm.core.ports import Log, NewRecord, Record

EVENTS = "events"
"""The subject of all events in the log."""
EventKind = Literal["event", "alert", "log"]
STATE = "state"
"""The label by which an alert that comes in by a channel says `resolved`."""


class Event(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, rename={"from_": "from"}
):
    """`id`, `from` and `timestamp` may be left out by a sender; the hub fills them in."""

    content: Annotated[str, Meta(max_length=1_000_000)]
    """The text."""
    title: Annotated[str, Meta(max_length=1000)] = ""
    id: IdText = ""
    """The key for deduplication, as of a message."""
    from_: AddressText = ""
    to: AddressText | None = None
    """Whom it concerns, where the sender knows; routes decide on that, too."""
    timestamp: Milliseconds = 0
    """Milliseconds of the Unix epoch, by the sender's clock."""
    kind: EventKind = "event"
    labels: Annotated[dict[Annotated[str, Meta(max_length=128)], Label], Meta(max_length=64)] = {}
    priority: Annotated[int, Meta(ge=0, le=9)] = 5
    """0 is the lowest, 9 the most urgent."""
    state: Literal["firing", "resolved"] = "firing"
    """Of an alert: `resolved` ends what fires with the same sender and labels; see `words_ended`."""
    expires_at: Milliseconds | None = None
    """After that time nobody is told any more."""

    @property
    def is_over(self) -> bool:
        """It is the end of an alert."""
        return self.kind == "alert" and self.state == "resolved"

    @property
    def alert_key(self) -> str:
        """Which alert this is, firing or resolved."""
        meant = msgspec.json.encode((self.from_, self.labels), order="deterministic")
        return hashlib.blake2b(meant, digest_size=16).hexdigest()

    @property
    def words_key(self) -> str:
        """What else tells an alert without labels from another one of its sender: its title, or its text when it has
        none. A fire is no repeat of a flood.
        """
        meant = "" if self.labels else self.title or self.content
        return hashlib.blake2b(meant.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


_LOOKED_BACK = 200
_decoder = msgspec.json.Decoder(Event)
FIELDS = tuple(field.encode_name for field in msgspec.structs.fields(Event))


def decode_event(body: bytes) -> Event:
    """Parse what a client sent. Raises InvalidJson, InvalidField."""
    event = decode_body(body, _decoder, FIELDS)
    check_event(event)
    return event


def check_event(event: Event) -> None:
    """Raises InvalidField, where an address or an id has a form that none has."""
    if event.to is not None:
        check_address(event.to, field="to")
    if event.from_:
        check_address(event.from_, field="from")
    if event.id:
        check_id(event.id)


def event_of(envelope: Envelope) -> Event | None:
    """A message of the kind event, alert or log as an event; None for another one."""
    if envelope.kind not in ("event", "alert", "log"):
        return None
    labels = {name: value for name, value in envelope.labels.items() if name not in ("title", STATE)}
    is_over = envelope.kind == "alert" and envelope.labels.get(STATE) == "resolved"
    return Event(
        id=envelope.id, from_=envelope.from_, to=None if envelope.to.startswith("model:") else envelope.to,
        content=text_of(envelope.content), title=envelope.labels.get("title", "")[:1000], timestamp=envelope.timestamp,
        kind=envelope.kind,
        labels=labels, priority=envelope.priority, state="resolved" if is_over else "firing",
        expires_at=envelope.expires_at,
    )  # fmt: skip


def event_record(event: Event) -> NewRecord:
    """As the log keeps it. A repeat may have another time."""
    meant = msgspec.json.encode(
        (event.from_, event.to, event.kind, event.title, event.content, event.labels, event.priority, event.state),
        order="deterministic",
    )  # fmt: skip
    return NewRecord(
        id=f"event {event.id}", digest=hashlib.blake2b(meant, digest_size=16).digest(),
        subjects=(EVENTS, _subject_of(event.from_)), body=msgspec.json.encode(event),
    )  # fmt: skip


async def words_ended(store: Log, over: Event) -> str:
    """The `words_key` of the alerts that an end without labels is for; empty: of all its sender's without labels.

    It names one by its title or text, as that came among the last 200 events of its sender: the end of a flood leaves
    the fire alone. "All is well" names none.
    """
    if over.labels:
        return ""
    for record in await store.read_last(_subject_of(over.from_), limit=_LOOKED_BACK):
        event = event_in(record)
        if event.kind == "alert" and not event.is_over and not event.labels and event.words_key == over.words_key:
            return over.words_key
    return ""


def _subject_of(sender: str) -> str:
    return f"events-of:{sender}"


def event_in(record: Record) -> Event:
    return msgspec.json.decode(record.body, type=Event)
