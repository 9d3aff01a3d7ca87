"""Local workers on the machines of a Ray cluster, each an instance of the pool: `[[ray]]` in autoglm.toml (ADR 9)."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import anyio
import structlog
from pydantic import SecretStr

from autoglm.core.clock import monotonic_s
from autoglm.core.errors import HubError
from autoglm.core.tasks import one_task_group
from autoglm.inference.instance import Instance
from autoglm.inference.local import BackOff, usable_cores
from autoglm.inference.providers.address import APIS, AddressProvider
from autoglm.inference.providers.membership import Membership
from autoglm.inference.providers.ray_cluster import run_cluster
from autoglm.inference.providers.ray_order import RayMembers, RayOrder, Whereabouts
from autoglm.inference.scheduler import Scheduler
from autoglm.inference.settings import InstanceSettings, PoolSettings, ProviderName, RaySettings

log = structlog.get_logger()

_ENGINE: ProviderName = "llamacpp"
_BACK_OFF = BackOff(first_s=2.0)


class RayServe:
    """Satisfies `core.ports.Provider`, for as many instances as there are replicas.

    While there is none, an instance of the group's own name stands in the pool and says why, so that requests wait for
    a cluster that starts. A worker keeps its name; a new one takes the lowest number that is free.
    """

    def __init__(self, settings: RaySettings, pool: PoolSettings, scheduler: Scheduler, path: Path) -> None:
        """path: of the model file, the same on every machine of the cluster."""
        self._settings = settings
        self._pool = pool
        self._scheduler = scheduler
        self._path = path
        self._names: dict[Whereabouts, str] = {}
        self.stand_in = Instance(
            settings.name, "ray", models=(settings.model,), slots=settings.slots, apis=APIS[_ENGINE]
        )
        scheduler.add(self.stand_in)

    async def run(self, changed: Callable[[], None]) -> None:
        """Keep the cluster up until cancelled, then take it down. Every failure is retried, a missing package too.

        Ray (2.60) gives its agents 15 s to start, which cannot be changed: on cores that are 7 times overbooked it
        failed in most tries, on cores that are 5 times overbooked it took 35 s.
        """
        failures = 0
        async with one_task_group() as tasks:
            members = Membership(self._scheduler, tasks, changed)
            while True:
                began_s = monotonic_s()
                reason = await self._one_life(members)
                failures = 1 if monotonic_s() - began_s >= _BACK_OFF.reset_after_s else failures + 1
                pause_s = _BACK_OFF.pause_s(failures)
                log.warning(
                    "ray_cluster_fell", cluster=self._settings.name, reason=reason, retry_in_s=round(pause_s, 1)
                )
                self.stand_in.move("down", reason)
                self._take(members, [])
                await anyio.sleep(pause_s)

    async def _one_life(self, members: Membership) -> str:
        """From the start of the child to its end, whose reason it returns."""
        self.stand_in.move("starting", self.stand_in.error)
        self._scheduler.changed()
        token = self._settings.token
        try:
            async with run_cluster(self._order(), token.get_secret_value() if token else None) as cluster:
                log.info("ray_cluster_starting", cluster=self._settings.name, pid=cluster.pid)
                async for event in cluster.members():
                    self._tell(event)
                    self._take(members, event.members)
        except HubError as error:
            return str(error)
        except OSError as error:  # no memory or no process left to fork
            return f"the process that speaks to Ray could not be started: {error}"
        return "the process that speaks to Ray says no more"

    def _tell(self, event: RayMembers) -> None:
        log.info(
            "ray_members_changed",
            cluster=self._settings.name, members=len(event.members), wanted=self._settings.replicas,
            trouble=event.trouble,
        )  # fmt: skip
        # With a reason nothing tells how long it will last: requests are told so at once instead of waiting.
        self.stand_in.move("down" if event.trouble else "starting", event.trouble)

    def _take(self, members: Membership, found: list[Whereabouts]) -> None:
        # By address and key, not by replica: a worker that was restarted is another server.
        self._names = {entry: name for entry, name in self._names.items() if entry in found}
        taken = {*self._names.values(), *members.names}  # a name is free when nothing that drains has it, either
        for entry in found:
            if entry not in self._names:
                free = (f"{self._settings.name}-{number}" for number in range(1, len(taken) + 2))
                self._names[entry] = next(name for name in free if name not in taken)
                taken.add(self._names[entry])
        members.assign({name: partial(self._provider, name, entry) for entry, name in self._names.items()})
        instances = self._scheduler.instances
        if not found:
            instances[self.stand_in.name] = self.stand_in
        elif instances.get(self.stand_in.name) is self.stand_in:
            del instances[self.stand_in.name]
        self._scheduler.changed()

    def _provider(self, name: str, entry: Whereabouts) -> AddressProvider:
        settings = InstanceSettings(
            name=name, provider=_ENGINE, base_url=entry.base_url, models=(self._settings.model,),
            api_key=SecretStr(entry.api_key), slots=self._settings.slots,
        )  # fmt: skip
        provider = AddressProvider(settings, self._pool)
        provider.instance.provider = "ray"
        return provider

    def _order(self) -> RayOrder:
        settings = self._settings
        return RayOrder(
            parent_pid=os.getpid(),
            name=settings.name,
            address=settings.address,
            temporary="",
            cores=usable_cores(),
            replicas=settings.replicas,
            cores_per_replica=settings.cores,
            model=settings.model,
            path=str(self._path),
            slots=settings.slots,
            context_tokens=settings.context_tokens,
        )
