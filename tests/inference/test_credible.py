"""What an instance tells is believed as far as it can be."""

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from autoglm.inference.budget.account import Account
from autoglm.inference.budget.budgets import Budgets
from autoglm.inference.budget.ledger import BudgetLedger
from autoglm.inference.budget.settings import BudgetSettings
from autoglm.inference.call import Call
from autoglm.inference.credible import MOST_PROMPT_TOKENS, TEMPLATE_TOKENS, TOKENS_PER_S, UNBOUNDED_TOKENS, credible
from autoglm.inference.fairness import FairShares
from autoglm.inference.scheduler import Scheduler
from autoglm.inference.settings import SchedulerSettings
from inference.calls import call, call_of, ready
from inference.rows import Rows

LIE = 999_999_999_999


def seen(**fields: object) -> Call:
    """A call that the scheduler has looked at."""
    wanted = call_of(20, **fields)  # type: ignore[arg-type]  # fields of a body
    FairShares().estimate(wanted)
    return wanted


@pytest.mark.parametrize(
    ("fields", "told", "took_s", "believed"),
    [
        ({}, UNBOUNDED_TOKENS, 0.01, UNBOUNDED_TOKENS),
        ({}, 100_000, 60.0, 100_000),  # hidden thoughts, in their time
        ({}, LIE, 2.0, UNBOUNDED_TOKENS + 2 * TOKENS_PER_S),
        ({"max_tokens": 100}, 100, 0.0, 100),
        ({"max_tokens": 100}, LIE, 0.0, 100),
        ({"max_tokens": 100, "n": 3}, 300, 0.0, 300),
        ({"max_tokens": 100}, 4000, 1.0, 4000),  # thoughts that are counted beside max_tokens
        ({"max_tokens": 60_000}, 50_000, 0.0, 50_000),
        ({"max_tokens": 2 * 10**9}, LIE, 0.0, UNBOUNDED_TOKENS),  # no answer has so many: it bounds nothing
        ({"max_tokens": 10**30}, LIE, 0.0, UNBOUNDED_TOKENS),
        ({"metadata": {"max_tokens": 1}}, 5000, 0.0, 5000),  # what is no bound lowers nothing
    ],
)
def test_an_answer_has_no_more_tokens_than_it_may_and_can(
    fields: dict[str, object], told: int, took_s: float, believed: int
) -> None:
    assert credible(seen(**fields), 10, told, took_s) == (10, believed)


def test_a_prompt_has_no_more_tokens_than_bytes_unless_it_names_something_else() -> None:
    plain = call()
    assert credible(plain, len(plain.body) + TEMPLATE_TOKENS, 1, 0.0)[0] == len(plain.body) + TEMPLATE_TOKENS
    assert credible(plain, LIE, 1, 0.0)[0] == len(plain.body) + TEMPLATE_TOKENS
    picture = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    shown = call(messages=[{"role": "user", "content": [picture]}])
    assert credible(shown, 20_000, 1, 0.0)[0] == 20_000
    kept = Call("/responses", b'{"model":"m","input":"x","previous_response_id":"r"}')
    assert credible(kept, LIE, 1, 0.0)[0] == MOST_PROMPT_TOKENS


def test_a_lie_costs_little_of_the_fair_share_and_is_logged_once() -> None:
    scheduler = Scheduler(SchedulerSettings())
    scheduler.add(ready("a"))
    with capture_logs() as logs:
        for _ in range(2):
            slot = scheduler.try_acquire(call_of(20, tenant="t", max_tokens=50))
            assert slot is not None
            slot.first_byte_s, slot.is_complete = 0.001, True
            scheduler.release(slot, LIE, LIE)
    assert scheduler.shares.tenant("t").counter < 2 * (100 + TEMPLATE_TOKENS + 2 * 200)
    assert [line["event"] for line in logs] == ["usage_not_believed"]


def test_a_slot_comes_back_whatever_the_client_allows_and_the_instance_tells() -> None:
    scheduler = Scheduler(SchedulerSettings())
    scheduler.add(ready("a"))
    slot = scheduler.try_acquire(call_of(20, max_tokens=2 * 10**9))
    assert slot is not None
    slot.first_byte_s, slot.is_complete = 0.001, True
    scheduler.release(slot, 7, UNBOUNDED_TOKENS + 1)
    assert scheduler.instances["a"].running == 0


def test_one_long_answer_moves_what_a_budget_expects_but_little() -> None:
    account = Account(BudgetSettings(name="b", tokens=10**9), "", 1_800_000_000_000)
    before = account.mean_tokens_out
    account.learn(LIE)
    assert before < account.mean_tokens_out < 2 * before + 30


def test_a_lie_is_not_counted_by_budgets() -> None:
    book = Budgets([BudgetSettings(name="b", tokens=10**6)], {}, BudgetLedger(Rows()))
    charge = book.charge("k", "t", call(max_tokens=50))
    assert charge is not None
    charge.use("m", LIE, LIE)
    assert book.accounts["b", ""].used.tokens < 200 + TEMPLATE_TOKENS + 50 + TOKENS_PER_S
    second = book.charge("k", "t", call())
    assert second is not None
    assert book.accounts["b", ""].held.tokens < 1000


@pytest.mark.parametrize("name", ["routing.md", "routing.zh-CN.md"])
def test_the_bounds_are_documented(name: str) -> None:
    page = (Path(__file__).parents[2] / "docs" / name).read_text()
    paragraph = next(part for part in page.split("\n\n") if "usage_not_believed" in part)
    for bound in (TEMPLATE_TOKENS, MOST_PROMPT_TOKENS, UNBOUNDED_TOKENS, TOKENS_PER_S):
        assert f"{bound:,}" in paragraph
