"""When an instance takes requests: slots, breaker, throttling. Time is given to it, so nothing here waits."""

import pytest

from autoglm.core.clock import monotonic_s
from autoglm.inference.instance import Instance
from autoglm.inference.slot import Slot
from inference.calls import call, ready


def start(instance: Instance) -> Slot:
    """A request, or the trial when it is paused."""
    return instance.start(call(), after_the_pause(instance) if instance.open_until_s else monotonic_s())


def fail(instance: Instance, times: int = 1) -> None:
    for _ in range(times):
        slot = start(instance)
        instance.failed(slot, "boom")
        instance.finish(slot, monotonic_s())


def after_the_pause(instance: Instance) -> float:
    return instance.open_until_s + 0.001


def test_slots_are_never_exceeded_even_by_a_fraction() -> None:
    instance = ready("a", slots=4)
    instance.limit = 1.5
    start(instance)
    assert not instance.is_free(monotonic_s())


def test_giving_a_slot_back_twice_frees_it_once() -> None:
    instance = ready("a", slots=2)
    first, _ = start(instance), start(instance)
    instance.finish(first, 0.0)
    instance.finish(first, 0.0)
    assert instance.running == 1


def test_five_failures_in_a_row_open_the_breaker() -> None:
    instance = ready("a", slots=9, failures_to_open=5, open_s=30.0)
    fail(instance, 4)
    assert instance.is_free(monotonic_s())
    fail(instance)
    assert not instance.is_free(monotonic_s() + 29)
    assert instance.shown_state == "cooling"
    assert instance.error == "boom"


def test_a_complete_answer_ends_a_row_of_failures() -> None:
    instance = ready("a", slots=9)
    fail(instance, 4)
    slot = start(instance)
    instance.succeeded(slot, 0.1, is_complete=True)
    fail(instance, 4)
    assert instance.is_free(monotonic_s())


def test_an_answer_that_begins_well_and_then_breaks_counts_as_failure() -> None:
    instance = ready("a", slots=9)
    for _ in range(5):
        slot = start(instance)
        instance.succeeded(slot, 0.1, is_complete=False)
        instance.failed(slot, "cut")
        instance.finish(slot, 0.0)
    assert not instance.is_free(monotonic_s())


def test_after_the_pause_one_trial_is_let_through_and_its_success_closes_the_breaker() -> None:
    instance = ready("a", slots=9)
    fail(instance, 5)
    assert instance.is_free(after_the_pause(instance))
    trial = start(instance)
    assert not instance.is_free(after_the_pause(instance))
    instance.succeeded(trial, 0.1, is_complete=True)
    assert instance.is_free(monotonic_s())


def test_a_trial_that_was_given_up_lets_the_next_one_through() -> None:
    instance = ready("a", slots=9)
    fail(instance, 5)
    instance.finish(start(instance), 0.0)
    assert instance.is_free(after_the_pause(instance))


def test_each_failed_trial_makes_the_pause_longer_up_to_ten_times() -> None:
    instance = ready("a", slots=9, open_s=30.0)
    fail(instance, 5)
    for wanted_s in [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300]:
        assert wanted_s - 0.1 < instance.open_until_s - monotonic_s() <= wanted_s * 1.1, "10% of jitter at most"
        fail(instance)
    assert instance.ejections == 13
    assert instance.failures == 17


def test_pauses_differ_so_that_those_ejected_together_do_not_come_back_together() -> None:
    instances = [ready("a", slots=9) for _ in range(20)]
    for instance in instances:
        fail(instance, 5)
    ends_s = sorted(instance.open_until_s for instance in instances)
    assert ends_s[-1] - ends_s[0] > 0.3, "of 3 s"


def test_one_outage_is_one_opening_however_many_requests_it_hits() -> None:
    instance = ready("a", slots=64, open_s=30.0)
    slots = [start(instance) for _ in range(64)]
    for slot in slots:
        instance.failed(slot, "boom")
    assert instance.open_until_s - monotonic_s() <= 33
    assert (instance.ejections, instance.failures) == (1, 64)


def test_what_began_before_the_pause_neither_ends_it_nor_its_trial() -> None:
    instance = ready("a", slots=64)
    old = [start(instance) for _ in range(3)]
    fail(instance, 5)
    instance.succeeded(old[0], 0.1, is_complete=True)
    assert not instance.is_free(monotonic_s())
    assert start(instance).is_trial
    instance.finish(old[1], 0.0)
    assert not instance.is_free(after_the_pause(instance))


def test_throttling_halves_the_slots_and_they_come_back_one_by_one() -> None:
    instance = ready("a", slots=8)
    slots = [start(instance) for _ in range(8)]
    instance.throttled(slots[0], "1302", 1.0)
    assert instance.limit == 4
    limits = []
    for _ in range(40):
        instance.succeeded(start(instance), 0.1, is_complete=True)
        limits.append(instance.limit)
    assert limits == sorted(limits)
    assert limits[0] == 4.25
    assert limits[-1] == 8


def test_a_burst_of_throttled_requests_halves_the_slots_once() -> None:
    instance = ready("a", slots=16)
    for slot in [start(instance) for _ in range(16)]:
        instance.throttled(slot, "1302", 1.0)
    assert instance.limit == 8


def test_throttling_needs_no_trial_and_leaves_one_slot_at_least() -> None:
    instance = ready("a", slots=4)
    for _ in range(5):
        slot = start(instance)
        instance.throttled(slot, "1302", 1.0)
        instance.finish(slot, 0.0)
    assert instance.limit == 1
    instance.limit = 2
    start(instance)
    assert instance.is_free(after_the_pause(instance))


