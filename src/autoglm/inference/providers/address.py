"""An instance at a configured address: `base_url` in autoglm.toml."""

from collections.abc import Callable

import anyio

from autoglm.core.tasks import one_task_group
from autoglm.inference.backends.openai import OpenAIBackend
from autoglm.inference.call import Api
from autoglm.inference.instance import Instance
from autoglm.inference.providers.engine_metrics import DIALECTS, watch_load
from autoglm.inference.providers.health import watch_health
from autoglm.inference.settings import InstanceSettings, PoolSettings, ProviderName
from autoglm.inference.upstream import Endpoint

_SPARE_CONNECTIONS = 4  # for probes, beside the slots

APIS: dict[ProviderName, tuple[Api, ...]] = {
    "openai": ("/chat/completions", "/completions", "/embeddings", "/responses"),
    "vllm": ("/chat/completions", "/completions", "/embeddings", "/responses"),
    "sglang": ("/chat/completions", "/completions", "/embeddings", "/responses"),
    "llamacpp": ("/chat/completions", "/completions", "/embeddings", "/responses"),
    "ollama": ("/chat/completions", "/completions", "/embeddings", "/responses"),
    "glm": ("/chat/completions", "/embeddings"),
}
"""What each provider offers. Sources: their API references."""


def configured_endpoint(settings: InstanceSettings) -> Endpoint:
    """Where a configured instance is; not for local ones. Raises SettingsError for what cannot be sent safely."""
    return Endpoint(
        name=settings.name,
        base_url=settings.url,
        api_key=settings.api_key,
        connect_timeout_s=settings.connect_timeout_s,
        first_byte_timeout_s=settings.first_byte_timeout_s,
        read_timeout_s=settings.read_timeout_s,
        max_connections=settings.slots_or_preset + _SPARE_CONNECTIONS,
        proxy=settings.proxy,
        ca_file=settings.ca_file,
    )


class AddressProvider:
    """Satisfies `core.ports.Provider`."""

    def __init__(self, settings: InstanceSettings, pool: PoolSettings) -> None:
        self._settings = settings
        self._pool = pool
        self.instance = Instance(
            settings.name,
            settings.provider,
            models=settings.models,
            slots=settings.slots_or_preset,
            apis=APIS[settings.provider],
            failures_to_open=pool.failures_to_open,
            open_s=pool.open_s,
        )
        self.endpoint = configured_endpoint(settings)
        if self.endpoint.origin.is_tls:
            self.instance.suspicion_gap_s = pool.probe_interval_s

    async def run(self, changed: Callable[[], None]) -> None:
        """Keep the instance's state true until cancelled."""
        backend = OpenAIBackend(self.endpoint, self._settings.provider, self.instance.hung_up)
        self.instance.backend = backend
        try:
            async with one_task_group() as tasks:
                if self._settings.provider in DIALECTS:
                    tasks.start_soon(watch_load, self.instance, self._settings, self._pool)
                await watch_health(self.instance, self._pool, discover=not self._settings.models, changed=changed)
                tasks.cancel_scope.cancel()
        finally:
            self.instance.backend = None
            with anyio.CancelScope(shield=True):  # closes sockets; waits for nobody
                await backend.aclose()
