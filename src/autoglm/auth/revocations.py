"""What was revoked at this hub: it counts no more from now on, also after a restart.

Ids: `jti:ID` is one token, `jkt:THUMBPRINT` the key of a device with all its tokens, `kid:THUMBPRINT` a key that signs
tokens, `device:NAME` and `user:NAME` whoever bears that address. What the centre revokes is in the policy snapshot.
"""

import re
from collections.abc import Callable, Iterable

import msgspec

from autoglm.core.address import MAX_ADDRESS, MEMBER_PATTERN
from autoglm.core.errors import InvalidField
from autoglm.core.ports import KeyValue

REVOKED = "auth/revoked/"
MAX_REVOKED = 100_000
_is_id = re.compile(rf"jti:[A-Za-z0-9._~-]{{16,128}}|(?:jkt|kid):[A-Za-z0-9_-]{{43}}|{MEMBER_PATTERN[1:-1]}").fullmatch


class Revocation(msgspec.Struct, frozen=True, kw_only=True, tag="revocation", tag_field="type"):
    version: int = 1
    id: str
    at_ms: int
    by: str
    """The address of whoever revoked it."""
    reason: str = ""


class Revocations:
    """`open` before use."""

    def __init__(self, keyvalue: KeyValue, now_ms: Callable[[], int]) -> None:
        self._keyvalue = keyvalue
        self._now_ms = now_ms
        self._by_id: dict[str, Revocation] = {}
        self._unwritten: set[str] = set()
        """In force, but not on the disk."""

    async def open(self) -> None:
        for entry in await self._keyvalue.list(REVOKED):
            revocation = msgspec.json.decode(entry.value, type=Revocation)
            self._by_id[revocation.id] = revocation

    def all(self) -> list[Revocation]:
        return sorted(self._by_id.values(), key=lambda revocation: revocation.at_ms)

    def of(self, ids: Iterable[str]) -> Revocation | None:
        """The first of these that was revoked."""
        if not self._by_id:
            return None
        return next((self._by_id[id] for id in ids if id in self._by_id), None)

    async def add(self, id: str, *, by: str, reason: str = "") -> Revocation:
        """It counts no more at once, and is on the disk when this returns. Again is once. Raises InvalidField."""
        check_id(id)
        known = self._by_id.get(id)
        if known is not None and id not in self._unwritten:
            return known
        if len(self._by_id) >= MAX_REVOKED:
            raise InvalidField("id", f"{MAX_REVOKED} are revoked already; take some back, or publish them in a policy")
        revocation = known or Revocation(id=id, at_ms=self._now_ms(), by=by, reason=reason)
        self._by_id[id] = revocation
        self._unwritten.add(id)  # so that who is told of a full disk, and asks again, is not told that it is done
        await self._keyvalue.put(REVOKED + id, msgspec.json.encode(revocation))
        self._unwritten.discard(id)
        return revocation

    async def take_back(self, id: str) -> bool:
        """True when it was revoked."""
        was_revoked = await self._keyvalue.delete(REVOKED + id)
        self._unwritten.discard(id)
        return self._by_id.pop(id, None) is not None or was_revoked


def check_id(id: str) -> None:
    """Raises InvalidField."""
    if len(id) > MAX_ADDRESS or _is_id(id) is None:
        raise InvalidField("id", f"{id[:80]!r} is no jti:ID, jkt:THUMBPRINT, kid:THUMBPRINT, or address of a member")
