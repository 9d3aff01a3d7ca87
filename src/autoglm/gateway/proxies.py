"""Whose request a proxy brings: only the proxies of the settings are believed.

Sources: RFC 7239 (Forwarded); MDN, "X-Forwarded-For", selecting an address by trusted proxies.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Literal

ProxyHeader = Literal["x-forwarded-for", "forwarded"]

_FOR = re.compile(r"for\s*=\s*(\"[^\"]*\"|[^;,\s]+)", re.IGNORECASE)
_PLACE = re.compile(r"\[([0-9a-fA-F:.]+)\](?::\d+)?|([0-9.]+)(?::\d+)?|([0-9a-fA-F:.]+)")
_MOST_HOPS = 32


class Proxies:
    """Reads one header and no other: a proxy that sets one of them passes the other on as the client sent it."""

    def __init__(self, trusted: Sequence[str], header: ProxyHeader) -> None:
        """trusted: addresses and networks. Raises ValueError."""
        self._networks = [ip_network(entry) for entry in trusted]
        self._header = header.encode()
        self._is_trusted = lru_cache(1024)(self._is_in_networks)

    def client(self, peer: str, headers: Mapping[bytes, bytes]) -> str:
        """The nearest address that is none of a trusted proxy; `peer`, who is connected, where he is no proxy.

        headers: names in lower case. What is no address ends the search at the last one that was.
        """
        found = peer
        hops = self._hops(headers.get(self._header, b"").decode("latin-1"))
        while self._is_trusted(found):
            before = next(hops, None)
            if before is None:
                break
            found = before
        return found

    def _hops(self, value: str) -> Iterator[str]:
        """From the nearest on."""
        if self._header == b"forwarded":
            places = [entry.strip('"') for entry in _FOR.findall(value[-4096:])]
        else:
            places = value[-4096:].split(",")
        for place in reversed(places[-_MOST_HOPS:]):
            parts = _PLACE.fullmatch(place.strip())
            try:
                yield str(ip_address((parts[1] or parts[2] or parts[3]) if parts is not None else ""))
            except ValueError:
                return

    def _is_in_networks(self, client: str) -> bool:
        try:
            address = ip_address(client.partition("%")[0])
        except ValueError:
            return False
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address.version == network.version and address in network for network in self._networks)
