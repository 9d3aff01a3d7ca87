"""Starts one worker process, waits until it is ready, notices its end, and never leaves it behind."""

import os
import secrets
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import msgspec
import structlog
from anyio.abc import Process

from autoglm.core.child import open_child, python_environment
from autoglm.core.clock import monotonic_s
from autoglm.core.errors import HubError, MissingExtra, UpstreamFailed, UpstreamTimeout
from autoglm.core.tasks import one_task_group
from autoglm.inference.local.order import Event, Order, ServerReady
from autoglm.inference.local.post_mortem import cause_of
from autoglm.inference.local.spec import LocalSpec
from autoglm.inference.models.lines import lines_of

log = structlog.get_logger()

_events: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)
_LOG_LINES = 50
_OPEN_FILES = 4096
"""A connection a request, the model, and what the libraries open."""
_LOG_GRACE_S = 1.0
_KILL_GRACE_S = 10.0  # a killed process can linger in the kernel, in the middle of reading a bad disk
_MISSES_TO_HANG = 3
_SLEEP_LOOK_S = 2.0
_DOUBT_TIMEOUT_S = 0.9
"""For the health check of one in doubt: with the pool's `suspect_after_s` it keeps the whole below 2 s."""
_BUSY_TICKS = 5
"""Of processor time (10 ms each) within that: who took so many works, and is no more than slow to answer."""


