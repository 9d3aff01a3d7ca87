"""Who gets a slot, in which order, and that none is ever lost."""

import asyncio
import math
import random
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from autoglm.core.clock import monotonic_s
from autoglm.core.errors import (
    DeadlineExceeded,
    HubError,
    NoInstanceFree,
    NotOffered,
    Overloaded,
    QueueFull,
    UnknownModel,
)
from autoglm.inference.call import Call
from autoglm.inference.instance import Instance
from autoglm.inference.scheduler import Scheduler
from autoglm.inference.settings import SchedulerSettings
from autoglm.inference.slot import Slot
from eventually import until
from inference.calls import call, call_of, make_known, ready


def scheduler(*instances: Instance, **settings: Any) -> Scheduler:
    made = Scheduler(SchedulerSettings(**settings))
    for instance in instances:
        made.instances[instance.name] = instance
    return made


class Crowd:
    """Requests that wait at schedulers. `finished` has the names of those that got a slot, in that order."""

    def __init__(self) -> None:
        self.finished: list[str] = []
        self.tasks: list[asyncio.Task[Slot]] = []

    async def join(
        self, pool: Scheduler, wanted: Call, name: str = "", excluded: frozenset[str] = frozenset()
    ) -> "asyncio.Task[Slot]":
        """Returns once the request waits, or has its slot."""
        waiting = pool.waiting

        async def run() -> Slot:
            slot = await pool.acquire(wanted, excluded)
            self.finished.append(name)
            return slot

        task = asyncio.create_task(run())
        self.tasks.append(task)
        await until(lambda: task.done() or pool.waiting > waiting)
        return task

    async def pass_through(self, pool: Scheduler) -> None:
        """Each gives its slot back once it has it."""
        for task in self.tasks:
            task.add_done_callback(lambda done: pool.release(done.result()))
        await asyncio.gather(*self.tasks)

    async def be_answered(self, pool: Scheduler) -> None:
        """As `pass_through`, each after an answer of 50 tokens."""
        for task in self.tasks:
            task.add_done_callback(lambda done: answer(pool, done.result()))
        await asyncio.gather(*self.tasks)


@pytest.fixture
async def crowd() -> AsyncIterator[Crowd]:
    made = Crowd()
    yield made
    for task in made.tasks:
        task.cancel()
    await asyncio.gather(*made.tasks, return_exceptions=True)


# --- order ---


async def test_priority_goes_before_deadline_and_deadline_before_arrival(crowd: Crowd) -> None:
    pool = scheduler(ready("a"))
    held = await pool.acquire(call())
    now_s = monotonic_s()
    await crowd.join(pool, call(), "first")
    await crowd.join(pool, call(), "second")
    await crowd.join(pool, call(deadline_s=now_s + 60), "late deadline")
    await crowd.join(pool, call(deadline_s=now_s + 30), "soon deadline")
    await crowd.join(pool, call(priority=9), "urgent")
    await crowd.join(pool, call(priority=0, deadline_s=now_s + 20), "humble")
    pool.release(held)
    await crowd.pass_through(pool)
    assert crowd.finished == ["urgent", "soon deadline", "late deadline", "first", "second", "humble"]


async def test_order_holds_over_all_models_of_an_instance(crowd: Crowd) -> None:
    pool = scheduler(ready("a", "m", "n"))
    held = await pool.acquire(call())
    await crowd.join(pool, call("m"), "m")
    await crowd.join(pool, call("n", priority=7), "n")
    await crowd.join(pool, call("m", priority=8), "m urgent")
    pool.release(held)
    await crowd.pass_through(pool)
    assert crowd.finished == ["m urgent", "n", "m"]


async def test_a_request_that_has_to_wait_again_keeps_its_place(crowd: Crowd) -> None:
    pool = scheduler(ready("a"))
    held = await pool.acquire(call())
    old = call()
    task = await crowd.join(pool, old, "old")
    pool.release(held)
    slot = await task  # it was served, was throttled, and has to wait anew
    await crowd.join(pool, call(), "young")
    again = await crowd.join(pool, old, "old again")
    pool.release(slot)
    pool.release(await again)
    pool.release(await crowd.tasks[1])
    assert crowd.finished == ["old", "old again", "young"]


