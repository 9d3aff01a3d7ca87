"""Asks Aliyun, one message after the other, whether it arrived: ever more seldom, and for three days at most."""

import heapq
from collections.abc import Awaitable, Callable
from datetime import datetime

import anyio
import msgspec
import structlog

from autoglm.channels.backoff import pause_s
from autoglm.channels.channel import Inbox, Resources
from autoglm.channels.delivery import Delivery
from autoglm.channels.kept import Kept
from autoglm.channels.sms import CHINA
from autoglm.core.clock import monotonic_s, now_ms
from autoglm.core.errors import HubError

FIRST_ASK_S = 10.0
_LONGEST_PAUSE_S = 1800.0
_GIVE_UP_S = 259_200.0
"""Networks report within 72 hours."""
_OLDEST_S = _GIVE_UP_S - 86_400.0
"""So old a message counts at most at a start: it is asked for another day, for the hub may have been off before."""
_KNOWN_S = 2_592_000.0
"""Aliyun tells of the last 30 days (help.aliyun.com, QuerySendDetails)."""
WAITING = 10_000
"""Messages whose receipt is asked for; of more, the oldest are no longer."""

log = structlog.get_logger(__name__)


class Sent(msgspec.Struct, frozen=True):
    ticket: str
    """BizId."""
    number: str
    """As Aliyun writes it."""
    time: int
    """Milliseconds of the Unix epoch."""
    version: int = 1

    @property
    def day(self) -> str:
        """In China, such as 20260131."""
        return f"{datetime.fromtimestamp(self.time / 1000, CHINA):%Y%m%d}"


class CannotAsk(Exception):
    """The question got no answer; it will be asked again."""


class Receipts:
    """What it waits for is on disk: a restart goes on asking."""

    def __init__(self, resources: Resources, ask: Callable[[Sent], Awaitable[Delivery | None]]) -> None:
        """ask: None while the network has not reported. Raises CannotAsk."""
        assert resources.keyvalue is not None, "what is waited for is kept there"
        self._channel = resources.name
        self._ask = ask
        self._waiting = Kept(resources.keyvalue, f"sms/waiting/{resources.name}/", Sent, most=WAITING)
        """By ticket."""
        self._due: list[tuple[float, float, str]] = []
        """(when, how old the message is by then, ticket)"""
        self._added = anyio.Event()

    async def expect(self, sent: Sent) -> None:
        self._ask_first(sent)
        self._added.set()
        await self._waiting.put(sent.ticket, sent)
        if len(self._due) > 2 * WAITING:
            self._due = [entry for entry in self._due if entry[2] in self._waiting]
            heapq.heapify(self._due)

    async def settle(self, ticket: str) -> None:
        """It was reported otherwise."""
        await self._waiting.drop(ticket)

    async def run(self, inbox: Inbox) -> None:
        """Until cancelled. Raises StoreBroken, StorageFull where it cannot be read what an earlier run waited for."""
        waiting = await self._waiting.all()
        self._due = []  # all of them are in `waiting`
        for one in waiting:
            if now_ms() - one.time > 1000 * _KNOWN_S:
                await self.settle(one.ticket)
            else:
                self._ask_first(one)
        failures = 0
        while True:
            await self._until_due()
            _, age_s, ticket = heapq.heappop(self._due)
            if (sent := await self._waiting.get(ticket)) is None:
                continue
            try:
                found = await self._ask(sent)
                if found is not None:
                    await inbox.report(ticket, found)
                    await self.settle(ticket)
                failures = 0
            except (CannotAsk, HubError) as error:
                found = None
                failures += 1
                log.warning("sms_receipts_unknown", channel=self._channel, reason=str(error), failures=failures)
                await anyio.sleep(pause_s(failures, 1.0, 60.0))
            if found is None:
                await self._ask_later(ticket, age_s)

    def _ask_first(self, sent: Sent) -> None:
        """When it is FIRST_ASK_S old, or now."""
        age_s = max(0.0, (now_ms() - sent.time) / 1000)
        wait_s = max(0.0, FIRST_ASK_S - age_s)
        heapq.heappush(self._due, (monotonic_s() + wait_s, min(age_s + wait_s, _OLDEST_S), sent.ticket))

    async def _ask_later(self, ticket: str, age_s: float) -> None:
        if age_s > _GIVE_UP_S:
            await self.settle(ticket)
            return
        pause = min(age_s, _LONGEST_PAUSE_S)
        heapq.heappush(self._due, (monotonic_s() + pause, age_s + pause, ticket))

    async def _until_due(self) -> None:
        while not self._due or self._due[0][0] > monotonic_s():
            self._added = anyio.Event()
            left_s = self._due[0][0] - monotonic_s() if self._due else _LONGEST_PAUSE_S
            with anyio.move_on_after(max(0.0, left_s)):
                await self._added.wait()
