"""The notifier: stores events, decides where they go, and keeps at it until somebody has noticed.

Events are records; so are the notices sent about them. A restart reads the open events again and goes on where the
notices say: the same message has the same id, so nobody is told twice.
"""

import contextlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import anyio
import msgspec
from anyio.abc import TaskGroup

from autoglm.channels.bookmark import Bookmark, Cursor
from autoglm.channels.groups import how_to_make
from autoglm.channels.mailbox import Mailbox
from autoglm.channels.receipts import Receipt
from autoglm.channels.routes.backlog import Backlog
from autoglm.channels.routes.cases import Cases, Opened
from autoglm.channels.routes.decision import Decision, Members, decide, ways
from autoglm.channels.routes.event import EVENTS, Event, event_in, event_record, words_ended
from autoglm.channels.routes.notices import Notice, Notices, sent_again
from autoglm.channels.routes.settings import InhibitSettings, PersonSettings, RouteSettings
from autoglm.channels.routes.silences import Silences
from autoglm.core.clock import now_ms
from autoglm.core.envelope import Envelope, text_of
from autoglm.core.errors import InvalidField, NotFound
from autoglm.core.ids import uuid7
from autoglm.core.ports import KeyValue, Log, NewRecord

MAX_FIRING = 5_000
"""Alerts that are remembered as firing, for `[[inhibit]]`."""


class SentEvent(NamedTuple):
    id: str
    seq: int
    is_new: bool


class EventAccount(msgspec.Struct, frozen=True, kw_only=True):
    """An event, whom it reached, and whether somebody has noticed."""

    event: Event
    is_open: bool
    """Something is still to be done about it."""
    is_over: bool
    """Nothing is still to be done, and nobody who was told can notice any more: all messages failed or expired."""
    acknowledged_by: str
    """Empty while nobody has."""
    notices: list["NoticeAccount"]
    repeats: str = ""
    """The id of the event that told of this alert before: its messages are in `notices`, too. Empty for a new one."""


class EventSummary(msgspec.Struct, frozen=True, kw_only=True):
    """An event in a list."""

    event: Event
    is_open: bool
    acknowledged_by: str
    told: tuple[str, ...]
    """The addresses of its messages, without those that lead nowhere."""


class NoticeAccount(msgspec.Struct, frozen=True, kw_only=True):
    notice: Notice
    steps: list[Receipt]


class _Told(NamedTuple):
    """What was done about an event."""

    notices: list[Notice]
    is_open: bool
    acknowledged_by: str
    """The event itself, beside its messages."""
    repeats: list[str]
    """The events by which its alert was told of before, the nearest first."""


