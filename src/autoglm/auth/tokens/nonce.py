"""Nonces of this run of the hub (RFC 9449, section 8): what carries one was made after the start, and lately.

Nothing is kept: a nonce is an HMAC of its window's number under a secret of the run. Windows count monotonic time, so
no wall clock makes an old nonce new.
"""

import hashlib
import hmac
import secrets
from collections.abc import Callable

from autoglm.auth.tokens.compact import encode_base64url
from autoglm.core.clock import monotonic_s

_BYTES = 16


class Nonces:
    def __init__(
        self, window_s: float = 60.0, monotonic_s: Callable[[], float] = monotonic_s, secret: bytes | None = None
    ) -> None:  # fmt: skip
        """A nonce counts for one to two windows. secret: 32 random bytes by default, which must not outlive the run."""
        self._window_s = window_s
        self._monotonic_s = monotonic_s
        self._secret = secret or secrets.token_bytes(32)

    def current(self) -> str:
        return self._of(self._number())

    def is_valid(self, nonce: str) -> bool:
        """Whether it is of this window or of the one before. nonce: ASCII."""
        number = self._number()
        return any(hmac.compare_digest(nonce, self._of(wanted)) for wanted in (number, number - 1))

    def _number(self) -> int:
        return int(self._monotonic_s() // self._window_s)

    def _of(self, number: int) -> str:
        mac = hmac.digest(self._secret, b"dpop nonce %d" % number, hashlib.sha256)
        return encode_base64url(mac[:_BYTES])
