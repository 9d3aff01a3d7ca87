"""What certificates are for: DNS names, IP addresses, and within which of them an authority may speak at all."""

import ipaddress
import re
import socket
from collections.abc import Sequence

from autoglm.core.errors import InvalidField

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
Name = str | IpAddress
"""A DNS name in its ASCII form, or an address."""
Range = str | IpNetwork
"""A domain with all below it, or a network."""

PRIVATE_RANGES = (
    "localhost", "local", "lan", "internal", "intranet", "home.arpa", "test",
    "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "127.0.0.0/8",
    "::1/128", "fc00::/7", "fe80::/10",
)  # fmt: skip
"""What no public site has (RFC 1918, 6598, 4193, 6761, 8375; ICANN's `internal`): an authority bound to it, and stolen,
cannot speak for a bank on a phone that trusts it."""

_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")


def parse_name(text: str) -> Name:
    """A name for a certificate; `*.` may stand in front. Raises InvalidField."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        pass
    name = _ascii(text.removeprefix("*."))
    return f"*.{name}" if text.startswith("*.") else name


def parse_range(text: str) -> Range:
    """A network such as 10.1.0.0/16, or a domain such as plant.example. Raises InvalidField."""
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        if "/" in text:
            raise InvalidField("permit", f"{text!r} is no network: {error}") from None
    return _ascii(text.removeprefix("*.").removeprefix("."))


def _ascii(text: str) -> str:
    try:
        name = text.lower().removesuffix(".").encode("idna").decode("ascii")
    except UnicodeError:
        name = ""
    if not 1 <= len(name) <= 253 or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise InvalidField("name", f"{text!r} is neither a DNS name nor an IP address")
    return name


def is_within(name: Name, ranges: Sequence[Range]) -> bool:
    """Whether an authority with these name constraints may speak for it (RFC 5280, section 4.2.1.10)."""
    if not isinstance(name, str):
        return any(not isinstance(one, str) and name in one for one in ranges)
    name = name.removeprefix("*.")
    return any(isinstance(one, str) and (name == one or name.endswith(f".{one}")) for one in ranges)


def names_of_this_machine() -> tuple[str, ...]:
    """By which a hub is reached where nothing else is said: the host's name, alone and by mDNS, and loopback."""
    host = socket.gethostname().partition(".")[0].lower()
    try:
        own: tuple[str, ...] = (_ascii(host), f"{_ascii(host)}.local")
    except InvalidField:
        own = ()
    return tuple(dict.fromkeys((*own, "localhost", "127.0.0.1", "::1")))
