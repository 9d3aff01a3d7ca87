"""Ways in for those who have no password yet, or lost it: links that work once.

The first person is invited by the hub's first key. A link holds 256 random bits and is kept as sha256. Making one is
for admins; the caller has checked that.
"""

import hashlib
import secrets
from collections.abc import Callable, Iterable

import msgspec

from autoglm.auth.people.accounts import Account, Accounts, known_roles, normal_name
from autoglm.auth.people.kept import Kept
from autoglm.auth.people.logins import Caller, LoggedIn, Logins
from autoglm.auth.people.passwords import Passwords
from autoglm.auth.people.roles import Role
from autoglm.core.errors import InvalidField, LoginRefused, NotFound
from autoglm.core.lasting import UNKNOWN_RIGHT, LastingRight
from autoglm.core.ports import KeyValue

PREFIX = "auth/invitation/"
_MAX_OPEN = 1000
_MAX_TOKEN = 100


class Invitation(msgspec.Struct, frozen=True, kw_only=True, tag="invitation", tag_field="type"):
    """An open link. `account_id` is None for somebody new, else it sets a new password for that account."""

    version: int = 1
    handle: str
    """Names it in lists; it opens nothing."""
    name: str
    roles: tuple[Role, ...]
    account_id: str | None = None
    epoch: int = 0
    made_by: str
    """The address of the admin."""
    right: LastingRight = UNKNOWN_RIGHT
    """By what he was known: the link is good as long as he may give what it gives."""
    ends_ms: int


class Invitations:
    """`open` before use."""

    def __init__(
        self, keyvalue: KeyValue, *, accounts: Accounts, passwords: Passwords, logins: Logins,
        now_ms: Callable[[], int], valid_h: int, may_give: Callable[[Invitation], bool] = lambda _: True,
    ) -> None:  # fmt: skip
        """may_give: whether whoever made a link might make it now."""
        self._now_ms, self._may_give = now_ms, may_give
        self._accounts, self._passwords, self._logins = accounts, passwords, logins
        self._valid_ms = valid_h * 3_600_000
        self._kept = Kept(keyvalue, PREFIX, Invitation)

    async def open(self) -> None:
        await self._kept.open()

    async def invite(
        self, name: str, roles: Iterable[str], *, made_by: str, right: LastingRight = UNKNOWN_RIGHT
    ) -> tuple[str, Invitation]:
        """(the link's secret, to be shown once; what it is). Raises InvalidField for a name that is taken."""
        normal = normal_name(name)
        if self._accounts.find(normal) is not None:
            raise InvalidField("name", f"{normal!r} is taken")
        return await self._make(normal, known_roles(roles), None, made_by, right)

    async def reset(self, name: str, *, made_by: str, right: LastingRight = UNKNOWN_RIGHT) -> tuple[str, Invitation]:
        """A link by which an account gets a new password. Void once it got one by other means. Raises NotFound."""
        account = self._accounts.get(name)
        return await self._make(account.name, account.roles, account, made_by, right)

    def look(self, token: str) -> Invitation:
        """What a link is good for. Raises LoginRefused: unknown, used, or too old."""
        invitation = self._kept.get(_hash(token))
        if invitation is None or not self._is_open(invitation):
            raise LoginRefused
        return invitation

    async def accept(self, token: str, password: str, caller: Caller) -> LoggedIn:
        """Set the password and log in. The link is void then, and not before: a refused password may be retyped.

        Raises LoginRefused, InvalidField.
        """
        invitation = self.look(token)
        hash = await self._passwords.hashed(password, invitation.name)
        invitation = self.look(token)  # it may have been made void meanwhile
        if not await self._kept.drop(_hash(token)):  # of two that come at once, one gets in
            raise LoginRefused
        if invitation.account_id is None:
            account = await self._accounts.create(invitation.name, invitation.roles)
            await self.forget(account.name)
        else:
            account = self._accounts.get(invitation.name)
            if not self._accounts.is_current(account.name, invitation.account_id, invitation.epoch):
                raise LoginRefused
        return await self._enter(account, hash, caller)

    def all(self) -> list[Invitation]:
        """The open ones, the newest last."""
        return sorted(filter(self._is_open, self._entries()), key=lambda invitation: invitation.ends_ms)

    async def withdraw(self, handle: str) -> None:
        """Raises NotFound."""
        for digest, invitation in self._kept.everything():
            if invitation.handle == handle:
                await self._kept.drop(digest)
                return
        raise NotFound("invitation", handle[:64])

    async def sweep(self) -> None:
        """Forget those whose end could not be written."""
        await self._kept.finish()

    async def forget(self, name: str) -> None:
        """All links for a name: a later person of it shall not find an old one open."""
        for digest in [digest for digest, invitation in self._kept.everything() if invitation.name == name]:
            await self._kept.drop(digest)

    async def _make(
        self, name: str, roles: tuple[Role, ...], account: Account | None, made_by: str, right: LastingRight
    ) -> tuple[str, Invitation]:
        for digest in [digest for digest, kept in self._kept.everything() if self._is_over(kept)]:
            await self._kept.drop(digest)
        if len(self._kept) >= _MAX_OPEN:
            raise InvalidField("name", f"{_MAX_OPEN} invitations are open; withdraw some")
        token = secrets.token_urlsafe(32)
        invitation = Invitation(
            handle=secrets.token_hex(8), name=name, roles=roles, account_id=account.id if account else None,
            epoch=account.epoch if account else 0, made_by=made_by, right=right,
            ends_ms=self._now_ms() + self._valid_ms,
        )  # fmt: skip
        await self._kept.put(_hash(token), invitation)
        return token, invitation

    def _entries(self) -> list[Invitation]:
        return [invitation for _, invitation in self._kept.items()]

    def _is_open(self, invitation: Invitation) -> bool:
        return not self._is_over(invitation) and self._may_give(invitation)

    def _is_over(self, invitation: Invitation) -> bool:
        """For good: what its maker may give can change again."""
        if self._now_ms() >= invitation.ends_ms:
            return True
        if invitation.account_id is None:
            return self._accounts.find(invitation.name) is not None
        return not self._accounts.is_current(invitation.name, invitation.account_id, invitation.epoch)

    async def _enter(self, account: Account, hash: str, caller: Caller) -> LoggedIn:
        return await self._logins.enter(await self._logins.replace_password(account, hash), "invitation", caller)


def _hash(token: str) -> str:
    return hashlib.sha256(token[:_MAX_TOKEN].encode("utf-8", "surrogatepass")).hexdigest()
