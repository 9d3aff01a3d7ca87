"""Addresses: who a message is from and to.

`user:alice`, `group:ops`, `device:press-7`, `model:auto`, `channel:wecom/ops-room`, `site:north/user:bob`.
"""

import re
from typing import Literal, get_args

import msgspec

from autoglm.core.errors import InvalidField

Scheme = Literal["user", "group", "device", "model", "channel", "site"]
SCHEMES: tuple[str, ...] = get_args(Scheme)
ADDRESS_PATTERN = r"^(user|group|device|model|channel|site):[^\s\x00-\x1f\x7f]{1,200}$"
_ADDRESS = re.compile(ADDRESS_PATTERN)
_CHANNEL = re.compile(r"[a-z0-9][a-z0-9_-]*/.+")


class Address(msgspec.Struct, frozen=True):
    """A parsed address. `rest` is what follows the scheme: a name, `channel/target`, or `site/address`."""

    scheme: Scheme
    rest: str

    def __str__(self) -> str:
        return f"{self.scheme}:{self.rest}"


def parse_address(text: str, *, field: str = "to") -> Address:
    """Raises InvalidField, naming `field`, when `text` is no address."""
    if _ADDRESS.match(text) is None:
        hint = f"did you mean 'user:{text}'?" if re.fullmatch(r"[\w.-]{1,100}", text) else f"one of {', '.join(SCHEMES)} and a name"
        raise InvalidField(field, f"{text[:80]!r} is not an address such as 'user:alice'; {hint}")
    scheme, rest = text.split(":", 1)
    if scheme == "channel" and _CHANNEL.fullmatch(rest) is None:
        raise InvalidField(field, f"{text[:80]!r}: a channel address is 'channel:<channel>/<target>'")
    if scheme == "site":
        site, _, inner = rest.partition("/")
        if not site or not inner:
            raise InvalidField(field, f"{text[:80]!r}: a site address is 'site:<name>/<address>'")
        parse_address(inner, field=field)
    return Address(scheme, rest)  # type: ignore[arg-type]  # the pattern admits only the schemes
