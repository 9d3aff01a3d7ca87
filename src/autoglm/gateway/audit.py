"""`/api/audit`: what was decided and done, whether that record is whole, and what came out of judging it again."""

from typing import Annotated

import anyio
import msgspec

from autoglm.auth.audit.chain import Finding, Summary, Verification
from autoglm.auth.audit.conflicts import KnownConflict, Verdict
from autoglm.auth.audit.entry import read_entry, read_personal
from autoglm.auth.audit.heads import HeadKeys
from autoglm.auth.authenticator import Authenticator
from autoglm.auth.trust import Trust
from autoglm.core.clock import monotonic_s
from autoglm.core.errors import InvalidField
from autoglm.core.ports import JournalEntry, JournalFilter
from autoglm.gateway import fields
from autoglm.gateway.exchange import Exchange
from autoglm.gateway.router import Route

MAX_LIMIT = 1000
_MAX_FILTER = 512
_PAGE_ENTRIES = 1000
_MAX_FINDINGS = 1000
_FILTERS = ("kind", "action", "outcome", "who", "since", "until", "text", "before", "limit")


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    seq: int
    at: int
    """int64 milliseconds of the Unix epoch, by the trusted clock."""
    kind: str
    action: str
    outcome: str
    reason: str
    who: str
    """Empty for the hub itself, and once it was erased."""
    credential: str
    resource: str
    client: str
    text: str
    request_id: str
    policy_version: int
    count: int
    """More than one: so many equal decisions."""
    is_offline: bool
    is_clock_trusted: bool
    digest: str


class AuditPage(msgspec.Struct, frozen=True):
    entries: list[AuditEntry]
    """The newest first."""
    next: int
    """Go on with `before=next`; 0 at the end."""


class AuditReport(msgspec.Struct, frozen=True, kw_only=True):
    is_whole: bool
    summary: Summary
    findings: list[Finding]


class ConflictReport(msgspec.Struct, frozen=True):
    conflicts: list[KnownConflict]


class Settling(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    verdict: Verdict
    """`accept`: it is all right as it was done; `reject`: it is not, and somebody sees to it."""
    why: Annotated[str, msgspec.Meta(min_length=1, max_length=2000)]


class AuditGateway:
    def __init__(self, auth: Authenticator, trust: Trust, *, max_body_bytes: int) -> None:
        self._auth = auth
        self._trust = trust
        self._max_body_bytes = max_body_bytes
        self._verifying = anyio.Lock()
        self._verified: tuple[float, AuditReport] | None = None
        """The last report, and when it was begun."""

    def routes(self) -> list[Route]:
        return [
            Route("GET", "/api/audit", self.search),
            Route("GET", "/api/audit/verify", self.verify),
            Route("GET", "/api/audit/conflicts", self.conflicts),
            Route("POST", "/api/audit/conflicts/{id}", self.settle),
        ]

    async def search(self, exchange: Exchange, _: dict[str, str]) -> None:
        exchange.identify(self._auth).require("read:audit")
        query = exchange.query()
        fields.only(query, _FILTERS)
        limit = fields.integer(query, "limit", 100, low=1, high=MAX_LIMIT)
        before = fields.integer(query, "before", 0)
        wanted = JournalFilter(
            kinds=_listed(query, "kind"), actions=_listed(query, "action"), outcomes=_listed(query, "outcome"),
            who=fields.text(query, "who", most=_MAX_FILTER) or None,
            since_ms=_moment(query, "since"), until_ms=_moment(query, "until"),
            text=fields.text(query, "text", most=200),
        )  # fmt: skip
        found = await self._trust.journal.find(wanted, before=before or None, limit=limit, newest_first=True)
        following = found[-1].seq if len(found) == limit else 0
        exchange.respond_json(200, AuditPage([_shown(row) for row in found], following))

    async def verify(self, exchange: Exchange, _: dict[str, str]) -> None:
        """The whole chain, and the heads that lie outside of the database: 60 s for a million entries at most.

        One at a time; who waits meanwhile shares what was begun after he asked. Who leaves ends his.
        """
        exchange.identify(self._auth).require("read:audit")
        exchange.cancel_when_left()
        asked_s = monotonic_s()
        async with self._verifying:
            if self._verified is None or self._verified[0] < asked_s:
                began_s = monotonic_s()
                self._verified = began_s, await self._verify()
            report = self._verified[1]
        exchange.respond_json(200, report)

    async def _verify(self) -> AuditReport:
        audit, journal = self._trust.audit, self._trust.journal
        await audit.sign()  # so that the last entries are under a head, too
        kept = audit.kept_heads
        check = Verification(HeadKeys([*kept.public_keys(), audit.signer.public]), kept.all())
        findings: list[Finding] = []
        position = 0
        while page := await journal.read(after=position, limit=_PAGE_ENTRIES):
            findings = (findings + check.take(page))[:_MAX_FINDINGS]
            position = page[-1].seq
        summary, last = check.end()
        findings += last
        return AuditReport(is_whole=not findings, summary=summary, findings=findings[:_MAX_FINDINGS])

    async def conflicts(self, exchange: Exchange, _: dict[str, str]) -> None:
        exchange.identify(self._auth).require("read:audit")
        query = exchange.query()
        fields.only(query, ("settled",))
        found = await self._trust.conflicts.list()
        with_settled = fields.integer(query, "settled", 0, high=1) == 1
        exchange.respond_json(200, ConflictReport(found.all(with_settled=with_settled)))

    async def settle(self, exchange: Exchange, variables: dict[str, str]) -> None:
        principal = exchange.identify(self._auth)
        principal.require("admin", "audit")
        settling = fields.decode(await exchange.body(self._max_body_bytes), Settling)
        operation = fields.whole_number(variables["id"], "id")
        settled = await self._trust.conflicts.settle(operation, settling.verdict, principal, settling.why)
        exchange.respond_json(200, settled)


def _shown(row: JournalEntry) -> AuditEntry:
    entry, personal = read_entry(row.body), read_personal(row)
    return AuditEntry(
        seq=row.seq, at=entry.at_ms, kind=entry.kind, action=entry.action, outcome=entry.outcome, reason=entry.reason,
        who=personal.who, credential=personal.credential, resource=personal.resource, client=personal.client,
        text=personal.text, request_id=entry.request_id, policy_version=entry.policy_version, count=entry.count,
        is_offline=entry.is_offline, is_clock_trusted=entry.is_clock_trusted, digest=row.digest.hex(),
    )  # fmt: skip


def _listed(query: dict[str, str], name: str) -> tuple[str, ...]:
    """`decision,act` as two. Raises InvalidField."""
    value = fields.text(query, name, most=_MAX_FILTER)
    values = tuple(value.split(",")) if value else ()
    if len(values) > 50:
        raise InvalidField(name, "at most 50 at a time")
    return values


def _moment(query: dict[str, str], name: str) -> int | None:
    return fields.integer(query, name, 0) if name in query else None
