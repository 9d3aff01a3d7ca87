"""How far a pull has come."""

from collections.abc import Callable

import anyio.from_thread
import msgspec

from autoglm.core.clock import monotonic_s

_PAUSE_S = 0.1


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """One report. Each step counts from 0 to its own total."""

    step: str
    """For people: 'downloading part 2 of 6'."""
    done_bytes: int
    total_bytes: int
    """0 when it is not known."""


OnProgress = Callable[[Progress], None]


class Reporter:
    """Calls `on_progress` in the event loop's thread, at most 10 times a second; the ends of a step always count."""

    def __init__(self, on_progress: OnProgress | None) -> None:
        self._on_progress = on_progress
        self._step = ""
        self._next_s = 0.0

    def report(self, step: str, done_bytes: int, total_bytes: int) -> None:
        """From the event loop's thread."""
        if self._on_progress is not None and self._is_due(step, done_bytes, total_bytes):
            self._on_progress(Progress(step=step, done_bytes=done_bytes, total_bytes=total_bytes))

    def report_from_worker(self, step: str, done_bytes: int, total_bytes: int) -> None:
        """From a thread of anyio.to_thread, for each chunk of its work; also the point where cancellation gets in."""
        anyio.from_thread.check_cancelled()
        if self._on_progress is not None and self._is_due(step, done_bytes, total_bytes):
            progress = Progress(step=step, done_bytes=done_bytes, total_bytes=total_bytes)
            anyio.from_thread.run_sync(self._on_progress, progress)

    def _is_due(self, step: str, done_bytes: int, total_bytes: int) -> bool:
        now_s = monotonic_s()
        is_edge = step != self._step or (total_bytes > 0 and done_bytes >= total_bytes)
        if not is_edge and now_s < self._next_s:
            return False
        self._step, self._next_s = step, now_s + _PAUSE_S
        return True
