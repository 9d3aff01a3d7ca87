"""The notifier: stores events, decides where they go, and keeps at it until somebody has noticed.

Events are records; so are the notices sent about them. A restart reads the open events again and goes on where the
notices say: the same message has the same id, so nobody is told twice.
"""

import contextlib
import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import anyio
import msgspec
import structlog
from anyio.abc import TaskGroup

from autoglm.channels.groups import how_to_make
from autoglm.channels.mailbox import Mailbox
from autoglm.channels.outbox.lane import URGENT
from autoglm.channels.receipts import Receipt
from autoglm.channels.routes.case import Case
from autoglm.channels.routes.decision import Decision, Members, Way, decide, ways
from autoglm.channels.routes.event import Event
from autoglm.channels.routes.notices import Notice, Notices, sent_again
from autoglm.channels.routes.settings import InhibitSettings, PersonSettings, RouteSettings
from autoglm.channels.routes.silences import Silences
from autoglm.core.clock import now_ms
from autoglm.core.envelope import Envelope, text_of
from autoglm.core.errors import InvalidField, NotFound, QueueFull, StorageFull
from autoglm.core.ids import uuid7
from autoglm.core.ports import KeyValue, Log, NewRecord, Record

EVENTS = "events"
"""The subject of all events."""
MAX_CASES = 5_000
"""Events about which something is still to be done. While there are more, only ends of alerts are taken up, and what is
urgent until there are twice as many."""
MAX_STARTING = 250
"""Events whose first messages are being written. A flood waits in the log, not in memory."""
MAX_FIRING = 5_000
"""Alerts that are remembered as firing, for `[[inhibit]]`."""
_CURSOR = "notifier/cursor"
_PAGE = 200
_SAVE_S = 5.0
_FULL_DISK_S = 2.0
_MAX_REST_S = 3_600.0

Key = TypeVar("Key")

log = structlog.get_logger()


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


class _Cursor(msgspec.Struct, frozen=True, kw_only=True):
    upto: int = 0
    open: tuple[int, ...] = ()
    version: int = 1


class _Open(NamedTuple):
    """An event with work left."""

    event: Event
    seq: int


class _Group(NamedTuple):
    entries: list[_Open]
    full: anyio.Event


class _Again(NamedTuple):
    """A case that an earlier run of the hub began."""

    entries: list[_Open]
    scope: anyio.CancelScope


