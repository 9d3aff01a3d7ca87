"""All budgets of a hub: what a request needs is held when it starts and counted when it ends (ADR 8)."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import msgspec

from autoglm.core.clock import now_ms
from autoglm.core.errors import BudgetExceeded
from autoglm.inference.budget import estimate
from autoglm.inference.budget.account import Account, Kept
from autoglm.inference.budget.amounts import FREE, NANO, NOTHING, Amounts, Price
from autoglm.inference.budget.charge import Charge
from autoglm.inference.budget.ledger import PREFIX, BudgetLedger, row_key
from autoglm.inference.budget.settings import BudgetSettings
from autoglm.inference.call import AUTO, Call

MAX_ACCOUNTS = 20_000
MAX_ACCOUNTS_OF_KEY = 2_000
"""That one key has opened, by naming tenants: it must not take all of them."""
_MAX_KNOWN = 4096
_CLEAR_EVERY_MS = 1_000
_ONE = Amounts(requests=1)
_WAY_OUT = "; a shorter one or a lower max_tokens helps"


class Room(msgspec.Struct, frozen=True):
    """What is left of the budget of tokens or requests that leaves the least, for the headers of an answer."""

    limit: int
    left: int
    reset_s: float


class Budgets:
    """`open` before use, and run `ledger.run` beside it. Only for hubs that have a `[[budget]]`.

    A request is counted once, by the attempt whose answer goes to the caller, however often the hub had to try: of an
    answer that it held back as flawed and asked for again elsewhere, the tokens are the operator's loss, though the
    instance may have told them and its provider may bill them. They count in the fair share alone (`Dispatcher._try`).
    """

    def __init__(
        self, settings: Sequence[BudgetSettings], prices: Mapping[str, Price], ledger: BudgetLedger, *,
        currency: str = "CNY", clock_ms: Callable[[], int] = now_ms,
    ) -> None:  # fmt: skip
        """prices: by model; one that is not there costs nothing."""
        self.settings = tuple(settings)
        self.currency = currency
        self.ledger = ledger
        self.accounts: dict[tuple[str, str], Account] = {}
        """By the budget's name and the subject."""
        self._opened: Counter[str] = Counter()
        """How many of them each key has opened."""
        self.refusals: dict[str, int] = dict.fromkeys((budget.name for budget in settings), 0)
        self.estimates = 0
        """Answers whose tokens the hub had to guess."""
        self._prices = dict(prices)
        self._clock_ms = clock_ms
        self._cleared_ms = -_CLEAR_EVERY_MS
        self._known: dict[tuple[str, str], tuple[Account, ...]] = {}
        self._rows: dict[str, Kept] = {}
        self._highest = Price(
            max((price.per_million_in for price in prices.values()), default=0.0),
            max((price.per_million_out for price in prices.values()), default=0.0),
        )

    async def open(self) -> None:
        """Read what earlier runs have counted. A budget that the settings no longer have is forgotten when it ends."""
        now = self._clock_ms()
        by_name = {budget.name: budget for budget in self.settings}
        for key, kept in (await self.ledger.load()).items():
            name, _, subject = key.removeprefix(PREFIX).partition("/")
            budget = by_name.get(name)
            if budget is not None and _subject(budget, subject, subject) == subject:
                self._add(budget, subject, kept)
            elif now >= kept.end_ms:
                self.ledger.forget(key)

    # --- a request's life ---

    def charge(self, key: str, tenant: str, call: Call) -> Charge | None:
        """Hold what the call may take; None when no budget applies. Raises BudgetExceeded, and what the store lacks.

        The answer is held at the client's own bound, else at the mean of the answers before, then at most what is left.
        """
        accounts = self.accounts_of(key, tenant)
        if not accounts:
            return None
        prompt_tokens = estimate.prompt_tokens(call.body)
        bound = 0 if call.api == "/embeddings" else estimate.most_tokens_out(call.body)
        price = self._highest if call.wanted == AUTO else self._prices.get(call.wanted, FREE)
        charge = self._hold(accounts, _least(prompt_tokens, bound or 0, price), prompt_tokens, bound, price)
        charge.call = call
        return charge

    def charge_hit(self, key: str, tenant: str) -> Charge | None:
        """For an answer out of the cache: one request, and nothing else."""
        accounts = self.accounts_of(key, tenant)
        return self._hold(accounts, _ONE, 0, 0, FREE) if accounts else None

    def _hold(
        self, accounts: tuple[Account, ...], least: Amounts, prompt_tokens: int, bound: int | None, price: Price
    ) -> Charge:
        """least: what must be left."""
        if self.ledger.trouble is not None:
            raise self.ledger.trouble  # what it would use could not be counted for sure
        now = self._clock_ms()
        for account in accounts:
            account.roll(now)
            if limit := account.lacks(least):
                self.refusals[account.budget.name] += 1
                raise _exceeded(account, limit, least, now, self.currency)
        holds = []
        for account in accounts:
            tokens_out = round(account.mean_tokens_out) if bound is None else bound
            money_nano = price.cost_nano(prompt_tokens, tokens_out)
            holds.append((account, account.hold(Amounts(prompt_tokens + tokens_out, 1, money_nano))))
        return Charge(self, tuple(holds), prompt_tokens)

    def settle(
        self, holds: Sequence[tuple[Account, Amounts]], model: str, tokens_in: int, tokens_out: int, *,
        is_estimate: bool,
    ) -> None:  # fmt: skip
        """Count what a request used. Called by its charge."""
        used = Amounts(tokens_in + tokens_out, 1, self._prices.get(model, FREE).cost_nano(tokens_in, tokens_out))
        now = self._clock_ms()
        self.estimates += is_estimate
        for account, held in holds:
            account.roll(now)
            account.settle(held, used, estimated_tokens=used.tokens if is_estimate else 0)
            if tokens_out:
                account.learn(tokens_out)
            self.ledger.mark(account)

    async def written(self) -> None:
        """As `BudgetLedger.written`."""
        await self.ledger.written()

    # --- accounts ---

    def accounts_of(self, key: str, tenant: str) -> tuple[Account, ...]:
        """The accounts that a request counts in. Raises BudgetExceeded when there are too many of them."""
        known = self._known.get((key, tenant))
        if known is None:
            subjects = ((budget, _subject(budget, key, tenant)) for budget in self.settings)
            wanted = [(budget, subject) for budget, subject in subjects if subject is not None]
            self._make_room(wanted, key)
            known = tuple(self._account(budget, subject, key) for budget, subject in wanted)
            if len(self._known) >= _MAX_KNOWN:  # tenants may come from outside
                self._known.clear()
            self._known[key, tenant] = known
        return known

    def current(self, account: Account) -> Account:
        """The account, in the period of this moment."""
        account.roll(self._clock_ms())
        return account

    def reset_s(self, account: Account) -> float:
        return max(0.0, (account.end_ms - self._clock_ms()) / 1000)

    def reset(self, account: Account) -> None:
        """Begin anew, at the operator's word: also the period, should a clock that was wrong have moved it ahead."""
        fresh = Account(account.budget, account.subject, self._clock_ms())
        account.start_ms, account.end_ms = fresh.start_ms, fresh.end_ms
        account.used, account.estimated_tokens = NOTHING, 0
        self.ledger.mark(account)

    def room(self, key: str, tenant: str, measure: int) -> Room | None:
        """measure: 0 for tokens, 1 for requests. None when no budget limits them."""
        least: Room | None = None
        for account in self.accounts_of(key, tenant):
            limit, left = account.limits[measure], account.left()[measure]
            if limit is not None and left is not None and (least is None or left < least.left):
                least = Room(limit, left, self.reset_s(account))
        return least

    def _account(self, budget: BudgetSettings, subject: str, key: str) -> Account:
        account = self.accounts.get((budget.name, subject))
        return self._add(budget, subject, None, key) if account is None else account

    def _add(self, budget: BudgetSettings, subject: str, kept: Kept | None, key: str = "") -> Account:
        account = self.accounts[budget.name, subject] = Account(budget, subject, self._clock_ms(), kept)
        account.by = key if kept is None else kept.by
        self._opened[account.by] += 1
        return account

    def _make_room(self, wanted: Sequence[tuple[BudgetSettings, str]], key: str) -> None:
        """For all accounts of one request, before the first is added: clearing out takes what nobody has used yet.

        Raises BudgetExceeded.
        """
        for is_cleared in (False, True):
            new = [budget for budget, subject in wanted if (budget.name, subject) not in self.accounts]
            is_full = bool(new) and len(self.accounts) + len(new) > MAX_ACCOUNTS
            has_many = bool(new and key) and self._opened[key] + len(new) > MAX_ACCOUNTS_OF_KEY
            if not is_full and not has_many:
                return
            if not is_cleared:
                self._clear_out()
        if is_full:
            raise BudgetExceeded(new[0].name, "", f"{MAX_ACCOUNTS} accounts are in use; name fewer tenants", 60.0)
        reason = f"the key has opened {MAX_ACCOUNTS_OF_KEY} accounts; name fewer tenants"
        raise BudgetExceeded(new[0].name, f"key {key!r}", reason, 60.0)

    def _clear_out(self) -> None:
        """Forget accounts that have nothing to remember; looks at most once a second, for there may be many."""
        now = self._clock_ms()
        if 0 <= now - self._cleared_ms < _CLEAR_EVERY_MS:
            return
        self._cleared_ms = now
        for place, account in tuple(self.accounts.items()):
            account.roll(now)
            if account.used == NOTHING and account.held == NOTHING:
                del self.accounts[place]
                self._opened[account.by] -= 1
                self.ledger.forget(row_key(*place))
        self._known.clear()


