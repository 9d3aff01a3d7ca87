"""Starts the child process that speaks to Ray, reads what it tells, and never leaves it or its cluster behind."""

import os
import secrets
import shutil
import signal
import sys
import tempfile
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import anyio
import msgspec
import structlog
from anyio.abc import Process

from autoglm.core.child import open_child, python_environment
from autoglm.core.errors import MissingExtra, UpstreamFailed
from autoglm.core.tasks import one_task_group
from autoglm.inference.models.lines import lines_of
from autoglm.inference.providers.ray_order import RayEvent, RayMembers, RayOrder

log = structlog.get_logger()

_events: msgspec.json.Decoder[RayEvent] = msgspec.json.Decoder(RayEvent)
_LOG_LINES = 20
_STOP_S = 30.0
"""An application on a cluster takes seconds to go; one cluster of its own took 2 s."""
_KILL_GRACE_S = 10.0
_MAX_EVENT_BYTES = 1 << 20


class RayCluster:
    """The child. Made, started and stopped by `run_cluster`."""

    def __init__(self, name: str, process: Process) -> None:
        self._name = name
        self._process = process
        self._tail: deque[str] = deque(maxlen=_LOG_LINES)
        self._log_ended = anyio.Event()
        self.pid = process.pid

    async def start(self, order: RayOrder) -> None:
        assert self._process.stdin is not None
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):  # `members` then tells why
            await self._process.stdin.send(msgspec.json.encode(order) + b"\n")

    async def members(self) -> AsyncIterator[RayMembers]:
        """What the child tells, until it ends. Then raises UpstreamFailed, or MissingExtra without Ray."""
        assert self._process.stdout is not None
        failure = ""
        async for line in _long_lines(self._process.stdout):
            try:
                event = _events.decode(line)
            except msgspec.DecodeError:  # a package that prints while Python starts
                continue
            if isinstance(event, RayMembers):
                yield event
            elif event.is_missing_package:
                raise MissingExtra("ray", "an instance on a Ray cluster")
            else:
                failure = event.reason
        raise UpstreamFailed(self._name, failure or await self._end_reason())

    async def read_log(self) -> None:
        """Drain the child's stderr until it closes; a full pipe would stop the child."""
        assert self._process.stderr is not None
        async for line in lines_of(self._process.stderr):
            self._tail.append(line)
            log.debug("ray_child_wrote", cluster=self._name, line=line)
        self._log_ended.set()

    async def _end_reason(self) -> str:
        await self._process.wait()
        with anyio.move_on_after(1.0):  # grandchildren may keep its stderr open
            await self._log_ended.wait()
        status = self._process.returncode or 0
        how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        last = next((line.strip() for line in reversed(self._tail) if line.strip()), "")
        return f"the process that speaks to Ray {how}" + (f": {last[:400]}" if last else "")

    async def stop(self) -> None:
        """End of stdin, SIGTERM, SIGKILL; then whatever is left of its group. Bounded and not to be cancelled."""
        assert self._process.stdin is not None
        with anyio.CancelScope(shield=True):
            with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                await self._process.stdin.aclose()
            for number, grace_s in ((None, _STOP_S), (signal.SIGTERM, _STOP_S / 3), (signal.SIGKILL, _KILL_GRACE_S)):
                if self._process.returncode is not None:
                    break
                with suppress(ProcessLookupError), anyio.move_on_after(grace_s):
                    if number is not None:
                        self._process.send_signal(number)
                    await self._process.wait()
            # Ray's agents outlive a killed driver for a minute; they are in its group, which `run_cluster` began.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)


async def _long_lines(stream: anyio.abc.ByteReceiveStream) -> AsyncIterator[bytes]:
    """Lines of up to 1 MiB, for a list of a thousand replicas; longer ones end the reading."""
    rest = b""
    async for chunk in stream:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line
        if len(rest) > _MAX_EVENT_BYTES:
            return


@asynccontextmanager
async def run_cluster(order: RayOrder, token: str | None) -> AsyncIterator[RayCluster]:
    """Start the child; it and all that it started are gone on leaving. order: its `temporary` is filled in here.

    token: of a cluster that asks for one. A cluster of its own gets one that nobody else knows, for Ray runs whatever
    code it is sent.
    """
    # Unix sockets lie below it, whose paths end at 107 bytes: the system's own place for temporary files may be deeper.
    temporary = tempfile.mkdtemp(prefix="autoglm-ray-", dir="/tmp")  # mkdtemp makes it ours alone
    try:
        # All of Ray is in one group. The end of the hub is the end of its stdin, which leaves it time to take its
        # application off a cluster of others; SIGTERM is for a child that is too young to read.
        process = await open_child(
            [sys.executable, "-P", "-m", "autoglm.inference.providers.ray_serve_child"],
            environment=_environment(order, token),
            death_signal=signal.SIGTERM,
        )
        cluster = RayCluster(order.name, process)
        try:
            async with one_task_group() as tasks:
                tasks.start_soon(cluster.read_log)
                try:
                    await cluster.start(msgspec.structs.replace(order, temporary=temporary))
                    yield cluster
                finally:
                    await cluster.stop()
                    tasks.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await process.aclose()
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _environment(order: RayOrder, token: str | None) -> dict[str, str]:
    """Not ours, which may hold secrets that every worker of the cluster would inherit."""
    environment = python_environment({"RAY_USAGE_STATS_ENABLED": "0"})
    if order.address is None:
        # The one way to keep Ray to 127.0.0.1: where it supports clusters, it takes the machine's own address instead.
        environment["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        token = secrets.token_hex(32)
    if token is not None:
        environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    return environment
