"""Instances whose addresses a file or a DNS name tells: `[[discovery]]` in autoglm.toml."""

import hashlib
import random
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import anyio
import structlog

from autoglm.core.clock import monotonic_s
from autoglm.core.errors import DiscoveryFailed
from autoglm.core.tasks import one_task_group
from autoglm.inference.providers.address import AddressProvider
from autoglm.inference.providers.dns import DnsName
from autoglm.inference.providers.membership import Membership
from autoglm.inference.providers.targets_file import Target, TargetsFile
from autoglm.inference.scheduler import Scheduler
from autoglm.inference.settings import MAX_NAME_CHARACTERS, DiscoverySettings, PoolSettings

log = structlog.get_logger()

MAX_MEMBERS = 1000
_UNFIT = re.compile(r"[^A-Za-z0-9._-]")


class Source(Protocol):
    """Tells addresses."""

    place: str
    """Where they come from, for logs."""

    async def look(self) -> list[Target]:
        """What it says now. Raises DiscoveryFailed."""
        ...


def open_source(settings: DiscoverySettings) -> Source:
    """The file or the name that the settings give. No I/O yet."""
    if settings.file is not None:
        return TargetsFile(settings.file, settings.port_or_preset)
    assert settings.dns is not None, "the settings have one of the two"
    return DnsName(settings.dns, settings.port_or_preset)


class Discovery:
    """Satisfies `core.ports.Provider`, for as many instances as there are addresses, MAX_MEMBERS at most.

    A list that cannot be had changes nothing. For a file that holds until it is mended; a name that has no address for
    longer than `keep_s` has lost its instances. An empty list in a file is meant so.
    """

    def __init__(
        self, settings: DiscoverySettings, pool: PoolSettings, scheduler: Scheduler, source: Source | None = None
    ) -> None:
        self._settings = settings
        self._pool = pool
        self._scheduler = scheduler
        self._source = source or open_source(settings)
        self._forgets_after_s = settings.keep_s if settings.dns is not None else None
        self._trouble = ""

    async def run(self, changed: Callable[[], None]) -> None:
        """Keep the instances equal to the list until cancelled."""
        async with one_task_group() as tasks:
            members = Membership(self._scheduler, tasks, changed)
            had_s = monotonic_s()
            while True:
                try:
                    targets = await self._source.look()
                except DiscoveryFailed as error:
                    self._tell(error, len(members.wanted))
                    if self._forgets_after_s is not None and monotonic_s() - had_s > self._forgets_after_s:
                        members.assign({})
                else:
                    had_s = monotonic_s()
                    members.assign(self._members(targets))
                # Jitter, so that many hubs do not ask one server in step.
                await anyio.sleep(self._settings.interval_s * random.uniform(0.9, 1.1))  # noqa: S311

    def _members(self, targets: Sequence[Target]) -> dict[str, Callable[[], AddressProvider]]:
        if len(targets) > MAX_MEMBERS:
            self._tell(DiscoveryFailed(self._source.place, f"{len(targets)} targets are too many"), MAX_MEMBERS)
        else:
            self._trouble = ""
        named = {member_name(self._settings.name, target): target for target in bounded(targets)}
        return {name: partial(self._provider, name, target) for name, target in named.items()}

    def _provider(self, name: str, target: Target) -> AddressProvider:
        return AddressProvider(self._settings.member(name, *target), self._pool)

    def _tell(self, error: DiscoveryFailed, kept: int) -> None:
        """Once for each reason: it will be the same at the next look."""
        if error.reason != self._trouble:
            log.warning("discovery_failed", place=self._source.place, reason=error.reason, kept=kept)
        self._trouble = error.reason


def bounded(targets: Sequence[Target]) -> Sequence[Target]:
    """At most MAX_MEMBERS of them; which ones does not depend on their order."""
    return targets if len(targets) <= MAX_MEMBERS else sorted(targets)[:MAX_MEMBERS]


def member_name(group: str, target: Target) -> str:
    """NAME-HOST-PORT in the characters and the length of an instance's name."""
    full = f"{group}-{target.host}-{target.port}"
    name = _UNFIT.sub("-", full)
    if len(name) <= MAX_NAME_CHARACTERS:
        return name
    digest = hashlib.sha256(full.encode()).hexdigest()[:12]
    return f"{name[: MAX_NAME_CHARACTERS - 13]}-{digest}"
