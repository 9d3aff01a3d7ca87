"""Keeps one local instance up: starts its worker, watches it, and starts it anew when it falls."""

from collections.abc import Callable

import anyio
import structlog

from autoglm.core.clock import monotonic_s
from autoglm.core.errors import HubError
from autoglm.inference.local.backoff import BackOff
from autoglm.inference.local.child import LocalChild, run_child
from autoglm.inference.local.spec import Down, LocalSpec, LocalState, Ready, Starting

log = structlog.get_logger()

_DEFAULT_BACK_OFF = BackOff()


class LocalProvider:
    """Supervises one worker. `on_state` is called in the event loop's thread, once for each change."""

    def __init__(
        self, spec: LocalSpec, on_state: Callable[[LocalState], None], *, back_off: BackOff = _DEFAULT_BACK_OFF,
        gives_up: bool = False, on_sleep: Callable[[bool], None] | None = None,
        on_well: Callable[[], None] | None = None,
    ) -> None:  # fmt: skip
        """gives_up: end when a worker does not come up, for those who wait for it are to know at once.

        on_sleep: told from time to time whether the worker is asleep, if it ever may be. on_well: see `doubt`.
        """
        self._spec = spec
        self._on_state = on_state
        self._on_sleep = on_sleep
        self._on_well = on_well
        self._back_off = back_off
        self._gives_up = gives_up
        self._failures = 0
        self._child: LocalChild | None = None

    def doubt(self) -> None:
        """A request waits in vain: look at once whether the worker hangs. `on_well` tells that it does not."""
        if self._child is not None:
            self._child.doubt()

    async def run(self) -> str:
        """Until cancelled; then the worker is stopped, and `Down` without a retry is the last state.

        Every failure is retried, a missing model or package too: the operator may be about to bring it. One that
        gives up returns the reason instead, when a worker has not become ready.
        """
        try:
            while True:
                pause_s = await self._one_life()
                if isinstance(pause_s, str):
                    self._on_state(Down(reason=pause_s))
                    return pause_s
                await anyio.sleep(pause_s)
        except BaseException:
            self._on_state(Down(reason="the instance was stopped"))
            raise

    async def _one_life(self) -> float | str:
        """From the start of a worker to its end. Returns the pause before the next one, in seconds, or why none."""
        self._on_state(Starting())
        began_s = monotonic_s()
        try:
            async with run_child(self._spec) as child:
                ready_s = monotonic_s()
                self._child = child
                self._ready(child, start_s=ready_s - began_s)
                reason = await child.watch(self._on_sleep, self._on_well)
                return self._fell(reason, healthy_s=monotonic_s() - ready_s)  # told before a hung worker is stopped
        except HubError as error:
            return self._did_not_come_up(str(error))
        except OSError as error:  # no memory or no process left to fork
            return self._did_not_come_up(f"the worker could not be started: {error}")

    def _did_not_come_up(self, reason: str) -> float | str:
        if not self._gives_up:
            return self._fell(reason, healthy_s=0.0)
        log.warning("local_worker_not_started", instance=self._spec.name, reason=reason)
        return reason

    def _ready(self, child: LocalChild, start_s: float) -> None:
        log.info("local_worker_started", instance=self._spec.name, pid=child.pid, took_s=round(start_s, 2))
        self._on_state(
            Ready(
                base_url=f"{child.url}/v1",
                api_key=child.api_key,
                context_tokens=child.context_tokens,
                start_s=start_s,
                pid=child.pid,
            )
        )

    def _fell(self, reason: str, healthy_s: float) -> float:
        self._failures = 1 if healthy_s >= self._back_off.reset_after_s else self._failures + 1
        pause_s = self._back_off.pause_s(self._failures)
        log.warning("local_worker_fell", instance=self._spec.name, reason=reason, retry_in_s=round(pause_s, 2))
        self._on_state(Down(reason=reason, retry_in_s=pause_s))
        return pause_s
