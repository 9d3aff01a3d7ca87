"""UUIDv7: ids that sort by the time they were made. Source: RFC 9562, section 5.7."""

import os
import threading

from autoglm.core.clock import now_ms

_lock = threading.Lock()
_last = 0


def uuid7() -> str:
    """A new UUIDv7, greater than every one this process made before (RFC 9562, section 6.2, method 2)."""
    global _last
    random_bits = int.from_bytes(os.urandom(10), "big")
    fresh = now_ms() << 80 | 0x7 << 76 | (random_bits >> 68 & 0xFFF) << 64 | 0b10 << 62 | random_bits & (1 << 62) - 1
    with _lock:
        if fresh <= _last:  # same millisecond or a clock set back: count on from the last one, past the variant bits
            tail = (_last & (1 << 62) - 1) + 1
            head = _last >> 64
            fresh = (head + (tail >> 62)) << 64 | 0b10 << 62 | tail & (1 << 62) - 1
        _last = fresh
    text = f"{fresh:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
