"""How much of what another hub says counts here: for which addresses it speaks, and with which scopes at most."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from autoglm.auth.scopes import common

_is_site = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}").fullmatch
_is_pattern = re.compile(r"(?:user|device|site):[^\s*]*\*?").fullmatch


@dataclass(frozen=True, slots=True)
class Limit:
    """Nothing counts that it does not name; roles of the policy give no more either."""

    scopes: tuple[str, ...]
    addresses: tuple[str, ...]

    def speaks_for(self, address: str) -> bool:
        return any(
            address.startswith(pattern[:-1]) if pattern.endswith("*") else address == pattern
            for pattern in self.addresses
        )

    def both(self, other: "Limit") -> "Limit":
        """What both let through."""
        return Limit(common(self.scopes, other.scopes), _common_patterns(self.addresses, other.addresses))


def flaw_of_addresses(addresses: Iterable[str]) -> str | None:
    """What is wrong with the first that is no pattern; None where all are."""
    for one in addresses:
        if len(one) > 256 or _is_pattern(one) is None:
            return f"{one[:80]!r} is no address such as 'device:press-7', nor the beginning of one and '*'"
    return None


def limit_of(issuer: str, scopes: Iterable[str] | None, addresses: Iterable[str] | None) -> Limit:
    """What is not said (None) is the least that is of use: as the site itself, what goes to it and comes from it."""
    is_site = _is_site(issuer) is not None
    if addresses is None:
        addresses = (f"site:{issuer}",) if is_site else ()
    if scopes is None:
        scopes = (f"send:message:site:{issuer}/*", f"read:message:site:{issuer}/*") if is_site else ()
    return Limit(tuple(scopes), tuple(addresses))


def _common_patterns(some: Iterable[str], others: Iterable[str]) -> tuple[str, ...]:
    found = [
        one if _is_within(one, other) else other
        for one in some
        for other in others
        if _is_within(one, other) or _is_within(other, one)
    ]
    return tuple(dict.fromkeys(found))


def _is_within(pattern: str, wider: str) -> bool:
    return pattern.startswith(wider[:-1]) if wider.endswith("*") else pattern == wider
