"""Budgets as arithmetic: periods, accounts and charges add up, whatever happens in whatever order."""

import contextlib
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoglm.core.errors import BudgetExceeded, InvalidField
from autoglm.inference.budget.account import Account
from autoglm.inference.budget.amounts import NOTHING, Amounts, Price
from autoglm.inference.budget.budgets import Budgets
from autoglm.inference.budget.charge import Charge
from autoglm.inference.budget.estimate import answer_tokens, most_tokens_out, prompt_tokens
from autoglm.inference.budget.ledger import BudgetLedger
from autoglm.inference.budget.period import Per, period_of
from autoglm.inference.budget.settings import BudgetSettings
from inference.calls import call
from inference.growth import growth
from inference.rows import Rows

ZONES = ["UTC", "Asia/Shanghai", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "America/Sao_Paulo"]
PERS: list[Per] = ["hour", "day", "month"]
DAY_MS = 86_400_000
NOON_MS = 1_800_000_000_000 // DAY_MS * DAY_MS + DAY_MS // 2


def at(text: str, zone: str = "UTC") -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


def settings(**fields: object) -> BudgetSettings:
    return BudgetSettings.model_validate({"name": "b", **fields})


class Clock:
    def __init__(self, at_ms: int = NOON_MS) -> None:
        self.at_ms = at_ms

    def __call__(self) -> int:
        return self.at_ms


def budgets(*entries: BudgetSettings, clock: Clock | None = None, **prices: Price) -> Budgets:
    return Budgets(entries, prices, BudgetLedger(Rows()), clock_ms=clock or Clock())


def charged(book: Budgets, key: str = "k", tenant: str = "t", **fields: object) -> Charge:
    charge = book.charge(key, tenant, call(**fields))  # type: ignore[arg-type]  # fields of a body
    assert charge is not None
    return charge


def state(book: Budgets, subject: str = "") -> tuple[Amounts, Amounts]:
    """(used, held) of the one budget."""
    account = book.accounts["b", subject]
    return account.used, account.held


# --- periods ---


@given(st.sampled_from(PERS), st.sampled_from(ZONES), st.integers(946_684_800_000, 4_102_444_800_000))
def test_every_moment_is_in_its_period_and_periods_follow_each_other(per: Per, zone: str, at_ms: int) -> None:
    start_ms, end_ms = period_of(per, ZoneInfo(zone), at_ms)
    assert start_ms <= at_ms < end_ms
    assert period_of(per, ZoneInfo(zone), end_ms)[1] > end_ms
    if per != "hour":  # where the clock is put back by half an hour, hours overlap
        assert period_of(per, ZoneInfo(zone), end_ms)[0] == end_ms
        assert period_of(per, ZoneInfo(zone), start_ms) == (start_ms, end_ms)


@pytest.mark.parametrize(
    ("zone", "per", "moment", "start", "end"),
    [
        ("Asia/Shanghai", "day", "2026-11-27T00:00", "2026-11-27T00:00", "2026-11-28T00:00"),
        ("Asia/Shanghai", "month", "2026-12-31T23:59", "2026-12-01T00:00", "2027-01-01T00:00"),
        ("America/New_York", "day", "2026-03-08T12:00", "2026-03-08T00:00", "2026-03-09T00:00"),
        ("Asia/Kathmandu", "hour", "2026-11-27T10:59", "2026-11-27T10:00", "2026-11-27T11:00"),
    ],
)
def test_days_begin_by_the_clock_of_the_zone(zone: str, per: Per, moment: str, start: str, end: str) -> None:
    assert period_of(per, ZoneInfo(zone), at(moment, zone)) == (at(start, zone), at(end, zone))


def test_the_day_of_a_change_of_the_clock_has_23_hours() -> None:
    start_ms, end_ms = period_of("day", ZoneInfo("America/New_York"), at("2026-03-08T12:00", "America/New_York"))
    assert end_ms - start_ms == 23 * 3_600_000


