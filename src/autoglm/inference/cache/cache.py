"""Answers by the exact bytes of their questions, in memory only: least recently used go first, all go in time."""

import asyncio
import hashlib
import math
from collections import OrderedDict
from collections.abc import Callable, Iterable

import msgspec

from autoglm.core.clock import monotonic_s
from autoglm.inference.cache.settings import CacheSettings
from autoglm.inference.call import Call

_ENTRY_BYTES = 1024
"""What an entry costs beside its body, about."""


class CachedAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer as the client got it; of a stream all events."""

    tenant: str
    model: str
    instance: str
    content_type: str
    body: bytes
    is_stream: bool
    stored_s: float

    @property
    def size_bytes(self) -> int:
        return len(self.body) + _ENTRY_BYTES


def question_key(tenant: str, rights: Iterable[str], hints: Iterable[bytes], api: str, body: bytes) -> bytes:
    """Names a question: equal only for the same tenant, rights, hints and API and the same body, byte by byte.

    Each part goes in with its length, so that no two lists of parts look the same.
    """
    digest = hashlib.sha256()
    parts = [tenant.encode(), api.encode(), b"%d" % len(body), *(right.encode() for right in rights), b"", *hints]
    for part in parts:
        digest.update(b"%d:%b" % (len(part), part))
    digest.update(body)
    return digest.digest()


class Leader:
    """Who asks the model for all who ask the same."""

    __slots__ = ("call", "has_left")

    def __init__(self, call: Call) -> None:
        self.call = call
        self.has_left: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        """Done when the leader is."""


def _will_do(leading: Call, call: Call) -> bool:
    """True when the leader's answer comes no later than an own one would: it has a slot, or its turn comes first."""
    if leading.was_started:
        return True
    latest_s = math.inf if leading.deadline_s is None else leading.deadline_s
    return leading.priority >= call.priority and latest_s <= (math.inf if call.deadline_s is None else call.deadline_s)


class Cache:
    """Lives in the event loop alone. What is kept is lost at a restart."""

    def __init__(self, settings: CacheSettings, clock_s: Callable[[], float] = monotonic_s) -> None:
        self.settings = settings
        self.hits = self.misses = self.evictions = 0
        self.size_bytes = 0
        self._clock_s = clock_s
        self._kept: OrderedDict[bytes, CachedAnswer] = OrderedDict()
        self._leading: dict[bytes, Leader] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, key: bytes, tenant: str) -> CachedAnswer | None:
        """What is kept under the key and not too old."""
        kept = self._kept.get(key)
        # The key holds the tenant already; were sha256 ever to fail us, this comparison would not.
        if kept is None or kept.tenant != tenant:
            return None
        if self._clock_s() - kept.stored_s >= self.settings.ttl_s:
            self._remove(key)
            return None
        self._kept.move_to_end(key)
        return kept

    def keep(
        self, key: bytes, *, tenant: str, model: str, instance: str, content_type: str, body: bytes, is_stream: bool
    ) -> None:
        """Keep a whole and good answer, in place of an older one. One that is too long is not kept."""
        if len(body) > self.settings.max_entry_bytes:
            return
        if key in self._kept:
            self._remove(key)
        kept = self._kept[key] = CachedAnswer(
            tenant=tenant, model=model, instance=instance, content_type=content_type, body=body, is_stream=is_stream,
            stored_s=self._clock_s(),
        )  # fmt: skip
        self.size_bytes += kept.size_bytes
        while self.size_bytes > self.settings.max_bytes:
            self._remove(next(iter(self._kept)))
            self.evictions += 1

    def _remove(self, key: bytes) -> None:
        self.size_bytes -= self._kept.pop(key).size_bytes

    # --- one question at a time ---

    def lead(self, key: bytes, call: Call) -> "Leader | None":
        """Not None for who asks this first, or more urgently than whoever leads and has not started: those who come
        later wait for it. Whoever leads says `led` in the end.
        """
        leading = self._leading.get(key)
        if leading is not None and _will_do(leading.call, call):
            return None
        leader = self._leading[key] = Leader(call)
        return leader

    async def follow(self, key: bytes) -> bool:
        """Returns when whoever leads is done: True when it left without an answer, so that another one has to lead.

        A follower that leaves disturbs nobody.
        """
        leading = self._leading.get(key)
        return leading is None or await asyncio.shield(leading.has_left)

    def led(self, key: bytes, leader: "Leader", *, has_left: bool) -> None:
        """The leader is done: what it got is kept, or it got nothing worth keeping; has_left: its client has left."""
        if self._leading.get(key) is leader:
            del self._leading[key]
        if not leader.has_left.done():
            leader.has_left.set_result(has_left)
