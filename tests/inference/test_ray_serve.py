"""Replicas on a Ray cluster are instances of the pool: on a scripted cluster, and on a real one of this machine."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest

from autoglm.core.errors import NoInstanceFree
from autoglm.inference.dispatch import Dispatcher
from autoglm.inference.engine.engine import Engine
from autoglm.inference.providers.ray_order import RayMembers, Whereabouts
from autoglm.inference.providers.ray_replica import LEASE_S, Registry
from autoglm.inference.providers.ray_serve import RayServe
from autoglm.inference.scheduler import Scheduler
from autoglm.inference.settings import PoolSettings, RaySettings, SchedulerSettings
from eventually import until, wait_until
from hub import HubProcess, running_hub
from inference.calls import call
from inference.pool import rest_of
from scripted_model import Gate, ScriptedModel

EAGER = PoolSettings(probe_interval_s=0.1, probe_timeout_s=0.5)
PACKAGE = Path(__file__).parents[1] / "fakes" / "ray_package"
START_S = 60.0
"""For a Python process on a machine whose cores are busy."""


class ScriptedCluster:
    """What Ray does, as the test writes it; the child is real."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        shutil.copytree(PACKAGE, folder, dirs_exist_ok=True)
        self.run()

    def write(self, **state: Any) -> None:
        draft = self._folder / "draft"
        draft.write_text(json.dumps(state))
        draft.rename(self._folder / "state.json")

    def run(self, *models: ScriptedModel, key: str = "sk-1") -> None:
        members = [
            {"replica": f"r{number}", "base_url": model.url, "api_key": key} for number, model in enumerate(models)
        ]
        self.write(members=members, trouble="")

    @property
    def was_shut_down(self) -> bool:
        return (self._folder / "shutdown").exists()


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ScriptedCluster:
    made = ScriptedCluster(tmp_path / "packages")
    monkeypatch.syspath_prepend(str(tmp_path / "packages"))  # the child's path is ours
    return made


@asynccontextmanager
async def farm(**fields: Any) -> AsyncIterator[Dispatcher]:
    settings = RaySettings.model_validate({"name": "farm", "model": "echo-model", "replicas": 2, **fields})
    scheduler = Scheduler(SchedulerSettings(max_wait_s=2 * START_S))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(RayServe(settings, EAGER, scheduler, Path("/nowhere.gguf")).run, scheduler.changed)
        yield Dispatcher(scheduler, Engine(scheduler))
        tasks.cancel_scope.cancel()


def states(dispatcher: Dispatcher) -> dict[str, str]:
    return {name: entry.shown_state for name, entry in dispatcher.scheduler.instances.items()}