class Notifier:
    """`run` in a task."""

    def __init__(
        self, store: Log, keyvalue: KeyValue, mailbox: Mailbox, *, routes: Sequence[RouteSettings],
        inhibits: Sequence[InhibitSettings], people: Sequence[PersonSettings], members: Members,
    ) -> None:  # fmt: skip
        self._log = store
        self._mailbox = mailbox
        self._routes = routes
        self._inhibits = inhibits
        self._people = {person.address: person for person in people}
        self._members = members
        self.silences = Silences(keyvalue)
        self.notices = Notices(store, mailbox)
        self._firing: OrderedDict[tuple[str, str], Event] = OrderedDict()
        self._cases = Cases(store, self.notices, people=self._people, members=members)
        self._backlog = Backlog(store, self._cases)
        self._bookmark = Bookmark(keyvalue, "notifier/cursor", self._cursor)
        self._start_seq = 0
        self.counts: dict[tuple[str, str], int] = {}
        """Events taken up, by (kind, `told`, `repeated`, `silenced`, `inhibited`, `unrouted` or `over`)."""

    # --- for the gateway ---

    async def submit(self, event: Event, *, sender: str) -> SentEvent:
        """Store an event; returns once it is on disk. Raises DuplicateId, InvalidField, StorageFull."""
        now = now_ms()
        stamped = msgspec.structs.replace(
            event, id=event.id or uuid7(), from_=event.from_ or sender, timestamp=event.timestamp or now
        )  # fmt: skip
        new = event_record(stamped)
        if event.expires_at is not None and event.expires_at <= now:
            known = await self._log.get(new.id)  # what was accepted stays accepted, for a client that missed the answer
            if known is None or event_record(event_in(known)).digest != new.digest:
                raise InvalidField("expires_at", f"is in the past; this hub's clock says {now}")
            return SentEvent(stamped.id, known.seq, False)
        appended = await self._log.append(new)
        return SentEvent(stamped.id, appended.seq, appended.is_new)

    def decide(self, event: Event) -> Decision:
        """What would happen with it now."""
        return decide(
            event, self._routes, now_ms(), silences=self.silences.all(), inhibits=self._inhibits,
            firing=self._firing.values(),
        )  # fmt: skip

    async def sent_again(self, id: str, message: Envelope) -> list[NewRecord]:
        """For a message that is sent once more, by another id: what is stored with it, so that an answer to it counts
        for the events that the first one told of.
        """
        notice = await self.notices.of_message(id)
        if notice is None:
            return []
        events = []
        for event in notice.events:
            with contextlib.suppress(NotFound):  # retention took it
                events.append(await self.get(event))
        return [sent_again(notice, message, events)] if events else []

    def route(self, name: str) -> RouteSettings:
        return next(route for route in self._routes if route.name == name)

    def addresses(self, route: RouteSettings, event: Event) -> list[tuple[str, str]]:
        """(address, why) of the first messages of a route."""
        wanted = (*route.to, event.to) if route.to_addressee and event.to is not None else route.to
        priority = event.priority if route.priority is None else route.priority
        found = ways(wanted, event, priority, people=self._people, members=self._members, now_ms=now_ms())
        return [(way.to, self._no_group(way.to) or way.reason or "the route names it") for way in found]

    def _no_group(self, address: str) -> str:
        """Why nobody would hear of a message to a group that is not there; groups may come and go, settings do not."""
        name = address.removeprefix("group:")
        if name == address:
            return ""
        try:
            self._mailbox.groups.get(name)
        except NotFound:
            return f"nobody: this hub has no such group; {how_to_make(name)}"
        return ""

    def reach(self, message: Envelope) -> list[str]:
        """Where its recipient wants to be reached beside the mailbox, as for an event of this priority now."""
        event = Event(
            content=text_of(message.content), from_=message.from_, to=message.to, labels=message.labels,
            priority=message.priority,
        )  # fmt: skip
        found = ways(
            (message.to,), event, message.priority, people=self._people, members=self._members, now_ms=now_ms()
        )
        return [way.to for way in found if way.to != message.to]

    async def get(self, id: str) -> Event:
        """Raises NotFound."""
        record = await self._log.get(f"event {id}")
        if record is None:
            raise NotFound("event", id[:128])
        return event_in(record)

    async def account(self, id: str) -> EventAccount:
        """Raises NotFound."""
        event = await self.get(id)
        told = await self._told(id)
        progress = await self.notices.progress(told.notices)
        return EventAccount(
            event=event, is_open=told.is_open, acknowledged_by=progress.by or told.acknowledged_by,
            is_over=not told.is_open and progress.has_all_failed,
            notices=[NoticeAccount(notice=one, steps=await self.notices.steps(one)) for one in told.notices],
            repeats=next(iter(told.repeats), ""),
        )  # fmt: skip

    async def _told(self, id: str) -> "_Told":
        ids = [id]
        for known in ids:  # it grows: on another route, an earlier one may itself repeat one
            ids += [first for first in await self.notices.repeated_by(known) if first not in ids]
        found = {notice.message: notice for one in ids for notice in await self.notices.of_event(one)}
        by = [await self.notices.acknowledged_by(one) for one in ids]
        return _Told(list(found.values()), any(map(self._cases.is_open, ids)), next(filter(None, by), ""), ids[1:])

    async def recent(self, limit: int) -> list[EventSummary]:
        """The last events, the newest first."""
        found = []
        for record in reversed(await self._log.read_last(EVENTS, limit=limit)):
            event = event_in(record)
            told = await self._told(event.id)
            progress = await self.notices.progress(told.notices)
            found.append(EventSummary(
                event=event, is_open=told.is_open, acknowledged_by=progress.by or told.acknowledged_by,
                told=tuple(dict.fromkeys(notice.to for notice in told.notices if not notice.error)),
            ))  # fmt: skip
        return found

    async def wait_acknowledged(self, id: str, wait_s: float) -> EventAccount:
        """As `account`, once somebody has noticed or nobody can any more, or after wait_s."""
        after = await self._log.last_seq()
        with anyio.move_on_after(wait_s):
            while True:
                account = await self.account(id)
                if account.acknowledged_by or account.is_over:
                    return account
                ids = [id, *(await self._told(id)).repeats]
                subjects = {
                    *(f"notices:{one}" for one in ids),
                    *(f"acks:{one}" for one in ids),
                    *(f"receipts:{one.notice.message}" for one in account.notices),
                }
                found = await self._log.next(*subjects, after=after, timeout_s=1.0)
                after = max([after, *(record.seq for record in found)])
        return await self.account(id)

    async def acknowledge(self, id: str, *, by: str) -> EventAccount:
        """Somebody has noticed: nobody is told any more, or at all. Raises NotFound."""
        await self.get(id)
        told = await self._told(id)
        for one in (id, *told.repeats):
            await self.notices.acknowledge(one, by=by)
        for notice in told.notices:
            if not notice.error:
                envelope, _ = await self._mailbox.get(notice.message)
                await self._mailbox.report(envelope, "acknowledged", by=by)
        return await self.account(id)

    # --- the work ---

    async def run(self) -> None:
        """Take up what is open and what comes, until cancelled."""
        await self.silences.open()
        cursor = await self._bookmark.load()
        self._backlog.read_seq = cursor.upto
        self._start_seq = await self._log.last_seq()
        for record in await self._log.read_last(EVENTS, limit=MAX_FIRING):
            if record.seq <= cursor.upto:
                self._note_firing(event_in(record))
        async with anyio.create_task_group() as tasks:
            for seq in cursor.open:
                for record in await self._log.read(EVENTS, after=seq - 1, limit=1):
                    if record.seq == seq:
                        await self._take(event_in(record), seq, tasks)
            tasks.start_soon(self._bookmark.save_often)
            await self._backlog.run(lambda event, seq: self._take(event, seq, tasks))

    async def save(self) -> None:
        """Keep how far it has come."""
        await self._bookmark.save()

    def _cursor(self) -> Cursor:
        upto = self._backlog.read_seq
        return Cursor(upto=upto, open=tuple(sorted(seq for seq in self._cases.open_seqs if 0 < seq <= upto)))

    async def _take(self, event: Event, seq: int, tasks: TaskGroup) -> None:
        if self._backlog.is_past(event, seq):
            self._count(event, "over")
            return
        earlier = await self.notices.of_event(event.id) if seq <= self._start_seq else []
        told = await self.notices.of_alert(event) if event.is_over else []
        words = await words_ended(self._log, event) if event.is_over else ""
        decision = self.decide(event)
        repeated = [] if event.is_over or earlier else [self._repeated(name, event) for name in decision.routes]
        if firsts := list(dict.fromkeys(filter(None, repeated))):
            await self.notices.note_repeat(event.id, firsts)
        self._note_firing(event)
        self._count(event, "repeated" if repeated and all(repeated) else _outcome(decision))
        names = {*decision.routes, *(notice.route for notice in earlier)}
        if event.is_over:  # who heard the beginning hears the end, whatever a route asks for
            names |= {notice.route for notice in told}
            names |= self._cases.routes_of(event.alert_key)
        entry = Opened(event, seq)
        for route in [route for route in self._routes if route.name in names]:
            known = [notice for notice in earlier if notice.route == route.name]
            if event.is_over:
                self._cases.resolve(route, entry, words, tasks)
            elif known:
                self._cases.go_on(route, entry, known[0].events, tasks)
            else:
                self._cases.begin(route, entry, tasks)

    def _repeated(self, route: str, event: Event) -> str:
        first = self._cases.repeated(self.route(route), event)
        return "" if first == event.id else first

    def _count(self, event: Event, what: str) -> None:
        self.counts[event.kind, what] = self.counts.get((event.kind, what), 0) + 1

    @property
    def open_events(self) -> int:
        """Events about which something is still to be done."""
        return self._cases.open_events

    def _note_firing(self, event: Event) -> None:
        if event.kind != "alert":
            return
        key = (event.alert_key, event.words_key)
        known = self._firing.pop(key, None)
        if not event.is_over:
            self._firing[key] = event
            while len(self._firing) > MAX_FIRING:
                self._firing.popitem(last=False)
        elif known is None and not event.labels:  # it names none, and is for all of its sender's, as `words_ended` says
            for other in [other for other in self._firing if other[0] == event.alert_key]:
                del self._firing[other]


def _outcome(decision: Decision) -> str:
    if decision.silenced_by or decision.inhibited_by:
        return "silenced" if decision.silenced_by else "inhibited"
    return "told" if decision.routes else "unrouted"
