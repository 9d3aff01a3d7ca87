"""`/api/decisions` and `/api/feedback`: why a request went where it went, and how good the answer was.

A key sees the decisions of its own tenant, or of the one that it names and may; an admin's key sees all.
"""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Annotated, Literal

import anyio
import anyio.to_thread
import msgspec

from autoglm.auth.authenticator import Authenticator
from autoglm.auth.principal import Principal
from autoglm.core.errors import InvalidField, NotFound
from autoglm.gateway import fields
from autoglm.gateway.exchange import Exchange
from autoglm.gateway.router import Route
from autoglm.inference.decision import Decision, Feedback, Outcome
from autoglm.inference.engine.account import Account, Concluded, Event
from autoglm.inference.engine.engine import Engine
from autoglm.inference.engine.ledger import Ledger
from autoglm.inference.engine.retries import judgeable
from autoglm.inference.settings import EngineSettings

MAX_FEEDBACK = 10
"""Judgements of one decision: one caller must not teach the engine a hundred times by one answer."""
MAX_LIMIT = 1000
_TENANT = b"x-autoglm-tenant"
_THUMBS = {"up": 1.0, "down": 0.0}


class NewFeedback(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Either `thumb`, of a person, or `quality`, of a program that can check answers."""

    decision: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    """From the answer's header `x-autoglm-decision`."""
    thumb: Literal["up", "down"] | None = None
    quality: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None


class NewReplay(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    policy: Annotated[str, msgspec.Meta(min_length=1, max_length=300, examples=["cheap"])]
    """`fast`, `balanced`, `best`, `cheap`, `random`, `order`, or `always:MODEL`."""
    limit: Annotated[int, msgspec.Meta(ge=1, le=20_000)] = 5_000
    """Of events of the log, the newest."""


class Noted(msgspec.Struct, frozen=True, kw_only=True):
    decision: str
    quality: float
    source: str


class DecisionAccount(msgspec.Struct, frozen=True, kw_only=True):
    """A decision, what came of it, and how it was judged."""

    decision: Decision
    outcome: Outcome | None
    """Null while the request runs."""
    feedback: list[Feedback]


class DecisionList(msgspec.Struct, frozen=True):
    decisions: list[DecisionAccount]


class DecisionsGateway:
    def __init__(
        self, auth: Authenticator, ledger: Ledger, engine: Engine, settings: EngineSettings, *, max_body_bytes: int
    ) -> None:  # fmt: skip
        self._auth = auth
        self._ledger = ledger
        self._engine = engine
        self._settings = settings
        self._replaying = anyio.Lock()
        self._judging: dict[str, anyio.Lock] = {}
        """Of decisions that are being judged right now."""
        self._max_body_bytes = max_body_bytes

    def routes(self) -> list[Route]:
        return [
            Route("GET", "/api/decisions", self.all),
            Route("GET", "/api/decisions/{id}", self.get),
            Route("POST", "/api/decisions/replay", self.replay),
            Route("POST", "/api/feedback", self.feedback),
        ]

    async def all(self, exchange: Exchange, _: dict[str, str]) -> None:
        """The last ones, the newest first."""
        principal = exchange.identify(self._auth)
        query = exchange.query()
        fields.only(query, ("limit",))
        limit = fields.integer(query, "limit", 20, low=1, high=MAX_LIMIT)
        if principal.allows("admin", "engine") and _TENANT not in exchange.headers:
            found = _accounts(await self._ledger.recent(MAX_LIMIT))
        else:
            tenant = _tenant(exchange, principal)
            ends = await self._ledger.recent_of(tenant, limit)
            ids = [event.decision.id for event in ends if isinstance(event, Concluded)]
            found = []
            for id in ids:
                with suppress(NotFound):  # the retention took it a moment ago
                    found.append(_shown(await self._account(principal, tenant, id)))
        exchange.respond_json(200, DecisionList(found[: -limit - 1 : -1]))

    async def get(self, exchange: Exchange, variables: dict[str, str]) -> None:
        principal = exchange.identify(self._auth)
        account = await self._account(principal, _tenant(exchange, principal), variables["id"])
        exchange.respond_json(200, _shown(account))

    async def feedback(self, exchange: Exchange, _: dict[str, str]) -> None:
        """Say how good an answer was; what the engine learns of it is on disk when this is answered."""
        principal = exchange.identify(self._auth)
        tenant = _tenant(exchange, principal)
        body = fields.decode(await exchange.body(self._max_body_bytes), NewFeedback)
        if (body.thumb is None) == (body.quality is None):
            raise InvalidField("thumb", "say either thumb ('up' or 'down') or quality (0 to 1)")
        quality = _THUMBS[body.thumb] if body.thumb is not None else body.quality
        assert quality is not None, "one of the two is there"
        source = "person" if body.thumb is not None else "program"
        async with self._alone(body.decision):  # else many at once would all be within the limit
            account = await self._account(principal, tenant, body.decision)
            if account.outcome is None:
                raise InvalidField("decision", "its request has not ended yet")
            if len(account.feedback) >= MAX_FEEDBACK:
                raise InvalidField("decision", f"has been judged {MAX_FEEDBACK} times already")
            await self._ledger.judged(judgeable(account.decision, account.outcome), quality, source)
        exchange.respond_json(200, Noted(decision=body.decision, quality=quality, source=source))

    @asynccontextmanager
    async def _alone(self, id: str) -> AsyncIterator[None]:
        """One at a time for each decision."""
        lock = self._judging.setdefault(id, anyio.Lock())
        try:
            async with lock:
                yield
        finally:
            if not lock.statistics().tasks_waiting and not lock.locked():
                self._judging.pop(id, None)

    async def replay(self, exchange: Exchange, _: dict[str, str]) -> None:
        """What another policy would have brought, by the log of all tenants."""
        exchange.identify(self._auth).require("admin", "engine")
        body = fields.decode(await exchange.body(self._max_body_bytes), NewReplay)
        from autoglm.inference.engine.whatif import what_if  # only who asks it needs it

        records = await self._ledger.last(body.limit)
        answer = partial(
            what_if, records, body.policy, slo_s=self._settings.slo_s, cost_scale=self._engine.cost_scale
        )  # fmt: skip
        async with self._replaying:  # it takes a core for a while
            exchange.respond_json(200, await anyio.to_thread.run_sync(answer))

    async def _account(self, principal: Principal, tenant: str, id: str) -> Account:
        """Raises NotFound, also for what the key may not see."""
        account = await self._ledger.account(id)
        if account.decision.tenant != tenant and not principal.decide("admin", "engine"):
            raise NotFound("decision", id[:64])
        return account


def _accounts(events: Iterable[Event]) -> list[DecisionAccount]:
    """Those whose ends are among the events, with the judgements that are."""
    accounts: dict[str, DecisionAccount] = {}
    for event in events:
        if isinstance(event, Concluded):
            accounts[event.decision.id] = DecisionAccount(decision=event.decision, outcome=event.outcome, feedback=[])
        elif (judged := accounts.get(event.feedback.decision)) is not None:
            judged.feedback.append(event.feedback)
    return list(accounts.values())


def _tenant(exchange: Exchange, principal: Principal) -> str:
    """On whose account the request is. Raises InvalidField, Forbidden."""
    named = exchange.headers.get(_TENANT)
    return principal.tenant if named is None else principal.act_for(named)


def _shown(account: Account) -> DecisionAccount:
    return DecisionAccount(decision=account.decision, outcome=account.outcome, feedback=list(account.feedback))
