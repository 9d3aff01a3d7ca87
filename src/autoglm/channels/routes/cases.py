"""The cases that run: begun, put together in groups, gone on with after a restart, and ended with their alerts."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

import anyio
import msgspec
import structlog
from anyio.abc import TaskGroup

from autoglm.channels.routes.case import Case
from autoglm.channels.routes.decision import Members, Way, ways
from autoglm.channels.routes.event import Event, event_in
from autoglm.channels.routes.notices import Notice, Notices, hearers
from autoglm.channels.routes.settings import PersonSettings, RouteSettings
from autoglm.core.clock import now_ms
from autoglm.core.errors import QueueFull, StorageFull, StoreBroken
from autoglm.core.ports import Log

_MOST_IN_GROUP = 200
FULL_DISK_S = 2.0

Key = TypeVar("Key")
Result = TypeVar("Result")

log = structlog.get_logger()


class Opened(NamedTuple):
    """An event with work left."""

    event: Event
    seq: int


class _Running(NamedTuple):
    """A case about an alert."""

    scope: anyio.CancelScope
    event: str
    """The id of the event that told of the alert."""


class _Group(NamedTuple):
    entries: list[Opened]
    full: anyio.Event


class _Again(NamedTuple):
    """A case that an earlier run of the hub began."""

    entries: list[Opened]
    scope: anyio.CancelScope


class Cases:
    """Their tasks are in the task group that each is begun with."""

    def __init__(self, store: Log, notices: Notices, *, people: dict[str, PersonSettings], members: Members) -> None:
        """people: by address."""
        self._log = store
        self._notices = notices
        self._people = people
        self._members = members
        self._open: dict[int, int] = {}
        """By the number of an event, how many cases are about it."""
        self._open_ids: dict[str, int] = {}
        self._running: dict[tuple[str, str, str], _Running] = {}
        """By (route, alert, its words) the case that runs."""
        self._starting: set[tuple[str, str]] = set()
        """(route, event) of the cases whose first messages are not yet written."""
        self._groups: dict[tuple[str, ...], _Group] = {}
        self._again: dict[tuple[str, str], _Again] = {}
        """By (route, id of the first event) the cases of events that were told of before a restart."""
        self._room = anyio.Event()

    @property
    def open_events(self) -> int:
        """Events about which something is still to be done."""
        return len(self._open)

    @property
    def open_seqs(self) -> Collection[int]:
        """Their numbers."""
        return self._open.keys()

    @property
    def starting(self) -> int:
        """Cases whose first messages are being written."""
        return len(self._starting)

    def is_open(self, id: str) -> bool:
        return id in self._open_ids

    async def wait_room(self) -> None:
        """Until one has ended, or has written its first messages."""
        self._room = anyio.Event()
        await self._room.wait()

    def routes_of(self, alert_key: str) -> set[str]:
        """The routes on which somebody is being told of an alert."""
        return {name for name, key, _ in self._running if key == alert_key}

    def repeated(self, route: RouteSettings, event: Event) -> str:
        """The id of the event by which this route tells of the same alert already; empty when it does not."""
        running = self._running.get(_key(route, event)) if event.kind == "alert" else None
        return "" if running is None else running.event

    # --- what happens with an event on a route ---

    def begin(self, route: RouteSettings, entry: Opened, tasks: TaskGroup) -> None:
        event = entry.event
        if self.repeated(route, event):
            return  # somebody is being told already
        self._hold(entry)
        if route.group_wait_s > 0:
            self._group(route, entry, tasks)
            return
        self._starting.add((route.name, event.id))
        tasks.start_soon(self._run, route, [event], [entry], self._register(route, [event]))

    def go_on(self, route: RouteSettings, entry: Opened, ids: tuple[str, ...], tasks: TaskGroup) -> None:
        """After a restart: the case of an event that was told of, begun by the first event of its group."""
        key = (route.name, ids[0])
        again = self._again.get(key)
        if entry.event.id == ids[0]:
            again = self._again[key] = _Again([entry], self._register(route, [entry.event]))
            tasks.start_soon(self._run_again, route, ids, again)
        elif again is not None:
            again.entries.append(entry)
            self._register(route, [entry.event], again.scope)
        else:
            return  # its case has come to its end
        self._hold(entry)

    def resolve(self, route: RouteSettings, entry: Opened, words: str, tasks: TaskGroup) -> None:
        """The alert is over: nobody is told of it any more, and those who were hear it. words: see `words_ended`."""
        self._hold(entry)
        self._leave_groups(route, entry.event, words)
        tasks.start_soon(self._tell_end, route, entry, words)

    # --- cases ---

    def _register(
        self, route: RouteSettings, events: Sequence[Event], scope: anyio.CancelScope | None = None
    ) -> anyio.CancelScope:
        """At once, before its task runs: the next event may be about the same alert."""
        scope = scope or anyio.CancelScope()
        for event in events:
            if event.kind == "alert":
                self._running[_key(route, event)] = _Running(scope, event.id)
        return scope

    async def _run(
        self, route: RouteSettings, events: Sequence[Event], entries: Sequence[Opened], scope: anyio.CancelScope
    ) -> None:
        with scope:
            await _through(Case(route, events, self._notices, self._notify).run)
        self._have_started(route, events)
        for event in events:
            running = self._running.get(_key(route, event))
            if running is not None and running.scope is scope:
                del self._running[_key(route, event)]
        for entry in entries:  # not when the hub stops: then they stay open
            self._release(entry)

    def _have_started(self, route: RouteSettings, events: Sequence[Event]) -> None:
        self._starting -= {(route.name, event.id) for event in events}
        self._room.set()

    async def _run_again(self, route: RouteSettings, ids: tuple[str, ...], again: _Again) -> None:
        events = [again.entries[0].event]
        for id in ids[1:]:
            record = await _through(partial(self._log.get, f"event {id}"))
            events.append(_removed(events[0], id) if record is None else event_in(record))
        await self._run(route, events, again.entries, again.scope)
        del self._again[route.name, ids[0]]

    def _leave_groups(self, route: RouteSettings, over: Event, words: str) -> None:
        """An alert that is over before anybody was told is not told."""
        for key, group in self._groups.items():
            if key[0] == route.name:
                same = [one for one in group.entries if one.event.alert_key == over.alert_key]
                for entry in [one for one in same if words in ("", one.event.words_key)]:
                    group.entries.remove(entry)
                    self._release(entry)

    async def _tell_end(self, route: RouteSettings, entry: Opened, words: str) -> None:
        same = [key for key in self._running if key[:2] == (route.name, entry.event.alert_key)]
        ended = [key for key in same if words in ("", key[2])]
        scopes = [self._running.pop(key).scope for key in ended]
        going_on = {running.scope for running in self._running.values()} if scopes else set()
        for scope in scopes:
            if scope not in going_on:  # else others of its group are told
                scope.cancel()
        if route.tells_resolved:
            notices = await _through(partial(self._notices.of_alert, entry.event))
            told = [one for one in notices if one.route == route.name]
            for to in hearers(told, words):
                known = (words,) if words else ()
                await self._send(route, [entry.event], [(to, "")], 0, 0, words=known, resolved=True)
        self._release(entry)

    def _group(self, route: RouteSettings, entry: Opened, tasks: TaskGroup) -> None:
        key = (route.name, *(entry.event.labels.get(name, "") for name in route.group_by))
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _Group([], anyio.Event())
            tasks.start_soon(self._flush_later, route, key, group)
        group.entries.append(entry)
        if len(group.entries) >= _MOST_IN_GROUP:
            group.full.set()

    async def _flush_later(self, route: RouteSettings, key: tuple[str, ...], group: _Group) -> None:
        with anyio.move_on_after(route.group_wait_s):
            await group.full.wait()
        del self._groups[key]
        events = [entry.event for entry in group.entries]
        if events:
            await self._run(route, events, group.entries, self._register(route, events))

    # --- messages ---

    async def _notify(
        self, route: RouteSettings, events: Sequence[Event], addresses: tuple[str, ...], step: int, number: int
    ) -> list[Notice]:
        priority = max(event.priority for event in events) if route.priority is None else route.priority
        found = ways(addresses, events[0], priority, people=self._people, members=self._members, now_ms=now_ms())
        words = tuple(dict.fromkeys(one.words_key for one in events if one.kind == "alert" and not one.labels))
        sent = await self._send(route, events, [(way.to, way.person) for way in found], step, number, words=words)
        self._have_started(route, events)
        return sent

    async def _send(
        self, route: RouteSettings, events: Sequence[Event], targets: Sequence[tuple[str, str]], step: int, number: int,
        *, words: tuple[str, ...] = (), resolved: bool = False,
    ) -> list[Notice]:  # fmt: skip
        """targets: (address, whose way it is)."""
        sent = []
        for to, name in targets:
            person = self._people.get(name or to)
            way = Way(to, name)
            sent.append(await _through(partial(
                self._notices.send, route, events, way, step=step, number=number, person=person, resolved=resolved,
                words=words,
            )))  # fmt: skip
        for notice in sent:
            if notice.error:
                log.warning("notice_not_sent", route=route.name, to=notice.to, reason=notice.error)
        return sent

    # --- what is open ---

    def _hold(self, entry: Opened) -> None:
        self._open[entry.seq] = self._open.get(entry.seq, 0) + 1
        self._open_ids[entry.event.id] = self._open_ids.get(entry.event.id, 0) + 1

    def _release(self, entry: Opened) -> None:
        _count_down(self._open, entry.seq)
        _count_down(self._open_ids, entry.event.id)
        self._room.set()


async def _through(work: Callable[[], Awaitable[Result]]) -> Result:
    """Again and again while the store fails: all that a case knows is in the log, and it says nothing twice."""
    while True:
        try:
            return await work()
        except (StorageFull, QueueFull, StoreBroken) as error:
            log.warning("notice_delayed", reason=str(error))
            await anyio.sleep(FULL_DISK_S)


def _key(route: RouteSettings, event: Event) -> tuple[str, str, str]:
    return route.name, event.alert_key, event.words_key


def _removed(like: Event, id: str) -> Event:
    """In place of one that retention took: the ids of the messages follow from all events of a group."""
    return msgspec.structs.replace(like, id=id, title="", content="...", labels={}, kind="event")


def _count_down(counts: dict[Key, int], key: Key) -> None:
    left = counts.pop(key, 0) - 1
    if left > 0:
        counts[key] = left