class LocalChild:
    """A worker process. Made, started and stopped by `run_child`."""

    def __init__(self, spec: LocalSpec, process: Process) -> None:
        self._spec = spec
        self._process = process
        self._tail: deque[str] = deque(maxlen=_LOG_LINES)
        self._log_ended = anyio.Event()
        self.pid = process.pid
        self._doubted = anyio.Event()
        self.api_key = secrets.token_urlsafe(32)
        self.url = ""
        """Without /v1."""
        self.context_tokens = 0
        """For each slot."""

    def doubt(self) -> None:
        """A request waits for it for longer than usual: `watch` is to look at once whether it hangs."""
        self._doubted.set()

    async def watch(
        self, on_sleep: Callable[[bool], None] | None = None, on_well: Callable[[], None] | None = None
    ) -> str:
        """Wait until the process ends, or hangs; returns the reason, a sentence for people.

        on_sleep: told from time to time whether the worker is asleep, if it ever may be. on_well: called after a doubt
        that was none.
        """
        reasons: list[str] = []
        async with one_task_group() as tasks:

            async def first(reason: str) -> None:
                reasons.append(reason)
                tasks.cancel_scope.cancel()

            async def ended() -> None:
                await self._process.wait()
                await first(await self._end_reason(is_running=True))

            async def hung() -> None:
                misses = 0
                while misses < _MISSES_TO_HANG:
                    await anyio.sleep(self._spec.health_interval_s)
                    misses = 0 if await self.answers(self._spec.health_timeout_s) else misses + 1
                await first(f"the worker hangs: {misses} health checks in a row had no answer")

            async def slept() -> None:
                while on_sleep is not None:
                    await anyio.sleep(min(self._spec.health_interval_s, _SLEEP_LOOK_S))
                    on_sleep(await self.is_asleep(self._spec.health_timeout_s))

            tasks.start_soon(ended)

            async def doubted() -> None:
                while True:
                    await self._doubted.wait()
                    if await self._seems_to_hang():
                        await first("the worker hangs: neither a request nor a health check had an answer")
                    self._doubted = anyio.Event()
                    if on_well is not None:
                        on_well()

            tasks.start_soon(hung)
            tasks.start_soon(doubted)
            if self._spec.sleep_after_s is not None:
                tasks.start_soon(slept)
        return reasons[0]

    async def answers(self, timeout_s: float) -> bool:
        """Ask /health. llama.cpp answers it beside running requests, and asleep, so silence means trouble."""
        return b" 200 " in await self._get("/health", timeout_s, limit_bytes=64)

    async def _seems_to_hang(self) -> bool:
        """True when it says nothing, not even that it loads its model, and does no work either."""
        ticks, began_s = self._worked_ticks(), monotonic_s()
        if await self._get("/health", _DOUBT_TIMEOUT_S, limit_bytes=64):
            return False
        is_silent = monotonic_s() - began_s >= _DOUBT_TIMEOUT_S / 2  # else it refused: it has ended, or soon will
        return is_silent and self._worked_ticks() - ticks < _BUSY_TICKS

    def _worked_ticks(self) -> int:
        """Processor time so far, in user mode and in the kernel: proc_pid_stat(5), fields 14 and 15."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0
        return int(fields[11]) + int(fields[12])

    async def is_asleep(self, timeout_s: float) -> bool:
        """Ask /props, which wakes nobody (/slots would). False also when it does not answer."""
        return b'"is_sleeping":true' in await self._get("/props", timeout_s, limit_bytes=1 << 20)

    async def _get(self, path: str, timeout_s: float, *, limit_bytes: int) -> bytes:
        """The beginning of the reply, head included; empty when none came in time."""
        host, _, port = self.url.rpartition("//")[2].rpartition(":")
        reply = b""
        try:
            with anyio.fail_after(timeout_s):
                async with await anyio.connect_tcp(host, int(port)) as stream:
                    await stream.send(f"GET {path} HTTP/1.0\r\nAuthorization: Bearer {self.api_key}\r\n\r\n".encode())
                    while len(reply) < limit_bytes:
                        reply += await stream.receive(min(limit_bytes, 65_536))
        except (OSError, anyio.EndOfStream, anyio.BrokenResourceError):  # TimeoutError is an OSError
            return reply
        return reply

    async def read_log(self) -> None:
        """Drain the worker's stderr until it closes; a full pipe would stop the worker."""
        assert self._process.stderr is not None
        async for line in lines_of(self._process.stderr):
            self._tail.append(line)
            log.debug("local_worker_wrote", instance=self._spec.name, line=line)
        self._log_ended.set()

    async def start(self) -> None:
        """Returns when the worker is ready. Raises UpstreamFailed, UpstreamTimeout, MissingExtra."""
        try:
            with anyio.fail_after(self._spec.start_timeout_s):
                event = await self._first_event()
        except TimeoutError:
            raise UpstreamTimeout(self._spec.name, "sign of readiness", self._spec.start_timeout_s) from None
        if not isinstance(event, ServerReady):
            raise await self._start_failure(event)
        self.url = event.url
        self.context_tokens = event.context_tokens

    async def stop(self) -> None:
        """SIGTERM, stop_timeout_s, SIGKILL, which ends a stopped process, too. Bounded and not to be cancelled."""
        with anyio.CancelScope(shield=True):
            for number, grace_s in ((signal.SIGTERM, self._spec.stop_timeout_s), (signal.SIGKILL, _KILL_GRACE_S)):
                if self._process.returncode is None:
                    with suppress(ProcessLookupError), anyio.move_on_after(grace_s):
                        self._process.send_signal(number)
                        await self._process.wait()
            if self._process.returncode is None:
                log.error("local_worker_survived_kill", instance=self._spec.name, pid=self.pid)

    async def _first_event(self) -> Event | None:
        """None when the worker ended without one."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            await self._process.stdin.send(msgspec.json.encode(self._order()) + b"\n")
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            return None
        async for line in lines_of(self._process.stdout):
            with suppress(msgspec.DecodeError):  # a package that prints while Python starts
                return _events.decode(line)
        return None

    def _order(self) -> Order:
        return Order(
            parent_pid=os.getpid(),
            path=str(self._spec.path),
            model=self._spec.model,
            api_key=self.api_key,
            host=self._spec.host,
            context_tokens=self._spec.context_tokens,
            slots=self._spec.slots,
            threads=self._spec.threads,
            mode=self._spec.mode,
            prompt_cache_bytes=self._spec.prompt_cache_bytes,
            sleep_after_s=self._spec.sleep_after_s,
        )

    async def _start_failure(self, event: Event | None) -> HubError:
        await self._process.wait()
        if event is None or isinstance(event, ServerReady):
            return UpstreamFailed(self._spec.name, await self._end_reason(is_running=False))
        if event.is_missing_package:
            return MissingExtra("local", "a model on this machine")
        await self._whole_log()
        return UpstreamFailed(self._spec.name, cause_of(self._tail, is_running=False) or event.reason)

    async def _end_reason(self, *, is_running: bool) -> str:
        await self._whole_log()
        status = self._process.returncode or 0
        how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        cause = cause_of(self._tail, is_running=is_running)
        return f"the worker {how}" + (f": {cause}" if cause else "")

    async def _whole_log(self) -> None:
        with anyio.move_on_after(_LOG_GRACE_S):
            await self._log_ended.wait()


@asynccontextmanager
async def run_child(spec: LocalSpec) -> AsyncIterator[LocalChild]:
    """Start a worker and hand it out once it is ready; it is stopped on leaving.

    Enter it in a thread that lives as long as the child may, as the event loop's does: the kernel kills the child when
    the thread that started it ends (prctl(2), PR_SET_PDEATHSIG).
    Raises UpstreamFailed when it does not come up, UpstreamTimeout after start_timeout_s, and MissingExtra when
    xllamacpp is not installed.
    """
    process = await open_child(
        [sys.executable, "-P", "-m", "autoglm.inference.local.worker"],
        environment=python_environment(spec.environment),
        open_files=_OPEN_FILES,
    )
    child = LocalChild(spec, process)
    try:
        async with one_task_group() as tasks:
            tasks.start_soon(child.read_log)
            try:
                await child.start()
                yield child
            finally:
                await child.stop()
                tasks.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            await process.aclose()
