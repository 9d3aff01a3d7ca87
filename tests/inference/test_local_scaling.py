"""Local workers come and go as they are asked for, with a real model: nothing is lost, and no room promised twice."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from autoglm.core.errors import InvalidField, NoInstanceFree, NotFound
from autoglm.core.tasks import one_task_group
from autoglm.inference.local.memory import resident_bytes
from autoglm.inference.models import ModelFolder
from eventually import until
from inference.local_pool import LocalPool, links, local, local_pool, workers

pytestmark = pytest.mark.model

PATIENCE_S = 120.0
"""A start takes one second on an idle machine and fifteen on one that runs other tests, too."""
BRISK = {"stable_window_s": 1, "panic_window_s": 1, "utilisation": 1}


@pytest.fixture
def folder(tmp_path: Path, small_model_path: Path) -> ModelFolder:
    return links(tmp_path, small_model_path, ["a", "b", "c"])


async def ask_many(pool: LocalPool, model: str, count: int, **fields: int) -> list[str]:
    """As many requests at one time; the texts of their answers."""
    texts: list[str] = []

    async def one() -> None:
        texts.append(await pool.ask(model, **fields))

    async with one_task_group() as tasks:
        for _ in range(count):
            tasks.start_soon(one)
    return texts


async def test_who_waits_shares_one_cold_start_and_afterwards_it_goes_to_zero(folder: ModelFolder) -> None:
    async with local_pool(folder, local("a", "a"), scaling={"idle_s": 1}) as pool:
        assert (pool.state("a"), workers()) == ("idle", [])
        assert len(await ask_many(pool, "a", 10)) == 10
        assert pool.starts("a") == 1
        assert pool.scheduler.instances["a"].process.load_s > 0  # type: ignore[union-attr]  # it is a local one
        await until(lambda: pool.state("a") == "idle" and not workers(), PATIENCE_S)
        assert pool.fleet.ledger.held.cores == 0
        assert await pool.ask("a")
        assert pool.starts("a") == 2


@pytest.fixture
def cut(tmp_path: Path, small_model_path: Path) -> None:
    """A model whose file was not copied to its end."""
    with small_model_path.open("rb") as whole:
        (tmp_path / "cut.gguf").write_bytes(whole.read(4_000_000))


@pytest.mark.usefixtures("cut")
async def test_of_a_start_that_fails_all_who_wait_are_told_why(tmp_path: Path) -> None:
    async with local_pool(ModelFolder(tmp_path), local("a", "cut")) as pool:
        reasons: list[str] = []

        async def one() -> None:
            with pytest.raises(NoInstanceFree) as caught:
                await pool.ask("cut")
            reasons.append(str(caught.value))

        with anyio.fail_after(60):
            async with one_task_group() as tasks:
                for _ in range(5):
                    tasks.start_soon(one)
        assert len(reasons) == 5
        assert all("data is not within the file bounds" in reason for reason in reasons)
        assert pool.starts("a") == 1
        await until(lambda: pool.state("a") == "idle", 10)
        assert "file bounds" in pool.scheduler.instances["a"].error


async def test_a_second_worker_comes_with_demand_and_leaves_without_a_loss(folder: ModelFolder) -> None:
    async with (
        local_pool(folder, local("a", "a", slots=1, replicas_max=2), scaling=BRISK) as pool,
        anyio.create_task_group() as tasks,
    ):
        for _ in range(5):
            tasks.start_soon(pool.ask, "a", 40)
        await until(lambda: "a-2" in pool.scheduler.instances and pool.state("a-2") == "ready", PATIENCE_S)
        second = pool.scheduler.instances["a-2"]
        await until(lambda: pool.scheduler.waiting == 0 and second.running == 0, PATIENCE_S)
        tasks.start_soon(pool.ask, "a", 20)
        long = await until_on(pool, "a-2", tasks)
        assert second.process is not None
        second.watched(None)  # else it would be taken for hung, and replaced
        os.kill(second.process.pid, signal.SIGSTOP)  # however fast the machine, its answer outlasts the decision
        try:
            await until(lambda: second.state == "draining", PATIENCE_S)
            assert second.running == 1
        finally:
            os.kill(second.process.pid, signal.SIGCONT)
        await long.wait()
        await until(lambda: "a-2" not in pool.scheduler.instances, PATIENCE_S)
        assert second.served >= 2
        assert pool.state("a") == "ready"


async def until_on(pool: LocalPool, name: str, tasks: anyio.abc.TaskGroup) -> anyio.Event:
    """A long request runs on that worker; the event tells when it was answered in full."""
    done = anyio.Event()

    async def ask() -> None:
        await pool.ask("a", 150)
        done.set()

    tasks.start_soon(ask)
    await until(lambda: pool.scheduler.instances[name].running == 1, PATIENCE_S)
    return done


async def test_two_models_that_do_not_fit_together_take_turns(folder: ModelFolder) -> None:
    """A B A B ... by four clients: fewer loads than changes, no request lost, and never two workers at a time."""
    scaling = {"cores": 1, "swap_wait_s": 1.0}
    most = 0
    async with local_pool(folder, local("a", "a"), local("b", "b"), scaling=scaling) as pool:
        ledger, answered = pool.fleet.ledger, 0

        async def client(names: Iterator[str]) -> None:
            nonlocal answered
            for name in names:
                await pool.ask(name, 8)
                answered += 1

        async def watch() -> None:
            nonlocal most
            while True:
                assert ledger.held.fits(ledger.limit)
                pids = workers()
                most = max(most, len(pids))
                assert sum(map(resident_bytes, pids)) <= ledger.held.memory_bytes
                await anyio.sleep(0.02)

        async with one_task_group() as watching:
            watching.start_soon(watch)
            async with one_task_group() as tasks:
                for first in range(4):
                    tasks.start_soon(client, iter("ababa"[first % 2 :][:4]))
            watching.cancel_scope.cancel()
        loads = pool.starts("a") + pool.starts("b")
    assert (answered, most) == (16, 1)
    assert loads <= 6 < 4 * 3, "each of the four clients changes the model three times"


async def test_a_request_that_runs_is_not_broken_by_a_swap(folder: ModelFolder) -> None:
    """Who has waited too long gets the room; who has it first ends what it began, and takes nothing new."""
    scaling = {"cores": 1, "swap_wait_s": 0.2}
    instances = [local(name, name, context_tokens=1024) for name in "ab"]
    async with local_pool(folder, *instances, scaling=scaling) as pool, one_task_group() as tasks:
        await pool.ask("a")
        tasks.start_soon(pool.ask, "a", 300)
        await until(lambda: pool.scheduler.instances["a"].running == 1)
        tasks.start_soon(pool.ask, "b")
        await until(lambda: pool.state("a") == "draining", PATIENCE_S)
        assert pool.scheduler.instances["a"].running == 1
        tasks.start_soon(pool.ask, "a")
        await until(lambda: pool.state("b") == "ready", PATIENCE_S)
        assert pool.state("a") == "idle"


async def test_a_killed_worker_costs_no_answer_while_another_runs(folder: ModelFolder) -> None:
    instance = local("a", "a", replicas_min=2, replicas_max=2)
    async with local_pool(folder, instance) as pool, anyio.create_task_group() as tasks:
        await until(lambda: [pool.fleet.groups["a"].replicas[i].is_ready for i in (0, 1)] == [True, True], PATIENCE_S)
        for _ in range(4):
            tasks.start_soon(pool.ask, "a", 40)
        replica = pool.fleet.groups["a"].replicas[1]
        await until(lambda: replica.instance.running == 2)
        killed = replica.process.pid
        os.kill(killed, signal.SIGKILL)
        await until(lambda: replica.is_ready and replica.process.pid != killed, PATIENCE_S)
        assert pool.fleet.ledger.held.cores == 2


async def test_a_killed_lone_worker_is_waited_for(folder: ModelFolder) -> None:
    """What was in work there is done again by the next one, and so is what comes before the hub has noticed."""
    async with local_pool(folder, local("a", "a")) as pool, anyio.create_task_group() as tasks:
        assert await pool.ask("a")
        tasks.start_soon(pool.ask, "a", 150)
        await until(lambda: pool.scheduler.instances["a"].running == 1)
        [killed] = workers()
        os.kill(killed, signal.SIGKILL)
        tasks.start_soon(pool.ask, "a")
        assert await pool.ask("a")
        assert workers() != [killed]


async def test_without_requests_it_sleeps_and_a_request_wakes_it(folder: ModelFolder) -> None:
    async with local_pool(folder, local("a", "a", sleep_after_s=1, context_tokens=2048)) as pool:
        await pool.ask("a")
        awake = resident_bytes(workers()[0])
        await until(lambda: pool.state("a") == "asleep", PATIENCE_S)
        assert resident_bytes(workers()[0]) < awake / 2
        assert await pool.ask("a")
        assert pool.state("a") in ("ready", "asleep")
        assert pool.starts("a") == 1


async def test_the_operator_stops_and_starts_it(folder: ModelFolder) -> None:
    async with local_pool(folder, local("a", "a")) as pool, anyio.create_task_group() as tasks:
        assert pool.fleet.start("a").state == "idle"
        await until(lambda: pool.state("a") == "ready", PATIENCE_S)
        tasks.start_soon(pool.ask, "a", 150)
        await until(lambda: pool.scheduler.instances["a"].running == 1)
        assert pool.fleet.stop("a").state == "draining"
        with pytest.raises(NoInstanceFree, match="draining"):
            await pool.ask("a")
        await until(lambda: pool.state("a") == "stopped", PATIENCE_S)
        with pytest.raises(NoInstanceFree, match="pool start a"):
            await pool.ask("a")
        assert pool.fleet.start("a").state == "idle"
        assert await pool.ask("a")


async def test_what_can_never_fit_is_told_at_once(folder: ModelFolder) -> None:
    async with local_pool(folder, local("a", "a"), scaling={"memory_bytes": 50 << 20}) as pool:
        await until(lambda: pool.state("a") == "down")
        with pytest.raises(NoInstanceFree, match=r"it needs 1 core and 0.51 GB, and .* memory_bytes of \[scaling\]"):
            await pool.ask("a")
        assert workers() == []


async def test_who_shall_always_run_but_has_no_room_starts_when_asked(folder: ModelFolder) -> None:
    """Two cores, three models: the third takes the place of one that rests."""
    instances = [local(name, name, replicas_min=1) for name in "abc"]
    async with local_pool(folder, *instances) as pool:
        await until(lambda: [pool.state(name) for name in "abc"] == ["ready", "ready", "idle"], PATIENCE_S)
        assert await pool.ask("c")
        assert sorted(pool.state(name) for name in "abc") == ["idle", "ready", "ready"]
        assert pool.state("c") == "ready"
        assert len(workers()) == 2


async def test_only_local_instances_are_stopped_and_started(folder: ModelFolder) -> None:
    async with local_pool(folder, local("a", "a", replicas_min=2, replicas_max=2)) as pool:
        await until(lambda: "a-2" in pool.scheduler.instances, PATIENCE_S)
        with pytest.raises(NotFound):
            pool.fleet.stop("none")
        with pytest.raises(InvalidField, match="name the whole: 'a'"):
            pool.fleet.stop("a-2")
