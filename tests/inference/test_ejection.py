"""Who may be ejected, for how long, and when that is ignored. Time is given, so nothing here waits."""

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoglm.core.clock import monotonic_s
from autoglm.inference.ejection import MIN_SAMPLES, decayed, ejection_s, has_room, to_read
from autoglm.inference.instance import Instance
from autoglm.inference.scheduler import Scheduler
from autoglm.inference.settings import PoolSettings, SchedulerSettings
from inference.calls import call, ready
from inference.test_instance import after_the_pause, fail


def pool(*instances: Instance, **settings: float) -> Scheduler:
    scheduler = Scheduler(SchedulerSettings(), pool=PoolSettings.model_validate(settings))
    for instance in instances:
        scheduler.add(instance)
    return scheduler


def crowd(count: int) -> list[Instance]:
    return [ready(f"i{number}", slots=9) for number in range(count)]


def answer(instance: Instance, took_s: float, times: int = 1, *, tokens: float = 0.0, ahead: float = 0.0) -> None:
    """tokens: of its prompt; ahead: of one other that it had to wait for."""
    for _ in range(times):
        slot = instance.start(call(), after_the_pause(instance) if instance.open_until_s else monotonic_s())
        slot.uncached_tokens, slot.ahead_tokens, slot.beside = tokens, ahead, 2 if ahead else 1
        instance.succeeded(slot, took_s, is_complete=True)
        instance.finish(slot, monotonic_s())


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_one_may_always_be_ejected_and_then_at_most_the_share(total: int, share: float) -> None:
    ejected = 0
    while ejected <= total and has_room(ejected, total, share):
        ejected += 1
    assert ejected == max(1, int(total * share + 1e-9))


@given(st.floats(0.1, 3600), st.integers(1, 1000))
def test_a_pause_grows_up_to_ten_times_with_a_tenth_of_jitter(base_s: float, count: int) -> None:
    least_s = base_s * min(count, 10)
    assert least_s <= ejection_s(base_s, count) <= least_s * 1.1 * (1 + 1e-9)


def test_ejections_are_forgotten_one_by_one_in_good_time() -> None:
    assert [decayed(3, good_s, 30.0) for good_s in (0, 29, 30, 65, 90, 1e6)] == [3, 3, 2, 1, 0, 0]


@pytest.mark.parametrize(("total", "allowed"), [(1, 1), (3, 1), (19, 1), (20, 2), (40, 4)])
def test_no_more_than_a_tenth_of_a_models_instances_is_ejected(total: int, allowed: int) -> None:
    instances = crowd(total)
    pool(*instances)
    for instance in instances:
        fail(instance, 9)
    assert sum(instance.is_ejected for instance in instances) == allowed


def test_the_share_counts_for_each_model_of_an_instance() -> None:
    both, small, large = ready("both", "s", "l", slots=9), ready("small", "s", slots=9), ready("large", "l", slots=9)
    pool(both, small, large)
    fail(small, 5)
    fail(both, 5)
    assert (small.is_ejected, both.is_ejected) == (True, False), "it would be the second of model s"
    fail(large, 5)
    assert large.is_ejected


def test_who_comes_back_makes_room_for_another() -> None:
    a, b = crowd(2)
    pool(a, b)
    fail(a, 5)
    fail(b, 5)
    assert (a.is_ejected, b.is_ejected) == (True, False)
    answer(a, 0.1)
    fail(b)
    assert (a.is_ejected, b.is_ejected) == (False, True)


def test_a_renewal_needs_no_room() -> None:
    a, b, c = crowd(3)
    scheduler = pool(a, b, c, max_ejected_share=0.7)
    fail(a, 5)
    fail(b, 5)
    assert (a.is_ejected, b.is_ejected) == (True, True)
    fail(a)
    assert a.ejections == 2
    assert scheduler.candidates("m", "/chat/completions") == [a, b, c]


# --- panic ---


def test_a_lone_instance_is_used_though_it_is_ejected() -> None:
    [lone] = crowd(1)
    scheduler = pool(lone)
    fail(lone, 5)
    assert not lone.is_free(monotonic_s())
    slot = scheduler.try_acquire(call())
    assert slot is not None
    assert not slot.is_trial


def test_without_panic_a_lone_ejected_instance_is_not_used() -> None:
    [lone] = crowd(1)
    scheduler = pool(lone, panic_share=0.0)
    fail(lone, 5)
    assert scheduler.try_acquire(call()) is None