def test_of_two_pauses_the_longer_one_holds() -> None:
    instance = ready("a", slots=4)
    instance.cool(100, "quota")
    instance.cool(1, "overload")
    assert instance.open_until_s - monotonic_s() > 90


def test_an_instance_that_comes_back_is_used_at_once_but_not_before_its_quota() -> None:
    broken, used_up = ready("a", slots=9), ready("b", slots=9)
    fail(broken, 5)
    used_up.cool(1000, "quota")
    for instance in (broken, used_up):
        instance.move("down", "refused")
        instance.move("ready")
    assert broken.is_free(monotonic_s())
    assert not used_up.is_free(monotonic_s())


@pytest.mark.parametrize("state", ["down", "starting"])
def test_resuming_unblocks_but_does_not_bring_up_what_is_down(state: str) -> None:
    instance = ready("a")
    instance.move(state, "refused")  # type: ignore[arg-type]  # a state
    instance.resume()
    assert instance.state == state


def test_resuming_forgets_pauses_and_refused_models() -> None:
    instance = ready("a", slots=8)
    instance.cool(1000, "quota")
    instance.refused_models.add("m")
    instance.limit = 1.0
    instance.resume()
    assert instance.is_free(monotonic_s())
    assert instance.serves("m", "/chat/completions")
    assert instance.limit == 8
    assert instance.error == ""


# --- the vendor's word ---


@pytest.mark.parametrize("pauses_s", [(1.0, 30.0), (30.0, 1.0), (1.0, 30.0, 2.0)])
def test_of_many_throttled_at_once_the_longest_retry_after_holds(pauses_s: tuple[float, ...]) -> None:
    """They were all under way when the first was refused; a later and shorter one never shortens the pause."""
    instance = ready("a", slots=16)
    slots = [start(instance) for _ in pauses_s]
    for slot, pause_s in zip(slots, pauses_s, strict=True):
        instance.throttled(slot, "HTTP 429", pause_s)
        instance.finish(slot, monotonic_s())
    assert 29 < instance.open_until_s - monotonic_s() <= 30
    assert instance.throttles == len(pauses_s)


def test_throttling_is_no_failure() -> None:
    instance = ready("a", slots=16, failures_to_open=2)
    for _ in range(20):
        slot = start(instance)
        instance.throttled(slot, "HTTP 429", 1.0)
        instance.finish(slot, monotonic_s())
    assert (instance.failures, instance.ejections, instance.is_ejected) == (0, 0, False)


def test_a_throttle_that_outlasts_an_ejection_does_not_spare_it_the_trial() -> None:
    instance = ready("a", slots=9, open_s=1.0)
    fail(instance, 5)
    slot = instance.start(call(), monotonic_s())  # in panic
    instance.throttled(slot, "HTTP 429", 60.0)
    assert start(instance).is_trial


def test_a_jump_of_the_clock_changes_no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    instance = ready("a", slots=4)
    instance.cool(10, "quota")
    for jump_s in (-86_400 * 365, 86_400 * 365):
        with monkeypatch.context() as patch:
            patch.setattr("time.time", lambda jump_s=jump_s: 1.8e9 + jump_s)
            patch.setattr("time.time_ns", lambda jump_s=jump_s: int((1.8e9 + jump_s) * 1e9))
            assert not instance.is_free(monotonic_s())
            recovery_s = instance.may_recover(monotonic_s())
            assert recovery_s is not None
            assert 9 < recovery_s <= 10
            assert instance.is_free(after_the_pause(instance))


# --- taking it out ---


def test_a_draining_instance_takes_nothing_new_and_tells_when_the_last_has_ended() -> None:
    instance = ready("a", slots=4)
    first, second = start(instance), start(instance)
    drained = instance.drain()
    assert (instance.is_free(monotonic_s()), instance.shown_state) == (False, "draining")
    instance.finish(first, monotonic_s())
    assert not drained.is_set()
    instance.finish(second, monotonic_s())
    assert drained.is_set()
    assert instance.shown_state == "drained"


def test_an_idle_instance_is_drained_at_once_and_a_probe_does_not_bring_it_back() -> None:
    instance = ready("a")
    assert instance.drain().is_set()
    instance.move("down", "restarted")
    instance.found()
    assert not instance.is_free(monotonic_s())
    assert instance.may_recover(monotonic_s()) is None
    instance.resume()
    assert (instance.is_free(monotonic_s()), instance.shown_state) == (True, "ready")


def test_draining_twice_is_draining() -> None:
    instance = ready("a")
    slot = start(instance)
    assert instance.drain() is instance.drain()
    instance.finish(slot, monotonic_s())
    assert instance.drain().is_set()


# --- suspicion ---


def test_a_suspect_gets_nothing_until_its_probe_is_done() -> None:
    instance = ready("a")
    calls: list[str] = []
    instance.suspect()
    assert instance.is_free(monotonic_s()), "nobody would ever clear it"
    instance.watched(lambda: calls.append("probe"))
    instance.suspect()
    instance.suspect()
    assert (calls, instance.is_free(monotonic_s())) == (["probe"], False)
    instance.cleared()
    assert instance.is_free(monotonic_s())


def test_one_that_closes_idle_connections_as_a_habit_is_suspected_less_and_less() -> None:
    instance = ready("a")
    calls: list[str] = []
    instance.watched(lambda: calls.append("probe"))
    for _ in range(100):
        instance.hung_up()
        instance.cleared()
    assert len(calls) == 1
    instance._next_hint_s = 0.0
    instance.hung_up()
    assert len(calls) == 2
    assert instance._next_hint_s - monotonic_s() > 1.5
