"""Pulls what Tencent Cloud hands out once: what was pulled is kept until the inbox has it."""

from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import anyio
import structlog

from autoglm.channels.backoff import pause_s
from autoglm.channels.channel import REFUSALS, Inbox
from autoglm.core.errors import HubError

FULL = 100
"""Entries of one pull, at most: after a full one, more may wait."""
_FLUSH_S = 5.0

Entry = Mapping[str, Any]
log = structlog.get_logger(__name__)


class CannotPull(Exception):
    """The vendor did not answer, or refused."""


class Pull:
    """One kind of entries: statuses or replies."""

    def __init__(
        self, channel: str, what: str, *, every_s: float, fetch: Callable[[], Awaitable[Sequence[Entry]]],
        take: Callable[[Entry, Inbox], Awaitable[None]],
    ) -> None:  # fmt: skip
        """fetch: the next entries. Raises CannotPull. take: raises HubError."""
        self._log = log.bind(channel=channel, what=what)
        self._every_s = every_s
        self._fetch = fetch
        self._take = take
        self._kept: deque[Entry] = deque()

    async def run(self, inbox: Inbox) -> None:
        """Until cancelled; what was pulled by then is still put into the inbox, for some seconds at most."""
        failures = 0
        try:
            while True:
                try:
                    is_full = await self._once(inbox)
                except (CannotPull, HubError) as error:
                    failures += 1
                    if failures == 1:  # a service that is not activated would fill the log
                        self._log.warning("sms_pull_failed", reason=str(error))
                    await anyio.sleep(pause_s(failures, 1.0, 60.0))
                    continue
                failures = 0
                if not is_full:
                    await anyio.sleep(self._every_s)
        finally:
            with anyio.move_on_after(_FLUSH_S, shield=True):
                await self._flush(inbox)

    async def _once(self, inbox: Inbox) -> bool:
        if not self._kept:
            self._kept.extend(await self._fetch())
        is_full = len(self._kept) >= FULL
        await self._drain(inbox)
        return is_full

    async def _drain(self, inbox: Inbox) -> None:
        while self._kept:
            try:
                await self._take(self._kept[0], inbox)
            except REFUSALS as error:
                self._log.error("sms_entry_dropped", reason=str(error))
            self._kept.popleft()

    async def _flush(self, inbox: Inbox) -> None:
        try:
            await self._drain(inbox)
        except HubError as error:
            self._log.error("sms_entries_lost", count=len(self._kept), reason=str(error))
