"""The hub's scheduler and what it is compared with, before the same simulated instances.

The others send each request to an instance at once, which queues it, and once more elsewhere after a failure, as
usual load balancers do. LiteLLM's default: at random over the deployments that do not cool down, 5 s of cooldown for
one that failed, two retries, no queue of its own (its documentation, "routing": simple-shuffle, cooldown_time).
"""

import asyncio
import random
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

import anyio

from autoglm.core.errors import HubError
from autoglm.core.ports import Reply
from autoglm.inference.call import Call
from autoglm.inference.dispatch import Dispatcher
from autoglm.inference.engine.engine import Engine
from autoglm.inference.instance import Instance
from autoglm.inference.providers.health import watch_health
from autoglm.inference.scheduler import Scheduler
from autoglm.inference.settings import PoolSettings, SchedulerSettings
from autoglm.inference.slot import Slot
from autoglm.inference.usage import usage_of
from benchmarks.simulated_model import SLOTS, Ask, SimulatedModel, body_of

COOLDOWN_S = 5.0


class Router(Protocol):
    async def serve(self, index: int, ask: Ask) -> None:
        """Get it answered, and note in it what became of it. Raises HubError."""
        ...


class Direct(ABC):
    """Chooses an instance at arrival."""

    retries = 1

    def __init__(self, models: Sequence[SimulatedModel], seed: int) -> None:
        self.models = models
        self.dice = random.Random(seed)
        self.outstanding = [0] * len(models)
        self.turn = -1

    @abstractmethod
    def choose(self, allowed: list[int]) -> int:
        """The number of one of `allowed`."""

    def failed(self, number: int) -> None:  # noqa: B027  # most do not care
        """An attempt there came to nothing."""

    async def serve(self, index: int, ask: Ask) -> None:
        tried: set[int] = set()
        body = body_of(index, ask)
        while True:
            allowed = [number for number in range(len(self.models)) if number not in tried]
            number = self.choose(allowed)
            self.outstanding[number] += 1
            reply: Reply | None = None
            try:
                reply = await self.models[number].send("/chat/completions", body)
                await reply.chunk()
                ask.first_token_s = asyncio.get_running_loop().time() - ask.arrived_s
                while (chunk := await reply.chunk()) is not None:
                    ask.tokens_out = usage_of(chunk)[1]
                ask.is_complete = True
                return
            except HubError:
                self.failed(number)
                tried.add(number)
                if ask.first_token_s is not None or len(tried) > self.retries:
                    raise
            finally:
                self.outstanding[number] -= 1
                if reply is not None:
                    await reply.aclose()


class RoundRobin(Direct):
    def choose(self, allowed: list[int]) -> int:
        self.turn += 1
        return allowed[self.turn % len(allowed)]


class AtRandom(Direct):
    def choose(self, allowed: list[int]) -> int:
        return self.dice.choice(allowed)


class PowerOfTwo(Direct):
    """Mitzenmacher 2001: of two at random, the one with less to do."""

    def choose(self, allowed: list[int]) -> int:
        two = self.dice.sample(allowed, 2)
        return min(two, key=lambda number: self.outstanding[number])


class LeastOutstanding(Direct):
    def choose(self, allowed: list[int]) -> int:
        least = min(self.outstanding[number] for number in allowed)
        return self.dice.choice([number for number in allowed if self.outstanding[number] == least])


class Cooldown(Direct):
    """LiteLLM's default."""

    retries = 2

    def __init__(self, models: Sequence[SimulatedModel], seed: int) -> None:
        super().__init__(models, seed)
        self.cools_until_s = [0.0] * len(models)

    def choose(self, allowed: list[int]) -> int:
        now_s = asyncio.get_running_loop().time()
        warm = [number for number in allowed if self.cools_until_s[number] <= now_s]
        return self.dice.choice(warm or allowed)

    def failed(self, number: int) -> None:
        self.cools_until_s[number] = asyncio.get_running_loop().time() + COOLDOWN_S


class _InOrder(set[Slot]):
    """A set that gives its members as they came. A plain one goes by their places in memory, other in each run."""

    def __init__(self) -> None:
        super().__init__()
        self._order: dict[Slot, None] = {}

    def add(self, slot: Slot) -> None:
        super().add(slot)
        self._order[slot] = None

    def remove(self, slot: Slot) -> None:
        super().remove(slot)
        del self._order[slot]

    def __iter__(self) -> Iterator[Slot]:
        return iter(self._order)


class Hub:
    """The real scheduler and dispatcher, with the real health probes."""

    def __init__(self, models: Sequence[SimulatedModel], settings: SchedulerSettings) -> None:
        self.scheduler = Scheduler(settings)
        self.dispatcher = Dispatcher(self.scheduler, Engine(self.scheduler))
        for model in models:
            instance = Instance(model.name, "openai", models=("m",), slots=SLOTS, apis=("/chat/completions",))
            instance.backend = model
            instance.held = _InOrder()
            instance.move("ready")
            self.scheduler.add(instance)

    async def serve(self, index: int, ask: Ask) -> None:
        call = Call("/chat/completions", body_of(index, ask), priority=ask.priority, tenant=ask.tenant)
        answer = await self.dispatcher.answer(call)
        tokens = (0, 0)
        try:
            ask.first_token_s = asyncio.get_running_loop().time() - ask.arrived_s
            while (chunk := await answer.chunk()) is not None:
                tokens = usage_of(chunk)
            ask.is_complete = True
            ask.tokens_out = tokens[1]
        finally:
            await answer.finish(*tokens)


@asynccontextmanager
async def running_hub(models: Sequence[SimulatedModel], settings: SchedulerSettings) -> AsyncIterator[Hub]:
    hub = Hub(models, settings)
    async with anyio.create_task_group() as tasks:
        for instance in hub.scheduler.instances.values():

            async def watch(watched: Instance = instance) -> None:
                await watch_health(watched, PoolSettings(), discover=False, changed=hub.scheduler.changed)

            tasks.start_soon(watch)
        yield hub
        tasks.cancel_scope.cancel()
