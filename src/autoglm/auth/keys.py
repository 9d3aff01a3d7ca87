"""Bearer keys: who a request comes from, and what it may do. Keys are kept as sha256 only.

The keys are 256 random bits (or chosen by the operator in autoglm.toml), so a plain sha256 needs no salt or stretching.
"""

import hashlib
import os
import re
import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from autoglm.auth.settings import FIRST_KEY_NAME, TENANT_PATTERN, KeySettings
from autoglm.core.clock import monotonic_s
from autoglm.core.errors import Forbidden, InvalidField, RateLimited, SettingsError, Unauthorized
from autoglm.core.payer import Payer
from autoglm.core.ports import KeyValue
from autoglm.core.preference import PreferenceName

PREFIX = "auth/key/"
_ADMIN = "admin"
_MAX_CACHED = 4096
_is_tenant = re.compile(TENANT_PATTERN).fullmatch
_MAX_CACHED_BYTES = 512  # of a header; blanks may make a known key as long as one likes


class StoredKey(msgspec.Struct, frozen=True, kw_only=True, tag="key", tag_field="type"):
    """What the store knows about a key; its place in the store is the key's sha256."""

    version: int = 1
    name: str
    address: str
    scopes: tuple[str, ...]
    rate_per_minute: int | None = None
    tenant: str | None = None


class Principal:
    """Who sent a request. Scope questions are answered from a cache after the first time."""

    __slots__ = (
        "_allowed", "_level", "_refilled_s", "address", "name", "payer", "prefer", "rate_per_minute", "scopes",
        "tenant",
    )  # fmt: skip

    def __init__(
        self, name: str, address: str, scopes: Iterable[str], rate_per_minute: int | None = None,
        tenant: str | None = None, *, prefer: PreferenceName | None = None,
    ) -> None:  # fmt: skip
        self.name = name
        self.tenant = tenant or name
        """On whose account its requests go."""
        self.payer = Payer(name, self.tenant)
        """Whoever posts a message pays for it, whatever address he sends it from."""
        self.prefer = prefer
        """What matters for its requests that do not say; None when the hub's own setting does."""
        self.address = address
        self.scopes = tuple(scopes)
        self.rate_per_minute = rate_per_minute
        self._allowed: dict[tuple[str, str], bool] = {}
        self._level = float(rate_per_minute or 0)
        self._refilled_s = monotonic_s()

    def allows(self, action: str, resource: str = "") -> bool:
        """True when a scope covers `action` (such as `model:use`) on `resource` (such as `glm-4`)."""
        known = self._allowed.get((action, resource))
        if known is None:
            known = any(_covers(scope, action, resource) for scope in self.scopes)
            if len(self._allowed) < _MAX_CACHED:  # names come from outside: bound the memory
                self._allowed[action, resource] = known
        return known

    def require(self, action: str, resource: str = "") -> None:
        """Raises Forbidden, naming the scope that is missing."""
        if not self.allows(action, resource):
            raise Forbidden("admin:*" if action == _ADMIN else f"{action}:{resource}" if resource else action)

    def act_for(self, tenant: bytes) -> str:
        """The tenant that a header names. Raises InvalidField, and Forbidden for one that is not the key's to name."""
        name = tenant.decode("latin-1")
        if _is_tenant(name) is None:
            raise InvalidField("x-autoglm-tenant", "must be a name of letters, digits and ._:@+-, at most 128")
        if name != self.tenant:
            self.require("tenant", name)
        return name

    def take(self) -> None:
        """Count one request against the key's limit. Raises RateLimited. Token bucket, a minute deep."""
        if self.rate_per_minute is None:
            return
        now = monotonic_s()
        rate_per_s = self.rate_per_minute / 60
        self._level = min(float(self.rate_per_minute), self._level + (now - self._refilled_s) * rate_per_s)
        self._refilled_s = now
        if self._level < 1:
            raise RateLimited((1 - self._level) / rate_per_s)
        self._level -= 1


def _covers(scope: str, action: str, resource: str) -> bool:
    if scope == "admin:*":
        return True
    if scope == action:
        return True
    if not scope.startswith(action + ":"):
        return False
    pattern = scope[len(action) + 1 :]
    return resource.startswith(pattern[:-1]) if pattern.endswith("*") else resource == pattern


def check_fixed_keys(fixed: Iterable[KeySettings]) -> None:
    """Raises SettingsError, with a sentence for each key whose value another has: they could not be told apart."""
    names: dict[bytes, str] = {}
    problems = []
    for key in fixed:
        digest = _fixed_hash(key)
        if digest in names:
            problems.append(f"[[key]] {names[digest]!r} and {key.name!r} have the same value; give each one of its own")
        names.setdefault(digest, key.name)
    if problems:
        raise SettingsError(problems)