def _subject(budget: BudgetSettings, key: str, tenant: str) -> str | None:
    """Whose account of the budget it is; None when the budget is not for this request."""
    wanted, own = (budget.key, key) if budget.key is not None else (budget.tenant, tenant)
    if wanted is None:
        return ""
    return own if wanted in ("*", own) else None


def _least(prompt_tokens: int, tokens_out: int, price: Price) -> Amounts:
    """What must be left for a request: its prompt, and all that the client says the answer may have."""
    is_free = price == FREE
    tokens = max(1, prompt_tokens + tokens_out)
    return Amounts(tokens, 1, 0 if is_free else max(1, price.cost_nano(prompt_tokens, tokens_out)))


def _exceeded(account: Account, limit: str, least: Amounts, now: int, currency: str) -> BudgetExceeded:
    budget = account.budget
    tokens, _, money_nano = account.left()
    match limit:
        case "requests":
            reason = f"all {budget.requests} requests of this {budget.per} are used or running"
        case "tokens":
            reason = f"of {budget.tokens} tokens a {budget.per} {tokens} are left"
            reason += f", and this request may take {least.tokens}{_WAY_OUT}" if tokens else ""
        case _:
            left, cost = (money_nano or 0) / NANO, least.money_nano / NANO
            reason = f"of {budget.money:g} {currency} a {budget.per} {left:.6g} are left"
            reason += f", and this request may cost {cost:.6g}{_WAY_OUT}" if left else ""
    if now < account.start_ms:
        reason += "; the hub's clock was set back, and what was used stays used"
    most = {"requests": 1, "tokens": least.tokens, "money": least.money_nano}
    limits = dict(zip(("tokens", "requests", "money"), account.limits, strict=True))
    can_fit = (limits[limit] or 0) >= most[limit]
    whose = f"{'key' if budget.key is not None else 'tenant'} {account.subject!r}" if account.subject else ""
    retry_after_s = max(0.0, (account.end_ms - now) / 1000) if can_fit else None
    return BudgetExceeded(budget.name, whose, reason, retry_after_s, limit, resets_at_ms=account.end_ms)
