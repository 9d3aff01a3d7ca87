"""Passwords: argon2id, one hash at a time.

Sources: RFC 9106, section 4 (parameters); OWASP ASVS 5, V6.2 (length, no composition rules, common ones refused).
"""

import secrets
import unicodedata
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

import anyio
import anyio.to_thread
import msgspec
import structlog

from autoglm.auth.people.accounts import Account
from autoglm.auth.people.common_passwords import is_common
from autoglm.auth.people.guessed_first import has_leaked
from autoglm.auth.people.settings import PasswordSettings
from autoglm.core.errors import InvalidField, LoginThrottled, RevisionMismatch, SettingsError
from autoglm.core.ports import KeyValue

if TYPE_CHECKING:
    from argon2 import PasswordHasher

Result = TypeVar("Result")
log = structlog.get_logger(part="auth")

PREFIX = "auth/password/"
MIN_CHARACTERS = 8
MAX_CHARACTERS = 256
_BUSY_S = 2.0


class _StoredPassword(msgspec.Struct, frozen=True, kw_only=True, tag="password", tag_field="type"):
    version: int = 1
    account_id: str
    hash: str


def check_password(password: str, name: str, words: Iterable[str] = ()) -> None:
    """Raises InvalidField for one that is too short, too long, or guessed first. Any characters will do.

    words: what is near at hand at this site, as the person's own name is.
    """
    if not MIN_CHARACTERS <= len(password) <= MAX_CHARACTERS:
        raise InvalidField("password", f"must have {MIN_CHARACTERS} to {MAX_CHARACTERS} characters")
    if any(0xD800 <= ord(character) <= 0xDFFF for character in password):
        raise InvalidField("password", "has half a character (a surrogate without its other half)")
    if is_common(password, name, *words):
        raise InvalidField("password", "is one of those that are guessed first; take a few words that belong together")


class Passwords:
    """Hashes in a thread, one at a time: a flood of logins takes one core and one hash's memory, whatever its size."""

    def __init__(self, keyvalue: KeyValue, settings: PasswordSettings) -> None:
        self._keyvalue, self._settings = keyvalue, settings
        self.words = set(settings.words)
        """Nobody's password is made of these: see `is_common`."""
        self._limiter = anyio.CapacityLimiter(1)
        self._waiting = 0
        self._made: tuple[PasswordHasher, str] | None = None

    def check(self, password: str, name: str) -> None:
        """Raises InvalidField for one that the account of that name may not have, whether it leaked or not."""
        check_password(password, name, self.words)

    async def hashed(self, password: str, name: str) -> str:
        """What `keep` takes, for the account of that name. Raises InvalidField, LoginThrottled, SettingsError."""
        self.check(password, name)
        if await self._run(self._has_leaked, password):
            raise InvalidField("password", "is in a list of passwords that leaked somewhere; take another")
        return await self._run(self._hash, password)

    async def keep(self, account: Account, hash: str, *, expected_revision: int | None = None) -> None:
        """On disk when it returns. Whoever calls begins a new epoch. expected_revision: of the password that it takes
        the place of; raises RevisionMismatch.
        """
        stored = _StoredPassword(account_id=account.id, hash=hash)
        await self._keyvalue.put(
            PREFIX + account.name, msgspec.json.encode(stored), expected_revision=expected_revision
        )  # fmt: skip

    async def verify(self, account: Account | None, password: str, *, is_known_device: bool = False) -> bool:
        """False for a wrong password, and for an account that is not there or has none, in the same time.

        Raises LoginThrottled when too many wait; known devices have places that strangers cannot fill. Hashes anew with
        the parameters of today.
        """
        entry = await self._keyvalue.get(PREFIX + (account.name if account else "-"))
        stored = msgspec.json.decode(entry.value, type=_StoredPassword) if entry else None
        is_own = account is not None and stored is not None and stored.account_id == account.id
        is_right, is_outdated = await self._run(
            self._check, stored.hash if stored and is_own else "", password, is_known_device=is_known_device
        )
        if is_right and is_outdated and account is not None and entry is not None:
            # Another login will do it; and who has another password by now keeps that one.
            with suppress(LoginThrottled, RevisionMismatch):
                hash = await self._run(self._hash, password)
                await self.keep(account, hash, expected_revision=entry.revision)
                log.info("password_rehashed", person=account.name)
        return is_right

    async def has(self, account: Account) -> bool:
        entry = await self._keyvalue.get(PREFIX + account.name)
        return entry is not None and msgspec.json.decode(entry.value, type=_StoredPassword).account_id == account.id

    async def forget(self, name: str) -> None:
        await self._keyvalue.delete(PREFIX + name)

    async def _run(self, work: Callable[..., Result], *args: str, is_known_device: bool = False) -> Result:
        if self._waiting >= self._settings.max_waiting * (2 if is_known_device else 1):
            raise LoginThrottled(_BUSY_S)
        self._waiting += 1
        try:
            # Not abandoned when cancelled: the thread would go on beside the next one.
            return await anyio.to_thread.run_sync(work, *args, limiter=self._limiter)
        finally:
            self._waiting -= 1

    # --- in the thread, one at a time ---

    def _tools(self) -> "tuple[PasswordHasher, str]":
        """The hasher, and a hash that no password fits, to spend the same time on those who are not there."""
        if self._made is None:
            from argon2 import PasswordHasher

            chosen = self._settings
            hasher = PasswordHasher(chosen.passes, chosen.memory_kib, chosen.lanes)
            self._made = hasher, hasher.hash(secrets.token_bytes(32))
        return self._made

    def _has_leaked(self, password: str) -> bool:
        file = self._settings.breached_file
        try:
            return file is not None and has_leaked(password, file)
        except OSError as error:  # rather none than one that nobody has checked
            raise SettingsError([f"people.password.breached_file cannot be read: {error}"]) from None

    def _hash(self, password: str) -> str:
        return self._tools()[0].hash(_bytes(password))

    def _check(self, stored: str, password: str) -> tuple[bool, bool]:
        """(right, of other parameters than today's)."""
        from argon2.exceptions import InvalidHashError, VerificationError

        hasher, nobody = self._tools()
        try:
            hasher.verify(stored or nobody, _bytes(password))
        except (VerificationError, InvalidHashError):
            return False, False
        return bool(stored), hasher.check_needs_rehash(stored or nobody)


def _bytes(password: str) -> bytes:
    """NFC: keyboards differ in how they write an accent. One that is too long to be anybody's costs no more."""
    if len(password) > MAX_CHARACTERS:
        return b""
    return unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")
