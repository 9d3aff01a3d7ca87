"""A case: what one route does about some events, until somebody acknowledges or nothing is left to do."""

from collections.abc import Awaitable, Callable, Sequence

from autoglm.channels.routes.event import Event
from autoglm.channels.routes.notices import Notice, Notices, Progress, rank
from autoglm.channels.routes.settings import RouteSettings
from autoglm.core.clock import monotonic_s, now_ms
from autoglm.core.ports import Record

_MAX_WAIT_S = 3_600.0

Notify = Callable[[RouteSettings, Sequence[Event], tuple[str, ...], int, int], Awaitable[list[Notice]]]
"""(route, events, addresses, step, number): send the messages of one step, once, however often it is asked."""


class Case:
    """`run` in a task; cancelling it ends the case. Everything it knows is in the log: it can be run again."""

    def __init__(self, route: RouteSettings, events: Sequence[Event], notices: Notices, notify: Notify) -> None:
        self.route = route
        self.events = events
        self._notices = notices
        self._notify = notify
        self._sent: list[Notice] = []

    async def run(self) -> None:
        if await self._are_noticed():  # before anybody was told
            return
        first = self.events[0]
        addresses = self.route.to
        if self.route.to_addressee and first.to is not None:
            addresses = (*addresses, first.to)
        self._sent = list(await self._notify(self.route, self.events, addresses, 0, 0))
        if not self._sent:
            return
        begun_ms = _begun_ms(self._sent)
        step_ms, last = begun_ms, (addresses, 0)
        for index, step in enumerate(self.route.then, 1):
            due_ms = begun_ms + round(1000 * step.after_s)
            if await self._settled(rank(step.unless), due_ms, goes_on_failure=True):
                if await self._is_acknowledged():
                    return
                continue
            notices = await self._notify(self.route, self.events, step.to, index, 0)
            step_ms, last = _begun_ms(notices), (step.to, index)
            self._sent += notices
        await self._repeat(step_ms, *last)

    async def _repeat(self, begun_ms: int, addresses: tuple[str, ...], step: int) -> None:
        if self.route.repeat_s is None:
            return
        for number in range(1, self.route.repeat_times + 1):
            due_ms = begun_ms + round(1000 * self.route.repeat_s * number)
            if await self._settled(rank("acknowledged"), due_ms, goes_on_failure=False):
                return
            self._sent += await self._notify(self.route, self.events, addresses, step, number)

    async def _settled(self, wanted: int, due_ms: int, *, goes_on_failure: bool) -> bool:
        """True when a message reached as far as wanted before that time; at once also when somebody acknowledged.

        goes_on_failure: when all messages have failed, there is nothing to wait for.
        """
        after = 0
        due_s = monotonic_s() + (due_ms - now_ms()) / 1000  # a clock that is put right meanwhile changes nothing
        while True:
            progress = await self._progress()
            if progress.rank >= rank("acknowledged") or self._is_over():
                return True
            wait_s = due_s - monotonic_s()
            if wait_s <= 0 or (goes_on_failure and progress.has_all_failed):
                return progress.rank >= wanted
            records = await self._wait(after, min(wait_s, _MAX_WAIT_S))
            after = max([after, *(record.seq for record in records)])

    async def _wait(self, after: int, timeout_s: float) -> list[Record]:
        return await self._notices.wait(self._sent, self.events, after=after, timeout_s=timeout_s)

    async def _progress(self) -> Progress:
        """Of this case's messages; an acknowledgement on another route, or of the events themselves, counts, too."""
        if await self._are_noticed():
            return Progress(rank=rank("acknowledged"), has_all_failed=False)
        own = await self._notices.progress(self._sent)
        if own.rank >= rank("acknowledged"):
            return own
        all_notices = await self._notices.of_event(self.events[0].id)
        own_ids = {notice.message for notice in self._sent}  # one that was sent again, as a dead letter, is not there
        others = [notice for notice in all_notices if notice.message not in own_ids]
        other = await self._notices.progress(others)
        return other if other.rank >= rank("acknowledged") else own

    async def _are_noticed(self) -> bool:
        """Somebody has noticed each of the events, by `POST /api/events/{id}/ack`."""
        for event in self.events:
            if not await self._notices.acknowledged_by(event.id):
                return False
        return True

    async def _is_acknowledged(self) -> bool:
        return (await self._progress()).rank >= rank("acknowledged")

    def _is_over(self) -> bool:
        now = now_ms()
        return all(event.expires_at is not None and event.expires_at <= now for event in self.events)


def _begun_ms(notices: Sequence[Notice]) -> int:
    """When a step began, also when an earlier run of the hub took it; never later than now, whatever the clock was."""
    return min([now_ms(), *(notice.time for notice in notices)])
