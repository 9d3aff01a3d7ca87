"""Failed logins are slowed down, and nobody is locked out by another's failures.

Counted are a caller's own failures: those of an account from an address, those of an address, and those of a device
that has logged in before and shows its token. A known device is not held up by what others do from anywhere, not even
from its own address. Source: OWASP, "Slow Down Online Guessing Attacks with Device Cookies"; ASVS 5, V6.3.1.
"""

import hashlib
import ipaddress
from collections import OrderedDict
from collections.abc import Callable

from autoglm.auth.people.settings import ThrottleSettings
from autoglm.core.clock import monotonic_s
from autoglm.core.errors import LoginThrottled

_MAX_ENTRIES = 50_000


class _Failures:
    __slots__ = ("count", "last_s")

    def __init__(self) -> None:
        self.count = 0
        self.last_s = 0.0


class Attempt:
    """A login under way. It counts as failed until `succeeded`, so that guessing in parallel gains nothing."""

    def __init__(self, throttle: "Throttle", keys: list[tuple[bytes, int]]) -> None:
        self._throttle, self.keys = throttle, keys

    def succeeded(self) -> None:
        """Takes this attempt back; and forgets the failures of the account from there, but not those of the address:
        logging in to an account of one's own must not buy guesses at others.
        """
        self._throttle._settle(self, is_clearing=True)

    def withdraw(self) -> None:
        """It was not tried: too busy."""
        self._throttle._settle(self, is_clearing=False)


class Throttle:
    """In memory, bounded: when full, what failed longest ago is forgotten."""

    def __init__(self, settings: ThrottleSettings, now_s: Callable[[], float] = monotonic_s) -> None:
        self._settings, self._now_s = settings, now_s
        self._failures: OrderedDict[bytes, _Failures] = OrderedDict()

    def begin(self, account: str, client: str, *, device: str | None = None) -> Attempt:
        """Raises LoginThrottled with the wait; then nothing was counted, so that trying early makes it no longer.

        account: the name as it was typed, there or not. client: the address. device: of a known device of this very
        account; the caller has checked that.
        """
        chosen = self._settings
        keys = (
            [(_key("device", account, device), chosen.free_failures_per_device)]
            if device is not None
            else [
                (_key("pair", account, block_of(client)), chosen.free_failures),
                (_key("client", block_of(client)), chosen.free_failures_per_address),
            ]
        )
        now_s = self._now_s()
        wait_s = max(self._wait_s(key, free, now_s) for key, free in keys)
        if wait_s > 0:
            raise LoginThrottled(max(1.0, wait_s))
        for key, _ in keys:
            self._count(key, now_s)
        return Attempt(self, keys)

    def _wait_s(self, key: bytes, free: int, now_s: float) -> float:
        failures = self._failures.get(key)
        if failures is None:
            return 0.0
        if now_s - failures.last_s > self._settings.forget_after_s:
            del self._failures[key]
            return 0.0
        if failures.count < free:
            return 0.0
        wait_s = min(self._settings.max_wait_s, self._settings.first_wait_s * 2.0 ** min(failures.count - free, 60))
        return failures.last_s + wait_s - now_s

    def _count(self, key: bytes, now_s: float) -> None:
        failures = self._failures.setdefault(key, _Failures())
        failures.count += 1
        failures.last_s = now_s
        self._failures.move_to_end(key)
        if len(self._failures) > _MAX_ENTRIES:
            self._failures.popitem(last=False)

    def _settle(self, attempt: Attempt, *, is_clearing: bool) -> None:
        """is_clearing: of the account's failures from there, which come first."""
        for place, (key, _) in enumerate(attempt.keys):
            failures = self._failures.get(key)
            if failures is None:
                continue
            failures.count -= 1
            if failures.count <= 0 or (is_clearing and place == 0):
                del self._failures[key]


def block_of(client: str) -> str:
    """What one subscriber has: an IPv4 address, or an IPv6 /64. Other text stands for itself."""
    try:
        address = ipaddress.ip_address(client.partition("%")[0])
    except ValueError:
        return client[:64]
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))


def _key(*parts: str) -> bytes:
    """Of fixed length, whatever was typed."""
    joined = b"\0".join(part.encode("utf-8", "surrogatepass") for part in parts)
    return hashlib.sha256(joined).digest()[:16]
