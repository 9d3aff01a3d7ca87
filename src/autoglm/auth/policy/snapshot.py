"""What a policy snapshot says, parsed and checked. It is signed, and still believed no further than its own bounds."""

import re
import types
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from autoglm.auth.policy.strict_json import parse_strictly
from autoglm.auth.scopes import MAX_SCOPES, flaw
from autoglm.auth.tokens.limit import flaw_of_addresses
from autoglm.core.address import check_address, is_group_name
from autoglm.core.errors import InvalidField, PolicyRefused

CEDAR, ROLES, REVOCATIONS, PINS = "policies.cedar", "roles.json", "revocations.json", "pins.json"
MAX_BYTES = {CEDAR: 16 << 20, ROLES: 16 << 20, REVOCATIONS: 16 << 20, PINS: 1 << 20}
"""The files of a snapshot, and the size up to which each is read."""
MAX_POLICIES = 20_000
MAX_ROLES = 1000
MAX_MEMBERS = 100_000
"""Of all groups together, and as many addresses and groups with grants."""
MAX_REVOCATIONS = 100_000
MAX_PINS = 1000
MAX_TIME_MS = 253_402_300_799_000
"""The end of the year 9999, which is also the last that TUF's metadata can name."""
_REASON_LENGTH = 500
_is_site = re.compile(r"site:[A-Za-z0-9][A-Za-z0-9._-]{0,63}").fullmatch
_is_role_name = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}").fullmatch
_is_credential = re.compile(r"(jti|jkt|kid|key|session):[!-~]{1,200}").fullmatch
_is_key = re.compile(r"[A-Za-z0-9_-]{43}").fullmatch
_is_kid = re.compile(r"[!-~]{1,200}").fullmatch

T = TypeVar("T")


class Grant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A role of somebody, for good or up to a time."""

    role: str
    not_after_ms: int | None = None

    def holds(self, now_ms: int) -> bool:
        return self.not_after_ms is None or now_ms < self.not_after_ms


class Revocation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """It counts as soon as it is read; `at_ms` is for what was done before, which is judged again by it."""

    at_ms: int
    reason: str = ""


class Pin(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The key of another hub whose tokens count here."""

    kid: str
    issuer: str
    public_key: str
    """The 32 bytes of Ed25519 as base64url."""
    not_after_ms: int | None = None
    addresses: tuple[str, ...] | None = None
    """For whom it speaks, as `device:ward3-*`; for `site:ISSUER` alone when absent."""
    scopes: tuple[str, ...] | None = None
    """What its tokens allow at most; messages of and for its own `site:ISSUER/...` when absent."""