class KeyRing:
    """All keys of this hub. `open` before use."""

    def __init__(self, keyvalue: KeyValue, fixed: Sequence[KeySettings] = ()) -> None:
        self._keyvalue = keyvalue
        self._by_hash: dict[bytes, Principal] = {}
        self._by_header: dict[bytes, Principal] = {}
        self._senders: dict[str, Principal | None] = {}
        check_fixed_keys(fixed)
        for key in fixed:
            address = key.address or f"device:{key.name}"
            self._by_hash[_fixed_hash(key)] = Principal(
                key.name, address, key.scopes, key.rate_per_minute, key.tenant, prefer=key.prefer
            )

    async def open(self, admin_key_file: Path) -> str | None:
        """Load the stored keys; make the admin key where its file is not there or holds no key of this hub.

        Returns a new key, to be shown once. It takes the place of the one before: to change the key, delete the file.
        """
        former: list[bytes] = []
        for entry in await self._keyvalue.list(PREFIX):
            stored = msgspec.json.decode(entry.value, type=StoredKey)
            digest = bytes.fromhex(entry.key.removeprefix(PREFIX))
            self._by_hash[digest] = _principal(stored)
            if stored.name == FIRST_KEY_NAME:
                former.append(digest)
        if _hash(_read_secret(admin_key_file)) in former:
            return None
        key = "ag-" + secrets.token_urlsafe(32)
        # The file first: a key in the store that nobody can read would lock everybody out.
        _write_secret(admin_key_file, key + "\n")
        await self.add(key, StoredKey(name=FIRST_KEY_NAME, address="user:admin", scopes=("admin:*",)))
        for digest in former:
            await self._keyvalue.delete(PREFIX + digest.hex())
            del self._by_hash[digest]
        return key

    async def add(self, value: str, stored: StoredKey) -> None:
        """Keep a key (its hash) in the store. Returns when that is on disk."""
        digest = _hash(value.encode())
        await self._keyvalue.put(PREFIX + digest.hex(), msgspec.json.encode(stored))
        self._senders.clear()
        self._by_hash[digest] = _principal(stored)

    def by_header(self, authorization: bytes | None) -> Principal:
        """The principal of an `Authorization` header. Raises Unauthorized."""
        if authorization is None:
            raise Unauthorized("this request has no key")
        known = self._by_header.get(authorization)
        if known is not None:
            return known
        scheme, _, value = authorization.partition(b" ")
        if scheme.lower() != b"bearer":
            raise Unauthorized("the Authorization header is not 'Bearer KEY'")
        principal = self.by_key(value.strip())
        if len(authorization) <= _MAX_CACHED_BYTES:
            if len(self._by_header) >= _MAX_CACHED:
                self._by_header.clear()
            self._by_header[authorization] = principal
        return principal

    def sender(self, address: str) -> Principal | None:
        """Who answers for what comes from this address: the key whose own it is, else the first that may send as it.

        For what no key brought, and for what says nothing of it. The admin key, which may do all, is taken last.
        """
        if address in self._senders:
            return self._senders[address]
        keys = sorted(self._by_hash.values(), key=lambda key: key.name == FIRST_KEY_NAME)
        found = next((key for key in keys if key.address == address), None) or next(
            (key for key in keys if key.allows("send:message", address)), None
        )
        if len(self._senders) >= _MAX_CACHED:
            self._senders.clear()
        self._senders[address] = found
        return found

    def named(self, name: str) -> Principal | None:
        """The first key of that name; None for one that is gone."""
        return next((key for key in self._by_hash.values() if key.name == name), None)

    def by_key(self, value: bytes) -> Principal:
        """The principal of a bare key. Raises Unauthorized."""
        principal = self._by_hash.get(_hash(value))
        if principal is None:
            raise Unauthorized("this hub does not know the key")
        return principal


def _principal(stored: StoredKey) -> Principal:
    return Principal(stored.name, stored.address, stored.scopes, stored.rate_per_minute, stored.tenant)


def _hash(value: bytes) -> bytes:
    return hashlib.sha256(value).digest()


def _fixed_hash(key: KeySettings) -> bytes:
    return _hash(key.value.get_secret_value().encode() if key.value else b"")


def _read_secret(path: Path) -> bytes:
    """The file's text without the blanks around it; empty when there is none. Raises SettingsError."""
    try:
        return path.read_bytes().strip()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise SettingsError([f"{path} cannot be read: {error.strerror}"]) from error


def _write_secret(path: Path, text: str) -> None:
    """Write with mode 0600 from the start, and durably: rename over what was there."""
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)
