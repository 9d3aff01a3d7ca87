"""Tells the log of calls to a hook that were refused: a flood of them is one line a minute."""

import time

import structlog

_LOG_EVERY_S = 60.0

log = structlog.get_logger(__name__)


class Refusals:
    """Of one channel."""

    def __init__(self, channel: str) -> None:
        self._channel = channel
        self._count = 0
        self._logged_s = float("-inf")

    def note(self, status: int, reason: str) -> None:
        """status, reason: of this call's answer; nothing that the caller chose."""
        self._count += 1
        now_s = time.monotonic()
        if now_s - self._logged_s >= _LOG_EVERY_S:
            log.warning("hook_calls_refused", channel=self._channel, status=status, reason=reason, count=self._count)
            self._count, self._logged_s = 0, now_s
