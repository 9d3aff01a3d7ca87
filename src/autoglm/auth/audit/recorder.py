"""Takes down decisions and acts, as they happen and in their order, and has the site sign the chain.

Nobody waits for it, and nothing is let go unrecorded: the journal has an entry on disk before what comes after it, and
where it takes no more entries, whatever was to be recorded is refused.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import anyio
import anyio.to_thread
import structlog

from autoglm.auth.audit.entry import VERSION, Fact, Head, Kind, Loss, Outcome, Personal, clipped, draft, label_digest
from autoglm.auth.audit.heads import HeadFile, KeptHeads, Lost, Signer, sign_head, sign_loss
from autoglm.auth.audit.settings import AuditSettings
from autoglm.auth.occasion import NOWHERE, Occasion, occasion
from autoglm.core.clock import monotonic_s
from autoglm.core.errors import HubError, StateBroken, StorageFull
from autoglm.core.ports import Journal, JournalFilter

_TICK_S = 1.0
_MAX_SUMS = 4096
_CARRIED = frozenset({"send:message"})
"""What such a decision is about is written by the same writer: it takes the entry along, or fails with it. So there is
no need to refuse it because the disk was full a moment ago."""
_MAX_RESOURCE = 512
"""Characters: names of models and topics come in requests, which may be large."""

log = structlog.get_logger(part="auth")


class Clock(Protocol):
    """The trusted clock."""

    def now_ms(self) -> int: ...

    @property
    def is_trusted(self) -> bool: ...

    @property
    def boots(self) -> int:
        """Since the last signed time."""
        ...


class Actor(Protocol):
    """Who did it; a principal is one."""

    @property
    def name(self) -> str: ...

    @property
    def address(self) -> str: ...

    @property
    def credential(self) -> str: ...


class Who(NamedTuple):
    """An actor who is no principal: a stranger where all is empty."""

    name: str = ""
    address: str = ""
    credential: str = ""


class Grounds(NamedTuple):
    """Why it was allowed: see `Personal`."""

    scope: str = ""
    role: str = ""


GroundsOf = Callable[[Any, str, str], Grounds]
"""Of an actor, an action and a resource. Asked once for each entry that is written, not for each decision."""


_NO_GROUNDS = Grounds()
_NO_LABELS: frozenset[str] = frozenset()


class _Sum:
    """Repeats of a decision that was written down: what they have in common, how many there were, and when."""

    __slots__ = ("count", "fact", "first_ms", "is_clock_trusted", "last_ms", "personal", "since_s", "summed_s")

    def __init__(self, fact: Fact, personal: Personal, since_s: float, summed_s: float) -> None:
        self.fact, self.personal, self.since_s, self.summed_s = fact, personal, since_s, summed_s
        self.count = self.first_ms = self.last_ms = 0
        self.is_clock_trusted = fact.is_clock_trusted


_SumKey = tuple[str, str, str, str, bool, str, str, int, bool, str, frozenset[str], tuple[str, ...]]


class Audit:
    """`start` it, have `run` running, `stop` it before the store closes."""

    def __init__(
        self, journal: Journal, clock: Clock, *, site: str, signer: Signer, heads: HeadFile, settings: AuditSettings
    ) -> None:
        self.policy_version = 0
        """Of the snapshot in force; whoever changes that sets it here."""
        self.is_offline = False
        """Likewise, when the centre can no longer be reached, or can again."""
        self._journal, self._clock = journal, clock
        self.signer = signer
        """Likewise, when the site's key is another."""
        self._site, self._head_file = site, heads
        self._settings = settings
        self._summed = frozenset(settings.summed_actions)
        self._sums: dict[_SumKey, _Sum] = {}
        self._kept = KeptHeads()
        self._signed_s = monotonic_s()
        self._signing = asyncio.Lock()

    # --- what happened --------------------------------------------------------------------------------

    def decision(
        self, actor: Actor, action: str, resource: str, *, is_allowed: bool, reason: str = "",
        about: str = "", labels: frozenset[str] = _NO_LABELS, grounds_of: GroundsOf | None = None,
        summed_s: float | None = None,
    ) -> None:  # fmt: skip
        """Somebody asked to do it. Of equal ones in a short time the first is written at once, the others as one sum.

        about, labels, grounds_of: by which it is judged again later: see `Personal`.
        summed_s: how long that time is; else it is the settings'. A kill -9 loses the sums of as long at most, and of
        what is not summed up, nothing.
        Raises StorageFull or QueueFull when it cannot be recorded: then it must not be done either.
        """
        moment = occasion.get()
        resource = clipped(resource, _MAX_RESOURCE)
        if is_allowed and action not in self._summed:
            if action not in _CARRIED and not moment.is_reading:
                self._refuse_if_full()
            self._decide(
                actor, action, resource, is_allowed=is_allowed, reason=reason, about=about, labels=labels,
                grounds_of=grounds_of,
            )  # fmt: skip
            return
        key = (
            actor.credential, actor.address, action, resource, is_allowed, reason, moment.client, self.policy_version,
            self.is_offline, about, labels, moment.ids,
        )  # fmt: skip
        found = self._sums.get(key)
        if found is not None:
            if monotonic_s() - found.since_s < found.summed_s:
                found.last_ms = self._clock.now_ms()
                found.first_ms = found.first_ms or found.last_ms
                found.count += 1
                return
            self._write_sum(found)
            del self._sums[key]
        fact, personal = self._decide(
            actor, action, resource, is_allowed=is_allowed, reason=reason, about=about, labels=labels,
            grounds_of=grounds_of,
        )  # fmt: skip
        if len(self._sums) < _MAX_SUMS:  # names come from outside: bound the memory
            self._sums[key] = _Sum(fact, personal, monotonic_s(), summed_s or self._settings.summed_s)

    def act(
        self, action: str, actor: Actor | None, *, kind: Kind = "act", resource: str = "", outcome: Outcome = "allowed",
        reason: str = "", text: str = "", about: int = 0, erases: tuple[tuple[int, int], ...] = (),
        loss: Loss | None = None,
    ) -> None:  # fmt: skip
        """Something is about to be done, or was found. actor: None for the hub itself. text: no message, no secret.

        To be called before the act, whose own writes then come to disk no earlier than this. `written` waits for it.
        Raises StorageFull or QueueFull when it cannot be recorded: then it must not be done either.
        """
        self._refuse_if_full()
        moment = occasion.get()
        fact = self._fact(kind, action, outcome, reason=reason, moment=moment, about=about, erased=erases, loss=loss)
        self._journal.hand_in(
            draft(fact, self._personal(actor, clipped(resource, _MAX_RESOURCE), moment, text)), erases=erases
        )

    def acknowledge(self, lost: Lost, actor: Actor, why: str) -> None:
        """Somebody says why these entries are lost: verifying tells of it, and is no alarm any more. As `act`."""
        loss = sign_loss(self._site, lost, self.signer)
        self.act("audit:acknowledge", actor, kind="acknowledge", text=why, loss=loss)

    @property
    def kept_heads(self) -> KeptHeads:
        """The heads that lie outside of the database."""
        return self._kept

    async def written(self) -> None:
        """Returns when all that was recorded is on disk. Raises StorageFull, StoreBroken."""
        await self._journal.flush()

    # --- its life ---------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Compare the chain with the heads that lie outside the database, and say that a run begins."""
        reason, lost, about = "", "", 0
        try:
            kept = await anyio.to_thread.run_sync(self._head_file.load)
        except StateBroken as error:
            log.error("audit_heads_unreadable", error=str(error))
            kept, reason = None, "heads_unreadable"
        newest = None if kept is None else kept.newest
        if kept is None or newest is None:
            if await self._journal.find(JournalFilter(kinds=("head",)), limit=1):
                reason = reason or "heads_lost"
        elif not await self._has(newest):
            about = newest.seq
            reason, lost = "rolled_back", f"entry {newest.seq} with the digest {newest.digest} is not there"
            log.error("audit_rolled_back", signed_seq=newest.seq, last_seq=self._journal.last().seq)
            kept = kept.with_newest_lost()
        self._kept = kept or KeptHeads()
        fact = self._fact("start", "audit:start", "failed" if reason else "allowed", reason=reason, about=about)
        self._journal.hand_in(draft(fact, Personal(text=lost)))

    async def run(self) -> None:
        """Write sums and heads when it is time, and what a full disk refused. Until cancelled."""
        while True:
            await anyio.sleep(_TICK_S)
            await self.tick()

    async def tick(self) -> None:
        """One round of `run`."""
        try:
            self.close_sums()
            if self._journal.failure is not None:
                await self._journal.flush()
            last, newest = self._journal.last(), self._kept.newest
            news = last.seq - (0 if newest is None else newest.seq)
            # The entry that holds the head itself is no news.
            is_late = news > 1 and monotonic_s() - self._signed_s >= self._settings.head_every_s
            if is_late or news > self._settings.head_every_entries:
                await self.sign()
        except StorageFull:
            return  # the store tells of it
        except HubError as error:
            log.warning("audit_not_written", error=str(error))
        except OSError as error:
            log.warning("audit_head_not_kept", error=error.strerror or str(error))

    async def stop(self) -> None:
        """Write what is left, and sign it. What a full disk does not take is logged, and lost."""
        with contextlib.suppress(HubError, OSError):
            self.close_sums(older_than_s=0)
            self._journal.hand_in(draft(self._fact("stop", "audit:stop", "allowed")))
            await self.sign()
            return
        log.error("audit_not_closed", reason=str(self._journal.failure or "the head could not be kept"))

    def close_sums(self, *, older_than_s: float | None = None) -> None:
        """Write those whose time is over, or that are older than that.

        Raises StorageFull or QueueFull; those that could not be written go on counting.
        """
        now_s = monotonic_s()
        for key, found in list(self._sums.items()):
            if now_s - found.since_s >= (found.summed_s if older_than_s is None else older_than_s):
                self._write_sum(found)
                del self._sums[key]

    async def sign(self) -> Head:
        """Sign what is on disk; the head is kept in the chain and outside. Raises StorageFull, StoreBroken, OSError."""
        async with self._signing:  # of two at a time, the older could become the newest
            return await self._sign()

    async def _sign(self) -> Head:
        await self._journal.flush()
        head = sign_head(self._site, self._journal.last(), self._clock.now_ms(), self.signer)
        fact = Fact(
            version=VERSION, kind="head", action="audit:head", outcome="allowed", at_ms=head.at_ms,
            is_clock_trusted=self._clock.is_trusted, boot=self._clock.boots, head=head,
        )  # fmt: skip
        self._journal.hand_in(draft(fact))
        await self._journal.flush()
        kept = self._kept.with_newest(head, self.signer.public)
        await anyio.to_thread.run_sync(self._head_file.save, kept)
        self._kept, self._signed_s = kept, monotonic_s()
        return head

    # --- of one entry -----------------------------------------------------------------------------------

    def _decide(
        self, actor: Actor, action: str, resource: str, *, is_allowed: bool, reason: str, about: str,
        labels: frozenset[str], grounds_of: GroundsOf | None,
    ) -> tuple[Fact, Personal]:  # fmt: skip
        moment = occasion.get()
        fact = self._fact("decision", action, "allowed" if is_allowed else "denied", reason=reason, moment=moment)
        grounds = grounds_of(actor, action, resource) if is_allowed and grounds_of is not None else _NO_GROUNDS
        personal = Personal(
            who=actor.address, name=actor.name, credential=actor.credential,
            resource=resource, client=moment.client, token=moment.ids, scope=grounds.scope, role=grounds.role,
            about=clipped(about, _MAX_RESOURCE), labels=tuple(sorted(map(label_digest, labels))) if labels else (),
        )  # fmt: skip
        self._journal.hand_in(draft(fact, personal))
        return fact, personal

    def _write_sum(self, found: _Sum) -> None:
        if not found.count:
            return
        fact = found.fact
        summed = Fact(
            version=VERSION, kind=fact.kind, action=fact.action, outcome=fact.outcome, at_ms=self._clock.now_ms(),
            is_clock_trusted=fact.is_clock_trusted and self._clock.is_trusted, boot=fact.boot, reason=fact.reason,
            policy_version=fact.policy_version, is_offline=fact.is_offline, count=found.count, first_ms=found.first_ms,
            last_ms=found.last_ms,
        )  # fmt: skip
        self._journal.hand_in(draft(summed, found.personal))
        found.count = 0

    def _fact(
        self, kind: Kind, action: str, outcome: Outcome, *, reason: str = "", moment: Occasion = NOWHERE,
        about: int = 0, erased: tuple[tuple[int, int], ...] = (), loss: Loss | None = None,
    ) -> Fact:  # fmt: skip
        clock = self._clock
        return Fact(
            version=VERSION, kind=kind, action=action, outcome=outcome, at_ms=clock.now_ms(),
            is_clock_trusted=clock.is_trusted, boot=clock.boots, reason=reason, policy_version=self.policy_version,
            request_id=moment.request_id, is_offline=self.is_offline, about=about, erased=erased, loss=loss,
        )  # fmt: skip

    def _personal(self, actor: Actor | None, resource: str, moment: Occasion, text: str = "") -> Personal:
        if actor is None:
            return Personal(resource=resource, client=moment.client, text=clipped(text))
        return Personal(
            who=actor.address, name=actor.name, credential=actor.credential, resource=resource, client=moment.client,
            token=moment.ids, text=clipped(text),
        )  # fmt: skip

    def _refuse_if_full(self) -> None:
        if isinstance(self._journal.failure, StorageFull):
            raise self._journal.failure

    async def _has(self, head: Head) -> bool:
        found = await self._journal.read(after=head.seq - 1, limit=1)
        return bool(found) and found[0].seq == head.seq and found[0].digest.hex() == head.digest
