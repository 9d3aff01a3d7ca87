"""An instance in a child process on this machine: a model file and a supervised worker."""

from collections.abc import Callable, Sequence

import anyio
import msgspec
from pydantic import SecretStr

from autoglm.core.tasks import one_task_group
from autoglm.inference.backends.openai import OpenAIBackend
from autoglm.inference.call import Api
from autoglm.inference.instance import Instance
from autoglm.inference.local import (
    Down,
    LocalProvider,
    LocalSpec,
    LocalState,
    Ready,
    Starting,
    share_threads,
    usable_cores,
)
from autoglm.inference.models import ModelFolder
from autoglm.inference.settings import InstanceSettings, PoolSettings
from autoglm.inference.upstream import Endpoint

_APIS: dict[str, tuple[Api, ...]] = {
    "chat": ("/chat/completions", "/completions", "/responses"),
    "embedding": ("/embeddings",),
}
_SOON_S = 10.0
"""A worker that comes back within this time is worth waiting for."""
_SPARE_CONNECTIONS = 4


class LocalInstanceProvider:
    """Satisfies `core.ports.Provider`."""

    def __init__(self, settings: InstanceSettings, pool: PoolSettings, folder: ModelFolder, threads: int) -> None:
        slots = settings.slots_or_preset
        self._settings = settings
        self._folder = folder
        self._spec = LocalSpec(
            name=settings.name,
            model=settings.models[0],
            path=folder.file(settings.models[0]),
            slots=slots,
            threads=threads,
            mode=settings.mode,
        )
        if settings.context_tokens is not None:
            self._spec = msgspec.structs.replace(self._spec, context_tokens=settings.context_tokens)
        self.instance = Instance(
            settings.name,
            "local",
            models=settings.models,
            slots=slots,
            apis=_APIS[settings.mode],
            failures_to_open=pool.failures_to_open,
            open_s=pool.open_s,
        )

    async def run(self, changed: Callable[[], None]) -> None:
        """Keep the worker up until cancelled, then stop it."""
        async with one_task_group() as tasks:

            def on_state(state: LocalState) -> None:
                backend, self.instance.backend = self.instance.backend, None
                if backend is not None:
                    tasks.start_soon(backend.aclose)
                match state:
                    case Starting():
                        self.instance.move("starting", self.instance.error)
                    case Ready():
                        self.instance.backend = OpenAIBackend(self._endpoint(state), "local")
                        self.instance.move("ready")
                    case Down():
                        returns_soon = state.retry_in_s is not None and state.retry_in_s <= _SOON_S
                        self.instance.move("starting" if returns_soon else "down", self._cause(state.reason))
                changed()

            try:
                await LocalProvider(self._spec, on_state).run()
            finally:
                backend, self.instance.backend = self.instance.backend, None
                if backend is not None:
                    with anyio.CancelScope(shield=True):  # closes sockets; waits for nobody
                        await backend.aclose()

    def _cause(self, reason: str) -> str:
        """Of a worker that fell: a model that is not here says more than what the worker made of it."""
        name = self._spec.model
        return reason if self._folder.get(name) is not None else self._folder.absence(name)

    def _endpoint(self, ready: Ready) -> Endpoint:
        return Endpoint(
            name=self._settings.name,
            base_url=ready.base_url,
            api_key=SecretStr(ready.api_key),
            connect_timeout_s=self._settings.connect_timeout_s,
            first_byte_timeout_s=self._settings.first_byte_timeout_s,
            read_timeout_s=self._settings.read_timeout_s,
            max_connections=self._settings.slots_or_preset + _SPARE_CONNECTIONS,
        )


def local_providers(
    settings: Sequence[InstanceSettings], pool: PoolSettings, folder: ModelFolder
) -> list[LocalInstanceProvider]:
    """One provider for each local instance, the cores shared between them so that none is promised twice."""
    local = [entry for entry in settings if entry.provider == "local"]
    threads = share_threads([entry.threads for entry in local], usable_cores())
    return [LocalInstanceProvider(entry, pool, folder, count) for entry, count in zip(local, threads, strict=True)]
