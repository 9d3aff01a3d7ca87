"""Keeps requests out of private networks, whatever a host's name resolves to: the hub's only rule on where it may call.

What an operator names in the settings is meant, and is called. What comes from anybody else (a request, a vendor's
answer, a redirect) goes through an AddressGuard. docs/security.md has the table of all that opens a connection.

Sources: OWASP, "Server-Side Request Forgery Prevention"; IANA's registries of special-purpose IPv4 and IPv6 addresses;
WHATWG URL, "ends in a number checker".
"""

import asyncio
import re
import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

from autoglm.core.errors import AddressRefused
from autoglm.core.words import Words

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_LOOPBACK = Words("a loopback address", "环回地址")
_PRIVATE = Words("an address of a private network", "私有网络地址")
_LINK_LOCAL = Words("a link-local address, where clouds keep their metadata", "链路本地地址（云主机元数据所在）")
_MULTICAST = Words("a multicast address", "组播地址")
_RESERVED = Words("an address that is no host's in the public network", "公网上不属于任何主机的保留地址")

# Spelled out: what `is_global` says of some of them has changed between Python's patch versions.
_NOT_PUBLIC: tuple[tuple[Network, Words], ...] = tuple(
    (ip_network(text), words)
    for words, texts in (
        (_LOOPBACK, "127.0.0.0/8 ::1/128"),
        (_PRIVATE, "10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 100.64.0.0/10 fc00::/7 fec0::/10"),
        (_LINK_LOCAL, "169.254.0.0/16 fe80::/10"),
        (_MULTICAST, "224.0.0.0/4 ff00::/8"),
        (
            _RESERVED,
            "0.0.0.0/8 192.0.0.0/24 192.0.2.0/24 192.88.99.0/24 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 "
            "240.0.0.0/4 2001::/23 2001:db8::/32 3fff::/20",
        ),
    )
    for text in texts.split()
)
_BY_NAME = (_LOOPBACK, _PRIVATE)
"""What a host may resolve to that the settings allow by its name."""
_GLOBAL_UNICAST = IPv6Network("2000::/3")
"""All that IANA has given out of IPv6; the rest is refused."""
_CARRIES_IPV4 = (
    (IPv6Network("::/96"), 0),  # IPv4-compatible: RFC 4291, section 2.5.5.1
    (IPv6Network("::ffff:0:0/96"), 0),  # IPv4-mapped: section 2.5.5.2
    (IPv6Network("::ffff:0:0:0/96"), 0),  # IPv4-translated: RFC 2765
    (IPv6Network("64:ff9b::/96"), 0),  # NAT64: RFC 6052
    (IPv6Network("2002::/16"), 80),  # 6to4: RFC 3056
)
"""Networks whose addresses hold one of IPv4, and how many bits follow it. Teredo's 2001::/32 is reserved altogether."""
_LOCAL_NAMES = re.compile(r"(.*\.)?(localhost|localdomain)|ip6-(localhost|loopback)")
_ENDS_IN_NUMBER = re.compile(r"(.*\.)?(\d+|0x[0-9a-f]*)")
_HOST_NAME = re.compile(r"[a-z0-9_]([a-z0-9_.-]{0,251}[a-z0-9_])?")


class AddressGuard:
    """Public addresses only, but for what `allowed` names.

    allowed: networks (`10.1.0.0/16`), addresses, and names of hosts. A network allows its addresses, whatever the name
    is; a name allows private and loopback addresses, and others only together with a network. Raises ValueError.
    """

    def __init__(self, allowed: Sequence[str] = ()) -> None:
        self._networks: list[Network] = []
        self._names: set[str] = set()
        for entry in allowed:
            found = parse_allowed(entry)
            if isinstance(found, str):
                self._names.add(found)
            else:
                self._networks.append(found)

    @classmethod
    def beside(cls, *urls: str) -> "AddressGuard":
        """For where the servers at these addresses, which the settings name, lead: to themselves, or to the public.

        A policy source's mirrors, an OpenID provider's endpoints, a download's redirects.
        """
        return cls([host for url in urls if (host := urlsplit(url).hostname)])

    def refusal(self, host: str, address: str) -> Words | None:
        """Why not to this numeric address, to which the host resolves now; None when it may."""
        name = host.lower().rstrip(".")
        if _ENDS_IN_NUMBER.fullmatch(name) is not None and not _is_canonical(name):
            return Words(
                f"the host {host[:60]!r} is a number in a form that programs read differently; write it as 192.0.2.1",
                f"主机 {host[:60]!r} 是写法有歧义的数字地址，请写成 192.0.2.1 的形式",
            )
        try:
            outer = ip_address(address.partition("%")[0])
        except ValueError:
            return _words(host, address, _RESERVED)
        inner = _meant(outer)
        if any(form in network for form in (outer, inner) for network in self._networks):  # versions differ: not in
            return None
        kind = _LOOPBACK if _LOCAL_NAMES.fullmatch(name) is not None else _kind(inner)
        if kind is None or (kind in _BY_NAME and name in self._names):
            return None
        return _words(host, address, kind)


async def check_address(guard: AddressGuard, url: str) -> None:
    """Raises AddressRefused when the url's host is, or resolves to, what the guard refuses.

    For clients that look names up themselves afterwards; a name may turn meanwhile, which `channels.web` prevents: it
    connects to the addresses that were checked. A name that does not resolve leads nowhere.
    """
    host = urlsplit(url).hostname or ""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):  # an empty label, or one of more than 63 characters, is no name
        found = []
    for address in {str(entry[4][0]) for entry in found}:
        if (reason := guard.refusal(host, address)) is not None:
            raise AddressRefused(reason.en)


def parse_allowed(entry: str) -> Network | str:
    """An entry of `allow` in the settings. Raises ValueError."""
    text = entry.strip().lower().rstrip(".")
    try:
        return ip_network(text)
    except ValueError:
        if "/" in text or ":" in text or _ENDS_IN_NUMBER.fullmatch(text) or not _HOST_NAME.fullmatch(text):
            raise ValueError(
                f"{entry!r} is neither a host's name nor a network such as '10.1.0.0/16' (without bits of a host)"
            ) from None
    return text


def _meant(address: Address) -> Address:
    """The address of IPv4 that one of IPv6 stands for, or itself."""
    if isinstance(address, IPv6Address) and int(address) > 1:  # :: and ::1 stand for themselves
        for network, bits_behind in _CARRIES_IPV4:
            if address in network:
                return IPv4Address(int(address) >> bits_behind & 0xFFFFFFFF)
    return address


def _kind(address: Address) -> Words | None:
    """Why an address is not a public one; None for one that is."""
    for network, words in _NOT_PUBLIC:
        if address in network:
            return words
    return _RESERVED if isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST else None


def _is_canonical(name: str) -> bool:
    try:
        return str(IPv4Address(name)) == name
    except ValueError:
        return False


def _words(host: str, address: str, kind: Words) -> Words:
    shown = address if address == host else f"{host[:60]} ({address[:60]})"
    return Words(
        f"{shown} is {kind.en}; name the host or its network in `allow` if that is meant",
        f"{shown} 是{kind.zh}；若确有需要，请在 `allow` 中写明主机名或网段",
    )