async def test_a_newcomer_does_not_overtake_those_who_waited_for_a_pause_to_end(crowd: Crowd) -> None:
    instance = ready("a", slots=9)
    instance.cool(0.05, "overload")
    pool = scheduler(instance)
    waiting = await crowd.join(pool, call())
    while monotonic_s() <= instance.open_until_s:
        pass  # the loop is busy: the pause ends, and the timer has no chance yet
    assert pool.try_acquire(call()) is None  # the one trial belongs to who waited
    assert (await waiting).instance is instance


async def test_a_retry_that_shuns_the_free_instance_does_not_block_those_behind_it(crowd: Crowd) -> None:
    a, b = ready("a"), ready("b")
    pool = scheduler(a, b)
    on_a, on_b = await pool.acquire(call()), await pool.acquire(call())
    retry = await crowd.join(pool, call(priority=9), "retry", frozenset({"a"}))
    other = await crowd.join(pool, call(), "other")
    pool.release(on_a)
    assert (await other).instance is a
    assert not retry.done()
    pool.release(on_b)
    assert (await retry).instance is b


async def test_waiting_for_one_model_never_blocks_another(crowd: Crowd) -> None:
    pool = scheduler(ready("a", "m"), ready("b", "n"))
    held = await pool.acquire(call("m"))
    for _ in range(20):
        await crowd.join(pool, call("m", priority=9))
    slot = await asyncio.wait_for(pool.acquire(call("n", priority=0)), 1)
    second = await crowd.join(pool, call("n", priority=0))
    pool.release(slot)
    assert (await second).instance.name == "b"
    assert held.instance.running == 1


# --- which instance ---


async def test_the_instance_with_the_least_predicted_wait_gets_the_request() -> None:
    slow, fast = ready("slow", slots=8), ready("fast", slots=8)
    make_known(slow, 1.0)
    make_known(fast, 0.1)
    pool = scheduler(slow, fast)
    names = [(await pool.acquire(call())).instance.name for _ in range(12)]
    assert names == ["fast"] * 8 + ["slow"] * 4


async def test_equal_instances_share_the_load() -> None:
    pool = scheduler(ready("a", slots=4), ready("b", slots=4), ready("c", slots=4))
    for instance in pool.instances.values():
        make_known(instance, 0.1)
    for _ in range(9):
        await pool.acquire(call())
    assert [instance.running for instance in pool.instances.values()] == [3, 3, 3]


# --- admission ---


async def test_a_full_queue_says_when_to_come_back(crowd: Crowd) -> None:
    instance = ready("a", slots=2)
    instance.held_s = 4.0
    pool = scheduler(instance, max_queue=3)
    for _ in range(2):
        await pool.acquire(call())
    for _ in range(3):
        await crowd.join(pool, call())
    with pytest.raises(QueueFull) as caught:
        await pool.acquire(call())
    assert caught.value.facts["retry_after_s"] == 8.0  # 3 ahead and itself, 4 s each, 2 at a time


async def test_a_queue_of_no_length_refuses_at_once() -> None:
    pool = scheduler(ready("a"), max_queue=0)
    await pool.acquire(call())
    with pytest.raises(QueueFull):
        await pool.acquire(call())


async def test_the_deadline_ends_the_wait() -> None:
    pool = scheduler(ready("a"))
    await pool.acquire(call())
    with pytest.raises(DeadlineExceeded, match=r"0\.1 s"):
        await pool.acquire(call(deadline_s=monotonic_s() + 0.1))
    assert pool.waiting == 0


async def test_the_longest_wait_is_bounded_and_its_reason_told() -> None:
    instance = ready("a")
    instance.error = "HTTP 500"
    pool = scheduler(instance, max_wait_s=0.05)
    await pool.acquire(call())
    with pytest.raises(NoInstanceFree, match="HTTP 500"):
        await pool.acquire(call())


async def test_when_nothing_can_recover_the_refusal_is_immediate_and_has_every_reason() -> None:
    a, b = ready("a"), ready("b")
    a.move("down", "connection refused")
    b.move("blocked", "code 1113: arrears")
    with pytest.raises(NoInstanceFree, match=r"a is down: connection refused; b is blocked: code 1113: arrears"):
        await asyncio.wait_for(scheduler(a, b).acquire(call()), 1)


