"""One worker process of a local instance: an entry of the pool, and the process behind it."""

import math
from collections.abc import Callable

import anyio
from pydantic import SecretStr

from autoglm.core.clock import monotonic_s
from autoglm.core.tasks import one_task_group
from autoglm.inference.backends.openai import OpenAIBackend
from autoglm.inference.call import Api
from autoglm.inference.instance import Instance, State
from autoglm.inference.local import Down, LocalProvider, LocalSpec, LocalState, Ready, Starting
from autoglm.inference.models import ModelFolder
from autoglm.inference.process import WorkerProcess
from autoglm.inference.settings import InstanceSettings, PoolSettings
from autoglm.inference.upstream import Endpoint

_APIS: dict[str, tuple[Api, ...]] = {
    "chat": ("/chat/completions", "/completions", "/responses"),
    "embedding": ("/embeddings",),
}
_SOON_S = 10.0
"""A worker that comes back within this time is worth waiting for."""
_SPARE_CONNECTIONS = 4


class Replica:
    """Runs at most one process at a time. Whoever starts it has taken its room from the ledger."""

    def __init__(
        self, settings: InstanceSettings, spec: LocalSpec, pool: PoolSettings, folder: ModelFolder, *, load_s: float
    ) -> None:
        """spec.name is the name of this one worker; load_s: what a start may take."""
        self._settings = settings
        self._folder = folder
        self.spec = spec
        self.instance = Instance(
            spec.name,
            "local",
            models=settings.models,
            slots=spec.slots,
            apis=_APIS[settings.mode],
            failures_to_open=pool.failures_to_open,
            open_s=pool.open_s,
        )
        self.process = self.instance.process = WorkerProcess(group=settings.name, load_s=load_s)
        self.is_running = False
        """From `begin` to the end of `run`: a process exists, starts, or waits to be started again."""
        self.is_leaving = False
        """It takes nothing new; when its requests have ended it is stopped."""
        self.starts = 0
        """How often it was begun."""
        self.start_s = 0.0
        """What the last start took; 0 before it."""
        self.ready_since_s = math.inf
        """0 while there is no process."""
        self._scope = anyio.CancelScope()

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def is_ready(self) -> bool:
        return self.instance.state == "ready"

    def begin(self) -> None:
        """It is to be run now: the task for it is made."""
        self.is_running, self.is_leaving = True, False
        self.starts += 1
        self.instance.move("starting")

    async def run(self, changed: Callable[[], None], *, gives_up: bool) -> str:
        """Keep a worker up until `stop`. Returns the reason when it gives up: see LocalProvider; else an empty text."""
        reason = ""
        with self._scope:
            async with one_task_group() as closing:

                def on_state(state: LocalState) -> None:
                    backend, self.instance.backend = self.instance.backend, None
                    if backend is not None:
                        closing.start_soon(backend.aclose)
                    self._show(state)
                    self.instance.watched(provider.doubt if isinstance(state, Ready) else None)
                    changed()

                def on_well() -> None:
                    self.instance.cleared()
                    changed()

                def on_sleep(is_asleep: bool) -> None:
                    self.process.is_asleep = is_asleep

                provider = LocalProvider(self.spec, on_state, gives_up=gives_up, on_sleep=on_sleep, on_well=on_well)
                try:
                    reason = await provider.run()
                finally:
                    self.is_running = False
                    self._scope = anyio.CancelScope()
                    backend, self.instance.backend = self.instance.backend, None
                    if backend is not None:
                        with anyio.CancelScope(shield=True):  # closes sockets; waits for nobody
                            await backend.aclose()
        return reason and self._cause(reason)

    def leave(self) -> None:
        """Take nothing new. What runs goes on to its end, after which it is to be stopped."""
        self.is_leaving = True
        if self.instance.state != "blocked":
            self.instance.move("draining", self.instance.error)

    def stay(self) -> None:
        """It is needed after all."""
        self.is_leaving = False
        if self.instance.state == "draining":
            self.instance.move("ready" if self.instance.backend is not None else "starting")

    def stop(self) -> None:
        """End the process; `run` returns once it is gone."""
        self._scope.cancel()

    def rest(self, state: State, error: str, *, comes_back_s: float | None) -> None:
        """How it is shown while no process runs."""
        self.process.comes_back_s = comes_back_s
        self.instance.move(state, error)

    def _show(self, state: LocalState) -> None:
        self.process.pid, self.process.memory_bytes, self.process.is_asleep = 0, 0, False
        self.ready_since_s = math.inf
        shown: State
        match state:
            case Starting():
                shown, error = "starting", self.instance.error
            case Ready():
                self.instance.backend = OpenAIBackend(self._endpoint(state), "local")
                self.process.pid, self.start_s, self.ready_since_s = state.pid, state.start_s, monotonic_s()
                shown, error = "ready", ""
            case Down():
                returns_soon = state.retry_in_s is not None and state.retry_in_s <= _SOON_S
                shown, error = "starting" if returns_soon else "down", self._cause(state.reason)
        if not self.is_leaving:  # then it is known what becomes of it
            self.process.comes_back_s = None
            self.instance.move(shown, error)

    def _cause(self, reason: str) -> str:
        """Of a worker that fell: a model that is not here says more than what the worker made of it."""
        name = self.spec.model
        return reason if self._folder.get(name) is not None else self._folder.absence(name)

    def _endpoint(self, ready: Ready) -> Endpoint:
        return Endpoint(
            name=self.name,
            base_url=ready.base_url,
            api_key=SecretStr(ready.api_key),
            connect_timeout_s=self._settings.connect_timeout_s,
            first_byte_timeout_s=self._settings.first_byte_timeout_s,
            read_timeout_s=self._settings.read_timeout_s,
            max_connections=self.spec.slots + _SPARE_CONNECTIONS,
        )
