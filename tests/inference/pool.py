"""A pool in this process: real providers that probe and ask real servers on loopback."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio

from autoglm.inference.answer import Answer
from autoglm.inference.dispatch import Dispatcher
from autoglm.inference.engine.engine import Engine
from autoglm.inference.providers.address import AddressProvider
from autoglm.inference.scheduler import Scheduler
from autoglm.inference.settings import InstanceSettings, PoolSettings, SchedulerSettings
from eventually import until


def instance(name: str, url: str, *models: str, provider: str = "openai", **fields: Any) -> InstanceSettings:
    names = models or ("echo-model",)
    return InstanceSettings.model_validate(
        {"name": name, "provider": provider, "base_url": url, "models": names, **fields}
    )


@asynccontextmanager
async def running_pool(
    *instances: InstanceSettings, pool: PoolSettings | None = None, **scheduling: Any
) -> AsyncIterator[Dispatcher]:
    """Ready once each instance has been probed."""
    scheduler = Scheduler(SchedulerSettings(**scheduling), pool=pool)
    async with anyio.create_task_group() as tasks:
        for settings in instances:
            provider = AddressProvider(settings, pool or PoolSettings())
            scheduler.add(provider.instance)
            tasks.start_soon(provider.run, scheduler.changed)
        await until(lambda: all(entry.state != "starting" for entry in scheduler.instances.values()))
        yield Dispatcher(scheduler, Engine(scheduler))
        tasks.cancel_scope.cancel()


async def rest_of(answer: Answer) -> bytes:
    """All bytes of the answer, which then is finished."""
    try:
        parts = [answer.first]
        while not answer.is_whole and (chunk := await answer.chunk()) is not None:
            parts.append(chunk)
        return b"".join(parts)
    finally:
        await answer.finish()
