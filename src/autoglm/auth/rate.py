"""How many requests somebody may send: a bucket of tokens, a minute's worth deep."""

from autoglm.core.clock import monotonic_s
from autoglm.core.errors import RateLimited


class Rate:
    """Of one key or device, whatever it shows: another token, or one with fewer scopes, fills nothing up."""

    __slots__ = ("_level", "_per_s", "_refilled_s", "per_minute")

    def __init__(self, per_minute: int) -> None:
        self.per_minute = per_minute
        self._per_s = per_minute / 60
        self._level = float(per_minute)
        self._refilled_s = monotonic_s()

    def take(self) -> None:
        """Count one request. Raises RateLimited."""
        now_s = monotonic_s()
        self._level = min(float(self.per_minute), self._level + (now_s - self._refilled_s) * self._per_s)
        self._refilled_s = now_s
        if self._level < 1:
            raise RateLimited((1 - self._level) / self._per_s)
        self._level -= 1


class Rates:
    """One for each name. There are no more names than devices, and no more than `most` are remembered."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._by_name: dict[str, Rate] = {}

    def of(self, name: str, per_minute: int) -> Rate:
        found = self._by_name.get(name)
        if found is None or found.per_minute != per_minute:
            if len(self._by_name) >= self._most:
                del self._by_name[next(iter(self._by_name))]
            found = self._by_name[name] = Rate(per_minute)
        return found
