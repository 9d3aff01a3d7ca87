"""A site that keeps an audit: a real store, a key of its own, and a clock that the test turns."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

from autoglm.auth.audit.chain import Finding, Summary, Verification
from autoglm.auth.audit.entry import Entry, Personal, read_entry, read_personal
from autoglm.auth.audit.heads import HEAD_FILE_NAME, HeadFile, HeadKeys
from autoglm.auth.audit.places import Place, Shipping
from autoglm.auth.audit.recorder import Audit
from autoglm.auth.audit.settings import AuditSettings
from autoglm.auth.principal import Principal
from autoglm.auth.tokens.signing import SigningKey
from autoglm.core.ports import JournalEntry
from autoglm.store import Store, StoreSettings, open_journal, open_store
from eventually import until

ALICE = Principal("alice", "user:alice", ("admin:*",), credential="session:a1")
PRESS = Principal("press-7", "device:press-7", ("send:message",), credential="jkt:press")


class TurnedClock:
    def __init__(self) -> None:
        self.ms = 1_700_000_000_000
        self.is_trusted = True
        self.boots = 3

    def now_ms(self) -> int:
        return self.ms


class Site:
    """In `folder`, with what outlives its runs."""

    def __init__(self, folder: Path, settings: AuditSettings | None = None) -> None:
        self.folder = folder
        self.key, self.clock = SigningKey.generate(), TurnedClock()
        self.settings = settings or AuditSettings()
        self.head_file = HeadFile(folder / "trust" / HEAD_FILE_NAME)

    def audit(self, store: Store) -> Audit:
        return Audit(
            store.journal, self.clock, site="site:ward-3", signer=self.key, heads=self.head_file, settings=self.settings
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[tuple[Store, Audit]]:
        """A run that ends cleanly."""
        async with open_store(self.folder, StoreSettings()) as store:
            audit = self.audit(store)
            await audit.start()
            try:
                yield store, audit
            finally:
                await audit.stop()

    def rows(self) -> list[JournalEntry]:
        with open_journal(self.folder) as journal:
            return journal.read(limit=1_000_000)

    def entries(self) -> list[tuple[Entry, Personal]]:
        return [(read_entry(row.body), read_personal(row)) for row in self.rows()]

    def verify(self, *others: SigningKey) -> tuple[Summary, list[Finding]]:
        kept = self.head_file.load()
        keys = HeadKeys(key.public for key in (self.key, *others))
        verification = Verification(keys, () if kept is None else kept.all())
        findings = verification.take(self.rows())
        summary, last = verification.end()
        return summary, findings + last

    def problems(self) -> list[tuple[int, str]]:
        return [(finding.seq, finding.problem) for finding in self.verify()[1]]

    def tamper(self, *statements: str) -> None:
        """As whoever can write to the database."""
        with closing(sqlite3.connect(self.folder / "hub.db", isolation_level=None)) as db:
            for statement in statements:
                db.execute(statement)


async def act_times(site: Site, count: int) -> None:
    """A run with so many acts."""
    async with site.running() as (_, audit):
        for n in range(count):
            audit.act(f"act-{n}", ALICE)


@asynccontextmanager
async def shipping(site: Site, place: Place) -> AsyncIterator[tuple[Store, Audit, Shipping]]:
    """A run that brings all to a second place, too."""
    async with site.running() as (store, audit):
        ship = Shipping(place, store.journal, store.keyvalue, audit)
        task = asyncio.create_task(ship.run())
        try:
            yield store, audit, ship
            await arrived(store, audit, ship)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def arrived(store: Store, audit: Audit, ship: Shipping) -> None:
    """Wait until all that was recorded is there."""
    await audit.written()
    seen = -1
    while seen != store.journal.last().seq:  # the place may have had something to say
        seen = store.journal.last().seq
        await until(lambda: ship.position >= seen)  # noqa: B023  # waited for at once
        await audit.written()