# --- accounts ---


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["hold", "use", "guess", "release", "clock"]),
            st.integers(0, 4000),
            st.integers(0, 3000),
            st.integers(-3 * DAY_MS, 3 * DAY_MS),
        ),
        max_size=60,
    )
)
def test_what_is_used_is_the_sum_of_what_was_told_and_nothing_is_negative(
    steps: list[tuple[str, int, int, int]],
) -> None:
    """Over any mix of requests, ends and clocks; a period's sum begins anew at its end and at no other time."""
    clock = Clock()
    price = Price(0.1, 1.7)
    book = budgets(settings(tokens=20_000, requests=40, money=0.02), clock=clock, m=price)
    running: list[Charge] = []
    used = NOTHING
    (account,) = book.accounts_of("k", "t")
    end_ms = account.end_ms
    for step, tokens_in, tokens_out, shift_ms in steps:
        if step == "clock":
            clock.at_ms += shift_ms
            if clock.at_ms >= end_ms:
                used = NOTHING
                end_ms = period_of("day", ZoneInfo("UTC"), clock.at_ms)[1]
        elif step == "hold":
            with contextlib.suppress(BudgetExceeded):
                running.append(charged(book, max_tokens=tokens_out))
        elif running:
            charge = running.pop(0)
            if step == "release":
                charge.release()
            else:
                told = tokens_in if step == "use" else charge.prompt_tokens
                (charge.use("m", tokens_in, tokens_out) if step == "use" else charge.guess("m", tokens_out))
                cost = Amounts(told + tokens_out, 1, price.cost_nano(told, tokens_out))
                used = used.plus(cost)
            charge.release()  # after an end it changes nothing
        book.current(account)
        assert account.used == used
        assert account.end_ms == end_ms
        assert min(account.held.tokens, account.held.requests, account.held.money_nano) >= 0
        assert all(left is not None and left >= 0 for left in account.left())
    for charge in running:
        charge.release()
    assert account.held == NOTHING