def test_half_of_the_instances_healthy_is_no_panic() -> None:
    a, b = crowd(2)
    scheduler = pool(a, b)
    fail(a, 5)
    taken = [scheduler.try_acquire(call()) for _ in range(10)]
    assert [slot.instance.name for slot in taken if slot is not None] == ["i1"] * 9
    assert taken[9] is None, "the ejected one stays out though the other is full"


def test_those_that_failed_a_call_do_not_keep_it_from_an_ejected_one() -> None:
    a, b = crowd(2)
    scheduler = pool(a, b)
    fail(a, 5)
    slot = scheduler.try_acquire(call(), frozenset({"i1"}))
    assert slot is not None
    assert slot.instance is a


def test_panic_does_not_overrule_what_the_vendor_told() -> None:
    [lone] = crowd(1)
    scheduler = pool(lone)
    fail(lone, 5)
    lone.cool(10, "HTTP 429: come back in 10 s")
    assert lone.is_ejected
    assert scheduler.try_acquire(call()) is None
    assert lone.may_recover(monotonic_s(), in_panic=True) == pytest.approx(10, abs=0.5)
    assert lone.may_recover(monotonic_s()) == pytest.approx(31.5, abs=1.6)


def test_failures_in_panic_do_not_make_the_pause_longer() -> None:
    [lone] = crowd(1)
    scheduler = pool(lone)
    fail(lone, 5)
    until_s = lone.open_until_s
    for _ in range(20):
        slot = scheduler.try_acquire(call())
        assert slot is not None
        lone.failed(slot, "boom")
        lone.finish(slot, monotonic_s())
    assert (lone.open_until_s, lone.ejections) == (until_s, 1)


# --- slow ---


def feed(scheduler: Scheduler, slow: Instance, slow_s: float, others: list[Instance], others_s: float) -> int:
    """Answers one after the other, a look after each; returns how many the slow one had given when it was ejected."""
    for count in itertools.count(1):
        for instance in others:
            answer(instance, others_s)
        answer(slow, slow_s)
        scheduler.ejections.eject_slow()
        if slow.is_ejected or count == 100:
            return count
    raise AssertionError("unreachable")


@pytest.mark.parametrize("peers", [1, 2, 9])
def test_an_instance_ten_times_slower_than_its_peers_is_found_within_20_requests(peers: int) -> None:
    slow, *others = crowd(peers + 1)
    assert feed(pool(slow, *others), slow, 2.0, others, 0.2) <= 20
    assert "its peers need 0.2 s" in slow.error
    assert not any(instance.is_ejected for instance in others)


def test_twice_as_slow_is_no_outlier_and_nor_is_what_nobody_feels() -> None:
    slow, *others = crowd(3)
    assert feed(pool(slow, *others), slow, 0.4, others, 0.2) == 100
    slow, *others = crowd(3)
    assert feed(pool(slow, *others), slow, 0.02, others, 0.001) == 100


def test_a_long_answer_now_and_then_is_no_outlier() -> None:
    lively, *others = crowd(3)
    scheduler = pool(lively, *others)
    for number in range(60):
        for instance in others:
            answer(instance, 0.2)
        answer(lively, 9.0 if number % 3 == 0 else 0.2)
        assert scheduler.ejections.eject_slow() == []


def test_a_slow_one_comes_back_only_when_it_is_as_fast_as_the_others() -> None:
    slow, *others = crowd(3)
    feed(pool(slow, *others), slow, 2.0, others, 0.2)
    answer(slow, 2.0)  # the trial
    assert (slow.is_ejected, slow.ejections) == (True, 2)
    answer(slow, 0.2)
    assert not slow.is_ejected
    assert slow.is_free(monotonic_s())


def test_a_lone_instance_is_never_slow_and_nor_is_one_whose_peers_are_unknown() -> None:
    slow, other = crowd(2)
    scheduler = pool(slow, other)
    answer(slow, 9.0, times=MIN_SAMPLES + 5)
    answer(other, 0.1, times=MIN_SAMPLES - 1)
    assert scheduler.ejections.eject_slow() == []
    answer(other, 0.1)
    answer(slow, 9.0)
    assert scheduler.ejections.eject_slow() == [slow]


def test_streams_are_not_compared_with_whole_answers() -> None:
    """The first byte of a whole answer comes when all of it has been generated."""
    a, b = crowd(2)
    scheduler = pool(a, b)
    for instance, is_stream, took_s in ((a, False, 9.0), (b, True, 0.1)):
        for _ in range(MIN_SAMPLES):
            slot = instance.start(call(stream=is_stream), monotonic_s())
            instance.succeeded(slot, took_s, is_complete=True)
            instance.finish(slot, monotonic_s())
    assert scheduler.ejections.eject_slow() == []