def children_of(pid: int) -> list[int]:
    """Of all threads of a process, direct ones only."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += map(int, task.read_text().split())
    return found


def ray_child(parent: int) -> int:
    return next(pid for pid in children_of(parent) if b"ray_serve_child" in Path(f"/proc/{pid}/cmdline").read_bytes())


# --- a scripted cluster ---


async def test_a_request_waits_for_the_cluster_and_goes_straight_to_a_replica(cluster: ScriptedCluster) -> None:
    with ScriptedModel() as model:
        async with farm() as dispatcher:
            assert states(dispatcher) == {"farm": "starting"}
            asking = asyncio.create_task(dispatcher.answer(call("echo-model")))
            await until(lambda: dispatcher.scheduler.waiting == 1)
            cluster.run(model)
            answer = await asyncio.wait_for(asking, START_S)
            assert b"You said: hi" in await rest_of(answer)
            assert (answer.instance.name, answer.instance.provider) == ("farm-1", "ray")
            assert model.requests[0].headers["authorization"] == "Bearer sk-1"
            assert states(dispatcher) == {"farm-1": "ready"}
    assert cluster.was_shut_down


async def test_a_worker_that_was_restarted_is_another_instance_and_names_are_used_again(
    cluster: ScriptedCluster,
) -> None:
    gate = Gate()
    with ScriptedModel() as first, ScriptedModel() as second, ScriptedModel() as third:
        first.behaviour = gate.within(b"data: 1\n\n", b"data: [DONE]\n\n")
        cluster.run(first)
        async with farm() as dispatcher:
            await until(lambda: states(dispatcher) == {"farm-1": "ready"}, START_S)
            answer = await dispatcher.answer(call("echo-model", stream=True))
            cluster.run(second)
            await until(lambda: states(dispatcher) == {"farm-1": "draining", "farm-2": "ready"})
            gate.open()
            assert (await rest_of(answer)).endswith(b"[DONE]\n\n")
            await until(lambda: states(dispatcher) == {"farm-2": "ready"})
            cluster.run(second, third)
            await until(lambda: states(dispatcher) == {"farm-2": "ready", "farm-1": "ready"})


async def test_without_replicas_the_pool_says_so_and_requests_wait(cluster: ScriptedCluster) -> None:
    with ScriptedModel() as model:
        cluster.run(model)
        async with farm() as dispatcher:
            await until(lambda: states(dispatcher) == {"farm-1": "ready"}, START_S)
            cluster.run()
            await until(lambda: states(dispatcher) == {"farm": "starting"})
            cluster.run(model)
            await rest_of(await asyncio.wait_for(dispatcher.answer(call("echo-model")), START_S))


async def test_a_missing_package_is_named_with_the_command_that_brings_it(cluster: ScriptedCluster) -> None:
    cluster.write(is_missing=True)
    async with farm() as dispatcher:
        await until(lambda: states(dispatcher) == {"farm": "down"}, START_S)
        assert "pip install 'autoglm-hub[ray]'" in dispatcher.scheduler.instances["farm"].error


async def test_a_cluster_that_cannot_be_had_is_tried_again(cluster: ScriptedCluster) -> None:
    cluster.write(no_cluster="no cluster\nat that address")
    with ScriptedModel() as model:
        async with farm(address="127.0.0.1:1") as dispatcher:
            await until(lambda: states(dispatcher) == {"farm": "down"}, START_S)
            assert dispatcher.scheduler.instances["farm"].error == "instance 'farm' failed: no cluster at that address"
            cluster.run(model)
            await until(lambda: states(dispatcher) == {"farm-1": "ready"}, START_S)


@pytest.mark.parametrize("where", ["trouble", "message"])
async def test_the_reason_why_no_worker_starts_is_told(cluster: ScriptedCluster, where: str) -> None:
    cluster.write(**{"members": [], "trouble": "", where: "there is no model file"})
    async with farm() as dispatcher:
        await until(lambda: states(dispatcher) == {"farm": "down"}, START_S)
        with pytest.raises(NoInstanceFree, match="farm is down: there is no model file"):
            await dispatcher.answer(call("echo-model"))
        cluster.run()
        await until(lambda: states(dispatcher) == {"farm": "starting"}, START_S)


async def test_when_the_child_is_killed_its_replicas_go_and_another_is_started(cluster: ScriptedCluster) -> None:
    with ScriptedModel() as model:
        cluster.run(model)
        async with farm() as dispatcher:
            await until(lambda: states(dispatcher) == {"farm-1": "ready"}, START_S)
            os.kill(ray_child(os.getpid()), signal.SIGKILL)
            await until(lambda: states(dispatcher) == {"farm": "down"}, START_S)
            assert "was killed by SIGKILL" in dispatcher.scheduler.instances["farm"].error
            await until(lambda: states(dispatcher) == {"farm-1": "ready"}, START_S)


# --- the registry ---


def at(replica: str) -> Whereabouts:
    return Whereabouts(replica=replica, base_url="http://127.0.0.1:1/v1", api_key="k")


def members_of(registry: Registry) -> list[Whereabouts]:
    return registry.report().members


def test_a_replica_is_a_member_until_its_lease_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    registry = Registry()
    registry.renew("b", at("b"), "")
    registry.renew("a", at("a"), "")
    assert members_of(registry) == [at("a"), at("b")]
    now_s += LEASE_S / 2
    registry.renew("b", at("b"), "")
    now_s += LEASE_S / 2 + 0.1
    assert members_of(registry) == [at("b")]
    registry.renew("b", None, "out of memory")
    assert registry.report() == RayMembers(members=[], trouble="out of memory")
    now_s += LEASE_S + 0.1
    assert registry.report() == RayMembers(members=[], trouble="")


def test_keys_do_not_show() -> None:
    assert "secret" not in repr(Whereabouts(replica="a", base_url="u", api_key="secret"))


# --- a real cluster ---

REAL_S = 600.0
"""Ray takes 20 s to start two replicas on two idle cores. On very busy ones it gives up, and is tried again."""


def config(path: Path) -> str:
    fields = f'name = "farm"\nmodel = "{path.stem}"\nfolder = "{path.parent}"\nreplicas = 2\nslots = 1\n'
    return f"[[ray]]\n{fields}context_tokens = 512\n"


def members(hub: HubProcess) -> dict[str, str]:
    with hub.client() as http:
        return {entry["name"]: entry["state"] for entry in http.get("/api/pool").json()["instances"]}


def is_whole(hub: HubProcess) -> bool:
    return sorted(members(hub).values()) == ["ready", "ready"]


def served_by(hub: HubProcess, model: str) -> str:
    body = {"model": model, "messages": [{"role": "user", "content": "Say hello"}], "max_tokens": 8}
    with hub.client() as http:
        reply = http.post("/v1/chat/completions", json=body, timeout=REAL_S)
    assert reply.status_code == 200, reply.text
    assert reply.json()["choices"][0]["message"]["content"]
    return str(reply.headers["x-autoglm-instance"])


def descendants(pid: int) -> list[int]:
    return [pid, *(deeper for child in children_of(pid) for deeper in descendants(child))]


def named(pids: list[int], name: bytes) -> list[int]:
    found = []
    for pid in pids:
        with suppress(OSError):
            if name in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


def is_gone(pid: int) -> bool:
    """True when it has ended; one that init has yet to reap counts as ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def temporary_of(pids: list[int]) -> Path:
    """Where the cluster of these processes keeps its sockets and logs."""
    [raylet, *_] = named(pids, b"--raylet_socket_name=")
    path = Path(f"/proc/{raylet}/cmdline").read_bytes().partition(b"--raylet_socket_name=")[2].split(b"\0")[0]
    return Path(path.decode()).parents[3]