def test_a_clock_that_jumps_back_does_not_reopen_a_spent_day() -> None:
    clock = Clock()
    book = budgets(settings(requests=1), clock=clock)
    charged(book).use("m", 1, 1)
    for jump_ms in (-DAY_MS, -40 * DAY_MS, 0, DAY_MS // 2 - 1):
        clock.at_ms = NOON_MS + jump_ms
        with pytest.raises(BudgetExceeded, match="all 1 requests of this day are used") as caught:
            charged(book)
        assert ("clock was set back" in str(caught.value)) is (jump_ms < -DAY_MS // 2)
    clock.at_ms = NOON_MS + DAY_MS // 2
    charged(book)


def test_the_operator_can_free_a_day_that_a_wrong_clock_has_moved_ahead() -> None:
    clock = Clock(NOON_MS + 4000 * DAY_MS)
    book = budgets(settings(requests=1), clock=clock)
    charged(book).use("m", 1, 1)
    clock.at_ms = NOON_MS
    with pytest.raises(BudgetExceeded):
        charged(book)
    book.reset(book.accounts["b", ""])
    assert book.accounts["b", ""].end_ms == NOON_MS + DAY_MS // 2
    charged(book)


# --- what a request is held for ---


def test_bounded_requests_never_use_more_than_there_is() -> None:
    """However many run at one time: what each may take is set aside before it is sent."""
    book = budgets(settings(tokens=1000))
    running = [charged(book, max_tokens=100) for _ in range(7)]
    with pytest.raises(BudgetExceeded, match=r"this request may take \d+; a shorter one or a lower max_tokens helps"):
        charged(book, max_tokens=100)
    for charge in running:
        charge.use("m", charge.prompt_tokens, 100)
    used, held = state(book)
    assert used.tokens <= 1000
    assert held == NOTHING


def test_without_a_bound_a_request_is_held_at_what_answers_took_before() -> None:
    book = budgets(settings(tokens=100_000))
    for _ in range(100):
        charged(book).use("m", 10, 40)
    charge = charged(book)
    assert abs(state(book)[1].tokens - charge.prompt_tokens - 40) < 2


def test_the_last_request_may_have_what_is_left() -> None:
    book = budgets(settings(tokens=60))
    charge = charged(book)
    assert state(book)[1].tokens == 60
    with pytest.raises(BudgetExceeded, match="of 60 tokens a day 0 are left"):
        charged(book)
    charge.use("m", 5, 5)
    charged(book)


def test_a_prompt_that_does_not_fit_is_refused_before_it_is_sent() -> None:
    book = budgets(settings(tokens=1000))
    with pytest.raises(BudgetExceeded, match="may take 1"):
        charged(book, padding="x y " * 1000)
    assert book.refusals == {"b": 1}


def test_money_is_counted_by_the_model_that_answered() -> None:
    book = budgets(settings(money=1.0), cheap=Price(1, 2), dear=Price(100, 200))
    charge = charged(book, model="auto", max_tokens=10)
    assert state(book)[1].money_nano >= 10 * 200 * 1000
    charge.use("cheap", 1000, 1000)
    assert state(book) == (Amounts(2000, 1, 3_000_000), NOTHING)


def test_a_spent_budget_of_money_still_allows_models_that_cost_nothing() -> None:
    book = budgets(settings(money=0.001), m=Price(1, 1), free=Price())
    charged(book).use("m", 1000, 1000)
    with pytest.raises(BudgetExceeded, match=r"of 0\.001 CNY a day 0 are left"):
        charged(book)
    charged(book, model="free")


def test_a_hit_of_the_cache_takes_a_request_and_no_tokens() -> None:
    book = budgets(settings(tokens=30, requests=2))
    charged(book).use("m", 30, 0)
    hit = book.charge_hit("k", "t")
    assert hit is not None
    hit.use("m", 0, 0)
    assert state(book)[0] == Amounts(30, 2, 0)
    with pytest.raises(BudgetExceeded, match="all 2 requests"):
        book.charge_hit("k", "t")


# --- whose it is ---


def test_each_tenant_and_each_key_has_its_own() -> None:
    entries = [
        BudgetSettings(name="each", tenant="*", requests=1),
        BudgetSettings(name="robot", key="robot", requests=5),
        BudgetSettings(name="all", requests=3),
    ]
    book = budgets(*entries)
    charged(book, "robot", "a").use("m", 1, 1)
    charged(book, "robot", "b").use("m", 1, 1)
    with pytest.raises(BudgetExceeded, match="the budget 'each' of tenant 'a'"):
        charged(book, "other", "a")
    charged(book, "other", "c").use("m", 1, 1)
    with pytest.raises(BudgetExceeded, match="the budget 'all' has no room"):
        charged(book, "other", "d")
    used = {place: account.used.requests for place, account in book.accounts.items()}
    wanted = {("each", "a"): 1, ("each", "b"): 1, ("each", "c"): 1, ("each", "d"): 0, ("robot", "robot"): 2}
    assert used == {**wanted, ("all", ""): 3}


def test_a_refusal_by_one_budget_holds_nothing_of_the_others() -> None:
    book = budgets(BudgetSettings(name="wide", tokens=10**6), BudgetSettings(name="narrow", requests=0))
    with pytest.raises(BudgetExceeded, match="narrow"):
        charged(book)
    assert book.accounts["wide", ""].held == NOTHING


def test_more_tenants_than_are_kept_are_refused_until_some_are_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoglm.inference.budget.budgets.MAX_ACCOUNTS", 3)
    clock = Clock()
    book = budgets(settings(tenant="*", requests=1), clock=clock)
    for tenant in "abc":
        charged(book, tenant=tenant).use("m", 1, 1)
    with pytest.raises(BudgetExceeded, match="3 accounts are in use"):
        charged(book, tenant="d")
    clock.at_ms += DAY_MS
    charged(book, tenant="d").use("m", 1, 1)
    assert book.accounts.keys() == {("b", "d")}


def test_a_key_that_names_many_tenants_leaves_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoglm.inference.budget.budgets.MAX_ACCOUNTS", 4)
    monkeypatch.setattr("autoglm.inference.budget.budgets.MAX_ACCOUNTS_OF_KEY", 3)
    clock = Clock()
    book = budgets(settings(tenant="*", requests=9), clock=clock)
    for tenant in "abc":
        charged(book, "greedy", tenant).use("m", 1, 1)
    with pytest.raises(BudgetExceeded, match="of key 'greedy' has no room: the key has opened 3 accounts"):
        charged(book, "greedy", "d")
    charged(book, "greedy", "a").use("m", 1, 1)
    charged(book, "other", "e").use("m", 1, 1)
    assert book.accounts["b", "a"].kept().by == "greedy"
    clock.at_ms += DAY_MS
    charged(book, "greedy", "d").use("m", 1, 1)


def test_a_request_counts_in_accounts_that_all_see_also_where_room_was_made_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("autoglm.inference.budget.budgets.MAX_ACCOUNTS_OF_KEY", 3)
    clock = Clock()
    day, hour = settings(name="day", tenant="*", tokens=1000), settings(name="hour", tenant="*", per="hour", tokens=900)
    book = budgets(day, hour, clock=clock)
    charged(book, tenant="a").use("m", 1, 1)
    with pytest.raises(BudgetExceeded, match="the key has opened 3 accounts"):
        charged(book, tenant="b")
    charged(book, "other", tenant="b").use("m", 100, 100)
    charged(book, tenant="b").use("m", 100, 100)
    assert {place: account.used.tokens for place, account in book.accounts.items() if place[1] == "b"} == {
        ("day", "b"): 400,
        ("hour", "b"): 400,
    }


# --- guesses ---


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        (b"{}", None),
        (b'{"max_tokens":7}', 7),
        (b'{"max_tokens":7,"max_completion_tokens":9,"n":3}', 27),
        (b'{"max_output_tokens":5}', 5),
        (b'{"max_tokens":"many"}', None),
        (b'{"max_tokens":-4}', None),
        (b'{"messages":[{"content":"\\"max_tokens\\": 3"}]}', None),
    ],
)
def test_the_clients_own_bound_is_read(body: bytes, wanted: int | None) -> None:
    assert most_tokens_out(body) == wanted


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens", "max_output_tokens", "n"])
@pytest.mark.parametrize("value", ["1000000001", "9" * 26, "9" * 4_000, "9" * 5_000, "1e999"])
def test_a_bound_beyond_every_answer_is_refused_by_its_name(name: str, value: str) -> None:
    with pytest.raises(InvalidField) as refusal:
        most_tokens_out(f'{{"{name}":{value}}}'.encode())
    assert refusal.value.code == "invalid_field"
    assert str(refusal.value).startswith(f"{name}: ")


