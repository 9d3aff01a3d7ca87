"""The instances of one group that come and go: starts those that are new, drains those that are gone."""

from collections.abc import Callable, Mapping
from typing import Protocol

import anyio
import structlog
from anyio.abc import TaskGroup

from autoglm.core.errors import SettingsError
from autoglm.core.tasks import one_task_group
from autoglm.inference.instance import Instance
from autoglm.inference.scheduler import Scheduler

log = structlog.get_logger()


class MemberProvider(Protocol):
    """Keeps one instance up; `providers.address.AddressProvider`."""

    @property
    def instance(self) -> Instance: ...

    async def run(self, changed: Callable[[], None]) -> None: ...


class _Member:
    """One instance from its start to the end of its drain."""

    def __init__(self, provider: MemberProvider) -> None:
        self.provider = provider
        self.instance = provider.instance
        self.is_wanted = True
        self._turned = anyio.Event()

    def want(self, is_wanted: bool) -> bool:
        """True when that is news."""
        if self.is_wanted == is_wanted:
            return False
        self.is_wanted = is_wanted
        self._turned.set()
        return True

    async def turn(self) -> None:
        """Wait for the next change of `is_wanted`."""
        self._turned = anyio.Event()
        await self._turned.wait()


class Membership:
    """Keeps the pool's instances of one group equal to the last list given."""

    def __init__(self, scheduler: Scheduler, tasks: TaskGroup, changed: Callable[[], None]) -> None:
        """tasks: where each member runs; cancelling it stops all at once, without draining."""
        self._scheduler = scheduler
        self._tasks = tasks
        self._changed = changed
        self._members: dict[str, _Member] = {}
        self._passed_over: set[str] = set()

    @property
    def wanted(self) -> list[str]:
        """The names of those that do not drain."""
        return [name for name, member in self._members.items() if member.is_wanted]

    @property
    def names(self) -> list[str]:
        """All names in use, those that drain among them."""
        return list(self._members)

    def assign(self, wanted: Mapping[str, Callable[[], MemberProvider]]) -> None:
        """wanted: by the instance's name, what makes its provider. Who is in it and runs already is not touched.

        A name that drains is taken back into use. Who cannot be is passed over, with a warning.
        """
        for name, member in tuple(self._members.items()):
            if member.want(name in wanted):
                log.info("instance_wanted" if member.is_wanted else "instance_unwanted", instance=name)
        passed_over = set()
        for name, make in wanted.items():
            if name not in self._members and (reason := self._begin(name, make)):
                passed_over.add(name)
                if name not in self._passed_over:
                    log.warning("instance_passed_over", instance=name, reason=reason)
        self._passed_over = passed_over

    def _begin(self, name: str, make: Callable[[], MemberProvider]) -> str:
        """Returns the reason when it cannot be."""
        if name in self._scheduler.instances:
            return "another instance has this name"
        try:
            member = _Member(make())
        except SettingsError as error:  # an address that cannot be written, say
            return str(error)
        self._members[name] = member
        self._scheduler.add(member.instance)
        log.info("instance_found", instance=name)
        self._tasks.start_soon(self._live, member)
        return ""

    async def _live(self, member: _Member) -> None:
        async with one_task_group() as tasks:
            tasks.start_soon(member.provider.run, self._changed)
            while not await self._is_gone(member):
                pass
            tasks.cancel_scope.cancel()

    async def _is_gone(self, member: _Member) -> bool:
        """Wait until it is no longer wanted, and then until it is drained; False when it is wanted again before."""
        while member.is_wanted:
            await member.turn()
        is_gone = False
        async with one_task_group() as tasks:

            async def drain() -> None:
                nonlocal is_gone
                await self._scheduler.remove(member.instance)
                del self._members[member.instance.name]  # in the same breath: from here on the name is free
                log.info("instance_removed", instance=member.instance.name)
                is_gone = True
                tasks.cancel_scope.cancel()

            tasks.start_soon(drain)
            await member.turn()
            tasks.cancel_scope.cancel()
        if not is_gone:
            member.instance.rejoin()
            self._changed()
        return is_gone
