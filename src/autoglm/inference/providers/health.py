"""Watches one instance by probes. Each has a timeout, for a stopped process still accepts connections.

Between the regular probes a request that failed to reach it, or waits too long for it, calls for one at once.
"""

import random
from collections.abc import Callable

import anyio
import structlog

from autoglm.core.clock import monotonic_s
from autoglm.core.errors import HubError, UpstreamRefused, UpstreamTimeout
from autoglm.core.ports import Backend
from autoglm.inference.instance import Instance
from autoglm.inference.settings import PoolSettings

log = structlog.get_logger()

FAILURES_TO_DOWN = 2
"""One probe may get lost under load; two in a row mean that the instance is down."""
SUSPECT_TIMEOUT_S = 0.9
"""For the probe of one that is suspected and has a stand-in: with `suspect_after_s` it keeps the whole below 2 s."""


async def watch_health(
    instance: Instance, settings: PoolSettings, *, discover: bool, changed: Callable[[], None]
) -> None:
    """Probe until cancelled. discover: take the instance's models from its own list.

    `changed` is called after each change of state or models. A blocked instance is probed on, but only the operator
    unblocks it: that it lists its models does not mean that it answers.
    """
    watch = _Watch(instance, settings, discover=discover, changed=changed)
    instance.watched(watch.call)
    try:
        while (backend := instance.backend) is not None:
            await watch.probe(backend)
    finally:
        instance.watched(None)


class _Watch:
    def __init__(
        self, instance: Instance, settings: PoolSettings, *, discover: bool, changed: Callable[[], None]
    ) -> None:
        self._instance = instance
        self._settings = settings
        self._discover = discover
        self._changed = changed
        self._failures = 0
        self._step = anyio.CancelScope()

    def call(self) -> None:
        """Break off a regular probe, which may hang, or the time until the next one."""
        self._step.cancel()

    async def probe(self, backend: Backend) -> None:
        """One probe and the pause after it."""
        instance = self._instance
        suspected_s = monotonic_s() if instance.is_suspect else 0.0
        looking = anyio.CancelScope()
        self._step = anyio.CancelScope() if suspected_s else looking  # one that was called for is not broken off
        with looking:
            await self._look(backend, suspected_s)
        if suspected_s:
            instance.cleared()
            self._changed()
        if instance.is_suspect:
            return
        with anyio.CancelScope() as self._step:
            await anyio.sleep(self._pause_s() * random.uniform(0.8, 1.2))  # noqa: S311  # jitter: not all in step

    async def _look(self, backend: Backend, suspected_s: float) -> None:
        instance = self._instance
        timeout_s = self._settings.probe_timeout_s
        if suspected_s and instance.pool is not None and instance.pool.has_stand_in(instance):
            timeout_s = min(timeout_s, SUSPECT_TIMEOUT_S)
        try:
            models = await backend.probe(timeout_s)
        except UpstreamRefused as error:
            self._failures = 0
            if instance.state != "blocked":
                log.error("instance_blocked", instance=instance.name, reason=str(error))
                instance.move("blocked", str(error))
                self._changed()
        except HubError as error:
            self._failures += 1
            is_sure = self._failures >= FAILURES_TO_DOWN
            if suspected_s and not is_sure:
                # A request and a probe failed. Silence is doubtful while it goes on answering others: it is busy.
                is_silent = isinstance(error, UpstreamTimeout)
                is_alone = instance.pool is None or not instance.pool.has_stand_in(instance)
                is_sure = not is_silent or (not is_alone and backend.heard_s < suspected_s)
            if instance.state == "starting" or (instance.state == "ready" and is_sure):
                log.warning("instance_down", instance=instance.name, reason=str(error))
                if instance.state == "ready":
                    instance.lost(str(error))
                else:
                    instance.move("down", str(error))
                self._changed()
        else:
            self._failures = 0
            if self._discover and models and tuple(models) != instance.models:
                instance.models = tuple(models)
                self._changed()
            if instance.state in ("starting", "down"):
                log.info("instance_ready", instance=instance.name, models=list(instance.models))
                instance.found()
                self._changed()

    def _pause_s(self) -> float:
        if self._failures:  # look again soon: to be sure that it is down, and then to notice a restart
            return min(self._settings.probe_interval_s, 0.25 * 2.0 ** min(self._failures, 10))
        return self._settings.probe_interval_s
