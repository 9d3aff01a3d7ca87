"""Judges again what was allowed while the site knew no better, once a newer policy snapshot is there.

Nothing is undone and nothing dropped: what would not be allowed now becomes an entry of the chain, which a person
settles.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import anyio.lowlevel
import msgspec

from autoglm.auth.audit.entry import read_entry, read_personal
from autoglm.auth.audit.recorder import Audit
from autoglm.core.ports import Journal, JournalEntry, JournalFilter, KeyValue

ConflictKind = Literal["revoked_since", "scope_lost", "policy_denies", "stale_version", "time_unsure"]
"""stale_version: the policy of now allows it, and was published before it was done; the site went by an older one.
time_unsure: by the clock of then one cannot tell."""

POSITION = "audit/judged"
_JUDGED_KINDS = frozenset({"decision", "act", "login", "token", "policy", "settle", "erase"})
_PAGE_ENTRIES = 250
"""A page keeps the event loop for some 3 ms, and for 25 ms where policies look at the time of day."""


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """What was allowed, or a sum of equal ones. Names whose it was as a principal does."""

    seq: int
    begins_ms: int
    ends_ms: int
    is_clock_trusted: bool
    boot: int
    policy_version: int
    is_offline: bool
    count: int
    address: str
    name: str
    credential: str
    action: str
    resource: str
    token: tuple[str, ...] = ()
    """This and what follows: see `Personal`."""
    scope: str = ""
    role: str = ""
    about: str = ""
    labels: frozenset[str] = frozenset()


class Conflict(msgspec.Struct, frozen=True):
    kind: ConflictKind
    why: str
    """In words, for whoever settles it."""


Judge = Callable[[Operation], Conflict | None]
"""None: it is allowed by the snapshot in force as well."""


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    operations: int
    conflicts: int
    """Those that were not known before."""
    erased: int
    """Operations of which nobody knows any more whose they were."""


class _Position(msgspec.Struct, frozen=True, kw_only=True, tag="audit-judged", tag_field="type"):
    version: int = 1
    seq: int
    policy_version: int


class _Done(msgspec.Struct):
    operations: int = 0
    conflicts: int = 0
    erased: int = 0


class _Known:
    """The conflicts there are about what is judged. They come behind it: those behind where it begins are enough."""

    def __init__(self) -> None:
        self._operations: set[int] = set()
        self._stale: set[tuple[str, str, int]] = set()

    async def read(self, journal: Journal, after: int) -> None:
        position = after
        while page := await journal.find(JournalFilter(kinds=("conflict",)), after=position, limit=1000):
            for row in page:
                entry, personal = read_entry(row.body), read_personal(row)
                self._operations.add(entry.about)
                if entry.reason == "stale_version":
                    self._stale.add((personal.who, personal.credential, entry.policy_version))
            position = page[-1].seq

    def is_new(self, operation: Operation, kind: ConflictKind, policy_version: int) -> bool:
        """And known from now on."""
        if operation.seq in self._operations:
            return False
        if kind == "stale_version":
            whose = operation.address, operation.credential, policy_version
            if whose in self._stale:
                return False
            self._stale.add(whose)
        self._operations.add(operation.seq)
        return True


def judge_revocation(operation: Operation, revoked_at_ms: int, what: str) -> Conflict | None:
    """What a revocation means for an operation before or after it. what: `the device press-7`."""
    if not operation.is_clock_trusted:
        return Conflict("time_unsure", f"{what} was revoked, and the clock of the time is not to be trusted")
    if revoked_at_ms <= operation.begins_ms:
        return Conflict("revoked_since", f"{what} had been revoked")
    if revoked_at_ms <= operation.ends_ms:
        return Conflict("time_unsure", f"{what} was revoked while {operation.count} equal ones were done")
    return None


async def rejudge(
    audit: Audit, journal: Journal, keyvalue: KeyValue, judge: Judge, *, after: int | None = None
) -> Judged:
    """Judge all that was allowed since the last time; `audit.policy_version` is that of the snapshot in force.

    after: from behind this entry, for a snapshot that revokes as of an earlier time. An operation gets one conflict at
    most, and of `stale_version` whoever did some gets one, about the first: it stands for all until the policy of now
    came. Cut off at any moment and called again, it goes on where it was, and misses and repeats nothing.
    Raises StorageFull, StoreBroken.
    """
    await audit.written()
    end = journal.last().seq  # conflicts that are found are behind it
    kept = await keyvalue.get(POSITION)
    done_before = 0 if kept is None else msgspec.json.decode(kept.value, type=_Position).seq
    position = done_before if after is None else min(after, done_before)
    known = _Known()
    await known.read(journal, position)
    done = _Done()
    while position < end:
        page = await journal.read(after=position, limit=min(_PAGE_ENTRIES, end - position))
        if not page:
            break
        _judge_page(page, judge, known, done, audit)
        position = page[-1].seq
        # The conflicts were handed in before, so they are on disk no later; after a kill in between they are known.
        place = _Position(seq=max(position, done_before), policy_version=audit.policy_version)
        await keyvalue.put(POSITION, msgspec.json.encode(place))
        await anyio.lowlevel.checkpoint()
    return Judged(operations=done.operations, conflicts=done.conflicts, erased=done.erased)


def _judge_page(page: Sequence[JournalEntry], judge: Judge, known: _Known, done: _Done, audit: Audit) -> None:
    for row in page:
        if row.kind not in _JUDGED_KINDS or row.outcome != "allowed":
            continue
        operation = operation_of(row)
        if operation is None:
            done.erased += 1
            continue
        if not operation.address:  # the hub's own
            continue
        done.operations += operation.count
        conflict = judge(operation)
        if conflict is not None and known.is_new(operation, conflict.kind, audit.policy_version):
            audit.act(
                operation.action, operation, kind="conflict", resource=operation.resource, outcome="denied",
                reason=conflict.kind, text=conflict.why, about=operation.seq,
            )  # fmt: skip
            done.conflicts += 1


def operation_of(row: JournalEntry) -> Operation | None:
    """None when what was personal is erased."""
    entry = read_entry(row.body)
    if entry.commitment and row.personal is None:
        return None
    personal = read_personal(row)
    return Operation(
        seq=row.seq, begins_ms=entry.begins_ms, ends_ms=entry.ends_ms, is_clock_trusted=entry.is_clock_trusted,
        boot=entry.boot, policy_version=entry.policy_version, is_offline=entry.is_offline, count=entry.count,
        address=personal.who, name=personal.name, credential=personal.credential, action=entry.action,
        resource=personal.resource, token=personal.token, scope=personal.scope, role=personal.role,
        about=personal.about, labels=frozenset(personal.labels),
    )  # fmt: skip
