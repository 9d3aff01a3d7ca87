"""How often an address may fail to say who it is: keys, logins and hellos that are wrong.

A bucket of tokens for each address of IPv4 and each /64 of IPv6 (what one household gets: RFC 6177). Who was verified
from an address before is let in from there however many others fail: nobody can lock him out. Everybody else from there
waits, with a right key as with a wrong one, so that guessing tells nothing.
"""

from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address

from autoglm.core.clock import monotonic_s
from autoglm.core.errors import TooManyFailures

MAX_BLOCKS = 10_000
MAX_WELCOME = 10_000
LOOPBACK_FACTOR = 20
"""Of this machine's own programs there may be many, and a proxy on it may bring everybody."""
_LOOPBACK = "loopback"


@lru_cache(4096)
def block_of(client: str) -> str:
    """Which addresses count as one; empty for a client without an address, such as one on a Unix socket."""
    try:
        address: IPv4Address | IPv6Address = ip_address(client.partition("%")[0])
    except ValueError:
        return ""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address.is_loopback:
        return _LOOPBACK
    return str(address) if isinstance(address, IPv4Address) else f"{int(address) >> 64:x}::/64"


class Strangers:
    """Bounded in memory; of two many who fail, the one that failed longest ago is forgotten first."""

    def __init__(self, failures_per_minute: int, now_s: Callable[[], float] = monotonic_s) -> None:
        self._per_minute = failures_per_minute
        self._now_s = now_s
        self._buckets: dict[str, tuple[float, float]] = {}
        """By block: tokens left, and since when; the one that changed last is the last."""
        self.welcome: dict[tuple[str, object], None] = {}
        """Clients with what they were verified as, the oldest first."""

    def check(self, client: str) -> None:
        """Before something costly is verified. Raises TooManyFailures."""
        block = block_of(client)
        if block in self._buckets and (wait_s := self._wait_s(block)) > 0:
            raise TooManyFailures(wait_s)

    def failed(self, client: str) -> None:
        """It could not say who it is. Raises TooManyFailures when it has done so too often."""
        block = block_of(client)
        if not block:
            return
        tokens, now_s = self._tokens(block), self._now_s()
        self._buckets.pop(block, None)
        if len(self._buckets) >= MAX_BLOCKS:
            del self._buckets[next(iter(self._buckets))]
        self._buckets[block] = (max(0.0, tokens - 1), now_s)
        if tokens < 1:
            raise TooManyFailures(self._wait_s(block))

    def met(self, client: str, credential: object) -> None:
        """It said who it is, as which it is not `welcome` yet. Raises TooManyFailures where others failed too often."""
        self.check(client)
        if len(self.welcome) >= MAX_WELCOME:
            del self.welcome[next(iter(self.welcome))]
        self.welcome[client, credential] = None

    def _rate_per_s(self, block: str) -> float:
        return self._per_minute * (LOOPBACK_FACTOR if block == _LOOPBACK else 1) / 60

    def _tokens(self, block: str) -> float:
        most = self._rate_per_s(block) * 60
        if block not in self._buckets:
            return most
        left, since_s = self._buckets[block]
        return min(most, left + (self._now_s() - since_s) * self._rate_per_s(block))

    def _wait_s(self, block: str) -> float:
        return max(0.0, (1 - self._tokens(block)) / self._rate_per_s(block))
