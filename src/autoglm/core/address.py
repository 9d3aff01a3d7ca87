"""Addresses: who a message is from and to.

`user:alice`, `group:ops`, `device:press-7`, `model:auto`, `channel:wecom/ops-room`, `site:north/user:bob`.
"""

import re
from functools import lru_cache
from typing import Literal, get_args

import msgspec

from autoglm.core.errors import InvalidField

Scheme = Literal["user", "group", "device", "model", "channel", "site"]
SCHEMES: tuple[str, ...] = get_args(Scheme)
MAX_ADDRESS = 210
"""Characters of a whole address."""

# No blanks, no control characters, and nothing that is invisible or turns the writing direction: two addresses that
# look the same should be the same. Spelled out, because each dialect of regular expressions has a `\s` of its own.
_NOT_IN_NAMES = (
    r"\x00-\x20\x7f-\xa0\xad\u034f\u061c\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f\u2000-\u200f\u2028-\u202f"
    r"\u205f-\u206f\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0"
    "\U000e0000-\U000e0fff"  # as they are: JavaScript has another escape for them
)
"""Unicode's blanks, controls and default ignorable characters (DerivedCoreProperties.txt)."""
_NAME = rf"[^{_NOT_IN_NAMES}]+"
ADDRESS_PATTERN = (
    rf"^(site:[^/{_NOT_IN_NAMES}]+/)*"
    rf"((user|group|device|model):{_NAME}|channel:[a-z0-9][a-z0-9_-]*/{_NAME})$"
)
"""For JSON Schema; Python's `$` would let a final newline pass, hence `fullmatch` below."""
MEMBER_PATTERN = rf"^(user|device):{_NAME}$"
"""Users and devices: those who may be members of a group."""
GROUP_NAME_PATTERN = rf"^(?!\.{{1,2}}$)[^/{_NOT_IN_NAMES}]{{1,64}}$"
"""A group's name is a segment of paths as well: no slash, and not '.' or '..', which clients would resolve."""
is_group_name = re.compile(GROUP_NAME_PATTERN).fullmatch
_is_address = re.compile(ADDRESS_PATTERN).fullmatch
_is_bare_name = re.compile(r"[\w.-]{1,100}").fullmatch


class Address(msgspec.Struct, frozen=True):
    """A parsed address. `rest` is what follows the scheme: a name, `channel/target`, or `site/address`."""

    scheme: Scheme
    rest: str

    def __str__(self) -> str:
        return f"{self.scheme}:{self.rest}"


def parse_address(text: str, *, field: str = "to") -> Address:
    """Raises InvalidField, naming `field`, when `text` is no address."""
    address = _parsed(text) if len(text) <= MAX_ADDRESS else None
    if address is None:
        raise InvalidField(field, f"{text[:80]!r} is not an address such as 'user:alice'; {_hint(text)}")
    return address


def check_address(text: str, *, field: str = "to") -> None:
    """Raises InvalidField, naming `field`, when `text` is no address."""
    parse_address(text, field=field)


@lru_cache(4096)  # the same few write to the same few
def _parsed(text: str) -> Address | None:
    if _is_address(text) is None:
        return None
    scheme, rest = text.split(":", 1)
    return Address(scheme, rest)  # type: ignore[arg-type]  # the pattern admits only the schemes


def _hint(text: str) -> str:
    scheme, colon, rest = text.partition(":")
    if len(text) > MAX_ADDRESS:
        return f"it has {len(text)} characters, and {MAX_ADDRESS} are the limit"
    if not colon and _is_bare_name(text):
        return f"did you mean 'user:{text}'?"
    if not colon or scheme not in SCHEMES:
        return f"it begins with one of {', '.join(SCHEMES)} and a colon"
    if scheme == "channel" and "/" not in rest:
        return "a channel's address is 'channel:<channel>/<target>'"
    if scheme == "site":
        return "a site's address is 'site:<name>/<address>'"
    return "its name must not be empty or hold blanks, control characters or invisible ones"
