"""Devices that a person has logged in from before: a token of their own keeps a person in when others guess.

Source: OWASP, "Slow Down Online Guessing Attacks with Device Cookies". The token proves nothing but that: it opens no
session.
"""

import hashlib
import secrets
from collections.abc import Callable

import msgspec

from autoglm.auth.people.accounts import Account
from autoglm.auth.people.kept import Kept
from autoglm.core.ports import KeyValue

PREFIX = "auth/known-device/"
_MAX_PER_PERSON = 10
_DAY_MS = 86_400_000
_MAX_TOKEN = 100


class _KnownDevice(msgspec.Struct, frozen=True, kw_only=True, tag="known-device", tag_field="type"):
    version: int = 1
    name: str
    account_id: str
    used_ms: int


class KnownDevices:
    """`open` before use. Tokens are 256 random bits, kept as sha256."""

    def __init__(self, keyvalue: KeyValue, now_ms: Callable[[], int], valid_days: int) -> None:
        self._now_ms, self._valid_ms = now_ms, valid_days * _DAY_MS
        self._kept = Kept(keyvalue, PREFIX, _KnownDevice)

    async def open(self) -> None:
        await self._kept.open()

    def known(self, token: str | None, account: Account | None) -> str | None:
        """The device's name in the throttle; None for one that is not known to this very account."""
        if token is None or len(token) > _MAX_TOKEN or account is None:
            return None
        digest = _hash(token)
        device = self._kept.get(digest)
        if device is None or device.account_id != account.id or self._now_ms() > device.used_ms + self._valid_ms:
            return None
        return digest

    async def remember(self, account: Account, former: str | None) -> str:
        """A new token for the device that has just logged in; `former`, its last one, is void."""
        if (digest := self.known(former, account)) is not None:
            await self._kept.drop(digest)
        own = [(device.used_ms, digest) for digest, device in self._kept.items() if device.account_id == account.id]
        for _, digest in sorted(own)[: max(0, len(own) - _MAX_PER_PERSON + 1)]:
            await self._kept.drop(digest)
        token = secrets.token_urlsafe(32)
        device = _KnownDevice(name=account.name, account_id=account.id, used_ms=self._now_ms())
        await self._kept.put(_hash(token), device)
        return token

    async def sweep(self) -> None:
        """Forget those whose end could not be written."""
        await self._kept.finish()

    async def forget(self, name: str) -> None:
        """All of a person."""
        for digest in [digest for digest, device in self._kept.everything() if device.name == name]:
            await self._kept.drop(digest)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
