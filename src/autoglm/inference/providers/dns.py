"""Addresses from DNS: the A and AAAA records of one name, by the system's resolver.

That honours /etc/hosts, search domains and the machine's caches, as all else does there. SRV records, which would
carry ports, are beyond it.
"""

import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import anyio
import anyio.to_thread

from autoglm.core.errors import DiscoveryFailed
from autoglm.inference.providers.targets_file import Target

LookUp = Callable[..., Sequence[tuple[Any, Any, Any, Any, tuple[Any, ...]]]]
"""`socket.getaddrinfo`, or what behaves like it."""

TIMEOUT_S = 15.0
"""glibc asks two servers for 5 s each, and then again."""


class DnsName:
    """Satisfies `discovery.Source`."""

    def __init__(self, name: str, port: int, look_up: LookUp = socket.getaddrinfo) -> None:
        self._port = port
        self._name = name
        self._look_up = look_up
        self.place = f"DNS name {name}"
        self._one_at_a_time = anyio.CapacityLimiter(1)  # a resolver that hangs must not hold thread after thread

    async def look(self) -> list[Target]:
        """Its addresses, at least one, in a fixed order: servers rotate them. Raises DiscoveryFailed."""
        ask = partial(self._look_up, self._name, self._port, type=socket.SOCK_STREAM)
        try:
            with anyio.fail_after(TIMEOUT_S):
                found = await anyio.to_thread.run_sync(ask, abandon_on_cancel=True, limiter=self._one_at_a_time)
        except TimeoutError:
            raise DiscoveryFailed(self.place, f"no answer within {TIMEOUT_S:.0f} s") from None
        except (OSError, UnicodeError) as error:  # gaierror is an OSError; UnicodeError: a label of 64 characters
            raise DiscoveryFailed(self.place, str(error)) from error
        # A link-local IPv6 address needs the name of an interface, which an URL cannot carry.
        hosts = {str(address[0]) for *_, address in found if "%" not in str(address[0])}
        if not hosts:
            raise DiscoveryFailed(self.place, "has no address")
        return [Target(host, self._port) for host in sorted(hosts)]