async def test_a_pause_longer_than_the_patience_is_told_at_once_with_its_end() -> None:
    instance = ready("a")
    instance.cool(600, "quota until 12:00")
    with pytest.raises(NoInstanceFree, match="quota until 12:00") as caught:
        await asyncio.wait_for(scheduler(instance, max_wait_s=120).acquire(call()), 1)
    retry_after_s = caught.value.facts["retry_after_s"]
    assert isinstance(retry_after_s, float)
    assert 599 < retry_after_s <= 600


@pytest.mark.parametrize("how", ["down", "blocked", "quota"])
async def test_who_waits_for_what_can_no_longer_come_is_told_at_once(how: str, crowd: Crowd) -> None:
    instance = ready("a")
    pool = scheduler(instance)
    await pool.acquire(call())
    waiting = await crowd.join(pool, call())
    if how == "quota":
        instance.cool(3600, "used up")
    else:
        instance.move(how, "gone")  # type: ignore[arg-type]  # a state
    pool.changed()
    with pytest.raises(NoInstanceFree):
        await asyncio.wait_for(waiting, 1)
    assert pool.waiting == 0


async def test_an_instance_that_starts_is_waited_for(crowd: Crowd) -> None:
    instance = Instance("a", "local", models=("m",), slots=1, apis=("/chat/completions",))
    pool = scheduler(instance)
    waiting = await crowd.join(pool, call())
    instance.move("ready")
    pool.changed()
    assert (await asyncio.wait_for(waiting, 1)).instance is instance


async def test_the_end_of_a_pause_wakes_those_who_wait(crowd: Crowd) -> None:
    instance = ready("a", slots=4)
    instance.cool(0.05, "overload")
    pool = scheduler(instance)
    trial, other = await crowd.join(pool, call()), await crowd.join(pool, call())
    slot = await asyncio.wait_for(trial, 2)
    assert not other.done()
    instance.succeeded(slot, 0.1, is_complete=True)
    pool.release(slot)
    assert (await asyncio.wait_for(other, 2)).instance is instance


async def test_what_nobody_serves_is_unknown_and_what_nobody_offers_is_said_so() -> None:
    pool = scheduler(ready("a", "qwen"))
    with pytest.raises(UnknownModel, match="Did you mean 'qwen'"):
        await pool.acquire(call("qwem"))
    with pytest.raises(NotOffered, match="/v1/responses"):
        await pool.acquire(call("qwen", api="/responses"))


async def test_a_refused_model_names_who_refuses_it() -> None:
    instance = ready("a")
    instance.refused_models.add("m")
    instance.error = "code 1211: no such model"
    with pytest.raises(NoInstanceFree, match="a refuses it: code 1211"):
        await scheduler(instance).acquire(call())


async def test_names_that_nobody_serves_do_not_fill_the_memory() -> None:
    pool = scheduler(ready("a"))
    for number in range(1000):
        with pytest.raises(UnknownModel):
            await pool.acquire(call(f"x{number}"))
    assert len(pool._serving) == 0


# --- moving away from an instance that went down ---


async def test_only_who_can_move_is_recalled_from_an_instance_that_went_down() -> None:
    a, b = ready("a", slots=4), ready("b", slots=4)
    pool = scheduler(a, b)
    make_known(b, 1.0)
    make_known(a, 0.1)
    waiting, streaming = await pool.acquire(call()), await pool.acquire(call())
    waiting.waiting = sleeper = asyncio.create_task(asyncio.sleep(60))
    a.move("down", "hung")
    pool.changed()
    assert waiting.is_recalled
    assert not streaming.is_recalled
    with pytest.raises(asyncio.CancelledError):
        await sleeper


@pytest.mark.parametrize(
    ("state", "may_move"), [("ready", True), ("starting", True), ("down", False), ("blocked", False)]
)
async def test_there_is_somewhere_to_go_while_another_may_still_come_up(state: str, may_move: bool) -> None:
    a, b = ready("a"), ready("b")
    b.move(state)  # type: ignore[arg-type]  # a state
    assert scheduler(a, b).has_other(call(), frozenset({"a"})) is may_move


