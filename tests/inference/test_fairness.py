"""The laws of the virtual token counters."""

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoglm.inference import fairness
from autoglm.inference.fairness import Charge, FairShares, Ranking, Tenant
from inference.calls import call_of

LONGEST = 400
TOKENS = st.integers(1, LONGEST)


class Counted:
    """Something to rank."""

    def __init__(self, counter: float) -> None:
        self.counter = counter
        self.is_waiting = True


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6), st.booleans()), max_size=400))
def test_the_least_is_found_whatever_changed(steps: list[tuple[int, int, bool]]) -> None:
    items = [Counted(0.0) for _ in range(5)]
    ranking: Ranking[Counted] = Ranking()
    for item in items:
        ranking.place(item)
    for number, counter, is_waiting in steps:
        items[number].counter, items[number].is_waiting = counter, is_waiting
        ranking.place(items[number])
        least = ranking.least()
        waiting = [item.counter for item in items if item.is_waiting]
        assert (least.counter if least is not None else None) == min(waiting, default=None)


def test_of_equals_the_one_that_was_placed_first_is_next() -> None:
    ranking: Ranking[Counted] = Ranking()
    first, second = Counted(1.0), Counted(1.0)
    ranking.place(first)
    ranking.place(second)
    assert ranking.least() is first


def test_outdated_entries_do_not_pile_up() -> None:
    ranking: Ranking[Counted] = Ranking()
    items = [Counted(0.0) for _ in range(3)]
    for step in range(10_000):
        items[step % 3].counter = step
        ranking.place(items[step % 3])
    assert len(ranking._heap) < 100


class Backlog:
    """Tenants that always have something waiting, before a few slots. `got` counts what was really served."""

    def __init__(self, weights: dict[str, float], slots: int, dice: random.Random) -> None:
        self.shares = FairShares(input_weight=1.0, output_weight=2.0, weights=weights)
        self.tenants = [self.shares.tenant(name) for name in weights]
        for tenant in self.tenants:
            self.shares.enter(tenant)
        self.slots, self.dice = slots, dice
        self.running: list[tuple[Charge, int, int]] = []
        self.got = dict.fromkeys(weights, 0.0)
        self.starts: list[str] = []

    def turn(self) -> Tenant:
        """Whose turn it is. One that runs is done first, if no slot is free."""
        if len(self.running) == self.slots:
            charge, tokens_in, tokens_out = self.running.pop(self.dice.randrange(self.slots))
            self.shares.settle(charge, tokens_in, tokens_out, is_whole=True)
        tenant = self.shares._waiting.least()
        assert tenant is not None
        return tenant

    def start(self, tenant: Tenant, prompt_tokens: int, output_tokens: int) -> None:
        self.starts.append(tenant.name)
        self.got[tenant.name] += (prompt_tokens + 2.0 * output_tokens) / tenant.weight
        charge = self.shares.charge(call_of(prompt_tokens, tenant=tenant.name))
        self.running.append((charge, prompt_tokens, output_tokens))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 6), st.floats(0.5, 3.0))
def test_the_gap_between_two_that_always_wait_is_bounded(seed: int, slots: int, weight: float) -> None:
    """2 * U * (S + 1), as in the module's docstring; U is for the lighter of the two weights."""
    dice = random.Random(seed)
    backlog = Backlog({"f": 1.0, "g": weight}, slots, dice)
    bound = 2 * (3.0 * LONGEST / min(1.0, weight)) * (slots + 1)
    longest = {"f": dice.randint(1, LONGEST), "g": dice.randint(1, LONGEST)}
    for _ in range(200):
        tenant = backlog.turn()
        most = longest[tenant.name]
        backlog.start(tenant, dice.randint(1, most), dice.randint(1, most))
        assert abs(backlog.got["f"] - backlog.got["g"]) <= bound


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 12), st.integers(1, 6))
def test_no_tenant_starves(seed: int, tenants: int, slots: int) -> None:
    """Equal requests: between two starts of one tenant, each of the others has few."""
    names = [f"t{number}" for number in range(tenants)]
    backlog = Backlog(dict.fromkeys(names, 1.0), slots, random.Random(seed))
    for tenant in backlog.tenants:
        tenant.output_tokens = 1.0  # their answers' lengths are known, so that all estimates are right
    for _ in range(40 * tenants):
        backlog.start(backlog.turn(), 200, 1)
    for name in names:
        turns = [index for index, started in enumerate(backlog.starts) if started == name]
        assert len(turns) > 20
        assert max(later - earlier for earlier, later in pairwise(turns)) <= 2 * tenants


