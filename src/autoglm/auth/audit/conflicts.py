"""The conflicts that judging again has found, and how they were settled.

All of it is in the chain and nowhere else: who could take a conflict out of a table could hide it.
"""

import asyncio
from collections.abc import Iterable
from typing import Literal

import msgspec

from autoglm.auth.audit.entry import read_entry, read_personal
from autoglm.auth.audit.recorder import Actor, Audit
from autoglm.core.errors import InvalidField, NotFound
from autoglm.core.ports import Journal, JournalEntry, JournalFilter

Verdict = Literal["accept", "reject"]
CONFLICTS = JournalFilter(kinds=("conflict", "settle"))
_PAGE_ENTRIES = 1000


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    verdict: str
    """accept or reject."""
    at_ms: int
    who: str
    why: str


class KnownConflict(msgspec.Struct, frozen=True, kw_only=True):
    operation: int
    """The seq of the entry that it is about; by it the conflict is settled."""
    seq: int
    """Of its own entry."""
    found_at_ms: int
    policy_version: int
    kind: str
    who: str
    """Whose operation it was; empty once that was erased, as are `resource` and `why`."""
    action: str
    resource: str
    why: str
    settled: Settlement | None = None


class ConflictList:
    """Takes the entries of CONFLICTS, oldest first."""

    def __init__(self) -> None:
        self._by_operation: dict[int, KnownConflict] = {}

    def take(self, rows: Iterable[JournalEntry]) -> None:
        for row in rows:
            entry, personal = read_entry(row.body), read_personal(row)
            known = self._by_operation.get(entry.about)
            if entry.kind == "conflict" and known is None:
                self._by_operation[entry.about] = KnownConflict(
                    operation=entry.about, seq=entry.seq, found_at_ms=entry.at_ms, policy_version=entry.policy_version,
                    kind=entry.reason, who=personal.who, action=entry.action, resource=personal.resource,
                    why=personal.text,
                )  # fmt: skip
            elif entry.kind == "settle" and known is not None and known.settled is None:
                settled = Settlement(verdict=entry.reason, at_ms=entry.at_ms, who=personal.who, why=personal.text)
                self._by_operation[entry.about] = msgspec.structs.replace(known, settled=settled)

    def get(self, operation: int) -> KnownConflict | None:
        return self._by_operation.get(operation)

    def all(self, *, with_settled: bool = False) -> list[KnownConflict]:
        """By operation."""
        found = sorted(self._by_operation.items())
        return [conflict for _, conflict in found if with_settled or conflict.settled is None]


class Conflicts:
    """Of a store that is open."""

    def __init__(self, journal: Journal, audit: Audit) -> None:
        self._journal, self._audit = journal, audit
        self._lock = asyncio.Lock()

    async def list(self) -> ConflictList:
        conflicts = ConflictList()
        position = 0
        while page := await self._journal.find(CONFLICTS, after=position, limit=_PAGE_ENTRIES):
            conflicts.take(page)
            position = page[-1].seq
        return conflicts

    async def settle(self, operation: int, verdict: Verdict, actor: Actor, why: str) -> KnownConflict:
        """On disk when it returns. Raises NotFound; InvalidField when it is settled already, or why is empty."""
        if not why.strip():
            raise InvalidField("why", "say why")
        async with self._lock:  # of two who settle it at a time, the second is told
            known = (await self.list()).get(operation)
            if known is None:
                raise NotFound("conflict", str(operation))
            if known.settled is not None:
                raise InvalidField("operation", f"{operation} was settled already: {known.settled.verdict}")
            self._audit.act("audit:settle", actor, kind="settle", reason=verdict, text=why, about=operation)
            await self._audit.written()
            settled = (await self.list()).get(operation)
        assert settled is not None
        return settled