async def test_nobody_is_recalled_when_there_is_nowhere_to_go() -> None:
    a = ready("a")
    pool = scheduler(a)
    slot = await pool.acquire(call())
    slot.waiting = asyncio.current_task()
    a.move("down", "hung")
    pool.changed()
    assert not slot.is_recalled


# --- no slot is lost ---


class Client:
    """One of hundreds that ask, hold, leave and give up as chance has it, while the pool changes under them."""

    def __init__(self, pool: Scheduler, dice: random.Random, held: dict[str, set[Slot]]) -> None:
        self.pool, self.dice, self.held = pool, dice, held

    async def run(self) -> None:
        wanted = call(
            self.dice.choice(["m", "n"]),
            priority=self.dice.randrange(10),
            deadline_s=monotonic_s() + self.dice.uniform(0.001, 0.05) if self.dice.random() < 0.3 else None,
        )
        try:
            slot = await self.pool.acquire(wanted, frozenset({"a"}) if self.dice.random() < 0.1 else frozenset())
        except HubError:
            return
        instance = slot.instance
        assert slot not in self.held[instance.name], "nobody else has it"
        self.held[instance.name].add(slot)
        try:
            assert self.held[instance.name] <= instance.held, "who holds a slot is counted"
            assert instance.running <= instance.slots
            for _ in range(self.dice.randrange(4)):
                await asyncio.sleep(0)
            outcomes = [self.succeed] * 16 + [self.fail, self.throttle, lambda slot: None]
            self.dice.choice(outcomes)(slot)
        finally:
            self.held[instance.name].discard(slot)
            self.pool.release(slot)

    def succeed(self, slot: Slot) -> None:
        slot.instance.succeeded(slot, 0.01, is_complete=True)

    def fail(self, slot: Slot) -> None:
        slot.instance.failed(slot, "boom")

    def throttle(self, slot: Slot) -> None:
        slot.instance.throttled(slot, "1302", 0.001)
        self.pool.changed()


@pytest.mark.parametrize("seed", range(8))
async def test_no_slot_is_lost_or_given_twice_under_cancellation(seed: int) -> None:
    dice = random.Random(seed)
    a, b = ready("a", "m", slots=3, open_s=0.002), ready("b", "m", "n", slots=5, open_s=0.002)
    pool = scheduler(a, b, max_queue=200, max_wait_s=0.2)
    held: dict[str, set[Slot]] = {"a": set(), "b": set()}
    tasks: list[asyncio.Task[None]] = []
    for _ in range(600):
        tasks.append(asyncio.create_task(Client(pool, dice, held).run()))
        if dice.random() < 0.4:
            dice.choice(tasks[-50:]).cancel()
        if dice.random() < 0.3:
            await asyncio.sleep(0)
        if dice.random() < 0.02:
            a.move(dice.choice(["down", "ready", "ready"]), "chance")
            pool.changed()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(result) for result in results} <= {type(None), asyncio.CancelledError}
    assert (a.running, b.running, pool.waiting, pool._queues) == (0, 0, 0, {})
    assert b.served > 60  # it was no empty run


async def test_a_slot_that_comes_in_the_moment_of_giving_up_goes_to_the_next(crowd: Crowd) -> None:
    pool = scheduler(ready("a"))
    held = await pool.acquire(call())
    leaving = await crowd.join(pool, call())
    staying = await crowd.join(pool, call())
    pool.release(held)  # the first has the slot from here on
    leaving.cancel()  # before it could run
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert (await asyncio.wait_for(staying, 1)).instance.running == 1


async def test_the_cancelled_first_in_line_does_not_hold_up_the_second(crowd: Crowd) -> None:
    pool = scheduler(ready("a"))
    held = await pool.acquire(call())
    leaving = await crowd.join(pool, call())
    staying = await crowd.join(pool, call())
    leaving.cancel()
    pool.release(held)
    assert (await asyncio.wait_for(staying, 1)).instance.running == 1
    assert leaving.cancelled()


async def test_a_thousand_that_give_up_at_once_cost_little() -> None:
    pool = scheduler(ready("a"), max_queue=5000)
    held = await pool.acquire(call())
    tasks = [asyncio.create_task(pool.acquire(call())) for _ in range(4000)]
    await until(lambda: pool.waiting == 4000)
    started_s = time.perf_counter()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert time.perf_counter() - started_s < 2.0
    assert pool.waiting == 0
    pool.release(held)


