"""Notices: the messages that tell people of events, with a note in the log of which event, route and step each is."""

import hashlib
from collections.abc import Sequence

import msgspec

from autoglm.channels.mailbox import Mailbox
from autoglm.channels.receipts import Receipt, subject_of_message
from autoglm.channels.routes.decision import Way
from autoglm.channels.routes.event import Event
from autoglm.channels.routes.settings import PersonSettings, RouteSettings
from autoglm.channels.routes.template import plain_text, rendered
from autoglm.core.clock import now_ms
from autoglm.core.envelope import Envelope
from autoglm.core.errors import DuplicateId, InvalidField, UnknownRecipient
from autoglm.core.ports import Log, NewRecord, Record

EVENT_LABEL = "event"
"""Of a notice: the id of its first event."""
_MAX_LABELS = 60
_MOST = 10_000
_RANKS = {"accepted": 0, "queued": 0, "sent": 1, "delivered": 2, "read": 3, "acknowledged": 4}


class Notice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    message: str
    """Its id."""
    to: str
    route: str
    step: int
    """0 for the route's own addresses, then its `then` in their order."""
    number: int
    """0, and counted up for each repetition."""
    events: tuple[str, ...]
    """Ids; several in a group."""
    time: int
    """Milliseconds of the Unix epoch."""
    person: str = ""
    resolved: bool = False
    """It says that the alert is over."""
    error: str = ""
    """Why no message could be made."""
    words: tuple[str, ...] = ()
    """The `words_key` of its alerts without labels; of an end: which of them it ends, all when empty."""
    version: int = 1


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far the messages about an event have come."""

    rank: int
    """The furthest of them, as in `reached`."""
    has_all_failed: bool
    """There was one at least, and none is on its way or has arrived."""
    by: str = ""
    """Who acknowledged."""


_decode = msgspec.json.Decoder(Notice).decode
_decode_ids = msgspec.json.Decoder(list[str]).decode
_receipt = msgspec.json.Decoder(Receipt).decode


def rank(state: str) -> int:
    """sent 1, delivered 2, read 3, acknowledged 4; 0 for what is not so far, -1 for what has ended otherwise."""
    return _RANKS.get(state, -1)


class Notices:
    def __init__(self, store: Log, mailbox: Mailbox) -> None:
        self._log = store
        self._mailbox = mailbox

    async def send(
        self, route: RouteSettings, events: Sequence[Event], way: Way, *, step: int, number: int,
        person: PersonSettings | None, resolved: bool = False, words: tuple[str, ...] = (),
    ) -> Notice:  # fmt: skip
        """One message, stored with its note. The same call again sends nothing new, and returns the first notice, with
        its time. Raises StorageFull, QueueFull.
        """
        priority = _priority(route, events)
        ids = tuple(event.id for event in events)
        notice = Notice(
            message=_message_id(route.name, step, number, way.to, *ids, resolved), to=way.to, route=route.name,
            step=step, number=number, events=ids, time=now_ms(), person=way.person, resolved=resolved, words=words,
        )  # fmt: skip
        note = _note(notice, events)
        try:
            envelope = _message(notice, route, events, priority, "zh" if person is None else person.language)
            sent = await self._mailbox.send(envelope, sender=events[0].from_, beside=[note], is_own=True)
            return notice if sent.is_new else await self._first(notice)
        except DuplicateId:  # sent before, in words that a change of the settings made different
            return await self._first(notice)
        except (UnknownRecipient, InvalidField) as error:
            notice = msgspec.structs.replace(notice, error=str(error))
            await self._log.append(_note(notice, events))
        return notice

    async def _first(self, notice: Notice) -> Notice:
        record = await self._log.get(_note_id(notice))
        return notice if record is None else _decode(record.body)

    async def of_message(self, id: str) -> Notice | None:
        """The note of a message; None where it tells of no event."""
        record = await self._log.get(f"notice {id}")
        return None if record is None else _decode(record.body)

    async def of_event(self, id: str) -> list[Notice]:
        return [_decode(record.body) for record in await self._log.read(f"notices:{id}", limit=_MOST)]

    async def of_alert(self, event: Event) -> list[Notice]:
        """The last ones about what fires with its sender and labels, whichever event told of it."""
        return [_decode(record.body) for record in await self._log.read_last(f"alert:{event.alert_key}", limit=500)]

    async def steps(self, notice: Notice) -> list[Receipt]:
        """What became of its message, `accepted` left out."""
        return [
            _receipt(record.body) for record in await self._log.read(subject_of_message(notice.message), limit=_MOST)
        ]

    async def acknowledge(self, id: str, *, by: str) -> None:
        """Somebody has noticed the event, told of or not yet. The first one counts."""
        subjects = (_ack_subject(id),)
        await self._log.append(NewRecord(id=f"ack {id}", digest=b"ack", subjects=subjects, body=by.encode()))

    async def acknowledged_by(self, id: str) -> str:
        """Who has noticed the event itself; empty when nobody has. Its messages tell more."""
        record = await self._log.get(f"ack {id}")
        return "" if record is None else record.body.decode()

    async def note_repeat(self, id: str, firsts: Sequence[str]) -> None:
        """An event tells of an alert that people are told of already, by the events `firsts`, at most one a route."""
        body = msgspec.json.encode(firsts)
        await self._log.append(NewRecord(id=f"repeat {id}", digest=b"repeat", subjects=("repeats",), body=body))

    async def repeated_by(self, id: str) -> list[str]:
        """The events whose messages are also about this one; none where it has its own."""
        record = await self._log.get(f"repeat {id}")
        return [] if record is None else _decode_ids(record.body)

    async def progress(self, notices: Sequence[Notice]) -> Progress:
        furthest, alive, by = 0, 0, ""
        for notice in notices:
            if notice.error:
                continue
            steps = await self.steps(notice)
            has_ended = any(rank(step.state) < 0 for step in steps)
            alive += not has_ended
            for step in steps:
                furthest = max(furthest, rank(step.state))
                if step.state == "acknowledged" and not by:
                    by = step.by
        return Progress(rank=furthest, has_all_failed=bool(notices) and not alive and furthest < 4, by=by)

    async def wait(
        self, notices: Sequence[Notice], events: Sequence[Event], *, after: int, timeout_s: float
    ) -> list[Record]:
        """The next receipts of these messages, and acknowledgements of these events."""
        subjects = {subject_of_message(notice.message) for notice in notices if not notice.error}
        subjects |= {_ack_subject(event.id) for event in events}
        return await self._log.next(*subjects, after=after, timeout_s=timeout_s)


def sent_again(notice: Notice, message: Envelope, events: Sequence[Event]) -> NewRecord:
    """The note that this message tells of the same events as one that did not arrive."""
    again = msgspec.structs.replace(notice, message=message.id, to=message.to, time=now_ms(), error="")
    return _note(again, events)


def hearers(notices: Sequence[Notice], words: str) -> list[str]:
    """The addresses that heard of an alert, and not yet of its end. words: as `words_ended` has them."""
    heard: dict[str, set[str]] = {}
    for notice in notices:
        if not notice.resolved and not notice.error:
            heard.setdefault(notice.to, set()).update(notice.words)
        elif notice.resolved and notice.words:
            heard.get(notice.to, set()).difference_update(notice.words)
        elif notice.resolved:
            heard.pop(notice.to, None)
    return [to for to, known in heard.items() if not words or words in known]


def _ack_subject(id: str) -> str:
    return f"acks:{id}"


def text_of_notice(route: RouteSettings, events: Sequence[Event], language: str) -> tuple[str, str]:
    """(title, text). Raises InvalidField where a template fails."""
    text = plain_text(events) if route.template is None else rendered(route.template, events, language=language)
    if route.title is None:
        return events[0].title, text
    title = " ".join(rendered(route.title, events, language=language, field="title").split())
    return title[:1000], text


def told_text(route: RouteSettings, events: Sequence[Event], language: str) -> tuple[str, str, str]:
    """(title, text, why a template failed). An alarm goes out, however bad its template is, and says so."""
    try:
        return *text_of_notice(route, events, language), ""
    except InvalidField as error:
        return events[0].title, f"{plain_text(events)}\n\n[{error}]", str(error)


def _message(notice: Notice, route: RouteSettings, events: Sequence[Event], priority: int, language: str) -> Envelope:
    title, text, _ = told_text(route, events, language)
    first = events[0]
    labels = dict(list(first.labels.items())[:_MAX_LABELS]) | {EVENT_LABEL: first.id, "route": route.name}
    if title:
        labels["title"] = title
    if first.kind == "alert":
        labels["state"] = "resolved" if notice.resolved else "firing"
    expiries = [event.expires_at for event in events if event.expires_at is not None]
    return Envelope(
        id=notice.message, from_=first.from_, to=notice.to, content=text or "-", kind=first.kind, labels=labels,
        priority=priority, expires_at=max(expiries) if len(expiries) == len(events) else None,
    )  # fmt: skip


def _priority(route: RouteSettings, events: Sequence[Event]) -> int:
    return max(event.priority for event in events) if route.priority is None else route.priority


def _note(notice: Notice, events: Sequence[Event]) -> NewRecord:
    alerts = {f"alert:{event.alert_key}" for event in events if event.kind == "alert"}
    return NewRecord(
        id=_note_id(notice), digest=b"notice",
        subjects=(*dict.fromkeys(f"notices:{event.id}" for event in events), *sorted(alerts)),
        body=msgspec.json.encode(notice),
    )  # fmt: skip


def _note_id(notice: Notice) -> str:
    return f"notice {notice.message}"


def _message_id(*of: str | int) -> str:
    """The same after a restart, so that nobody is told twice."""
    meant = msgspec.json.encode(of)
    return f"notice-{hashlib.blake2b(meant, digest_size=16).hexdigest()}"
