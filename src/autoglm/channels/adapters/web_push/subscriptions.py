"""Which browsers get the notifications of whom: their subscriptions, in the store.

Each owner has one entry with all of theirs, which one read brings; a second one for each browser says whose it is: a
browser belongs to whoever switched it on last, or what is meant for one would show up with the other.
"""

import hashlib
import re
from collections.abc import Callable
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
import msgspec

from autoglm.channels.adapters.web_push.encryption import Receiver, parse_receiver
from autoglm.channels.adapters.web_push.endpoint import origin_of
from autoglm.core.clock import now_ms
from autoglm.core.errors import InvalidField, NotFound, RevisionMismatch
from autoglm.core.lasting import UNKNOWN_RIGHT, LastingRight
from autoglm.core.ports import KeyValue

MAX_PER_OWNER = 20
MAX_ENDPOINT = 2_048
"""Characters."""
_is_visible = re.compile(rf"[\x21-\x7e]{{1,{MAX_ENDPOINT}}}").fullmatch
_OWNER = "push/owner/"
_BROWSER = "push/browser/"


class Keys(msgspec.Struct, frozen=True, kw_only=True):
    p256dh: str
    """base64url of the browser's public key, 65 bytes."""
    auth: str
    """base64url of 16 bytes."""


class Subscription(msgspec.Struct, frozen=True, kw_only=True):
    """One browser of one owner."""

    id: str
    """Follows from the endpoint: the same browser has the same."""
    endpoint: str
    """A secret: whoever knows it and the hub's key can push."""
    keys: Keys
    created: int
    """Milliseconds of the Unix epoch."""
    right: LastingRight = UNKNOWN_RIGHT
    """Of whoever switched it on."""

    @property
    def receiver(self) -> Receiver:
        return parse_receiver(self.keys.p256dh, self.keys.auth)

    @property
    def origin(self) -> str:
        """Of its push service."""
        return origin_of(self.endpoint)


class _Owned(msgspec.Struct, frozen=True, kw_only=True):
    subscriptions: list[Subscription]
    version: int = 1


def owner_of(target: str) -> str:
    """Whose browsers are meant: `alice` is user:alice; device:NAME, for a screen on the wall, is as it is."""
    return target if target.startswith(("user:", "device:")) else f"user:{target}"


def id_of(endpoint: str) -> str:
    return hashlib.sha256(endpoint.encode("utf-8", "replace")).hexdigest()[:32]


class Subscriptions:
    """What these methods write is on disk when they return; all raise StorageFull, QueueFull, StoreBroken."""

    def __init__(self, keyvalue: KeyValue) -> None:
        self._keyvalue = keyvalue
        self._turn = anyio.Lock()

    async def of(self, owner: str) -> list[Subscription]:
        """Those of an address, the oldest first."""
        entry = await self._keyvalue.get(_OWNER + owner)
        return [] if entry is None else msgspec.json.decode(entry.value, type=_Owned).subscriptions

    async def add(
        self, owner: str, endpoint: str, keys: Keys, right: LastingRight = UNKNOWN_RIGHT
    ) -> Subscription:  # fmt: skip
        """Keep a browser's subscription; it leaves whoever had it before. Again is once. Raises InvalidField."""
        check_endpoint(endpoint)
        await anyio.to_thread.run_sync(_check_keys, keys)
        new = Subscription(id=id_of(endpoint), endpoint=endpoint, keys=keys, created=now_ms(), right=right)

        def added(known: list[Subscription]) -> list[Subscription]:
            if any((old.endpoint, old.keys, old.right) == (endpoint, keys, right) for old in known):
                return known
            others = [old for old in known if old.id != new.id]
            if len(others) >= MAX_PER_OWNER:
                raise InvalidField(
                    "endpoint", f"{owner!r} has {MAX_PER_OWNER} browsers already; switch one off, or DELETE it"
                )
            return [*others, new]

        def without(known: list[Subscription]) -> list[Subscription]:
            return [old for old in known if old.id != new.id]

        async with self._turn:
            kept = await self._change(owner, added)
            former = await self._keyvalue.get(_BROWSER + new.id)
            if former is None or former.value.decode() != owner:
                if former is not None:
                    await self._change(former.value.decode(), without)
                await self._keyvalue.put(_BROWSER + new.id, owner.encode())
        return next(one for one in kept if one.id == new.id)

    async def remove(self, owner: str, id: str) -> None:
        """Raises NotFound where the owner has no such subscription."""
        if not await self.forget(owner, id):
            raise NotFound("subscription", id[:64])

    async def forget(self, owner: str, id: str) -> bool:
        """As `remove`, for one that may be gone already: whether it was there."""
        async with self._turn:
            if all(known.id != id for known in await self.of(owner)):
                return False
            await self._change(owner, lambda known: [old for old in known if old.id != id])
            await self._keyvalue.delete(_BROWSER + id)
            return True

    async def by_origin(self, limit: int) -> list[Subscription]:
        """One of each push service, at most `limit`."""
        found: dict[str, Subscription] = {}
        for entry in await self._keyvalue.list(_OWNER):
            for one in msgspec.json.decode(entry.value, type=_Owned).subscriptions:
                if len(found) < limit:
                    found.setdefault(one.origin, one)
        return list(found.values())

    async def _change(
        self, owner: str, change: Callable[[list[Subscription]], list[Subscription]]
    ) -> list[Subscription]:
        while True:
            entry = await self._keyvalue.get(_OWNER + owner)
            known = [] if entry is None else msgspec.json.decode(entry.value, type=_Owned).subscriptions
            wanted = change(known)
            revision = 0 if entry is None else entry.revision
            try:
                if wanted:
                    value = msgspec.json.encode(_Owned(subscriptions=wanted))
                    await self._keyvalue.put(_OWNER + owner, value, expected_revision=revision)
                elif entry is not None:
                    await self._keyvalue.delete(_OWNER + owner, expected_revision=revision)
                return wanted
            except RevisionMismatch:  # another hub on the same store was faster
                continue


def check_endpoint(endpoint: str) -> None:
    """Raises InvalidField."""
    try:
        place = urlsplit(endpoint)
        is_address = place.scheme in ("http", "https") and bool(place.hostname) and place.port != 0
        is_address = is_address and "@" not in place.netloc and not place.fragment
    except ValueError:
        is_address = False
    if not is_address or _is_visible(endpoint) is None:
        raise InvalidField("endpoint", f"must be a push service's https address of at most {MAX_ENDPOINT} characters")


def _check_keys(keys: Keys) -> None:
    """Blocks at first: it loads `cryptography`. Raises InvalidField."""
    try:
        parse_receiver(keys.p256dh, keys.auth)
    except ValueError as error:
        raise InvalidField("keys", str(error)) from None
