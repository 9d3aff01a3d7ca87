"""Asks Aliyun, one message after the other, whether it arrived: ever more seldom, and for three days at most."""

import heapq
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import anyio
import structlog

from autoglm.channels.backoff import pause_s
from autoglm.channels.channel import Inbox
from autoglm.channels.delivery import Delivery
from autoglm.core.errors import HubError

FIRST_ASK_S = 10.0
_LONGEST_PAUSE_S = 1800.0
_GIVE_UP_S = 259_200.0
"""Networks report within 72 hours."""
WAITING = 10_000
"""Messages whose receipt is asked for; of more, the oldest are no longer."""

log = structlog.get_logger(__name__)


class Sent(NamedTuple):
    ticket: str
    """BizId."""
    number: str
    """As Aliyun writes it."""
    day: str
    """In China, such as 20260131."""


class CannotAsk(Exception):
    """The question got no answer; it will be asked again."""


class Receipts:
    """Knows in memory what it waits for: after a restart, receipts come for what is sent from then on."""

    def __init__(self, channel: str, ask: Callable[[Sent], Awaitable[Delivery | None]]) -> None:
        """ask: None while the network has not reported. Raises CannotAsk."""
        self._channel = channel
        self._ask = ask
        self._waiting: dict[str, Sent] = {}
        self._due: list[tuple[float, float, str]] = []
        """(when, how old the message is by then, ticket)"""
        self._added = anyio.Event()

    def expect(self, sent: Sent) -> None:
        if len(self._waiting) >= WAITING:
            self.settle(next(iter(self._waiting)))
        self._waiting[sent.ticket] = sent
        heapq.heappush(self._due, (time.monotonic() + FIRST_ASK_S, FIRST_ASK_S, sent.ticket))
        self._added.set()

    def settle(self, ticket: str) -> None:
        """It was reported otherwise."""
        self._waiting.pop(ticket, None)
        if len(self._due) > 2 * WAITING:
            self._due = [entry for entry in self._due if entry[2] in self._waiting]
            heapq.heapify(self._due)

    async def run(self, inbox: Inbox) -> None:
        """Until cancelled."""
        failures = 0
        while True:
            await self._until_due()
            _, age_s, ticket = heapq.heappop(self._due)
            if (sent := self._waiting.get(ticket)) is None:
                continue
            try:
                found = await self._ask(sent)
                if found is not None:
                    await inbox.report(ticket, found)
                    self.settle(ticket)
                failures = 0
            except (CannotAsk, HubError) as error:
                found = None
                failures += 1
                log.warning("sms_receipts_unknown", channel=self._channel, reason=str(error), failures=failures)
                await anyio.sleep(pause_s(failures, 1.0, 60.0))
            if found is None:
                self._ask_later(ticket, age_s)

    def _ask_later(self, ticket: str, age_s: float) -> None:
        if age_s > _GIVE_UP_S:
            self.settle(ticket)
            return
        pause = min(age_s, _LONGEST_PAUSE_S)
        heapq.heappush(self._due, (time.monotonic() + pause, age_s + pause, ticket))

    async def _until_due(self) -> None:
        while not self._due or self._due[0][0] > time.monotonic():
            self._added = anyio.Event()
            left_s = self._due[0][0] - time.monotonic() if self._due else _LONGEST_PAUSE_S
            with anyio.move_on_after(max(0.0, left_s)):
                await self._added.wait()
