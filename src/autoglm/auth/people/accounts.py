"""Local accounts: who there is, and in which roles. Kept in the store, and in memory for the request path."""

import re
import secrets
import unicodedata
from collections.abc import Callable, Iterable

import msgspec

from autoglm.auth.people.roles import ROLES, Role, scopes_of
from autoglm.core.address import check_address
from autoglm.core.errors import InvalidField, NotFound, RevisionMismatch
from autoglm.core.ports import KeyValue

PREFIX = "auth/person/"
REMOVED_PREFIX = "auth/removed-person/"
MAX_ACCOUNTS = 100_000
# Letters and digits of any script; no '*' (a pattern in scopes), ':' or '/' (addresses, keys).
_is_name = re.compile(r"[^\W_][\w.-]{0,63}").fullmatch


class Account(msgspec.Struct, frozen=True, kw_only=True, tag="person", tag_field="type"):
    """A person. Holds no secret."""

    version: int = 1
    name: str
    id: str
    """Random: what belonged to a removed account does not fit another one of its name."""
    epoch: int = 1
    """Sessions and links of an earlier epoch are void."""
    roles: tuple[Role, ...]
    created_ms: int
    changed_ms: int
    is_disabled: bool = False

    @property
    def address(self) -> str:
        return f"user:{self.name}"

    @property
    def scopes(self) -> tuple[str, ...]:
        return scopes_of(self.roles, self.name)


def normal_name(name: str) -> str:
    """One spelling for what looks or sounds the same: NFKC, lower case. It is the name in the person's address as well.
    Raises InvalidField.

    Source: RFC 8265, section 3.3 (UsernameCaseMapped), simplified.
    """
    normal = unicodedata.normalize("NFKC", name[:256]).casefold()
    if _is_name(normal) is None or len(name) > 64 or unicodedata.normalize("NFKC", normal).casefold() != normal:
        raise InvalidField("name", "must be 1 to 64 letters and digits, and . _ - behind the first")
    check_address(f"user:{normal}", field="name")
    return normal


def typed_name(name: str) -> str:
    """What failures of a typed name are counted under. One spelling also for names that nobody has: or counting would
    tell which names somebody has.
    """
    try:
        return normal_name(name)
    except InvalidField:
        return name


class Accounts:
    """All people of this hub. `open` before use; what is read is in memory, what is written is on disk on return."""

    def __init__(self, keyvalue: KeyValue, now_ms: Callable[[], int]) -> None:
        self._keyvalue, self._now_ms = keyvalue, now_ms
        self._by_name: dict[str, tuple[Account, int]] = {}
        self._removed: set[str] = set()

    async def open(self) -> None:
        for entry in await self._keyvalue.list(REMOVED_PREFIX):
            self._removed.add(entry.key.removeprefix(REMOVED_PREFIX))
        for entry in await self._keyvalue.list(PREFIX):
            self._keep(msgspec.json.decode(entry.value, type=Account), entry.revision)

    def get(self, name: str) -> Account:
        """Raises NotFound."""
        return self._found(name)[0]

    def find(self, name: str) -> Account | None:
        """The account of what a stranger typed as a name."""
        try:
            return self.get(normal_name(name))
        except (InvalidField, NotFound):
            return None

    def all(self) -> list[Account]:
        return [account for account, _ in sorted(self._by_name.values(), key=lambda kept: kept[0].name)]

    def is_current(self, name: str, id: str, epoch: int) -> bool:
        """True while what was made for this account and epoch counts."""
        kept = self._by_name.get(name)
        return kept is not None and kept[0].id == id and kept[0].epoch == epoch and not kept[0].is_disabled

    def was_removed(self, name: str) -> bool:
        """Whether somebody of that name was, and nobody has been given it since."""
        return name in self._removed

    async def create(self, name: str, roles: Iterable[str], *, id: str | None = None) -> Account:
        """Raises InvalidField: for the name when it is taken, for roles that do not exist. id: where it was chosen
        before.
        """
        normal = normal_name(name)
        now_ms = self._now_ms()
        account = Account(
            name=normal, id=id or secrets.token_hex(16), roles=known_roles(roles), created_ms=now_ms, changed_ms=now_ms
        )
        if len(self._by_name) >= MAX_ACCOUNTS:
            raise InvalidField("name", f"there are {MAX_ACCOUNTS} accounts already")
        try:
            await self._put(account, 0)
        except RevisionMismatch:
            raise InvalidField("name", f"{normal!r} is taken") from None
        if normal in self._removed:
            self._removed.discard(normal)
            await self._keyvalue.delete(REMOVED_PREFIX + normal)
        return account

    async def change(
        self, name: str, *, roles: Iterable[str] | None = None, is_disabled: bool | None = None
    ) -> Account:
        """Roles count at once; disabling ends all sessions for good.

        Raises NotFound, InvalidField, RevisionMismatch.
        """
        account, revision = self._found(name)
        changed = msgspec.structs.replace(
            account, changed_ms=self._now_ms(),
            roles=account.roles if roles is None else known_roles(roles),
            is_disabled=account.is_disabled if is_disabled is None else is_disabled,
            epoch=account.epoch + 1 if is_disabled else account.epoch,
        )  # fmt: skip
        return await self._put(changed, revision)

    async def begin_epoch(self, name: str) -> Account:
        """End all sessions and links at once, as a new password does. Raises NotFound, RevisionMismatch."""
        account, revision = self._found(name)
        changed = msgspec.structs.replace(account, changed_ms=self._now_ms(), epoch=account.epoch + 1)
        return await self._put(changed, revision)

    async def remove(self, name: str) -> None:
        """Passwords, passkeys and sessions are void with it, as they name its id. Raises NotFound."""
        account, _ = self._found(name)
        self._removed.add(account.name)
        await self._keyvalue.put(REMOVED_PREFIX + account.name, b"{}")
        await self._keyvalue.delete(PREFIX + account.name)
        self._by_name.pop(account.name, None)

    def _found(self, name: str) -> tuple[Account, int]:
        kept = self._by_name.get(name)
        if kept is None:
            raise NotFound("person", name[:64])
        return kept

    async def _put(self, account: Account, expected_revision: int) -> Account:
        revision = await self._keyvalue.put(
            PREFIX + account.name, msgspec.json.encode(account), expected_revision=expected_revision
        )
        self._keep(account, revision)
        return account

    def _keep(self, account: Account, revision: int) -> None:
        self._by_name[account.name] = account, revision


def known_roles(roles: Iterable[str]) -> tuple[Role, ...]:
    """Each once, in the order of ROLES. Raises InvalidField."""
    wanted = set(roles)
    if not wanted or not wanted <= set(ROLES):
        raise InvalidField("roles", f"must be some of {', '.join(ROLES)}")
    return tuple(role for role in ROLES if role in wanted)
