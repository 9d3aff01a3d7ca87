"""A vendor's limit is kept in every stretch of time."""

from hypothesis import given
from hypothesis import strategies as st

from autoglm.channels.outbox.window import Window


@given(st.lists(st.floats(0.0, 30.0), max_size=80))
def test_no_stretch_has_more_than_allowed(gaps_s: list[float]) -> None:
    window, now_s, starts = Window(((5, 60.0), (2, 1.0))), 0.0, []
    for gap_s in gaps_s:
        now_s += gap_s
        now_s += window.wait_s(now_s)
        window.take(now_s)
        starts.append(now_s)
    for count, seconds in ((5, 60.0), (2, 1.0)):
        assert all(late - early >= seconds for early, late in zip(starts, starts[count:], strict=False))


@given(st.lists(st.tuples(st.integers(0, 2), st.floats(0.0, 1.0)), max_size=80))
def test_what_is_shared_holds_for_all_together(steps: list[tuple[int, float]]) -> None:
    shared = Window(((4, 1.0),))
    windows, now_s, starts = [Window(((2, 1.0),), shared) for _ in range(3)], 0.0, []
    for index, gap_s in steps:
        now_s += gap_s
        now_s += windows[index].wait_s(now_s)
        windows[index].take(now_s)
        starts.append(now_s)
    assert all(late - early >= 1.0 for early, late in zip(starts, starts[4:], strict=False))


def test_what_is_recalled_was_counted_by_what_is_shared() -> None:
    shared = Window(((2, 60.0),))
    Window(((2, 60.0),), shared).take(0.0)
    again = Window(((2, 60.0),), shared)
    again.recall((0.0,))
    assert (again.room(1.0), shared.room(1.0)) == (1, 1)


def test_room_is_what_may_start_at_once() -> None:
    window = Window(((3, 60.0),))
    assert window.room(0.0) == 3
    window.take(0.0)
    window.take(30.0)
    assert (window.room(30.0), window.wait_s(30.0), window.room(62.0)) == (1, 0.0, 2)
    assert 91.0 < 30.0 + window.used_for_s(30.0) < 92.0


def test_no_limit_is_no_limit() -> None:
    window = Window(())
    window.take(0.0)
    assert (window.room(0.0), window.wait_s(0.0), window.used_for_s(0.0)) == (None, 0.0, 0.0)
