"""The local instances: starts and stops their workers as they are asked for, within the machine's cores and memory."""

from collections.abc import Callable, Sequence

import anyio
import anyio.to_thread
import structlog

from autoglm.core.clock import monotonic_s
from autoglm.core.errors import InvalidField, NotFound
from autoglm.core.tasks import one_task_group
from autoglm.inference.instance import Instance
from autoglm.inference.local import share_threads, usable_cores
from autoglm.inference.local.memory import available_bytes, total_bytes
from autoglm.inference.models import ModelFolder
from autoglm.inference.providers.group import STOPPED, LocalGroup
from autoglm.inference.providers.replica import Replica
from autoglm.inference.scaling.desired import sample_interval_s
from autoglm.inference.scaling.ledger import Ledger, Need
from autoglm.inference.scaling.settings import ScalingSettings
from autoglm.inference.scaling.swap import Wanted, next_step
from autoglm.inference.scheduler import Scheduler
from autoglm.inference.settings import InstanceSettings, PoolSettings

log = structlog.get_logger()

_LOOK_S = 0.02
"""Between two looks while a worker leaves or somebody waits for a start; also the least time between any two."""
_NO_ROOM = "it waits for room"


class LocalFleet:
    """Satisfies `core.ports.Provider`, for all local instances together."""

    def __init__(
        self, settings: Sequence[InstanceSettings], pool: PoolSettings, scaling: ScalingSettings, folder: ModelFolder,
        scheduler: Scheduler,
    ) -> None:  # fmt: skip
        """settings: those with provider local. Add their instances to the scheduler, in the order of the settings."""
        self._scaling = scaling
        self._scheduler = scheduler
        cores = scaling.cores or usable_cores()
        memory_bytes = scaling.memory_bytes or max(0, total_bytes() - scaling.memory_reserve_bytes)
        self.ledger = Ledger(Need(cores, memory_bytes))
        shares = iter(share_threads([entry.threads for entry in settings for _ in range(entry.replicas_max)], cores))
        self.groups = {
            entry.name: LocalGroup(
                entry, [min(cores, next(shares)) for _ in range(entry.replicas_max)], pool, scaling, folder
            )
            for entry in settings
        }
        for group in self.groups.values():
            if group.settings.replicas_min == 0:
                group.lie_idle()
        self._nudge = anyio.Event()
        self._changed: Callable[[], None] = scheduler.changed
        scheduler.on_queued = self._look_soon

    def instance(self, name: str) -> Instance:
        """The entry of the pool that a local [[instance]] always has."""
        return self.groups[name].first.instance

    async def run(self, changed: Callable[[], None]) -> None:
        """Keep the workers as they should be until cancelled, then stop them."""
        self._changed = changed
        await anyio.to_thread.run_sync(self._measure)
        async with one_task_group() as self._tasks:
            while True:
                pause_s = self._look(monotonic_s())
                with anyio.move_on_after(pause_s):
                    await self._nudge.wait()
                self._nudge = anyio.Event()
                await anyio.sleep(_LOOK_S)  # a crowd that comes at once is looked at once

    def stop(self, name: str) -> Instance:
        """The operator wants none of its workers. What runs ends first. Raises NotFound, InvalidField."""
        group = self._group(name)
        group.is_stopped, group.is_called = True, False
        if group.first.is_running:
            group.first.process.comes_back_s = None
        else:
            group.first.rest("stopped", STOPPED.format(name=name), comes_back_s=None)
        for replica in group.staying:
            replica.leave()
        log.info("local_instance_stopped", instance=name)
        self._changed()
        self._look_soon()
        return group.first.instance

    def start(self, name: str) -> Instance:
        """The operator wants a worker now, after a stop or before anybody asks. Raises NotFound, InvalidField."""
        group = self._group(name)
        group.is_stopped, group.not_before_s = False, 0.0
        if group.first.is_leaving:
            group.first.stay()
        elif not group.first.is_running:
            group.is_called = True
            group.lie_idle()
        log.info("local_instance_called", instance=name)
        self._changed()
        self._look_soon()
        return group.first.instance

    def _group(self, name: str) -> LocalGroup:
        group = self.groups.get(name)
        if group is not None:
            return group
        instance = self._scheduler.instances.get(name)
        if instance is None:
            raise NotFound("instance", name)
        process = instance.process
        way_out = f"name the whole: {process.group!r}" if process is not None else "it runs elsewhere"
        raise InvalidField("name", f"{name!r} is no local instance of the settings; {way_out}")

    def _look_soon(self) -> None:
        self._nudge.set()

    def _measure(self) -> None:
        for group in self.groups.values():
            group.measure()

    # --- one look ---

    def _look(self, now_s: float) -> float:
        """Do what is due. Returns for how long nothing else is, in seconds."""
        for group in self.groups.values():
            group.look(now_s, self._scheduler, self.ledger)
            self._take_back(group, now_s)
        self._end_leavers()
        self._scale_in()
        wanted = self._make_room(now_s)
        if not wanted:
            self._scale_out(now_s)
        is_leaving = any(replica.is_leaving for group in self.groups.values() for replica in group.replicas)
        return _LOOK_S if is_leaving or wanted else min(1.0, sample_interval_s(self._scaling))

    def _take_back(self, group: LocalGroup, now_s: float) -> None:
        """Ready for another try some time after a failed start; down when it can never fit."""
        first = group.first
        if first.is_running or group.is_stopped:
            return
        need = group.need(first)
        if not need.fits(self.ledger.limit):
            way_out = "lower its context_tokens or slots, or raise memory_bytes of [scaling]"
            reason = f"it needs {need}, and all local workers together may take {self.ledger.limit}: {way_out}"
            if first.instance.error != reason:
                log.error("local_instance_too_large", instance=group.name, reason=reason)
                first.rest("down", reason, comes_back_s=None)
                self._changed()
        elif first.instance.state == "down" and now_s >= group.not_before_s:
            group.lie_idle(first.instance.error)

    def _end_leavers(self) -> None:
        for group in self.groups.values():
            for replica in group.replicas:
                if replica.is_running and replica.is_leaving and not replica.instance.held:
                    replica.stop()

    def _scale_in(self) -> None:
        for group in self.groups.values():
            staying = group.staying
            for replica in staying[group.desired :][::-1]:
                if replica.is_ready:
                    self._send_away(group, replica, "fewer are wanted")

    def _make_room(self, now_s: float) -> list[Wanted]:
        """Start who can be, send away who has to go. Returns those who still wait."""
        for _ in self.groups:
            wanted = [entry for group in self.groups.values() if (entry := group.wanted(now_s)) is not None]
            wanted = [entry for entry in wanted if entry.need.fits(self.ledger.limit)]
            if not wanted:
                return []
            loaded = [entry for group in self.groups.values() for entry in group.loaded(now_s, self.ledger)]
            room = self._room()
            step = next_step(loaded, wanted, room, swap_wait_s=self._scaling.swap_wait_s)
            if step is None:
                self._explain(wanted, room)
                return wanted
            group = self.groups[step.start]
            if not step.stop:
                self._start(group, group.first, gives_up=True)
            for replica in (entry for other in self.groups.values() for entry in other.replicas):
                if replica.name in step.stop:
                    self._send_away(self.groups[replica.process.group], replica, f"{step.start} needs its room")
        return wanted

    def _explain(self, wanted: Sequence[Wanted], room: Need) -> None:
        for entry in wanted:
            first = self.groups[entry.group].first
            if not first.is_running and not first.instance.error.startswith(_NO_ROOM):
                self.groups[entry.group].lie_idle(f"{_NO_ROOM}: it needs {entry.need}, and {room} are free")

    def _scale_out(self, now_s: float) -> None:
        for group in self.groups.values():
            if group.is_stopped or now_s < group.not_before_s:
                continue
            missing = group.desired - len(group.staying)
            if missing > 0 and not group.staying and group.settings.replicas_min == 0:
                continue  # it was asked for lately, and is not now
            for replica in group.replicas:
                if missing > 0 and replica.is_leaving:
                    replica.stay()
                    self._changed()
                    missing -= 1
                elif missing > 0 and not replica.is_running and group.need(replica).fits(self._room()):
                    self._start(group, replica, gives_up=replica is not group.first)
                    missing -= 1
            if missing > 0 and not group.first.is_running and group.first.instance.state == "starting":
                group.lie_idle("there is no room for it now; it starts when somebody asks for it")
                self._changed()

    def _room(self) -> Need:
        """What the ledger leaves, and of that no more than the machine has at this moment."""
        room = self.ledger.room
        replicas = (replica for group in self.groups.values() for replica in group.replicas)
        to_come = sum(
            max(0, self.ledger.of(replica.name).memory_bytes - replica.process.memory_bytes) for replica in replicas
        )
        free_bytes = available_bytes() - self._scaling.memory_reserve_bytes - to_come
        return Need(room.cores, min(room.memory_bytes, free_bytes))

    # --- doing it ---

    def _start(self, group: LocalGroup, replica: Replica, *, gives_up: bool) -> None:
        if not self.ledger.take(replica.name, group.need(replica)):
            return
        replica.begin()
        group.begun()
        if replica is not group.first:
            self._scheduler.add(replica.instance)
        self._tasks.start_soon(self._live, group, replica, gives_up)
        self._changed()

    async def _live(self, group: LocalGroup, replica: Replica, gives_up: bool) -> None:
        reason = ""
        try:
            reason = await replica.run(self._told, gives_up=gives_up)
        finally:
            self.ledger.give_back(replica.name)
            group.ended(replica, reason, monotonic_s())
            if replica is not group.first:
                self._scheduler.forget(replica.instance)
            self._told()

    def _told(self) -> None:
        self._changed()
        self._look_soon()

    def _send_away(self, group: LocalGroup, replica: Replica, why: str) -> None:
        log.info("local_worker_sent_away", instance=replica.name, running=replica.instance.running, why=why)
        replica.process.comes_back_s = group.load.estimate_s
        replica.leave()
        self._changed()