def test_who_comes_back_has_saved_up_nothing() -> None:
    shares = FairShares()
    busy, idle = shares.tenant("busy"), shares.tenant("idle")
    shares.enter(busy)
    for _ in range(10):
        shares.charge(call_of(100, tenant="busy"))
    shares.enter(idle)
    assert idle.counter == busy.counter > 0


def test_who_comes_back_to_an_empty_queue_is_lifted_to_who_was_served_last() -> None:
    shares = FairShares()
    for _ in range(10):
        shares.charge(call_of(100, tenant="busy"))
    charge = shares.charge(call_of(100, tenant="idle"))
    assert charge.tenant.counter - charge.amount == shares.tenant("busy").counter


def test_a_lift_never_lowers() -> None:
    shares = FairShares()
    shares.enter(shares.tenant("new"))
    heavy = shares.tenant("heavy")
    heavy.counter = 1e6
    shares.enter(heavy)
    assert heavy.counter == 1e6


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(TOKENS, TOKENS, TOKENS), min_size=1, max_size=40), st.floats(0.1, 10.0))
def test_in_the_end_a_tenant_is_charged_what_it_was(requests: list[tuple[int, int, int]], weight: float) -> None:
    shares = FairShares(input_weight=1.0, output_weight=2.0, weights={"t": weight})
    spent = 0.0
    for guessed, tokens_in, tokens_out in requests:
        charge = shares.charge(call_of(guessed, tenant="t"))
        shares.settle(charge, tokens_in, tokens_out, is_whole=True)
        spent += tokens_in + 2.0 * tokens_out
    assert shares.tenant("t").counter == pytest.approx(spent / weight)


def test_a_refund_brings_a_waiting_tenant_forward() -> None:
    shares = FairShares()
    dear, cheap = shares.tenant("dear"), shares.tenant("cheap")
    shares.enter(dear)
    shares.enter(cheap)
    charge = shares.charge(call_of(1000, tenant="dear"))
    shares.charge(call_of(10, tenant="cheap"))
    assert shares._waiting.least() is cheap
    shares.settle(charge, 0, 0, is_whole=False)
    assert shares._waiting.least() is dear


def test_the_answer_is_guessed_by_what_the_tenant_got_and_by_what_it_allows() -> None:
    shares = FairShares()
    for _ in range(50):
        shares.settle(shares.charge(call_of(100, tenant="t")), 100, 40, is_whole=True)
    assert shares.estimate(call_of(100, tenant="t"))[1] == pytest.approx(40)
    assert shares.estimate(call_of(100, tenant="t", max_tokens=7))[1] == 7
    assert shares.estimate(call_of(100, tenant="t", max_completion_tokens=9))[1] == 9
    quoted = call_of(100, tenant="t", messages=[{"role": "user", "content": '"max_tokens": 1'}])
    assert shares.estimate(quoted)[1] == pytest.approx(40)


def test_no_answer_moves_the_means_far() -> None:
    shares = FairShares()
    for tenant in ("t", "u"):
        shares.settle(shares.charge(call_of(100, tenant=tenant)), 100, 20, is_whole=True)
    shares.settle(shares.charge(call_of(100, tenant="t")), 100, 10**12, is_whole=True)
    assert shares.estimate(call_of(100, tenant="t"))[1] < 2 * 20 + 30
    assert shares.estimate(call_of(100, tenant="u"))[1] == pytest.approx(20)
    assert shares.estimate(call_of(100, tenant="new"))[1] < 2 * 256
    for _ in range(50):  # those that are truly longer teach all the same
        shares.settle(shares.charge(call_of(100, tenant="t")), 100, 4000, is_whole=True)
    assert shares.estimate(call_of(100, tenant="t"))[1] > 3000


def test_a_picture_of_megabytes_is_not_taken_for_a_million_tokens() -> None:
    tokens, _ = FairShares().estimate(call_of(1_000_000))
    assert tokens == fairness.MOST_ESTIMATED_TOKENS


def test_tenants_are_forgotten_before_they_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fairness, "MAX_TENANTS", 100)
    shares = FairShares()
    waiting: list[Tenant] = [shares.tenant(f"waiting{number}") for number in range(3)]
    for tenant in waiting:
        shares.enter(tenant)
    heavy = shares.tenant("heavy")
    heavy.counter = 1e9
    for number in range(1000):
        shares.charge(call_of(1, tenant=f"t{number}"))
        assert len(shares) <= 100
    assert all(shares.tenant(tenant.name) is tenant for tenant in (*waiting, heavy))
