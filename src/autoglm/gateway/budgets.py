"""`/api/budgets`: what is used and what is left, and the same for Prometheus."""

from collections.abc import Iterable

import msgspec
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from autoglm.auth.authenticator import Authenticator
from autoglm.core.errors import BudgetExceeded, NotFound
from autoglm.gateway import fields
from autoglm.gateway.exchange import Exchange
from autoglm.gateway.router import Route
from autoglm.inference.budget.account import Account
from autoglm.inference.budget.amounts import NANO
from autoglm.inference.budget.budgets import Budgets
from autoglm.inference.budget.period import Per
from autoglm.inference.cache.cache import Cache

_MAX_SHOWN = 1000
"""Accounts that metrics show: tenants may be many."""


class Use(msgspec.Struct, frozen=True):
    """Of one limit, or of what has none."""

    used: float
    held: float
    """Set aside for requests that run."""
    limit: float | None


class BudgetState(msgspec.Struct, frozen=True, kw_only=True):
    """One budget of one key or tenant, as it is at this moment."""

    budget: str
    key: str | None
    """Whose it is; neither key nor tenant: all together."""
    tenant: str | None
    per: Per
    started_at: int
    """Milliseconds of the Unix epoch."""
    resets_at: int
    tokens: Use
    requests: Use
    money: Use
    currency: str
    estimated_tokens: int
    """How many of the tokens used the hub guessed, because the instance did not tell."""


class BudgetList(msgspec.Struct, frozen=True):
    budgets: list[BudgetState]


class BudgetsGateway:
    def __init__(self, auth: Authenticator, budgets: Budgets | None) -> None:
        """budgets: None for a hub that has none."""
        self._auth = auth
        self._budgets = budgets

    def routes(self) -> list[Route]:
        return [
            Route("GET", "/api/budgets", self.list),
            Route("POST", "/api/budgets/{name}/reset", self.reset),
        ]

    async def list(self, exchange: Exchange, _: dict[str, str]) -> None:
        """All for the admin; for another key those that its own requests count in."""
        principal = exchange.identify(self._auth)
        found: list[BudgetState] = []
        if self._budgets is not None:
            accounts: Iterable[Account] = ()
            try:
                accounts = self._budgets.accounts_of(principal.name, principal.tenant)
            except BudgetExceeded:  # there are too many accounts, which an admin must see
                if not principal.allows("admin", "budgets"):
                    raise
            if principal.allows("admin", "budgets"):
                accounts = self._budgets.accounts.values()
            found = [_state(self._budgets.current(account), self._budgets.currency) for account in accounts]
        exchange.respond_json(200, BudgetList(sorted(found, key=_order)))

    async def reset(self, exchange: Exchange, variables: dict[str, str]) -> None:
        """The operator lets a budget begin anew: of one key or tenant (`subject`), or of all that have it."""
        exchange.identify(self._auth).require("admin", "budgets")
        query = exchange.query()
        fields.only(query, ("subject",))
        name, subject = variables["name"], query.get("subject")
        exchange.acted_on = name if subject is None else f"{name} of {subject}"
        budgets = self._budgets
        accounts = [
            account
            for account in (() if budgets is None else budgets.accounts.values())
            if account.budget.name == name and subject in (None, account.subject)
        ]
        if budgets is None or not accounts:
            raise NotFound("budget", name if subject is None else f"{name} of {subject}")
        for account in accounts:
            budgets.reset(account)
        await budgets.written()
        exchange.respond_json(200, BudgetList([_state(account, budgets.currency) for account in accounts]))


def _order(state: BudgetState) -> tuple[str, str, str]:
    return state.budget, state.key or "", state.tenant or ""


def _state(account: Account, currency: str) -> BudgetState:
    budget, used, held = account.budget, account.used, account.held
    tokens, requests, _ = account.limits
    return BudgetState(
        budget=budget.name,
        key=account.subject if budget.key is not None else None,
        tenant=account.subject if budget.tenant is not None else None,
        per=budget.per,
        started_at=account.start_ms,
        resets_at=account.end_ms,
        tokens=Use(used.tokens, held.tokens, tokens),
        requests=Use(used.requests, held.requests, requests),
        money=Use(used.money_nano / NANO, held.money_nano / NANO, budget.money),
        currency=currency,
        estimated_tokens=account.estimated_tokens,
    )


def budget_metrics(budgets: Budgets) -> Iterable[Metric]:
    """A source for `Metrics.sources`."""
    labels = ["budget", "subject", "unit"]
    used = GaugeMetricFamily("autoglm_budget_used", "Used in the period that runs", labels=labels)
    limits = GaugeMetricFamily("autoglm_budget_limit", "What may be used in it", labels=labels)
    for account in [*budgets.accounts.values()][:_MAX_SHOWN]:
        state = _state(budgets.current(account), budgets.currency)
        for unit, use in (("tokens", state.tokens), ("requests", state.requests), ("money", state.money)):
            used.add_metric([account.budget.name, account.subject, unit], use.used)
            if use.limit is not None:
                limits.add_metric([account.budget.name, account.subject, unit], use.limit)
    refusals = CounterMetricFamily("autoglm_budget_refusals", "Requests refused for a budget", labels=["budget"])
    for name, count in budgets.refusals.items():
        refusals.add_metric([name], count)
    estimates = CounterMetricFamily(
        "autoglm_usage_estimates", "Answers whose tokens the hub had to guess", value=budgets.estimates
    )
    return used, limits, refusals, estimates


def cache_metrics(cache: Cache) -> Iterable[Metric]:
    """A source for `Metrics.sources`."""
    lookups = CounterMetricFamily("autoglm_cache_lookups", "Questions looked up in the cache", labels=["result"])
    lookups.add_metric(["hit"], cache.hits)
    lookups.add_metric(["miss"], cache.misses)
    evictions = CounterMetricFamily(
        "autoglm_cache_evictions", "Kept answers that made room for others", value=cache.evictions
    )
    size = GaugeMetricFamily("autoglm_cache_bytes", "Size of all kept answers", value=cache.size_bytes)
    entries = GaugeMetricFamily("autoglm_cache_entries", "Answers that are kept", value=len(cache))
    return lookups, evictions, size, entries
