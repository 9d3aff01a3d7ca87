"""Which proofs were used in this run of the hub: each counts once.

In memory, by digests. A restart forgets them; what stands in for them then is the nonce of the run (`nonce.py`).
"""

import hashlib
import secrets

from autoglm.core.errors import TokenRefused, TooManyProofs

MAX_ENTRIES = 1_000_000
_SLICES = 8
"""The window is forgotten in this many steps."""


class ReplayMemory:
    """Remembers (jkt, jti) for as long as a proof with its `iat` could be accepted."""

    def __init__(self, *, window_ms: int, skew_ms: int, max_entries: int = MAX_ENTRIES) -> None:
        """window_ms, skew_ms: those by which proofs are verified. An entry takes about 90 bytes."""
        self._window_ms = window_ms
        self._slice_ms = max(1000, (window_ms + skew_ms) // _SLICES)
        self._max_entries = max_entries
        self._by_slice: dict[int, set[int]] = {}
        self._forgotten_ms = 0
        """What was made before may have been used and forgotten. Never falls, whatever the clock does."""
        # Keyed, so that nobody can choose ids whose digests collide; 64 bits, as a collision only refuses a request.
        self._secret = secrets.token_bytes(16)

    def __len__(self) -> int:
        return sum(len(used) for used in self._by_slice.values())

    def use(self, jkt: str, jti: str, *, iat_ms: int, now_ms: int) -> None:
        """Note a proof that verified. Raises TokenRefused when it was used before.

        Raises TooManyProofs when there is no room: nothing is forgotten early.
        """
        self._forget(now_ms)
        if iat_ms < self._forgotten_ms:
            raise TokenRefused("expired", "proof")
        digest = hashlib.blake2b(f"{jkt} {jti}".encode(), digest_size=8, key=self._secret).digest()
        entry = int.from_bytes(digest, "big")
        if any(entry in used for used in self._by_slice.values()):
            raise TokenRefused("replayed", "proof")
        if len(self) >= self._max_entries:
            raise TooManyProofs(self._slice_ms / 1000)
        self._by_slice.setdefault(iat_ms // self._slice_ms, set()).add(entry)

    def _forget(self, now_ms: int) -> None:
        oldest_ms = now_ms - self._window_ms
        for number in [number for number in self._by_slice if (number + 1) * self._slice_ms <= oldest_ms]:
            del self._by_slice[number]
            self._forgotten_ms = max(self._forgotten_ms, (number + 1) * self._slice_ms)
