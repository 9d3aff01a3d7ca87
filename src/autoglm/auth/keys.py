"""Bearer keys: who a request comes from, and what it may do. Keys are kept as sha256 only.

The keys are 256 random bits (or chosen by the operator in autoglm.toml), so a plain sha256 needs no salt or stretching.
"""

import hashlib
import secrets
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import msgspec

from autoglm.auth.principal import Judge, Principal, ScopesAlone
from autoglm.auth.settings import FIRST_KEY_NAME, KeySettings
from autoglm.core.clock import now_ms
from autoglm.core.errors import InvalidField, NotFound, SettingsError, Unauthorized
from autoglm.core.ports import KeyValue
from autoglm.core.private_file import write_private

PREFIX = "auth/key/"
MAX_KEYS = 100_000
_MAX_CACHED = 4096
_MAX_CACHED_BYTES = 512  # of a header; blanks may make a known key as long as one likes


class StoredKey(msgspec.Struct, frozen=True, kw_only=True, tag="key", tag_field="type"):
    """What the store knows about a key; its place in the store is the key's sha256."""

    version: int = 1
    name: str
    address: str
    scopes: tuple[str, ...]
    rate_per_minute: int | None = None
    tenant: str | None = None
    created_at_ms: int | None = None
    created_by: str | None = None
    """The address of whoever made it."""
    ends_at_ms: int | None = None
    """From when on it counts no more."""


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

    def __init__(
        self, keyvalue: KeyValue, fixed: Sequence[KeySettings] = (), *, judge: Judge | None = None,
        now_ms: Callable[[], int] = now_ms,
    ) -> None:  # fmt: skip
        self._keyvalue = keyvalue
        self._judge: Judge = judge or ScopesAlone()
        self.now_ms = now_ms
        self._stored: dict[bytes, StoredKey] = {}
        self._by_hash: dict[bytes, Principal] = {}
        self._by_header: dict[bytes, Principal] = {}
        self._senders: dict[str, Principal | None] = {}
        self._principals: set[Principal] = set()
        """Those of `_by_hash`: what stays open is asked about every second."""
        check_fixed_keys(fixed)
        for key in fixed:
            address = key.address or f"device:{key.name}"
            principal = Principal(
                key.name, address, key.scopes, key.rate_per_minute, key.tenant, prefer=key.prefer, judge=self._judge
            )
            self._by_hash[_fixed_hash(key)] = principal
            self._principals.add(principal)

    async def open(self, admin_key_file: Path) -> str | None:
        """Load the stored keys; make the admin key where its file is not there or holds no key of this hub.

        Returns a new key, to be shown once. It takes the place of the one before: to change the key, delete the file.
        """
        former: list[bytes] = []
        for entry in await self._keyvalue.list(PREFIX):
            stored = msgspec.json.decode(entry.value, type=StoredKey)
            digest = bytes.fromhex(entry.key.removeprefix(PREFIX))
            self._keep(digest, stored)
            if stored.name == FIRST_KEY_NAME:
                former.append(digest)
        if _hash(_read_secret(admin_key_file)) in former:
            return None
        key = "ag-" + secrets.token_urlsafe(32)
        # The file first: a key in the store that nobody can read would lock everybody out.
        write_private(admin_key_file, f"{key}\n".encode())
        await self.add(key, StoredKey(name=FIRST_KEY_NAME, address="user:admin", scopes=("admin:*",)))
        for digest in former:
            await self._forget(digest)
        return key

    async def issue(
        self, name: str, scopes: Sequence[str], *, address: str | None = None, tenant: str | None = None,
        rate_per_minute: int | None = None, ends_at_ms: int | None = None, created_by: str,
    ) -> str:  # fmt: skip
        """A new key, to be shown once: only its hash is kept. Raises InvalidField when the name is taken."""
        if self.named(name) is not None:
            raise InvalidField("name", f"{name!r} is the name of a key already; revoke that first, or choose another")
        if len(self._by_hash) >= MAX_KEYS:
            raise InvalidField("name", f"there are {MAX_KEYS} keys already; revoke some first")
        value = "ag-" + secrets.token_urlsafe(32)
        stored = StoredKey(
            name=name, address=address or f"device:{name}", scopes=tuple(scopes), tenant=tenant,
            rate_per_minute=rate_per_minute, ends_at_ms=ends_at_ms, created_at_ms=self.now_ms(), created_by=created_by,
        )  # fmt: skip
        await self.add(value, stored)
        return value

    def stored(self) -> list[StoredKey]:
        """Those that were issued, by name; the settings' own are not among them."""
        return sorted(self._stored.values(), key=lambda key: key.name)

    async def revoke(self, name: str) -> None:
        """It counts no more when this returns. Raises NotFound; of a key in the settings, InvalidField."""
        found = [digest for digest, key in self._stored.items() if key.name == name]
        if not found:
            if self.named(name) is not None:
                raise InvalidField("name", f"{name!r} is in the settings as [[key]]; take it out there")
            raise NotFound("key", name)
        if name == FIRST_KEY_NAME:
            raise InvalidField("name", "this is the key in admin.key; to change it, delete the file and start anew")
        for digest in found:
            await self._forget(digest)

    async def add(self, value: str, stored: StoredKey) -> None:
        """Keep a key (its hash) in the store. Returns when that is on disk."""
        digest = _hash(value.encode())
        await self._keyvalue.put(PREFIX + digest.hex(), msgspec.json.encode(stored))
        self._keep(digest, stored)

    def _keep(self, digest: bytes, stored: StoredKey) -> None:
        self._drop(digest)
        self._stored[digest] = stored
        self._by_hash[digest] = principal = Principal(
            stored.name, stored.address, stored.scopes, stored.rate_per_minute, stored.tenant,
            ends_at_ms=stored.ends_at_ms, judge=self._judge,
        )  # fmt: skip
        self._principals.add(principal)

    def _drop(self, digest: bytes) -> None:
        self._senders.clear()
        former = self._by_hash.pop(digest, None)
        if former is not None:
            self._principals.discard(former)
            self._by_header.clear()

    async def _forget(self, digest: bytes) -> None:
        """In memory first: nobody gets in with it while the disk is waited for."""
        self._drop(digest)
        await self._keyvalue.delete(PREFIX + digest.hex())
        self._stored.pop(digest, None)  # last: who is told of a full disk, and asks again, finds it

    def by_header(self, authorization: bytes | None) -> Principal:
        """The principal of an `Authorization` header. Raises Unauthorized."""
        if authorization is None:
            raise Unauthorized("this request has no key")
        known = self._by_header.get(authorization)
        if known is not None:
            if known.ends_at_ms is not None:
                self._check_end(known)
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

    def has_address(self, address: str) -> bool:
        """Whether it is some key's own."""
        return any(key.address == address for key in self._by_hash.values())

    def named(self, name: str) -> Principal | None:
        """The first key of that name; None for one that is gone."""
        return next((key for key in self._by_hash.values() if key.name == name), None)

    def mark_of(self, principal: Principal) -> str:
        """What tells a key that was issued from a later one of its name; empty for one of the settings."""
        return next((digest.hex() for digest in self._stored if self._by_hash.get(digest) is principal), "")

    def marked(self, name: str, mark: str) -> Principal | None:
        """The key of that name and mark; None for one that is gone or has ended."""
        found = self._by_hash.get(bytes.fromhex(mark)) if mark else self.named(name)
        return found if found is not None and self.is_current(found) else None

    def of_then(self, name: str, address: str, at_ms: int) -> Principal | None:
        """The key that had the name at that time, where it is still here: another may have got it since."""
        for digest, key in self._by_hash.items():
            if (key.name, key.address) == (name, address):
                stored = self._stored.get(digest)
                if stored is None or stored.created_at_ms is None or stored.created_at_ms <= at_ms:
                    return key
        return None

    def is_current(self, principal: Principal) -> bool:
        """Whether its key was not revoked, nor has ended."""
        has_ended = principal.ends_at_ms is not None and self.now_ms() >= principal.ends_at_ms
        return not has_ended and principal in self._principals

    def by_key(self, value: bytes) -> Principal:
        """The principal of a bare key. Raises Unauthorized."""
        principal = self._by_hash.get(_hash(value))
        if principal is None:
            raise Unauthorized("this hub does not know the key")
        self._check_end(principal)
        return principal

    def _check_end(self, principal: Principal) -> None:
        if principal.ends_at_ms is not None and self.now_ms() >= principal.ends_at_ms:
            raise Unauthorized("this key has ended")


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
