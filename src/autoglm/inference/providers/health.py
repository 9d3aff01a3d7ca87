"""Watches one instance by probes. Each has a timeout, for a stopped process still accepts connections."""

import random
from collections.abc import Callable

import anyio
import structlog

from autoglm.core.errors import HubError, UpstreamRefused
from autoglm.inference.instance import Instance
from autoglm.inference.settings import PoolSettings

log = structlog.get_logger()

FAILURES_TO_DOWN = 2
"""One probe may get lost under load; two in a row mean that the instance is down."""


async def watch_health(
    instance: Instance, settings: PoolSettings, *, discover: bool, changed: Callable[[], None]
) -> None:
    """Probe until cancelled. discover: take the instance's models from its own list.

    `changed` is called after each change of state or models. A blocked instance is probed on, but only the operator
    unblocks it: that it lists its models does not mean that it answers.
    """
    failures = 0
    while True:
        backend = instance.backend
        if backend is None:
            return
        try:
            models = await backend.probe(settings.probe_timeout_s)
        except UpstreamRefused as error:
            failures = 0
            if instance.state != "blocked":
                log.error("instance_blocked", instance=instance.name, reason=str(error))
                instance.move("blocked", str(error))
                changed()
        except HubError as error:
            failures += 1
            is_first_look = instance.state == "starting"
            if is_first_look or (instance.state == "ready" and failures >= FAILURES_TO_DOWN):
                log.warning("instance_down", instance=instance.name, reason=str(error))
                instance.move("down", str(error))
                changed()
        else:
            failures = 0
            if discover and models and tuple(models) != instance.models:
                instance.models = tuple(models)
                changed()
            if instance.state in ("starting", "down"):
                log.info("instance_ready", instance=instance.name, models=list(instance.models))
                instance.move("ready")
                changed()
        pause_s = settings.probe_interval_s
        if failures:  # look again soon: to be sure that it is down, and then to notice a restart
            pause_s = min(pause_s, 0.25 * 2 ** min(failures, 10))
        await anyio.sleep(pause_s * random.uniform(0.8, 1.2))  # noqa: S311  # jitter: probes must not march in step