class _Roles(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    roles: dict[str, tuple[str, ...]] = {}
    groups: dict[str, tuple[str, ...]] = {}
    grants: dict[str, tuple[Grant, ...]] = {}


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """One version of the policy. Nothing in it changes, so decisions by it may be kept."""

    version: int
    """Of the targets metadata: it moves when the content does, and not when only its freshness is renewed."""
    issued_ms: int
    """When the authority last said that this is current; 0 where it did not say when."""
    published_ms: int
    """When the authority first published this version; 0 where it did not say when."""
    expires_ms: int
    """When the first of the four signed roles ends."""
    roles: Mapping[str, tuple[str, ...]]
    """Scopes by role."""
    groups: Mapping[str, frozenset[str]]
    """By member (an address), the groups that it is in. Groups of messages are another thing: those change locally."""
    grants: Mapping[str, tuple[Grant, ...]]
    """By an address or a group."""
    revocations: Mapping[str, Revocation]
    """By an address, or `jti:`, `jkt:`, `kid:`, `key:`, `session:` and what follows."""
    pins: tuple[Pin, ...]
    cedar: str

    def roles_of(self, address: str, now_ms: int) -> frozenset[str]:
        """Those that hold now, of the address itself and of its groups."""
        holders = (address, *self.groups.get(address, ()))
        return frozenset(
            grant.role for holder in holders for grant in self.grants.get(holder, ()) if grant.holds(now_ms)
        )

    def next_end_ms(self, now_ms: int) -> int:
        """When the next grant ends after now; MAX_TIME_MS where none does."""
        ends = (grant.not_after_ms for grants in self.grants.values() for grant in grants if grant.not_after_ms)
        return min((end for end in ends if end > now_ms), default=MAX_TIME_MS)


def parse_snapshot(
    files: Mapping[str, bytes], *, version: int, issued_ms: int, expires_ms: int, published_ms: int = 0
) -> Snapshot:
    """files: the content by name; all four are wanted. Raises PolicyRefused, naming the file and what is wrong."""
    for name, limit in MAX_BYTES.items():
        if name not in files:
            raise PolicyRefused(name, "it is missing")
        if len(files[name]) > limit:
            raise PolicyRefused(name, f"it has {len(files[name])} bytes, and {limit} are the limit")
    roles = parse_roles(files[ROLES])
    return Snapshot(
        version=version, issued_ms=issued_ms, published_ms=published_ms, expires_ms=expires_ms,
        roles=types.MappingProxyType(roles.roles), groups=types.MappingProxyType(_by_member(roles.groups)),
        grants=types.MappingProxyType(roles.grants),
        revocations=types.MappingProxyType(parse_revocations(files[REVOCATIONS])),
        pins=parse_pins(files[PINS]), cedar=_text(CEDAR, files[CEDAR]),
    )  # fmt: skip


def parse_roles(data: bytes) -> _Roles:
    """Raises PolicyRefused."""
    found = _typed(ROLES, data, _Roles)
    if len(found.roles) > MAX_ROLES or max(len(found.grants), sum(map(len, found.groups.values()))) > MAX_MEMBERS:
        raise PolicyRefused(ROLES, f"more than {MAX_ROLES} roles, or {MAX_MEMBERS} grants or members of groups")
    for role, scopes in found.roles.items():
        _require(ROLES, _is_role_name(role), f"{role!r} is no name of a role")
        wrong = "too many scopes" if len(scopes) > MAX_SCOPES else flaw(scopes)
        _require(ROLES, wrong is None, f"role {role!r}: {wrong}")
    for group, members in found.groups.items():
        _require(ROLES, _is_group(group), f"{group!r} is no group such as 'group:nurses'")
        for member in members:
            _check_holder(member, "user", "device")
    for holder, grants in found.grants.items():
        _check_holder(holder, "user", "device", "site", "group")
        for grant in grants:
            _require(ROLES, grant.role in found.roles, f"{holder!r} has a role {grant.role!r} that there is not")
            _check_time(ROLES, grant.not_after_ms)
    return found


def parse_revocations(data: bytes) -> dict[str, Revocation]:
    """Raises PolicyRefused."""
    found = _typed(REVOCATIONS, data, dict[str, Revocation])
    _require(REVOCATIONS, len(found) <= MAX_REVOCATIONS, f"more than {MAX_REVOCATIONS} revocations")
    for name, revocation in found.items():
        if _is_credential(name) is None:
            _check_address(REVOCATIONS, name)
        _check_time(REVOCATIONS, revocation.at_ms)
        _require(REVOCATIONS, len(revocation.reason) <= _REASON_LENGTH, f"the reason of {name!r} is too long")
    return found


def parse_pins(data: bytes) -> tuple[Pin, ...]:
    """Raises PolicyRefused."""
    found = _typed(PINS, data, tuple[Pin, ...])
    _require(PINS, len(found) <= MAX_PINS, f"more than {MAX_PINS} keys")
    _require(PINS, len({pin.kid for pin in found}) == len(found), "a kid is there twice")
    for pin in found:
        _require(PINS, _is_kid(pin.kid), f"{pin.kid[:80]!r} is no kid")
        _require(PINS, _is_kid(pin.issuer), f"{pin.issuer[:80]!r} is no issuer")
        _require(PINS, _is_key(pin.public_key), f"the key of {pin.kid!r} is not 32 bytes as base64url")
        wrong = flaw(pin.scopes or ()) or flaw_of_addresses(pin.addresses or ())
        _require(PINS, wrong is None, f"the key of {pin.kid!r}: {wrong}")
        _check_time(PINS, pin.not_after_ms)
    return found


def _by_member(groups: dict[str, tuple[str, ...]]) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for group, members in groups.items():
        for member in members:
            found.setdefault(member, set()).add(group)
    return {member: frozenset(names) for member, names in found.items()}


def _typed(name: str, data: bytes, form: type[T]) -> T:
    def refuse(reason: str) -> Exception:
        return PolicyRefused(name, reason)

    value: Any = parse_strictly(data, refuse)
    try:
        return msgspec.convert(value, form)
    except msgspec.ValidationError as error:
        raise PolicyRefused(name, str(error)[:300]) from error


def _text(name: str, data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise PolicyRefused(name, "it is no UTF-8") from error


def _require(name: str, holds: object, otherwise: str) -> None:
    if not holds:
        raise PolicyRefused(name, otherwise)


def _is_group(text: str) -> bool:
    return text.startswith("group:") and is_group_name(text.removeprefix("group:")) is not None


def _check_address(name: str, text: str) -> None:
    if _is_site(text) is not None:  # a whole site, which is no place to send a message to
        return
    try:
        check_address(text, field=name)
    except InvalidField as error:
        raise PolicyRefused(name, str(error)) from error


def _check_holder(address: str, *schemes: str) -> None:
    _check_address(ROLES, address)
    scheme = address.partition(":")[0]
    _require(ROLES, scheme in schemes, f"{address!r} can have no role or be no member; one of {', '.join(schemes)} can")
    _require(ROLES, scheme != "group" or _is_group(address), f"{address!r} is no group such as 'group:nurses'")


def _check_time(name: str, at_ms: int | None) -> None:
    _require(name, at_ms is None or 0 <= at_ms <= MAX_TIME_MS, f"{at_ms} is no time in milliseconds")