def test_the_highest_bounds_can_be_reckoned_with() -> None:
    """In tokens, in money, and in the words of a refusal."""
    book = budgets(settings(tokens=100, money=1.0), m=Price(1e6, 1e6))
    with pytest.raises(BudgetExceeded, match=r"may take 10{15}"):
        charged(book, max_tokens=10**9, n=10**9)


def test_a_picture_is_no_hundred_thousand_tokens() -> None:
    text = b'{"messages":[{"content":"what is this?"}]}'
    assert prompt_tokens(text) == 14
    picture = b'{"image_url":{"url":"data:image/png;base64,' + b"iVBORw0KGgo" * 50_000 + b'"}}'
    assert 1000 <= prompt_tokens(picture) < 1100


def test_answers_that_tell_nothing_are_counted_by_events_or_size() -> None:
    assert answer_tokens(b'data: {"a":1}\n\ndata: {"a":2}\n\n') == 2
    assert answer_tokens(b'{"text":"' + b"word " * 60 + b'"}') == 103


# --- over a restart ---


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), max_size=20), st.integers(0, DAY_MS))
def test_a_kept_account_is_the_same_account(uses: list[tuple[int, int]], later_ms: int) -> None:
    budget = settings(tokens=10**6)
    account = Account(budget, "", NOON_MS)
    for tokens_in, tokens_out in uses:
        account.settle(account.hold(Amounts(1, 1, 1)), Amounts(tokens_in + tokens_out, 1, tokens_in))
    again = Account(budget, "", NOON_MS + later_ms, account.kept())
    if later_ms < DAY_MS // 2:
        assert again.kept() == account.kept()
    else:
        assert again.kept() == Account(budget, "", NOON_MS + later_ms).kept()


def test_a_changed_period_keeps_what_was_used() -> None:
    account = Account(settings(tokens=10), "", NOON_MS)
    account.settle(account.hold(Amounts(10, 1, 0)), Amounts(10, 1, 0))
    monthly = Account(settings(tokens=10, per="month"), "", NOON_MS, account.kept())
    assert monthly.lacks(Amounts(1)) == "tokens"
    assert monthly.end_ms == period_of("month", ZoneInfo("UTC"), NOON_MS)[1]
    assert datetime.fromtimestamp(monthly.end_ms / 1000, UTC).day == 1


RUNS = st.sampled_from([1, 7, 1022, 1023, 1024, 1025, 2047, 2048, 2049, 5000])


@given(st.lists(st.tuples(RUNS, st.sampled_from([b" ", b'"', b"\xe4\xbd\xa0", b"." * 1024]))))
def test_every_run_of_base64_counts_as_an_attachment(runs: list[tuple[int, bytes]]) -> None:
    body = b"".join(b"A" * count + end for count, end in runs)
    attached = [count for count, _ in runs if count >= 1024]
    assert prompt_tokens(body) == (len(body) - sum(attached)) // 3 + 1000 * len(attached)


def test_what_is_almost_base64_takes_no_longer_than_prose() -> None:
    """Runs one letter too short for an attachment once took 40 times as long."""
    prose = b"Hello world, this is a text with words. " * 6_400
    assert growth(prompt_tokens, prose, (b"x" * 1023 + b" ") * 250) < 8
