"""Wall-clock milliseconds for what is stored, monotonic seconds for what is waited for."""

import time


def now_ms() -> int:
    """Milliseconds of the Unix epoch, as envelopes carry them."""
    return time.time_ns() // 1_000_000


monotonic_s = time.monotonic
