"""Places for the large bodies of strangers: few, so that they cannot fill the memory, and for nobody who dawdles."""

import asyncio

from autoglm.core.clock import monotonic_s
from autoglm.core.errors import RequestTimeout, TooManyBodies
from autoglm.gateway.exchange import HIGH_WATER_BYTES, Exchange

PLACES = 32
"""With bodies of a MiB, strangers can fill 32 MiB of memory and no more."""
LONGEST_S = 10.0
_PACE_BYTES_PER_S = 100 * 1024
"""Of a body of a MiB that takes as long as it may."""
_GRACE_S = 1.0
"""So long a body may pause; what it was quicker before counts no further, or it could come but for its last byte."""


class _Place:
    """One body that is coming. Loses its place to a newcomer once `due_s` is over."""

    def __init__(self) -> None:
        self.timeout = asyncio.timeout(LONGEST_S)
        self.is_lost = False
        self.due_s = monotonic_s() + _GRACE_S

    def came(self, size_bytes: int) -> None:
        """A part of so many bytes."""
        self.due_s = min(self.due_s + size_bytes / _PACE_BYTES_PER_S, monotonic_s() + _GRACE_S)

    def lose(self) -> None:
        self.is_lost = True
        if not self.timeout.expired():
            self.timeout.reschedule(asyncio.get_running_loop().time())


class LargeBodies:
    def __init__(self) -> None:
        self._places: set[_Place] = set()

    async def read(self, exchange: Exchange, limit_bytes: int) -> bytes:
        """The whole body. Raises TooManyBodies, also for one that lost its place; RequestTimeout; as Exchange.body."""
        place = self._take_place()
        try:
            async with place.timeout:
                return await exchange.body(limit_bytes, on_part=place.came)
        except TimeoutError:
            exchange.is_keep_alive = False
            if place.is_lost:
                raise TooManyBodies(PLACES, HIGH_WATER_BYTES) from None
            raise RequestTimeout(LONGEST_S, is_slow=True) from None
        finally:
            self._places.discard(place)

    def _take_place(self) -> _Place:
        """Raises TooManyBodies: all come at a good pace."""
        if len(self._places) >= PLACES:
            slowest = min(self._places, key=lambda place: place.due_s)
            if slowest.due_s > monotonic_s():
                raise TooManyBodies(PLACES, HIGH_WATER_BYTES)
            slowest.lose()
            self._places.discard(slowest)
        place = _Place()
        self._places.add(place)
        return place
