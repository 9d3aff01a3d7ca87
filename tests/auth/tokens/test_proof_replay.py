"""What was used is remembered as long as it could be used again, and no wall clock makes it new."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auth.tokens.forge import NOW_MS, SKEW_MS, refusal
from auth.tokens.runs import WINDOW_MS, Monotonic
from autoglm.auth.tokens.nonce import Nonces
from autoglm.auth.tokens.replay import ReplayMemory
from autoglm.core.errors import TokenRefused, TooManyProofs


def a_memory(max_entries: int = 1000) -> ReplayMemory:
    return ReplayMemory(window_ms=WINDOW_MS, skew_ms=SKEW_MS, max_entries=max_entries)


def is_taken(memory: ReplayMemory, jti: str, iat_ms: int, now_ms: int) -> bool:
    """As the hub asks: of a proof that is in its window."""
    if not now_ms - WINDOW_MS <= iat_ms <= now_ms + SKEW_MS:
        return False
    try:
        memory.use("jkt", jti, iat_ms=iat_ms, now_ms=now_ms)
    except TokenRefused:
        return False
    return True


@pytest.mark.attack("replay within a run")
def test_a_proof_counts_once_in_its_whole_window() -> None:
    memory = a_memory()
    assert is_taken(memory, "a", NOW_MS, NOW_MS - SKEW_MS)
    for now_ms in range(NOW_MS - SKEW_MS, NOW_MS + WINDOW_MS + 1, 7000):
        assert refusal(lambda now_ms=now_ms: memory.use("jkt", "a", iat_ms=NOW_MS, now_ms=now_ms)) == "replayed"  # type: ignore[misc]
    assert not is_taken(memory, "a", NOW_MS, NOW_MS + WINDOW_MS)


def test_an_id_is_its_holders_own() -> None:
    memory = a_memory()
    memory.use("one", "a", iat_ms=NOW_MS, now_ms=NOW_MS)
    memory.use("other", "a", iat_ms=NOW_MS, now_ms=NOW_MS)
    memory.use("one", "b", iat_ms=NOW_MS, now_ms=NOW_MS)
    assert len(memory) == 3


@pytest.mark.attack("replay within a run")
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 400), st.integers(0, 400)), max_size=60))
def test_no_order_of_times_takes_a_proof_twice(steps: list[tuple[str, int, int]]) -> None:
    """The clock may also go back, as an admin may take it back: a proof is its id with its time."""
    memory, taken = a_memory(), set()
    for jti, iat_s, now_s in steps:
        iat_ms, now_ms = NOW_MS + iat_s * 1000, NOW_MS + now_s * 1000
        if is_taken(memory, jti, iat_ms, now_ms):
            assert (jti, iat_ms) not in taken
            taken.add((jti, iat_ms))


@pytest.mark.attack("clock back")
def test_what_was_forgotten_is_not_taken_when_the_clock_goes_back() -> None:
    memory = a_memory()
    memory.use("jkt", "a", iat_ms=NOW_MS, now_ms=NOW_MS)
    memory.use("jkt", "b", iat_ms=NOW_MS + 600_000, now_ms=NOW_MS + 600_000)
    assert len(memory) == 1
    assert refusal(lambda: memory.use("jkt", "a", iat_ms=NOW_MS, now_ms=NOW_MS)) == "expired"


@pytest.mark.attack("a flood of proofs that pushes used ones out")
def test_a_full_memory_refuses_and_forgets_nothing() -> None:
    memory = a_memory(max_entries=100)
    for number in range(100):
        memory.use("jkt", f"{number}", iat_ms=NOW_MS, now_ms=NOW_MS)
    with pytest.raises(TooManyProofs) as raised:
        memory.use("jkt", "more", iat_ms=NOW_MS, now_ms=NOW_MS)
    assert raised.value.retryable
    for number in range(100):
        assert refusal(lambda number=number: memory.use("jkt", f"{number}", iat_ms=NOW_MS, now_ms=NOW_MS)) == "replayed"  # type: ignore[misc]
    later_ms = NOW_MS + WINDOW_MS + SKEW_MS
    memory.use("jkt", "more", iat_ms=later_ms, now_ms=later_ms)
    assert len(memory) == 1


# --- nonces ---


def test_a_nonce_counts_for_one_to_two_windows() -> None:
    clock = Monotonic()
    nonces = Nonces(60.0, clock)
    clock.now_s = 60 * 20.0
    given_out = nonces.current()
    assert len(given_out) == 22
    for later_s in (0, 59.9, 60, 119.9):
        clock.now_s = 60 * 20 + later_s
        assert nonces.is_valid(given_out)
    for later_s in (120, 6000, -0.1):
        clock.now_s = 60 * 20 + later_s
        assert not nonces.is_valid(given_out)


@pytest.mark.attack("replay across a restart")
def test_a_nonce_of_another_run_is_none() -> None:
    """Though monotonic time may begin anew with a boot, and run through the same windows."""
    clock = Monotonic()
    first, second = Nonces(60.0, clock), Nonces(60.0, clock)
    assert first.is_valid(first.current())
    assert not second.is_valid(first.current())


@pytest.mark.parametrize("nonce", ["", "A", "A" * 22, "A" * 128])
def test_a_nonce_cannot_be_guessed(nonce: str) -> None:
    assert not Nonces(60.0, Monotonic()).is_valid(nonce)
