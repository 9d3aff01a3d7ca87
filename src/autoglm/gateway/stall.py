"""Clients that take nothing of what waits for them: they would hold a place and a slot for ever."""


class Stall:
    """Of one connection; looked at every few seconds."""

    __slots__ = ("_since_s", "_waiting_bytes")

    def __init__(self) -> None:
        self._since_s = 0.0
        self._waiting_bytes = -1

    def lasts(self, *, is_waiting: bool, waiting_bytes: int, now_s: float, patience_s: float) -> bool:
        """True when the client has taken nothing for so long. is_waiting: there is something that it has to take."""
        if not is_waiting:
            self._waiting_bytes = -1
            return False
        if waiting_bytes != self._waiting_bytes:
            self._waiting_bytes, self._since_s = waiting_bytes, now_s
        return now_s - self._since_s >= patience_s