class Notifier:
    """`run` in a task."""

    def __init__(
        self, store: Log, keyvalue: KeyValue, mailbox: Mailbox, *, routes: Sequence[RouteSettings],
        inhibits: Sequence[InhibitSettings], people: Sequence[PersonSettings], members: Members,
    ) -> None:  # fmt: skip
        self._log = store
        self._keyvalue = keyvalue
        self._mailbox = mailbox
        self._routes = routes
        self._inhibits = inhibits
        self._people = {person.address: person for person in people}
        self._members = members
        self.silences = Silences(keyvalue)
        self.notices = Notices(store, mailbox)
        self._firing: OrderedDict[str, Event] = OrderedDict()
        self._open: dict[int, int] = {}
        """By the number of an event, how many cases are about it."""
        self._open_ids: dict[str, int] = {}
        self._cases: dict[tuple[str, str], anyio.CancelScope] = {}
        """By (route, alert) the case that runs."""
        self._starting: set[tuple[str, str]] = set()
        """(route, event) of the cases whose first messages are not yet written."""
        self._groups: dict[tuple[str, ...], _Group] = {}
        self._again: dict[tuple[str, str], _Again] = {}
        """By (route, id of the first event) the cases of events that were told of before a restart."""
        self._read_seq = 0
        self._ahead: set[int] = set()
        """Numbers of events beyond `_read_seq` that are taken up."""
        self._peeked_seq = 0
        self._over: dict[str, int] = {}
        """By alert the number of an end in `_ahead`."""
        self._start_seq = 0
        self._saved: _Cursor | None = None
        self._room = anyio.Event()
        self.counts: dict[tuple[str, str], int] = {}
        """Events taken up, by (kind, `told`, `silenced`, `inhibited`, `unrouted` or `over`)."""

    # --- for the gateway ---

    async def submit(self, event: Event, *, sender: str) -> SentEvent:
        """Store an event; returns once it is on disk. Raises DuplicateId, InvalidField, StorageFull."""
        now = now_ms()
        stamped = msgspec.structs.replace(
            event, id=event.id or uuid7(), from_=event.from_ or sender, timestamp=event.timestamp or now
        )  # fmt: skip
        new = _record(stamped)
        if event.expires_at is not None and event.expires_at <= now:
            known = await self._log.get(new.id)  # what was accepted stays accepted, for a client that missed the answer
            if known is None or _record(msgspec.json.decode(known.body, type=Event)).digest != new.digest:
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
        return msgspec.json.decode(record.body, type=Event)

    async def account(self, id: str) -> EventAccount:
        """Raises NotFound."""
        event = await self.get(id)
        notices = await self.notices.of_event(id)
        progress = await self.notices.progress(notices)
        is_open = self._is_open(id)
        return EventAccount(
            event=event, is_open=is_open, acknowledged_by=progress.by or await self.notices.acknowledged_by(id),
            is_over=not is_open and progress.has_all_failed,
            notices=[NoticeAccount(notice=one, steps=await self.notices.steps(one)) for one in notices],
        )  # fmt: skip

    async def recent(self, limit: int) -> list[EventSummary]:
        """The last events, the newest first."""
        found = []
        for record in reversed(await self._log.read_last(EVENTS, limit=limit)):
            event = msgspec.json.decode(record.body, type=Event)
            notices = await self.notices.of_event(event.id)
            progress = await self.notices.progress(notices)
            found.append(EventSummary(
                event=event, is_open=self._is_open(event.id),
                acknowledged_by=progress.by or await self.notices.acknowledged_by(event.id),
                told=tuple(dict.fromkeys(notice.to for notice in notices if not notice.error)),
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
                subjects = {
                    f"notices:{id}",
                    f"acks:{id}",
                    *(f"receipts:{one.notice.message}" for one in account.notices),
                }
                found = await self._log.next(*subjects, after=after, timeout_s=1.0)
                after = max([after, *(record.seq for record in found)])
        return await self.account(id)

    async def acknowledge(self, id: str, *, by: str) -> EventAccount:
        """Somebody has noticed: nobody is told any more, or at all. Raises NotFound."""
        await self.get(id)
        await self.notices.acknowledge(id, by=by)
        for notice in await self.notices.of_event(id):
            if not notice.error:
                envelope, _ = await self._mailbox.get(notice.message)
                await self._mailbox.report(envelope, "acknowledged", by=by)
        return await self.account(id)

    # --- the work ---

    async def run(self) -> None:
        """Take up what is open and what comes, until cancelled."""
        await self.silences.open()
        cursor = await self._load()
        self._read_seq = cursor.upto
        self._start_seq = await self._log.last_seq()
        for record in await self._log.read_last(EVENTS, limit=MAX_FIRING):
            if record.seq <= cursor.upto:
                self._note_firing(msgspec.json.decode(record.body, type=Event))
        async with anyio.create_task_group() as tasks:
            for seq in cursor.open:
                for record in await self._log.read(EVENTS, after=seq - 1, limit=1):
                    if record.seq == seq:
                        await self._take(record, tasks)
            tasks.start_soon(self._save_often)
            while True:
                while len(self._open) >= MAX_CASES:
                    await self._look_ahead(tasks)
                for record in await self._log.next(EVENTS, after=self._read_seq, limit=_PAGE, timeout_s=_MAX_REST_S):
                    if record.seq not in self._ahead:
                        while len(self._starting) >= MAX_STARTING:
                            self._room = anyio.Event()
                            await self._room.wait()
                        await self._take(record, tasks)
                    self._ahead.discard(record.seq)
                    self._read_seq = record.seq
                if self._over and self._read_seq >= self._peeked_seq:
                    self._over.clear()

    async def _look_ahead(self, tasks: TaskGroup) -> None:
        """Until there is room: what makes room, and what cannot wait for it."""
        self._room = anyio.Event()
        async with anyio.create_task_group() as looking:
            looking.start_soon(self._look, tasks)
            await self._room.wait()
            looking.cancel_scope.cancel()

    async def _look(self, tasks: TaskGroup) -> None:
        while True:
            after = self._peeked_seq = max(self._peeked_seq, self._read_seq)
            for record in await self._log.next(EVENTS, after=after, limit=_PAGE, timeout_s=_MAX_REST_S):
                event = msgspec.json.decode(record.body, type=Event)
                if _is_over(event) or (event.priority >= URGENT and len(self._open) < 2 * MAX_CASES):
                    await self._take(record, tasks)
                    self._ahead.add(record.seq)
                if _is_over(event):
                    self._over[event.alert_key] = record.seq
                self._peeked_seq = record.seq

    async def _take(self, record: Record, tasks: TaskGroup) -> None:
        event = msgspec.json.decode(record.body, type=Event)
        if self._over and self._over.get(event.alert_key, 0) > record.seq:  # its end was taken up before it
            self.counts[event.kind, "over"] = self.counts.get((event.kind, "over"), 0) + 1
            return
        entry = _Open(event, record.seq)
        earlier = await self.notices.of_event(event.id) if record.seq <= self._start_seq else []
        decision = self.decide(event)
        self._note_firing(event)
        self._count(event, decision)
        is_over = _is_over(event)
        names = {*decision.routes, *(notice.route for notice in earlier)}
        if is_over:  # who heard the beginning hears the end, whatever a route asks for
            names |= {notice.route for notice in await self.notices.of_alert(event)}
            names |= {name for name, key in self._cases if key == event.alert_key}
        for route in [route for route in self._routes if route.name in names]:
            known = [notice for notice in earlier if notice.route == route.name]
            self._hold(entry)
            if is_over:
                self._leave_groups(route, event)
                tasks.start_soon(self._resolve, route, entry)
            elif known:
                self._go_on(route, entry, known[0].events, tasks)
            elif event.kind == "alert" and (route.name, event.alert_key) in self._cases:
                self._release(entry)  # the same alert again: somebody is being told already
            elif route.group_wait_s > 0:
                self._group(route, entry, tasks)
            else:
                self._starting.add((route.name, event.id))
                tasks.start_soon(self._run_case, route, [event], [entry], self._register(route, [event]))

    def _count(self, event: Event, decision: Decision) -> None:
        what = "told" if decision.routes else "unrouted"
        if decision.silenced_by or decision.inhibited_by:
            what = "silenced" if decision.silenced_by else "inhibited"
        self.counts[event.kind, what] = self.counts.get((event.kind, what), 0) + 1

    @property
    def open_events(self) -> int:
        """Events about which something is still to be done."""
        return len(self._open)

    def _note_firing(self, event: Event) -> None:
        if event.kind != "alert":
            return
        self._firing.pop(event.alert_key, None)
        if event.state == "firing":
            self._firing[event.alert_key] = event
            while len(self._firing) > MAX_FIRING:
                self._firing.popitem(last=False)

    # --- cases ---

    def _register(
        self, route: RouteSettings, events: Sequence[Event], scope: anyio.CancelScope | None = None
    ) -> anyio.CancelScope:
        """At once, before its task runs: the next event may be about the same alert."""
        scope = scope or anyio.CancelScope()
        for event in events:
            if event.kind == "alert":
                self._cases[route.name, event.alert_key] = scope
        return scope

    async def _run_case(
        self, route: RouteSettings, events: Sequence[Event], entries: Sequence[_Open], scope: anyio.CancelScope
    ) -> None:
        with scope:
            await Case(route, events, self.notices, self._notify).run()
        self._have_started(route, events)
        for event in events:
            key = (route.name, event.alert_key)
            if self._cases.get(key) is scope:
                del self._cases[key]
        for entry in entries:  # not when the hub stops: then they stay open
            self._release(entry)

    def _have_started(self, route: RouteSettings, events: Sequence[Event]) -> None:
        self._starting -= {(route.name, event.id) for event in events}
        self._room.set()

    def _go_on(self, route: RouteSettings, entry: _Open, ids: tuple[str, ...], tasks: TaskGroup) -> None:
        """After a restart: the case of an event that was told of, begun by the first event of its group."""
        key = (route.name, ids[0])
        again = self._again.get(key)
        if entry.event.id == ids[0]:
            again = self._again[key] = _Again([entry], self._register(route, [entry.event]))
            tasks.start_soon(self._run_again, route, ids, again)
        elif again is not None:
            again.entries.append(entry)
            self._register(route, [entry.event], again.scope)
        else:  # its case has come to its end
            self._release(entry)

    async def _run_again(self, route: RouteSettings, ids: tuple[str, ...], again: _Again) -> None:
        events = [again.entries[0].event]
        for id in ids[1:]:
            try:
                events.append(await self.get(id))
            except NotFound:  # retention took it; the ids of the messages follow from all of them
                gone = msgspec.structs.replace(events[0], id=id, title="", content="...", labels={}, kind="event")
                events.append(gone)
        await self._run_case(route, events, again.entries, again.scope)
        del self._again[route.name, ids[0]]

    def _leave_groups(self, route: RouteSettings, over: Event) -> None:
        """An alert that is over before anybody was told is not told."""
        for key, group in self._groups.items():
            if key[0] == route.name:
                for entry in [one for one in group.entries if one.event.alert_key == over.alert_key]:
                    group.entries.remove(entry)
                    self._release(entry)

    async def _resolve(self, route: RouteSettings, entry: _Open) -> None:
        """The alert is over: nobody is told of it any more, and those who were hear it."""
        case = self._cases.pop((route.name, entry.event.alert_key), None)
        if case is not None and case not in self._cases.values():  # others of its group may go on
            case.cancel()
        if route.tells_resolved:
            told = [one for one in await self.notices.of_alert(entry.event) if one.route == route.name]
            since = max((index for index, one in enumerate(told) if one.resolved), default=-1) + 1
            for to in dict.fromkeys(one.to for one in told[since:] if not one.error):
                await self._send(route, [entry.event], [(to, "")], 0, 0, resolved=True)
        self._release(entry)

    def _group(self, route: RouteSettings, entry: _Open, tasks: TaskGroup) -> None:
        key = (route.name, *(entry.event.labels.get(name, "") for name in route.group_by))
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _Group([], anyio.Event())
            tasks.start_soon(self._flush_later, route, key, group)
        group.entries.append(entry)
        if len(group.entries) >= _PAGE:
            group.full.set()

    async def _flush_later(self, route: RouteSettings, key: tuple[str, ...], group: _Group) -> None:
        with anyio.move_on_after(route.group_wait_s):
            await group.full.wait()
        del self._groups[key]
        events = [entry.event for entry in group.entries]
        if events:
            await self._run_case(route, events, group.entries, self._register(route, events))

    # --- messages ---

    async def _notify(
        self, route: RouteSettings, events: Sequence[Event], addresses: tuple[str, ...], step: int, number: int
    ) -> list[Notice]:
        priority = max(event.priority for event in events) if route.priority is None else route.priority
        found = ways(addresses, events[0], priority, people=self._people, members=self._members, now_ms=now_ms())
        sent = await self._send(route, events, [(way.to, way.person) for way in found], step, number)
        self._have_started(route, events)
        return sent

    async def _send(
        self, route: RouteSettings, events: Sequence[Event], targets: Sequence[tuple[str, str]], step: int, number: int,
        *, resolved: bool = False,
    ) -> list[Notice]:  # fmt: skip
        """targets: (address, whose way it is)."""
        sent = []
        for to, name in targets:
            person = self._people.get(name or to)
            way = Way(to, name)
            while True:
                try:
                    sent.append(
                        await self.notices.send(
                            route, events, way, step=step, number=number, person=person, resolved=resolved
                        )
                    )  # fmt: skip
                    break
                except (StorageFull, QueueFull) as error:
                    log.warning("notice_delayed", route=route.name, reason=str(error))
                    await anyio.sleep(_FULL_DISK_S)
        for notice in sent:
            if notice.error:
                log.warning("notice_not_sent", route=route.name, to=notice.to, reason=notice.error)
        return sent

    # --- what is open ---

    def _hold(self, entry: _Open) -> None:
        self._open[entry.seq] = self._open.get(entry.seq, 0) + 1
        self._open_ids[entry.event.id] = self._open_ids.get(entry.event.id, 0) + 1

    def _release(self, entry: _Open) -> None:
        _count_down(self._open, entry.seq)
        _count_down(self._open_ids, entry.event.id)
        self._room.set()

    def _is_open(self, id: str) -> bool:
        return id in self._open_ids

    async def _load(self) -> _Cursor:
        entry = await self._keyvalue.get(_CURSOR)
        return _Cursor() if entry is None else msgspec.json.decode(entry.value, type=_Cursor)

    async def _save_often(self) -> None:
        while True:
            await anyio.sleep(_SAVE_S)
            await self.save()

    async def save(self) -> None:
        """Keep how far it has come; what is between is looked at again after a restart, and sent once all the same."""
        cursor = _Cursor(
            upto=self._read_seq, open=tuple(sorted(seq for seq in self._open if 0 < seq <= self._read_seq))
        )
        if cursor == self._saved:
            return
        try:
            await self._keyvalue.put(_CURSOR, msgspec.json.encode(cursor))
            self._saved = cursor
        except (StorageFull, QueueFull) as error:
            log.warning("notifier_cursor_delayed", reason=str(error))


def _is_over(event: Event) -> bool:
    return event.kind == "alert" and event.state == "resolved"


def _count_down(counts: dict[Key, int], key: Key) -> None:
    left = counts.pop(key, 0) - 1
    if left > 0:
        counts[key] = left


def _record(event: Event) -> NewRecord:
    meant = msgspec.json.encode(
        (event.from_, event.to, event.kind, event.title, event.content, event.labels, event.priority, event.state),
        order="deterministic",
    )  # fmt: skip
    return NewRecord(
        id=f"event {event.id}", digest=hashlib.blake2b(meant, digest_size=16).digest(),
        subjects=(EVENTS, f"events-of:{event.from_}"), body=msgspec.json.encode(event),
    )  # fmt: skip
