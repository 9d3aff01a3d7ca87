"""A lane hands out each number once, whatever did not fit into memory."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoglm.channels.outbox import lane as lane_module
from autoglm.channels.outbox.lane import Lane, Tried
from autoglm.channels.outbox.window import Window

MESSAGES = st.lists(st.tuples(st.integers(0, 9), st.sampled_from([None, None, "a", "b"])), max_size=60)
PAGE = 4


def make_lane() -> Lane:
    return Lane("c", "t", "to:channel:c/t", Window(()))


def refill(lane: Lane, log: list[tuple[int, int, str | None]]) -> None:
    if (start := lane.begin_refill()) is not None:
        page = [entry for entry in log if entry[0] >= start][:PAGE]
        lane.refill(page, left=page[-1][0] + 1 if page else None)


@given(MESSAGES, st.lists(st.booleans(), max_size=200))
def test_each_comes_out_once_and_threads_stay_in_order(
    messages: list[tuple[int, str | None]], turns: list[bool]
) -> None:
    """turns: whether the next thing is that one more message comes, or that one goes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lane_module, "MAX_WAITING", 8)
        lane, out = make_lane(), []
        log = [(seq, priority, thread) for seq, (priority, thread) in enumerate(messages, 1)]
        coming = iter(log)
        written: list[tuple[int, int, str | None]] = []
        for is_add in [*turns, *[True] * len(log), *[False] * 3 * len(log)]:
            if is_add and (entry := next(coming, None)) is not None:
                written.append(entry)
                lane.add(*entry)
            elif (seq := lane.pop(0.0)) is not None:
                out.append(seq)
                lane.settle(seq)
            refill(lane, written)
            assert lane.waiting <= 16
    assert sorted(out) == [seq for seq, _, _ in log]
    for thread in ("a", "b"):
        own = [seq for seq, _, name in log if name == thread]
        assert [seq for seq in out if seq in own] == own
    assert lane.is_idle


def test_an_urgent_message_passes_those_that_found_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_module, "MAX_WAITING", 3)
    lane = make_lane()
    log: list[tuple[int, int, str | None]] = [(seq, 9 if seq == 6 else 5, None) for seq in range(1, 8)]
    for entry in log:
        lane.add(*entry)
    out = []
    while (seq := lane.pop(0.0)) is not None:
        out.append(seq)
        lane.settle(seq)
        refill(lane, log)
    assert out == [6, 1, 2, 3, 4, 5, 7]


def test_a_retry_waits_for_its_time_and_is_remembered() -> None:
    lane = make_lane()
    lane.add(1, 5, None)
    assert lane.pop(0.0) == 1
    lane.retry(1, 10.0, Tried(attempts=1))
    assert (lane.pop(9.9), lane.next_due_s(), lane.waiting) == (None, 10.0, 1)
    assert lane.pop(10.0) == 1
    assert lane.tried[1].attempts == 1


def test_what_ran_keeps_its_priority() -> None:
    lane = make_lane()
    for seq, priority in ((1, 3), (2, 9)):
        lane.add(seq, priority, None)
    assert (lane.pop(0.0), lane.pop(0.0)) == (2, 1)
    lane.retry(2, 10.0, Tried(1))
    lane.put_back(1, Tried())
    assert lane.pop(10.0) == 2


def test_lesser_messages_wait_where_only_urgent_ones_may_go() -> None:
    lane = make_lane()
    lane.add(1, 5, None)
    lane.add(2, 8, None)
    assert lane.pop(0.0, from_priority=8) == 2
    assert lane.pop(0.0, from_priority=8) is None
    assert lane.pop(0.0) == 1


def test_open_numbers_are_all_that_are_not_settled() -> None:
    lane = make_lane()
    for seq, thread in ((1, "a"), (2, "a"), (3, None), (4, None)):
        lane.add(seq, 5, thread)
    running = lane.pop(0.0)
    lane.retry(lane.pop(0.0) or 0, 10.0, Tried(1))
    assert running == 1
    assert sorted(lane.open_seqs()) == [1, 2, 3, 4]
    lane.settle(1)
    assert sorted(lane.open_seqs()) == [2, 3, 4]
