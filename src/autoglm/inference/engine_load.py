"""What an engine says of its own load; it has other clients than this hub."""

import msgspec


class EngineLoad(msgspec.Struct, frozen=True, kw_only=True):
    """One reading of an engine's metrics."""

    running: int
    waiting: int
    """Requests in the engine's own queue."""
    cache_use: float | None
    """Of the KV cache, in [0, 1]; None where the engine does not tell."""
    at_s: float = 0.0
    """Monotonic time of the reading."""

    def foreign(self, ours: int) -> int:
        """How many of its requests are not ours. ours: those that we had there at the time of the reading."""
        return max(0, self.running + self.waiting - ours)
