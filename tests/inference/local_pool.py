"""Local instances in this process: real workers with the small real model."""

import json
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio

from autoglm.inference.call import Call
from autoglm.inference.dispatch import Dispatcher
from autoglm.inference.engine.engine import Engine
from autoglm.inference.models import ModelFolder
from autoglm.inference.providers.local import LocalFleet
from autoglm.inference.scaling.settings import ScalingSettings
from autoglm.inference.scheduler import Scheduler
from autoglm.inference.settings import InstanceSettings, PoolSettings, SchedulerSettings
from inference.pool import rest_of


class LocalPool:
    def __init__(self, fleet: LocalFleet, dispatcher: Dispatcher) -> None:
        self.fleet = fleet
        self.dispatcher = dispatcher
        self.scheduler = dispatcher.scheduler

    def state(self, name: str) -> str:
        return self.scheduler.instances[name].shown_state

    def starts(self, name: str) -> int:
        """Of all workers of the instance."""
        return sum(replica.starts for replica in self.fleet.groups[name].replicas)

    async def ask(self, model: str, max_tokens: int = 4, **fields: Any) -> str:
        """The text of the answer. Raises what the dispatcher raises; AssertionError for an error reply."""
        body = {"model": model, "prompt": "Once upon a time", "max_tokens": max_tokens, "ignore_eos": True, **fields}
        call = Call("/completions", json.dumps(body).encode())
        answer = await self.dispatcher.answer(call)
        reply = json.loads(await rest_of(answer))
        assert answer.status == 200, reply
        assert reply["usage"]["completion_tokens"] == max_tokens
        return str(reply["choices"][0]["text"])


def local(name: str, model: str, **fields: Any) -> InstanceSettings:
    """One worker with 1 thread, 2 slots of 256 tokens, none at first, unless told otherwise."""
    usual = {"slots": 2, "context_tokens": 256, "threads": 1, "replicas_min": 0}
    return InstanceSettings.model_validate({"name": name, "provider": "local", "models": (model,), **usual, **fields})


def links(folder: Path, model: Path, names: Sequence[str]) -> ModelFolder:
    """A folder in which one file is there by several names, as if these were different models."""
    for name in names:
        (folder / f"{name}.gguf").symlink_to(model)
    return ModelFolder(folder)


@asynccontextmanager
async def local_pool(
    folder: ModelFolder, *instances: InstanceSettings, scaling: dict[str, Any] | None = None, **scheduling: Any
) -> AsyncIterator[LocalPool]:
    scheduler = Scheduler(SchedulerSettings(**scheduling))
    settings = ScalingSettings.model_validate({"cores": 2, **(scaling or {})})
    fleet = LocalFleet(instances, PoolSettings(), settings, folder, scheduler)
    for entry in instances:
        scheduler.add(fleet.instance(entry.name))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(fleet.run, scheduler.changed)
        yield LocalPool(fleet, Dispatcher(scheduler, Engine(scheduler)))
        tasks.cancel_scope.cancel()
    assert workers() == []


def workers() -> list[int]:
    """Pids of this process's workers."""
    pids = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    found = []
    for pid in pids:
        try:
            if b"inference.local.worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(int(pid))
        except FileNotFoundError:
            continue
    return found
