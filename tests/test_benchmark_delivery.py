"""The far ends of benchmarks/delivery.py count what they must: no loss hides behind a duplicate under another key."""

import sys
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # the benchmarks are no part of the package

from benchmarks.delivery import SEED, Site
from benchmarks.receivers import COUNT, DEDUPLICATING, Faults, Receiver

NO_FAULTS = Faults()


async def test_a_receiver_that_deduplicates_takes_a_message_once() -> None:
    receiver = Receiver(0, NO_FAULTS, SEED)
    assert [receiver.answer(8, "key"), receiver.answer(8, "key")] == [receiver.form.ok] * 2
    assert (receiver.taken, receiver.duplicates) == (Counter({8: 1}), 0)


async def test_an_event_under_another_key_is_a_duplicate_there_too() -> None:
    receiver = Receiver(0, NO_FAULTS, SEED)
    for key in ("first", "second", "third"):
        receiver.answer(8, key)
    assert receiver.duplicates == 2


async def test_duplicates_do_not_hide_what_is_lost() -> None:
    receiver = Receiver(DEDUPLICATING, NO_FAULTS, SEED)
    for _ in range(3):
        receiver.answer(4, "")
    assert receiver.missing([4, 12, 20]) == {12, 20}
    assert receiver.duplicates == 2


async def test_an_event_is_refused_each_time_and_not_lost() -> None:
    receiver = Receiver(0, Faults(permanent=1.0), SEED)
    assert {receiver.answer(8, "a"), receiver.answer(8, "b")} == {receiver.form.refused}
    assert (receiver.missing([8]), receiver.taken) == (set(), Counter())


async def test_each_fault_has_its_share() -> None:
    receiver = Receiver(0, Faults(throttled=0.05, transient=0.03, permanent=0.01), SEED)
    answers = Counter(receiver.answer(number, str(number)) for number in range(20_000))
    form = receiver.form
    for answer, share in ((form.refused, 0.01), (form.throttled, 0.05), (form.busy, 0.015), (b"", 0.015)):
        assert answers[answer] == pytest.approx(20_000 * share, rel=0.2)
    assert len(receiver.taken) == answers[form.ok] + answers[b""]


async def test_a_run_in_which_nothing_ends_any_more_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(tmp_path, [Receiver(number, NO_FAULTS, SEED) for number in range(COUNT)], 100)
    assert site.goes_on(2)
    monkeypatch.setattr("benchmarks.delivery._STALLED_S", 0.0)
    assert not site.goes_on(2)
    site.ends["message"] = "sent"
    monkeypatch.undo()
    assert site.goes_on(2)
    site.ends["another"] = "sent"
    assert not site.goes_on(2)
