"""The backlog: events that wait in the log, taken up in their order as far as there is room for cases.

When there is none, it looks ahead: for ends of alerts, which make room, and for what cannot wait for it.
"""

from collections.abc import Awaitable, Callable

import anyio
import structlog

from autoglm.channels.outbox.lane import URGENT
from autoglm.channels.routes.cases import FULL_DISK_S, Cases
from autoglm.channels.routes.event import EVENTS, Event, event_in, words_ended
from autoglm.core.errors import StorageFull, StoreBroken
from autoglm.core.ports import Log
from autoglm.core.tasks import one_task_group

MAX_CASES = 5_000
"""Events about which something is still to be done. While there are more, only ends of alerts are taken up, and what is
urgent until there are twice as many."""
MAX_STARTING = 250
"""Events whose first messages are being written. A flood waits in the log, not in memory."""
_PAGE = 200
_MAX_REST_S = 3_600.0

log = structlog.get_logger()

Take = Callable[[Event, int], Awaitable[None]]
"""(event, its number in the log). Where it raises, it has done nothing, and is asked again."""


class Backlog:
    def __init__(self, store: Log, cases: Cases) -> None:
        self._log = store
        self._cases = cases
        self.read_seq = 0
        """All up to here is taken up."""
        self._ahead: set[int] = set()
        """Numbers of events beyond `read_seq` that are taken up."""
        self._peeked_seq = 0
        self._over: dict[tuple[str, str], int] = {}
        """By alert, and the words of one without labels (empty: of any), the number of an end in `_ahead`."""

    def is_past(self, event: Event, seq: int) -> bool:
        """The end of this alert was taken up before it."""
        keys = ((event.alert_key, ""), (event.alert_key, event.words_key)) if self._over else ()
        return any(self._over.get(key, 0) > seq for key in keys)

    async def run(self, take: Take) -> None:
        """Take up what comes after `read_seq`, until cancelled."""
        while True:
            try:
                await self._take_up(take)
            except (StorageFull, StoreBroken) as error:  # reading may need some space, too
                log.error("events_not_read", reason=str(error))
                await anyio.sleep(FULL_DISK_S)

    async def _take_up(self, take: Take) -> None:
        while self._cases.open_events >= MAX_CASES:
            await self._look_ahead(take)
        for record in await self._log.next(EVENTS, after=self.read_seq, limit=_PAGE, timeout_s=_MAX_REST_S):
            if record.seq not in self._ahead:
                while self._cases.starting >= MAX_STARTING:
                    await self._cases.wait_room()
                await take(event_in(record), record.seq)
            self._ahead.discard(record.seq)
            self.read_seq = record.seq
        if self._over and self.read_seq >= self._peeked_seq:
            self._over.clear()

    async def _look_ahead(self, take: Take) -> None:
        """Until there is room."""
        async with one_task_group() as looking:
            looking.start_soon(self._look, take)
            await self._cases.wait_room()
            looking.cancel_scope.cancel()

    async def _look(self, take: Take) -> None:
        while True:
            after = self._peeked_seq = max(self._peeked_seq, self.read_seq)
            for record in await self._log.next(EVENTS, after=after, limit=_PAGE, timeout_s=_MAX_REST_S):
                event = event_in(record)
                words = await words_ended(self._log, event) if event.is_over else ""  # before `take`: it may make room
                if event.is_over or (event.priority >= URGENT and self._cases.open_events < 2 * MAX_CASES):
                    await take(event, record.seq)
                    self._ahead.add(record.seq)
                if event.is_over:
                    self._over[event.alert_key, words] = record.seq
                self._peeked_seq = record.seq
