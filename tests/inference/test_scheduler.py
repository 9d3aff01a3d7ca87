"""Who gets a slot, in which order, and that none is ever lost."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from autoglm.core.clock import monotonic_s
from autoglm.core.errors import DeadlineExceeded, HubError, NoInstanceFree, NotOffered, QueueFull, UnknownModel
from autoglm.inference.call import Call
from autoglm.inference.instance import Instance, Slot
from autoglm.inference.scheduler import Scheduler
from autoglm.inference.settings import SchedulerSettings
from eventually import until
from inference.calls import call, ready


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
    slow.mean_s, fast.mean_s = 1.0, 0.1
    pool = scheduler(slow, fast)
    names = [(await pool.acquire(call())).instance.name for _ in range(12)]
    assert names == ["fast"] * 8 + ["slow"] * 4


async def test_equal_instances_share_the_load() -> None:
    pool = scheduler(ready("a", slots=4), ready("b", slots=4), ready("c", slots=4))
    for instance in pool.instances.values():
        instance.mean_s = 0.1
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
    assert len(pool._by_wish) == 0


# --- moving away from an instance that went down ---


async def test_only_who_can_move_is_recalled_from_an_instance_that_went_down() -> None:
    a, b = ready("a", slots=4), ready("b", slots=4)
    pool = scheduler(a, b)
    b.mean_s, a.mean_s = 1.0, 0.1
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
