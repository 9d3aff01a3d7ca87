"""Tells a repeated attempt from another message of the same words, which WeCom cannot: it compares what it gets."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable

from autoglm.core.clock import monotonic_s

_REMEMBERED = 10_000


class Repeats:
    """Who sent what of late, in memory: after a restart, a message with the words of an earlier one may be taken for
    its repetition, for as long as WeCom compares.
    """

    def __init__(self, within_s: float, *, clock_s: Callable[[], float] = monotonic_s) -> None:
        self._within_s = within_s
        self._clock_s = clock_s
        self._bodies: OrderedDict[bytes, tuple[str, bool, float]] = OrderedDict()
        """By digest: the last message's key, whether another one had it before, until when WeCom remembers it."""

    def is_another(self, body: bytes, key: str) -> bool:
        """True when several messages of this body are within WeCom's memory: it must not compare, or hides one of them.

        Notes this one.
        """
        digest = hashlib.sha256(body).digest()
        now_s = self._clock_s()
        known, is_shared, until_s = self._bodies.pop(digest, ("", False, 0.0))
        is_shared = now_s < until_s and (is_shared or known != key)
        self._bodies[digest] = (key, is_shared, now_s + self._within_s)
        if len(self._bodies) > _REMEMBERED:
            self._bodies.popitem(last=False)
        return is_shared
