"""Messages over budget wait by payer: in turn, a few at a time, and the rest in the log."""

import pytest

from autoglm.core.clock import monotonic_s, now_ms
from autoglm.core.payer import Payer
from autoglm.inference.parking import FEW, MANY, Lot, Parking
from autoglm.inference.progress import OverBudget

REFUSED = OverBudget("b", "requests", 0)


def full(count: int) -> Lot:
    lot = Lot(REFUSED)
    for seq in range(1, count + 1):
        assert lot.park(seq, f"m{seq}")
    return lot


def test_who_was_tried_in_vain_gives_way_to_the_others() -> None:
    lot = full(2 * FEW)
    taken = lot.take(0.0)
    assert [seq for seq, _ in taken] == list(range(1, FEW + 1))
    for seq, id in taken:
        lot.park(seq, id)
    assert [seq for seq, _ in lot.take(0.0)] == list(range(FEW + 1, 2 * FEW + 1))


def test_twice_as_many_are_tried_each_time_that_all_had_room_and_few_again_when_one_had_none() -> None:
    lot = full(1000)
    sizes = [len(lot.take(0.0)) for _ in range(5)]
    assert sizes == [FEW, 2 * FEW, 4 * FEW, 8 * FEW, 16 * FEW]
    lot.park(1, "m1")
    assert len(lot.take(0.0)) == FEW
    flood = full(1000)
    for _ in range(20):
        for seq, id in flood.take(0.0):
            assert seq >= 0, id
        flood.parked.extend((seq, "m") for seq in range(1000))
    assert len(flood.take(0.0)) == MANY


def test_the_pause_doubles_up_to_a_minute_while_there_is_no_room_and_is_short_again_afterwards() -> None:
    lot = full(1)
    pauses_s = []
    for _ in range(9):
        for seq, id in lot.take(0.0):
            lot.park(seq, id)
        pauses_s.append(lot.due_s)
    expected_s = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]
    assert pauses_s == [pytest.approx(pause_s, rel=0.21) for pause_s in expected_s]
    assert not lot.is_due(pauses_s[-1] - 0.1)
    assert lot.is_due(pauses_s[-1])
    lot.take(0.0)
    lot.take(0.0)
    assert lot.due_s == pytest.approx(1.0, rel=0.21)


def test_a_full_lot_leaves_the_lowest_number_in_the_log_and_an_empty_one_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("autoglm.inference.parking.MAX_PARKED", 1)
    parking, payer = Parking(), Payer("key", "tenant")
    assert parking.park(payer, 1, "m1", REFUSED)
    assert not parking.park(payer, 7, "m7", REFUSED)
    assert not parking.park(payer, 5, "m5", REFUSED)
    assert (len(parking), parking.first_left()) == (1, 5)
    later_s = monotonic_s() + 100.0
    (lot,) = parking.due(later_s)
    assert lot.take(later_s) == [(1, "m1")]
    later_s += 100.0
    assert parking.due(later_s) == [lot], "some are left in the log"
    lot.looked_at, lot.left = lot.left, None
    assert parking.first_left() == 5, "until the log has been read again"
    lot.looked_at = None
    assert parking.due(later_s) == []
    assert parking.lots == {}


def refused(resets_in_s: float) -> OverBudget:
    return OverBudget("ward-day", "requests", now_ms() + int(1000 * resets_in_s))


def tried_in_vain(lot: Lot, times: int) -> float:
    """Try as often, always refused; when the next try is due, in seconds from the last one."""
    now_s = monotonic_s()
    for seq, id in lot.take(now_s):
        lot.park(seq, id)
    return tried_in_vain(lot, times - 1) if times > 1 else lot.due_s - now_s


@pytest.mark.parametrize("resets_in_s", [5.0, 30.0])
def test_no_pause_lasts_much_longer_than_the_period(resets_in_s: float) -> None:
    lot = Lot(refused(resets_in_s))
    lot.park(1, "m1")
    assert resets_in_s - 0.5 <= tried_in_vain(lot, 9) <= resets_in_s + 1.0


def test_once_the_period_is_over_those_behind_the_first_few_follow_at_once() -> None:
    lot = full(5 * FEW)
    lot.refused = refused(3600.0)
    tried_in_vain(lot, 9)
    lot.refused = refused(-0.1)
    now_s = monotonic_s()
    assert len(lot.take(now_s)) == FEW
    assert lot.due_s - now_s < 1.5
    assert len(lot.take(now_s)) == 2 * FEW
