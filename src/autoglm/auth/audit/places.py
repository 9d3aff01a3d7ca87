"""Second places: whoever rewrites the store has not rewritten these. Each goes at its own pace; none holds up the hub.

Where a place has come to stands in the key-value table once it has the entries for good: after a kill some may come
there twice, which it has to bear, and none is left out.
"""

import contextlib
import random
from collections.abc import Sequence
from typing import Literal, Protocol

import anyio
import msgspec
import structlog

from autoglm.auth.audit.entry import read_entry
from autoglm.auth.audit.recorder import Audit
from autoglm.core.errors import HubError
from autoglm.core.ports import Journal, JournalEntry, JournalFilter, KeyValue

PREFIX = "audit/place/"
_PAGE_ENTRIES = 500
_IDLE_S = 60.0
_RETRY_S = (1.0, 60.0)
"""The first wait after a failure, and the longest."""

Trouble = Literal["place_ahead", "place_cut", "place_emptied", "place_damaged"]
"""place_ahead: it has entries that the store has not, or others: the store is an older copy, or was rewritten.
place_cut, place_emptied: it lost what it had, and gets it again. place_damaged: its end cannot be read."""

log = structlog.get_logger(part="auth")


class PlaceFailed(Exception):
    """It could not be reached or did not take the entries. Never leaves the audit: they wait, and are sent again."""


class Place(Protocol):
    """Where entries go. All raise PlaceFailed."""

    @property
    def name(self) -> str: ...

    async def open(self, position: int, journal: Journal) -> tuple[int, Trouble | None]:
        """position: the seq that was noted. Returns the one behind which to go on, by what it finds there."""
        ...

    async def put(self, rows: Sequence[JournalEntry]) -> Trouble | None:
        """Returns when they are there for good."""
        ...

    async def erase(self, runs: Sequence[tuple[int, int]]) -> None:
        """Take what is personal out of these, where it can. The runs are apart. May come twice for the same."""
        ...

    async def aclose(self) -> None: ...


class _Position(msgspec.Struct, frozen=True, kw_only=True, tag="audit-place", tag_field="type"):
    version: int = 1
    seq: int


class Shipping:
    """Brings one place up to date, and keeps it so."""

    def __init__(self, place: Place, journal: Journal, keyvalue: KeyValue, audit: Audit) -> None:
        self.position = 0
        """The seq of the last entry that is there."""
        self.failure = ""
        """Why it is not getting on; empty while it does."""
        self._place, self._journal, self._keyvalue, self._audit = place, journal, keyvalue, audit
        self._key = PREFIX + place.name

    async def run(self) -> None:
        """Until cancelled."""
        wait_s, longest_s = _RETRY_S
        while True:
            try:
                await self._ship()
            except (PlaceFailed, HubError) as error:
                if not self.failure:
                    log.warning("audit_place_failed", place=self._place.name, error=str(error))
                    wait_s = _RETRY_S[0]
                self.failure = str(error)
            finally:
                with anyio.CancelScope(shield=True):
                    await self._place.aclose()
            await anyio.sleep(wait_s * random.uniform(0.5, 1.0))  # noqa: S311  # so that not all sites come at once
            wait_s = min(2 * wait_s, longest_s)

    async def finish(self) -> None:
        """Bring there what was recorded last, such as the end of the run, once `run` is over.

        The caller bounds the time. What does not come there now comes at the next start.
        """
        try:
            await self._ship(until=self._journal.last().seq)
        except (PlaceFailed, HubError) as error:
            log.warning("audit_place_failed", place=self._place.name, error=str(error))
        finally:
            with anyio.CancelScope(shield=True):
                await self._place.aclose()

    async def _ship(self, *, until: int | None = None) -> None:
        """until: ends with this entry; None: with an error only."""
        kept = await self._keyvalue.get(self._key)
        noted = 0 if kept is None else msgspec.json.decode(kept.value, type=_Position).seq
        self.position, trouble = await self._place.open(noted, self._journal)
        self._tell(trouble)
        # A kill may have come between an entry's arrival there and what it asks for.
        between = JournalFilter(kinds=("erase",))
        for row in await self._journal.find(between, after=noted, before=self.position + 1, limit=_PAGE_ENTRIES):
            await self._place.erase(_erased(row))
        while until is None or self.position < until:
            rows = await self._journal.read(after=self.position, limit=_PAGE_ENTRIES)
            if not rows:
                self._works()
                await self._journal.wait(after=self.position, timeout_s=_IDLE_S)
                continue
            self._tell(await self._place.put(rows))
            for row in rows:
                if row.kind == "erase":
                    await self._place.erase(_erased(row))
            self.position = rows[-1].seq
            await self._keyvalue.put(self._key, msgspec.json.encode(_Position(seq=self.position)))
            self._works()

    def _works(self) -> None:
        if self.failure:
            self.failure = ""
            log.info("audit_place_recovered", place=self._place.name)

    def _tell(self, trouble: Trouble | None) -> None:
        if trouble is not None:
            log.error("audit_place_differs", place=self._place.name, trouble=trouble)
            self._audit.act("audit:place", None, outcome="failed", reason=trouble, text=self._place.name)


def _erased(row: JournalEntry) -> Sequence[tuple[int, int]]:
    """None for an entry that somebody changed: verifying tells of it."""
    with contextlib.suppress(ValueError, msgspec.MsgspecError):
        return read_entry(row.body).erased
    return ()
