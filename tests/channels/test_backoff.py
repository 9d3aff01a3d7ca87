"""Pauses between attempts that fail."""

from hypothesis import given
from hypothesis import strategies as st

from autoglm.channels.backoff import BackOff, pause_s


@given(failures=st.integers(1, 10_000), first_s=st.floats(0.001, 10.0), longest_s=st.floats(10.0, 3600.0))
def test_a_pause_is_at_most_doubled_for_each_failure_and_never_too_long(
    failures: int, first_s: float, longest_s: float
) -> None:
    whole_s = min(longest_s, first_s * 2.0 ** min(failures - 1, 30))
    assert whole_s / 2 <= pause_s(failures, first_s, longest_s) <= whole_s


def test_many_who_failed_together_do_not_come_back_together() -> None:
    assert len({pause_s(3, 1.0, 60.0) for _ in range(100)}) > 90


def test_pauses_grow_to_a_minute_and_begin_anew_after_a_success() -> None:
    pauses = BackOff()
    drawn_s = [pauses.pause_s() for _ in range(20)]
    assert all(2.0**index / 2 <= drawn <= 2.0**index for index, drawn in enumerate(drawn_s[:6]))
    assert all(30.0 <= drawn <= 60.0 for drawn in drawn_s[6:])
    pauses.reset()
    assert 0.5 <= pauses.pause_s() <= 1.0
