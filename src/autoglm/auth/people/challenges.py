"""Challenges that are made without being kept: a flood of them fills nothing, so nobody's ceremony is crowded out.

A challenge is its end, a nonce, and a MAC under a secret of this run over what it is for. Only those that were used
with success are kept, until their end; a stranger makes none of these.
"""

import hashlib
import hmac
import secrets
from collections.abc import Callable

from autoglm.core.clock import monotonic_s

_END_BYTES, _NONCE_BYTES, _MAC_BYTES = 8, 16, 32
SIZE_BYTES = _END_BYTES + _NONCE_BYTES + _MAC_BYTES


class Challenges:
    """Void with the process. Times are monotonic, so no wall clock lengthens them."""

    def __init__(self, valid_s: float, now_s: Callable[[], float] = monotonic_s) -> None:
        self._valid_s, self._now_s = valid_s, now_s
        self._secret = secrets.token_bytes(32)
        self._used: dict[bytes, float] = {}

    def make(self, purpose: str) -> bytes:
        """purpose: all that it is good for, such as `create` and an account's id."""
        end_ms = int((self._now_s() + self._valid_s) * 1000)
        head = end_ms.to_bytes(_END_BYTES, "big") + secrets.token_bytes(_NONCE_BYTES)
        return head + self._mac(purpose, head)

    def is_good(self, challenge: bytes, purpose: str) -> bool:
        """Ours, for this purpose, in time, and not used before."""
        head = challenge[:-_MAC_BYTES]
        return (
            len(challenge) == SIZE_BYTES
            and hmac.compare_digest(challenge[-_MAC_BYTES:], self._mac(purpose, head))
            and int.from_bytes(head[:_END_BYTES], "big") > self._now_s() * 1000
            and challenge not in self._used
        )

    def use(self, challenge: bytes, purpose: str) -> bool:
        """True the first time for one that `is_good`."""
        if not self.is_good(challenge, purpose):
            return False
        now_s = self._now_s()
        self._used = {used: end_s for used, end_s in self._used.items() if end_s > now_s}
        self._used[challenge] = int.from_bytes(challenge[:_END_BYTES], "big") / 1000
        return True

    def derive(self, challenge: bytes, label: str) -> bytes:
        """32 further bytes that only this run knows, the same for the same challenge and label."""
        return hmac.digest(self._secret, b"derive\0" + label.encode() + b"\0" + challenge, hashlib.sha256)

    def _mac(self, purpose: str, head: bytes) -> bytes:
        return hmac.digest(self._secret, b"challenge\0" + purpose.encode() + b"\0" + head, hashlib.sha256)