def open_to_others(pids: list[int]) -> list[str]:
    """Sockets of these processes that listen on more than the loopback."""
    lines = subprocess.run(["ss", "-ltnpH"], capture_output=True, text=True, check=True).stdout.splitlines()
    ours = [line for line in lines if any(f"pid={pid}," in line for pid in pids)]
    assert len(ours) >= 10, "Ray has many ports; where are they?"
    return [line for line in ours if "127.0.0.1]:" not in line and " 127.0.0.1:" not in line]


@pytest.mark.model
@pytest.mark.xdist_group("ray")
def test_real_replicas_answer_are_replaced_and_leave_nothing_behind(small_model_path: Path, tmp_path: Path) -> None:
    model = small_model_path.stem
    with running_hub(tmp_path / "hub", config(small_model_path)) as hub, ThreadPoolExecutor(2) as threads:
        wait_until(lambda: is_whole(hub), REAL_S, every_s=0.5)
        assert set(threads.map(lambda _: served_by(hub, model), range(2))) == {"farm-1", "farm-2"}
        everything = descendants(ray_child(hub.pid))
        assert open_to_others(everything) == []
        temporary = temporary_of(everything)
        assert (temporary.parent, temporary.stat().st_mode & 0o777) == (Path("/tmp"), 0o700)
        [one, _] = named(everything, b"ray::ServeReplica")
        os.kill(one, signal.SIGKILL)
        wait_until(lambda: not is_whole(hub), REAL_S, every_s=0.1)
        served_by(hub, model)
        wait_until(lambda: is_whole(hub), REAL_S, every_s=0.5)
        assert set(threads.map(lambda _: served_by(hub, model), range(2))) == set(members(hub))
        everything += descendants(ray_child(hub.pid))
        assert hub.stop(60.0) == 0
        wait_until(lambda: all(map(is_gone, everything)), 5.0)
        assert not temporary.exists()


@pytest.mark.model
@pytest.mark.xdist_group("ray")
def test_a_killed_hub_takes_its_cluster_along(small_model_path: Path, tmp_path: Path) -> None:
    with running_hub(tmp_path / "hub", config(small_model_path)) as hub:
        wait_until(lambda: is_whole(hub), REAL_S, every_s=0.5)
        everything = descendants(ray_child(hub.pid))
        assert len(named(everything, b"autoglm.inference.local.worker")) == 2
        temporary = temporary_of(everything)
        hub.kill()
        wait_until(lambda: all(map(is_gone, everything)), 90.0, every_s=0.1)
        assert not temporary.exists()
