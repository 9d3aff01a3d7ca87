"""Bounds what those may cost who have not logged in: how many wait at a time, and how fast one address may come.

A crowd from one address takes its own places alone; whoever logs in gets his turn back, so that a hall of devices
behind one router can come all at once.
"""

import ipaddress
from collections import OrderedDict
from collections.abc import Callable

from autoglm.core.clock import monotonic_s

MOST = 256
"""Connections whose login is under way."""
RATE_PER_S = 100.0
BURST = 500.0
_ADDRESSES = 4096
"""Remembered; a forgotten one begins anew."""


class Strangers:
    def __init__(self) -> None:
        self._waiting: dict[str, OrderedDict[int, Callable[[], None]]] = {}
        self._count = 0
        self._last = 0
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """By network: turns left, and when that was so."""

    @property
    def waiting(self) -> int:
        return self._count

    def take_turn(self, address: str) -> bool:
        """Whether one more connection from there is served."""
        network = network_of(address)
        now_s = monotonic_s()
        level, since_s = self._levels.pop(network, (BURST, now_s))
        level = min(BURST, level + (now_s - since_s) * RATE_PER_S)
        may_come = level >= 1
        self._levels[network] = (level - 1 if may_come else level, now_s)
        if len(self._levels) > _ADDRESSES:
            self._levels.popitem(last=False)
        return may_come

    def give_back(self, address: str) -> None:
        """It has logged in."""
        network = network_of(address)
        if (known := self._levels.get(network)) is not None:
            self._levels[network] = (min(BURST, known[0] + 1), known[1])

    def enter(self, address: str, send_away: Callable[[], None]) -> Callable[[], None]:
        """A login begins; call what is returned when it has ended, once.

        Where too many wait, the oldest of the network with the most is sent away.
        """
        network = network_of(address)
        self._last += 1
        number = self._last
        self._waiting.setdefault(network, OrderedDict())[number] = send_away
        self._count += 1
        if self._count > MOST:
            crowd = max(self._waiting, key=lambda one: len(self._waiting[one]))
            oldest = next(iter(self._waiting[crowd]))
            send = self._waiting[crowd][oldest]
            self._leave(crowd, oldest)
            send()
        return lambda: self._leave(network, number)

    def _leave(self, network: str, number: int) -> None:
        """Once only counts: who was sent away has left."""
        inside = self._waiting.get(network)
        if inside is None or inside.pop(number, None) is None:
            return
        self._count -= 1
        if not inside:
            del self._waiting[network]


def network_of(address: str) -> str:
    """Who holds an address of IPv6 holds its /64."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    mapped = found.ipv4_mapped
    return str(mapped) if mapped is not None else str(ipaddress.IPv6Network((found, 64), strict=False))
