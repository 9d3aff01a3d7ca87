"""All workers of one local instance: what is asked of them, how long they take, and what they need."""

import math
from collections import deque
from collections.abc import Sequence

import msgspec
import structlog

from autoglm.core.errors import ModelFileError
from autoglm.inference.local import BackOff, LocalSpec
from autoglm.inference.local.memory import needed_bytes, resident_bytes
from autoglm.inference.models import ModelFolder
from autoglm.inference.models.gguf import read_gguf
from autoglm.inference.providers.replica import Replica
from autoglm.inference.scaling.desired import Bounds, Sample, desired_replicas, kept_s, sample_interval_s
from autoglm.inference.scaling.ledger import Ledger, Need
from autoglm.inference.scaling.load_time import LoadTime
from autoglm.inference.scaling.settings import ScalingSettings
from autoglm.inference.scaling.swap import Loaded, State, Wanted
from autoglm.inference.scheduler import Scheduler
from autoglm.inference.settings import InstanceSettings, PoolSettings

log = structlog.get_logger()

_UNKNOWN_S = 1.0  # a request's time before there was one
_BACK_OFF = BackOff()
STOPPED = "it was stopped by the operator: autoglm pool start {name}"


class LocalGroup:
    """The first replica has the instance's name and is always in the pool; the others come and go as NAME-2, NAME-3."""

    def __init__(
        self, settings: InstanceSettings, threads: Sequence[int], pool: PoolSettings, scaling: ScalingSettings,
        folder: ModelFolder,
    ) -> None:  # fmt: skip
        """threads: of each replica."""
        self.settings = settings
        self.folder = folder
        self._scaling = scaling
        model = folder.get(settings.models[0])
        self.load = LoadTime(model.size_bytes if model is not None else 0)
        spec = LocalSpec(
            name=settings.name,
            model=settings.models[0],
            path=folder.file(settings.models[0]),
            slots=settings.slots_or_preset,
            mode=settings.mode,
            sleep_after_s=settings.sleep_after_s,
        )
        if settings.context_tokens is not None:
            spec = msgspec.structs.replace(spec, context_tokens=settings.context_tokens)
        self.replicas = [
            Replica(
                settings, msgspec.structs.replace(spec, name=name, threads=count), pool, folder,
                load_s=self.load.estimate_s,
            )
            for name, count in zip(settings.names, threads, strict=True)
        ]  # fmt: skip
        self.desired = settings.replicas_min
        self.is_stopped = False
        self.is_called = False
        """The operator wants a worker now."""
        self.not_before_s = 0.0
        """After a failed start: when the next one may be."""
        self.waiting = 0
        self._memory_bytes = 0
        self._failures = 0
        self._history: deque[Sample] = deque()
        self._next_sample_s = 0.0
        self._served = 0
        self._quiet_since_s = -math.inf
        self._unserved_since_s: float | None = None
        self._idle_since_s = {replica.name: -math.inf for replica in self.replicas}

    @property
    def name(self) -> str:
        return self.settings.name

    @property
    def first(self) -> Replica:
        return self.replicas[0]

    @property
    def staying(self) -> list[Replica]:
        """Those that run and shall go on."""
        return [replica for replica in self.replicas if replica.is_running and not replica.is_leaving]

    def need(self, replica: Replica) -> Need:
        return Need(replica.spec.threads, self._memory_bytes)

    def measure(self) -> None:
        """Find out from the file what memory a worker needs. Blocks for up to a second; nothing for a missing file."""
        spec = self.first.spec
        try:
            needed = needed_bytes(spec, read_gguf(spec.path), spec.path.stat().st_size)
        except (ModelFileError, OSError):
            return  # the start will say so
        self._memory_bytes = max(self._memory_bytes, needed)

    # --- what is asked of it ---

    def look(self, now_s: float, scheduler: Scheduler, ledger: Ledger) -> None:
        """Take in what has happened since the last look, and from time to time decide how many there should be."""
        self.waiting = scheduler.waiting_for(self.first.instance)
        running = sum(replica.instance.running for replica in self.replicas)
        served = sum(replica.instance.served for replica in self.replicas)
        if running or self.waiting or served != self._served or self.is_called:
            self._quiet_since_s, self._served = now_s, served
        if not self.waiting or self.staying:
            self._unserved_since_s = None
        elif self._unserved_since_s is None:
            self._unserved_since_s = now_s
        for replica in self.replicas:
            if replica.instance.running:
                replica.process.is_asleep = False
            if replica.instance.running or self.waiting:
                self._idle_since_s[replica.name] = now_s
            if replica.start_s:
                self._learn(replica)
        if now_s >= self._next_sample_s:
            self._next_sample_s = now_s + sample_interval_s(self._scaling)
            self._sample(now_s, running + self.waiting)
            for replica in self.replicas:
                self._weigh(replica, ledger)

    def loaded(self, now_s: float, ledger: Ledger) -> list[Loaded]:
        """Its workers that hold room, for the choice of who makes room."""
        return [
            Loaded(
                name=replica.name,
                group=self.name,
                state=self._state(replica),
                demand=replica.instance.running + self.waiting,
                idle_s=math.inf if replica.process.is_asleep else now_s - self._idle_since_s[replica.name],
                ready_s=max(0.0, now_s - replica.ready_since_s),
                load_s=self.load.estimate_s,
                need=ledger.of(replica.name),
            )
            for replica in self.replicas
            if replica.is_running
        ]

    def wanted(self, now_s: float) -> Wanted | None:
        """When it is asked for and has no worker that could take it; and may have one now."""
        if self.is_stopped or self.staying or now_s < self.not_before_s or not (self.waiting or self.is_called):
            return None
        instance = self.first.instance
        return Wanted(
            group=self.name,
            waited_s=0.0 if self._unserved_since_s is None else now_s - self._unserved_since_s,
            load_s=self.load.estimate_s,
            drain_s=math.ceil(self.waiting / instance.slots) * (instance.held_s or _UNKNOWN_S),
            need=self.need(self.first),
        )

    # --- what becomes of it ---

    def begun(self) -> None:
        self.is_called = False
        self.desired = max(1, self.desired)

    def ended(self, replica: Replica, reason: str, now_s: float) -> None:
        """Its process is gone. reason: why it did not come up; empty when it was stopped."""
        replica.is_leaving = False
        if reason:
            self._failures += 1
            self.not_before_s = now_s + _BACK_OFF.pause_s(self._failures)
        if replica is not self.first:
            return
        if self.is_stopped:
            replica.rest("stopped", STOPPED.format(name=self.name), comes_back_s=None)
        elif reason:
            replica.rest("down", reason, comes_back_s=None)
        else:
            self.lie_idle()

    def lie_idle(self, error: str = "") -> None:
        """The first has no process and gets one when somebody asks. error: why it has none although somebody does."""
        self.first.rest("idle", error, comes_back_s=self.load.estimate_s)

    def _state(self, replica: Replica) -> State:
        if replica.is_leaving:
            return "leaving"
        return "starting" if replica.instance.state == "starting" else "ready"

    def _learn(self, replica: Replica) -> None:
        self.load.learn(replica.start_s)
        replica.start_s = 0.0
        self._failures = 0
        for entry in self.replicas:
            entry.process.load_s = self.load.estimate_s

    def _sample(self, now_s: float, demand: int) -> None:
        ready = sum(replica.is_ready for replica in self.replicas)
        self._history.append(Sample(now_s, demand, ready))
        while self._history[0].at_s < now_s - kept_s(self._scaling):
            self._history.popleft()
        bounds = Bounds(self.settings.replicas_min, self.settings.replicas_max, self.first.instance.slots)
        quiet_s = now_s - self._quiet_since_s
        desired = desired_replicas(tuple(self._history), now_s, bounds, self._scaling, quiet_s=quiet_s)
        if desired != self.desired:
            log.info(
                "replicas_wanted", instance=self.name, before=self.desired, now=desired, demand=demand, ready=ready
            )
        self.desired = desired

    def _weigh(self, replica: Replica, ledger: Ledger) -> None:
        """See what memory it takes; a worker that outgrew what was expected is remembered for the next start."""
        if replica.process.pid:
            replica.process.memory_bytes = taken = resident_bytes(replica.process.pid)
            if taken > ledger.of(replica.name).memory_bytes:
                log.warning("local_worker_outgrew_its_room", instance=replica.name, memory_bytes=taken)
                ledger.measured(replica.name, taken)
                self._memory_bytes = max(self._memory_bytes, taken)