def reads(instance: Instance, tokens: float, *, slower: float = 1.0, ahead: float = 0.0) -> None:
    """It answers as one that needs 50 ms and 1 ms a token."""
    answer(instance, slower * (0.05 + 0.001 * (tokens + ahead)), tokens=tokens, ahead=ahead)


def test_an_instance_that_gets_the_long_prompts_is_not_slow() -> None:
    reader, *others = crowd(4)
    scheduler = pool(reader, *others)
    for _ in range(40):
        reads(reader, 4000)
        for instance in others:
            reads(instance, 40)
        assert scheduler.ejections.eject_slow() == []


def test_nor_is_one_whose_short_prompts_wait_for_a_long_one() -> None:
    reader, *others = crowd(4)
    scheduler = pool(reader, *others)
    for _ in range(40):
        reads(reader, 40, ahead=4000)
        for instance in others:
            reads(instance, 40)
        assert scheduler.ejections.eject_slow() == []


def test_prompts_like_its_own_that_are_ahead_are_no_excuse() -> None:
    assert to_read((1.0, 400.0, 3 * 400.0, 4)) == 400.0
    assert to_read((1.0, 400.0, 2 * 400.0 + 5000.0, 4)) == 400.0 + 4600.0


@pytest.mark.parametrize("seed", range(5))
def test_with_prompts_of_all_lengths_the_slow_one_is_found_within_20_requests_and_no_other(seed: int) -> None:
    chance = random.Random(seed)
    slow, *others = crowd(4)
    scheduler = pool(slow, *others)
    ejected: set[Instance] = set()
    for _ in range(20):
        for instance in others:
            reads(instance, chance.choice((20, 100, 500, 4000)))
        reads(slow, chance.choice((20, 100, 500, 4000)), slower=10.0)
        ejected.update(scheduler.ejections.eject_slow())
        if ejected:
            break
    assert ejected == {slow}


def test_a_long_prompt_ends_the_pause_of_one_that_was_slow() -> None:
    slow, *others = crowd(3)
    scheduler = pool(slow, *others)
    for _ in range(MIN_SAMPLES):
        reads(slow, 40, slower=20.0)
        for instance in others:
            reads(instance, 40)
    assert scheduler.ejections.eject_slow() == [slow]
    reads(slow, 4000)  # the trial
    assert not slow.is_ejected


def test_slowness_too_is_subject_to_the_share() -> None:
    slow, broken, *others = crowd(5)
    scheduler = pool(slow, broken, *others)
    fail(broken, 5)
    assert feed(scheduler, slow, 2.0, others, 0.2) == 100


def test_the_trial_of_a_slow_one_is_not_left_to_chance() -> None:
    """Else its bad record would keep each request away from it, and it would never be found well."""
    slow, *others = crowd(3)
    scheduler = pool(slow, *others)
    feed(scheduler, slow, 2.0, others, 0.2)
    slow.open_until_s = monotonic_s() - 0.001
    slot = scheduler.try_acquire(call())
    assert slot is not None
    assert (slot.instance, slot.is_trial) == (slow, True)
    following = scheduler.try_acquire(call())
    assert following is not None
    assert following.instance is not slow


# --- coming and going ---


def fall(instance: Instance) -> None:
    instance.lost("connection refused")
    instance.found()


def test_one_that_comes_and_goes_is_taken_back_later_each_time() -> None:
    flapping, other = crowd(2)
    pool(flapping, other)
    pauses = []
    for _ in range(4):
        fall(flapping)
        pauses.append(max(0.0, flapping.open_until_s - monotonic_s()))
    assert pauses[0] == 0, "once is no habit"
    assert [round(pause_s / 33 - 0.04) for pause_s in pauses[1:]] == [1, 2, 3]


def test_falls_long_ago_do_not_count() -> None:
    instance, other = crowd(2)
    pool(instance, other)
    fall(instance)
    instance._in_pool_s -= 31
    fall(instance)
    assert instance.is_free(monotonic_s())


def test_a_restart_ends_an_ejection_but_not_what_the_vendor_told() -> None:
    [instance] = crowd(1)
    pool(instance)
    fail(instance, 5)
    instance.cool(1000, "quota")
    fall(instance)
    assert not instance.is_ejected
    assert instance.open_until_s - monotonic_s() > 900
