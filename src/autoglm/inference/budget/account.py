"""One budget of one key or tenant: what of its period is used, and what is held for requests that run. Pure."""

from zoneinfo import ZoneInfo

import msgspec

from autoglm.inference.budget.amounts import NANO, NOTHING, Amounts
from autoglm.inference.budget.period import Per, period_of
from autoglm.inference.budget.settings import BudgetSettings

_SMOOTHING = 0.1
_OUTLIER = 8.0
_FIRST_TOKENS_OUT = 256.0
"""What an answer is taken for until there was one."""


class Kept(msgspec.Struct, frozen=True, kw_only=True, tag="account", tag_field="type"):
    """An account as the store keeps it."""

    version: int = 1
    per: Per
    start_ms: int
    end_ms: int
    used: Amounts
    estimated_tokens: int = 0
    by: str = ""
    """The key that first used it."""


class Account:
    """Counts one subject's use of one budget.

    A period begins anew only when the clock comes to a later end than any before: one that jumps back reopens nothing.
    """

    __slots__ = (
        "budget", "by", "end_ms", "estimated_tokens", "held", "limits", "mean_tokens_out", "start_ms", "subject",
        "used", "zone",
    )  # fmt: skip

    def __init__(self, budget: BudgetSettings, subject: str, now_ms: int, kept: Kept | None = None) -> None:
        """subject: the key or the tenant; empty for a budget of all together."""
        self.budget = budget
        self.subject = subject
        self.zone = ZoneInfo(budget.timezone)
        self.limits = (budget.tokens, budget.requests, None if budget.money is None else round(budget.money * NANO))
        self.held = NOTHING
        self.used = NOTHING
        self.by = "" if kept is None else kept.by
        self.estimated_tokens = 0
        """How much of the tokens used the hub had to guess, because the instance did not tell."""
        self.mean_tokens_out = _FIRST_TOKENS_OUT
        self.start_ms, self.end_ms = period_of(budget.per, self.zone, now_ms)
        if kept is not None and (kept.per == budget.per or now_ms < kept.end_ms):
            self.used, self.estimated_tokens = kept.used, kept.estimated_tokens
            if kept.per == budget.per:  # else the operator has changed it: what was used counts in the new period
                self.start_ms, self.end_ms = kept.start_ms, kept.end_ms
            self.roll(now_ms)

    def roll(self, now_ms: int) -> None:
        """Begin a new period if the present one is over."""
        if now_ms >= self.end_ms:
            self.start_ms, self.end_ms = period_of(self.budget.per, self.zone, now_ms)
            self.used = NOTHING
            self.estimated_tokens = 0

    def left(self) -> tuple[int | None, int | None, int | None]:
        """Tokens, requests and billionths of money that nobody has used or holds, never below 0; None: no limit."""
        used, held, (tokens, requests, money_nano) = self.used, self.held, self.limits
        return (
            None if tokens is None else max(0, tokens - used.tokens - held.tokens),
            None if requests is None else max(0, requests - used.requests - held.requests),
            None if money_nano is None else max(0, money_nano - used.money_nano - held.money_nano),
        )

    def lacks(self, least: Amounts) -> str:
        """Which limit has no room for `least`: `tokens`, `requests`, `money`; empty when all have."""
        tokens, requests, money_nano = self.left()
        if requests is not None and requests < least.requests:
            return "requests"
        if tokens is not None and tokens < least.tokens:
            return "tokens"
        if money_nano is not None and money_nano < least.money_nano:
            return "money"
        return ""

    def hold(self, wanted: Amounts) -> Amounts:
        """Set aside for a request that starts: what is wanted, at most what is left. Give it back by `settle`."""
        tokens, _, money_nano = self.left()
        held = Amounts(
            wanted.tokens if tokens is None else min(wanted.tokens, tokens),
            wanted.requests,
            wanted.money_nano if money_nano is None else min(wanted.money_nano, money_nano),
        )
        self.held = self.held.plus(held)
        return held

    def settle(self, held: Amounts, used: Amounts, *, estimated_tokens: int = 0) -> None:
        """The request is over: what was held for it goes back, what it used is counted in the period that runs now."""
        self.held = self.held.minus(held)
        self.used = self.used.plus(used)
        self.estimated_tokens += estimated_tokens

    def learn(self, tokens_out: int) -> None:
        """An answer that is very long counts as less: none moves the mean far."""
        length = min(tokens_out, _OUTLIER * self.mean_tokens_out + _FIRST_TOKENS_OUT)
        self.mean_tokens_out += _SMOOTHING * (length - self.mean_tokens_out)

    def kept(self) -> Kept:
        return Kept(
            per=self.budget.per, start_ms=self.start_ms, end_ms=self.end_ms, used=self.used,
            estimated_tokens=self.estimated_tokens, by=self.by,
        )  # fmt: skip
