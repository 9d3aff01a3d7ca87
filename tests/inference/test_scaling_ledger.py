"""Cores and memory are never promised twice."""

from hypothesis import given
from hypothesis import strategies as st

from autoglm.inference.scaling.ledger import Ledger, Need

needs = st.builds(Need, st.integers(1, 8), st.integers(0, 100))
actions = st.lists(st.tuples(st.sampled_from("abcdef"), st.none() | needs), max_size=60)


@given(st.builds(Need, st.integers(1, 16), st.integers(1, 200)), actions)
def test_the_sum_never_exceeds_the_limit(limit: Need, actions: list[tuple[str, Need | None]]) -> None:
    ledger = Ledger(limit)
    held: dict[str, Need] = {}
    for name, need in actions:
        if need is None:
            ledger.give_back(name)
            held.pop(name, None)
        elif ledger.take(name, need):
            assert name not in held
            held[name] = need
        else:
            assert name in held or not need.fits(limit - sum(held.values(), Need()))
        assert ledger.held == sum(held.values(), Need())
        assert ledger.held.fits(limit)


def test_a_worker_that_outgrows_its_room_leaves_none_for_others() -> None:
    ledger = Ledger(Need(4, 100))
    assert ledger.take("a", Need(1, 60))
    ledger.measured("a", 50)
    assert ledger.room == Need(3, 40)
    ledger.measured("a", 120)
    assert ledger.room == Need(3, -20)
    assert not ledger.take("b", Need(1, 0))
    ledger.give_back("a")
    assert ledger.take("b", Need(4, 100))


def test_a_need_is_told_in_words() -> None:
    assert str(Need(1, 1_200_000_000)) == "1 core and 1.20 GB"
    assert str(Need(2, 0)) == "2 cores and 0.00 GB"
