"""How long to wait before the next try."""

import random

import msgspec


class BackOff(msgspec.Struct, frozen=True, kw_only=True):
    """Pauses that double with each failure, with jitter, so that instances that fell together do not rise together."""

    first_s: float = 1.0
    limit_s: float = 60.0
    reset_after_s: float = 60.0
    """Of health: then the count of failures starts anew."""

    def pause_s(self, failures: int) -> float:
        """The pause after the failure number `failures`, counted from 1: 75% to 100% of the doubled value."""
        doubled_s = self.first_s * 2.0 ** min(failures - 1, 30)
        return min(self.limit_s, doubled_s) * random.uniform(0.75, 1.0)  # noqa: S311  # spreads load, guards no secret
