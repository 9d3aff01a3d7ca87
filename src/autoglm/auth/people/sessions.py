"""Sessions of people: random ids, kept as sha256, that end when idle, when old, and with the account's epoch.

Source: OWASP ASVS 5, V7.
"""

import hashlib
import secrets
from collections.abc import Callable
from contextlib import suppress
from typing import Literal

import msgspec

from autoglm.auth.people.accounts import Account, Accounts
from autoglm.auth.people.kept import Kept
from autoglm.auth.people.settings import SessionSettings
from autoglm.core.errors import NotFound, QueueFull, SessionEnded, StorageFull
from autoglm.core.ports import KeyValue

PREFIX = "auth/session/"
Method = Literal["password", "passkey", "oidc", "invitation"]
_MAX_ID = 100
_MAX_AGENT = 200


class Session(msgspec.Struct, frozen=True, kw_only=True, tag="session", tag_field="type"):
    """What a person may see of a session. Times are milliseconds of the Unix epoch."""

    version: int = 1
    handle: str
    """Names it in lists; it opens nothing."""
    name: str
    account_id: str
    epoch: int
    method: Method
    created_ms: int
    proven_ms: int = 0
    """When its person showed who he is: at a provider perhaps long before; 0 where that does not tell."""
    seen_ms: int
    """Of the last request, up to a tenth of the idle time late."""
    ends_ms: int
    """In any case."""
    client: str
    agent: str


class Sessions:
    """All sessions of this hub. `open` before use."""

    def __init__(
        self, keyvalue: KeyValue, accounts: Accounts, settings: SessionSettings, now_ms: Callable[[], int]
    ) -> None:
        self._accounts, self._settings, self._now_ms = accounts, settings, now_ms
        self._idle_ms = settings.idle_min * 60_000
        self._kept = Kept(keyvalue, PREFIX, Session)
        self._hashes: dict[str, str] = {}
        """By handle."""

    async def open(self) -> None:
        await self._kept.open()
        self._hashes = {session.handle: digest for digest, session in self._kept.items()}
        await self.sweep()

    async def begin(
        self, account: Account, method: Method, *, client: str = "", agent: str = "", former: str | None = None,
        proven_ms: int | None = None,
    ) -> str:  # fmt: skip
        """A new id, on disk when it returns; never one that the browser brought. `former`, its last one, is ended.

        proven_ms: None for now.
        """
        if former is not None:
            await self.end(former)
        await self.sweep()
        own = sorted((kept.created_ms, digest) for digest, kept in self._kept.items() if kept.name == account.name)
        for _, digest in own[: max(0, len(own) - self._settings.max_per_person + 1)]:
            await self._drop(digest)
        id = secrets.token_urlsafe(32)
        now_ms = self._now_ms()
        session = Session(
            handle=secrets.token_hex(8), name=account.name, account_id=account.id, epoch=account.epoch, method=method,
            created_ms=now_ms, proven_ms=now_ms if proven_ms is None else min(proven_ms, now_ms), seen_ms=now_ms,
            ends_ms=now_ms + self._settings.absolute_h * 3_600_000, client=client[:64], agent=agent[:_MAX_AGENT],
        )  # fmt: skip
        await self._put(digest_of(id), session)
        return id

    async def check(self, id: str) -> tuple[Session, Account]:
        """Whose session it is. Raises SessionEnded. Counts as a request."""
        digest = digest_of(id)
        session = self._kept.get(digest)
        now_ms = self._now_ms()
        if session is None or not self._is_live(session, now_ms):
            raise SessionEnded
        if now_ms - session.seen_ms > self._idle_ms // 10:  # not a write for each request
            session = msgspec.structs.replace(session, seen_ms=now_ms)
            with suppress(StorageFull, QueueFull):  # a full disk logs nobody out
                await self._put(digest, session)
            if digest not in self._kept:
                raise SessionEnded
        return session, self._accounts.get(session.name)

    def named(self, handle: str) -> Session | None:
        """None for one that is over."""
        session = self._kept.get(self._hashes.get(handle, ""))
        return session if session is not None and self._is_live(session, self._now_ms()) else None

    def handle_of(self, id: str) -> str:
        """Empty for one that is over."""
        session = self._kept.get(digest_of(id))
        return "" if session is None else session.handle

    def is_fresh(self, session: Session) -> bool:
        """Whether its person proved who he is a short time ago: wanted for what would let a thief stay."""
        return 0 <= self._now_ms() - session.proven_ms < self._settings.fresh_min * 60_000

    def all(self) -> list[Session]:
        """The live ones of everybody."""
        now_ms = self._now_ms()
        return [kept for _, kept in self._kept.items() if self._is_live(kept, now_ms)]

    def of(self, name: str) -> list[Session]:
        """A person's live sessions, the newest first."""
        return sorted((kept for kept in self.all() if kept.name == name), key=lambda kept: -kept.created_ms)

    async def end(self, id: str) -> None:
        """Log out. One that is over is over."""
        await self._drop(digest_of(id))

    async def end_digest(self, digest: str) -> None:
        """As `end`, by `digest_of` its id."""
        await self._drop(digest)

    async def end_named(self, name: str, handle: str) -> None:
        """Raises NotFound for a handle that is not this person's."""
        for digest, session in self._kept.everything():
            if session.name == name and session.handle == handle:
                return await self._drop(digest)
        raise NotFound("session", handle[:64])

    async def end_all(self, name: str) -> None:
        """Of a person. The account's next epoch has the same effect at once."""
        for digest in [digest for digest, kept in self._kept.everything() if kept.name == name]:
            await self._drop(digest)

    async def sweep(self) -> None:
        """Forget those that are over, and those whose end could not be written."""
        await self._kept.finish()
        now_ms = self._now_ms()
        for digest in [digest for digest, kept in self._kept.everything() if not self._is_live(kept, now_ms)]:
            await self._drop(digest)

    def _is_live(self, session: Session, now_ms: int) -> bool:
        return (
            now_ms < min(session.ends_ms, session.seen_ms + self._idle_ms)
            and self._accounts.is_current(session.name, session.account_id, session.epoch)
        )  # fmt: skip

    async def _put(self, digest: str, session: Session) -> None:
        self._hashes[session.handle] = digest
        await self._kept.put(digest, session)

    async def _drop(self, digest: str) -> None:
        session = self._kept.get(digest)
        if await self._kept.drop(digest) and session is not None:
            self._hashes.pop(session.handle, None)


def digest_of(id: str) -> str:
    """What a session is kept under, and ended by, where its id shall not be carried about."""
    return hashlib.sha256(id[:_MAX_ID].encode("utf-8", "surrogatepass")).hexdigest()