# --- fair shares ---


async def test_tenants_take_turns_over_the_queues_of_all_models(crowd: Crowd) -> None:
    pool = scheduler(ready("a", "m", "n"))
    held = await pool.acquire(call_of(10, tenant="nobody"))
    for _ in range(4):
        await crowd.join(pool, call_of(500, tenant="heavy"), "heavy")
    await crowd.join(pool, call("n", tenant="light"), "light")
    await crowd.join(pool, call("n", tenant="light"), "light")
    pool.release(held)
    await crowd.be_answered(pool)
    assert crowd.finished[:4].count("light") == 2


async def test_a_tenant_of_double_weight_gets_double(crowd: Crowd) -> None:
    pool = scheduler(ready("a"), shares={"gold": 2.0})
    held = await pool.acquire(call())
    for _ in range(20):
        await crowd.join(pool, call_of(100, tenant="plain"), "plain")
        await crowd.join(pool, call_of(100, tenant="gold"), "gold")
    pool.release(held)
    await crowd.be_answered(pool)
    assert 18 <= crowd.finished[:30].count("gold") <= 20


def answer(pool: Scheduler, slot: Slot, tokens_in: int = 100, tokens_out: int = 50) -> None:
    slot.instance.succeeded(slot, 0.1, is_complete=True)
    pool.release(slot, tokens_in, tokens_out)


async def test_an_answer_is_charged_by_its_own_usage_once() -> None:
    pool = scheduler(ready("a"))
    slot = await pool.acquire(call_of(100, tenant="t"))
    assert pool.shares.tenant("t").counter > 0  # the estimate
    answer(pool, slot, 30, 7)
    pool.release(slot, 1000, 1000)
    assert pool.shares.tenant("t").counter == 30 + 2 * 7


async def test_a_failed_attempt_costs_nothing() -> None:
    pool = scheduler(ready("a"))
    slot = await pool.acquire(call_of(100, tenant="t"))
    slot.instance.failed(slot, "boom")
    pool.release(slot)
    assert pool.shares.tenant("t").counter == 0


async def test_a_client_that_leaves_before_the_first_byte_pays_its_prompt() -> None:
    pool = scheduler(ready("a"))
    slot = await pool.acquire(call_of(100, tenant="t"))
    slot.was_left = True
    pool.release(slot)
    assert pool.shares.tenant("t").counter == pytest.approx(100, abs=5)
    assert (slot.instance.running, slot.instance.latency.ahead_tokens) == (0, 0)


async def test_a_client_that_leaves_midway_pays_for_what_was_produced(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = scheduler(ready("a"))
    known = pool.instances["a"].latency
    for _ in range(20):
        known.began(100, 0, 0.1)
        known.ended(99 * 0.05, 100, 1)
        known.predict(0, 0, 0)
    slot = await pool.acquire(call_of(100, tenant="t"))
    slot.instance.succeeded(slot, 0.1, is_complete=False)
    monkeypatch.setattr("autoglm.inference.scheduler.monotonic_s", lambda: slot.started_s + 0.1 + 20 * 0.05)
    pool.release(slot)
    assert pool.shares.tenant("t").counter == pytest.approx(100 + 2 * 21, abs=8)


async def test_a_client_that_leaves_the_queue_pays_nothing(crowd: Crowd) -> None:
    pool = scheduler(ready("a"))
    held = await pool.acquire(call_of(10, tenant="other"))
    before = pool.shares.tenant("other").counter
    task = await crowd.join(pool, call_of(100, tenant="t"))
    task.cancel()
    await until(lambda: not pool.waiting)
    assert pool.shares.tenant("t").counter <= before  # what it was lifted to
    assert not pool.shares.tenant("t").is_waiting
    pool.release(held)


# --- overload ---


def known(name: str, took_s: float, **options: Any) -> Instance:
    instance = ready(name, **options)
    make_known(instance, took_s, 20)
    instance.held_s = took_s
    return instance


async def test_what_would_come_too_late_is_refused_at_arrival_with_a_time_to_come_back(crowd: Crowd) -> None:
    pool = scheduler(known("a", 1.0), first_token_s=3.5)
    await pool.acquire(call())
    await crowd.join(pool, call())
    await crowd.join(pool, call())
    with pytest.raises(Overloaded) as caught:  # 2 before it, one with a slot, and its own second: 4
        await pool.acquire(call())
    retry_after_s = caught.value.facts["retry_after_s"]
    assert isinstance(retry_after_s, float)
    assert 1.0 <= retry_after_s <= 2.0
    assert (pool.waiting, pool.shed) == (2, 1)


async def test_the_requests_own_objective_goes_before_that_of_the_settings() -> None:
    pool = scheduler(known("a", 1.0), first_token_s=60.0)
    await pool.acquire(call())
    hurried = call()
    hurried.first_token_by_s = monotonic_s() + 1.5
    with pytest.raises(Overloaded):
        await pool.acquire(hurried)


async def test_a_deadline_that_cannot_be_met_is_told_at_once() -> None:
    pool = scheduler(known("a", 10.0))
    await pool.acquire(call())
    with pytest.raises(Overloaded):
        await asyncio.wait_for(pool.acquire(call(deadline_s=monotonic_s() + 12.0)), 1)


async def test_when_its_turn_comes_too_late_it_is_refused_and_the_next_gets_the_slot(crowd: Crowd) -> None:
    pool = scheduler(known("a", 1.0))
    held = await pool.acquire(call())
    late, patient = call(), call()
    late.first_token_by_s = monotonic_s() + 2.5
    waiting = await crowd.join(pool, late)
    following = await crowd.join(pool, patient)
    late.first_token_by_s = monotonic_s() + 0.5  # meanwhile the time has gone by
    pool.release(held)
    with pytest.raises(Overloaded):
        await waiting
    assert (await following).instance.name == "a"


async def test_an_objective_that_passes_while_it_waits_ends_the_wait(crowd: Crowd) -> None:
    pool = scheduler(ready("a"), first_token_s=0.05)
    await pool.acquire(call())
    with pytest.raises(Overloaded) as caught:
        await asyncio.wait_for(pool.acquire(call()), 2)
    assert caught.value.facts["retry_after_s"] == 1.0


async def test_an_idle_instance_refuses_nobody() -> None:
    """Else a prediction that is too high would never be corrected."""
    pool = scheduler(known("a", 100.0, slots=2), first_token_s=1.0)
    assert (await asyncio.wait_for(pool.acquire(call()), 1)).instance.name == "a"
    with pytest.raises(Overloaded):
        await pool.acquire(call())


async def test_who_had_a_slot_before_is_not_refused_for_the_time_that_a_failure_took(crowd: Crowd) -> None:
    pool = scheduler(known("a", 1.0), first_token_s=0.5)
    wanted = call()
    slot = pool.try_acquire(wanted)
    assert slot is not None
    pool.release(slot)
    held = pool.try_acquire(call())
    assert held is not None
    again = await crowd.join(pool, wanted)
    pool.release(held)
    assert (await again).instance.name == "a"


async def test_without_a_record_nobody_is_refused(crowd: Crowd) -> None:
    pool = scheduler(ready("a"), first_token_s=5.0)
    held = await pool.acquire(call())
    waiting = await crowd.join(pool, call())
    pool.release(held)
    assert (await waiting).instance.name == "a"


# --- which instance, by what was learned ---


async def test_a_new_instance_is_tried_by_one_request_and_gets_more_once_it_has_answered() -> None:
    pool = scheduler(known("known", 0.5, slots=8), ready("new", slots=8))
    names = [(await pool.acquire(call())).instance.name for _ in range(4)]
    assert names.count("new") == 1
    make_known(pool.instances["new"], 0.05)
    assert (await pool.acquire(call())).instance.name == "new"


async def test_a_conversation_goes_on_where_it_began_unless_that_is_busier() -> None:
    pool = scheduler(*(known(name, 1.0, slots=9) for name in "abc"))
    elsewhere = [await pool.acquire(call()) for _ in range(2)]
    first = await pool.acquire(talk(1))
    home = first.instance
    for slot in elsewhere:
        pool.release(slot)
    answer(pool, first)
    second = await pool.acquire(talk(2))
    assert second.instance is home
    assert second.charge is not None
    assert second.uncached_tokens < second.charge.prompt_tokens / 2
    for _ in range(3):
        home.start(call(), monotonic_s())
    assert (await pool.acquire(talk(3))).instance is not home


def talk(turns: int) -> Call:
    messages = [{"role": "user", "content": f"turn {turn} " + "x" * 3000} for turn in range(turns)]
    return call_of(0, messages=messages)


async def test_the_instance_that_would_meet_the_objective_is_preferred_to_the_one_that_is_done_first() -> None:
    slow_start, quick_start = ready("slow start", slots=4), ready("quick start", slots=4)
    for _ in range(20):
        slow_start.latency.began(10, 0, 3.0)
        slow_start.latency.ended(1.0, 100, 1)
        quick_start.latency.began(10, 0, 0.1)
        quick_start.latency.ended(8.0, 100, 1)
        slow_start.latency.predict(0, 0, 0), quick_start.latency.predict(0, 0, 0)
    assert (await scheduler(slow_start, quick_start).acquire(call())).instance is slow_start
    slow_start.held.clear()
    pool = scheduler(slow_start, quick_start, first_token_s=2.0)
    assert (await pool.acquire(call())).instance is quick_start


async def test_predictions_count_the_wait_for_a_slot(crowd: Crowd) -> None:
    pool = scheduler(known("a", 2.0))
    free = pool.predicted_for("m", "/chat/completions", 10, 1)
    await pool.acquire(call())
    for _ in range(3):
        await crowd.join(pool, call())
    busy = pool.predicted_for("m", "/chat/completions", 10, 1)
    assert busy.first_token_s == pytest.approx(free.first_token_s + 4 * 2.0)
    assert busy.finish_s == pytest.approx(free.finish_s + 4 * 2.0)
    assert pool.predicted_for("unknown", "/chat/completions", 10, 1).finish_s == math.inf
    assert pool.predicted(call(), pool.instances["a"]).finish_s == pytest.approx(2.0, rel=0.2)


# --- what it costs ---


async def test_a_release_takes_no_more_steps_with_ten_thousand_waiting_than_with_a_hundred() -> None:
    few, many = await steps_of_a_release(100), await steps_of_a_release(10_000)
    assert many < 2 * few


async def steps_of_a_release(waiting: int) -> float:
    """Calls of functions, Python's and C's: the same on any machine."""
    pool = scheduler(ready("a"), max_queue=20_000)
    held = await pool.acquire(call())
    tasks = [
        asyncio.create_task(pool.acquire(call_of(10, tenant=f"t{number % 100}", priority=number % 10)))
        for number in range(waiting)
    ]
    await until(lambda: pool.waiting == waiting)
    steps = 0

    def count(*_: object) -> None:
        nonlocal steps
        steps += 1

    for _ in range(50):
        sys.setprofile(count)
        pool.release(held, 100, 20)
        sys.setprofile(None)
        done = [task for task in tasks if task.done()]
        await until(lambda: any(task.done() for task in tasks))
        done = [task for task in tasks if task.done()]
        held = done[0].result()
        tasks.remove(done[0])
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return steps / 50


# --- removal ---


async def test_a_removed_instance_ends_what_runs_there_and_takes_nothing_new() -> None:
    leaving, staying = ready("leaving", slots=2), ready("staying")
    pool = scheduler(leaving)
    running = await pool.acquire(call())
    removing = asyncio.create_task(pool.remove(leaving))
    await until(lambda: leaving.is_draining)
    assert leaving.shown_state == "draining"
    with pytest.raises(NoInstanceFree, match="leaving is draining"):
        await pool.acquire(call())
    pool.add(staying)
    assert (await pool.acquire(call())).instance is staying
    assert list(pool.instances) == ["leaving", "staying"]
    pool.release(running)
    await asyncio.wait_for(removing, 5)
    assert list(pool.instances) == ["staying"]


async def test_who_waits_for_a_removed_instance_is_told_at_once(crowd: Crowd) -> None:
    leaving = ready("leaving")
    pool = scheduler(leaving)
    running = await pool.acquire(call())
    waiting = await crowd.join(pool, call())
    removing = asyncio.create_task(pool.remove(leaving))
    with pytest.raises(NoInstanceFree, match="leaving is draining"):
        await asyncio.wait_for(waiting, 5)
    pool.release(running)
    await asyncio.wait_for(removing, 5)
    assert not pool.instances
