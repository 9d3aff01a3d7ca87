"""All that logs people in, composed: accounts, what proves them, sessions, and the links of admins."""

from collections.abc import Callable
from dataclasses import dataclass
from socket import gethostname
from urllib.parse import urlsplit

import anyio
import structlog

from autoglm.auth.people.accounts import Account, Accounts
from autoglm.auth.people.devices import KnownDevices
from autoglm.auth.people.logins import Logins
from autoglm.auth.people.oidc import Oidc
from autoglm.auth.people.passkeys import Passkeys
from autoglm.auth.people.passwords import Passwords
from autoglm.auth.people.provider import Fetch, guarded_fetch
from autoglm.auth.people.recovery import Invitation, Invitations
from autoglm.auth.people.roles import Role, scopes_of
from autoglm.auth.people.sessions import Session, Sessions
from autoglm.auth.people.settings import PeopleSettings
from autoglm.auth.people.throttle import Throttle
from autoglm.core.clock import monotonic_s
from autoglm.core.errors import HubError, SessionEnded
from autoglm.core.ports import KeyValue

_SWEEP_S = 60.0

log = structlog.get_logger(part="auth")


@dataclass(frozen=True)
class Surroundings:
    """What people's logins ask of the rest of the hub."""

    is_revoked: Callable[[str], bool] = lambda _: False
    """Whoever has this address."""
    is_claimed: Callable[[str], bool] = lambda _: False
    """The address, by a key or by a role of the policy."""
    may_give: Callable[[Invitation], bool] = lambda _: True
    """Whoever made it, now."""


class People:
    """`open` before use, `run` as long as the hub runs."""

    def __init__(
        self, keyvalue: KeyValue, settings: PeopleSettings, now_ms: Callable[[], int], *,
        monotonic_s: Callable[[], float] = monotonic_s, fetch: Fetch | None = None, site: str = "",
        surroundings: Surroundings | None = None,
    ) -> None:  # fmt: skip
        """site: its name, which no password may be made of, as little as of this machine's."""
        around = surroundings or Surroundings()
        self.settings = settings
        self.accounts = Accounts(keyvalue, now_ms)
        self.passwords = Passwords(keyvalue, settings.password)
        self.passwords.words |= {site, gethostname()}
        self.sessions = Sessions(keyvalue, self.accounts, settings.session, now_ms)
        self.devices = KnownDevices(keyvalue, now_ms, settings.throttle.device_days)
        self.throttle = Throttle(settings.throttle, monotonic_s)
        self.passkeys = Passkeys(keyvalue, self.accounts, settings.passkey, now_ms, monotonic_s=monotonic_s)
        self.oidc: Oidc | None = None
        if settings.oidc is not None:
            self.oidc = Oidc(
                settings.oidc, keyvalue, self.accounts, now_ms,
                fetch=fetch or guarded_fetch(settings.oidc.issuer), monotonic_s=monotonic_s,
                is_claimed=around.is_claimed,
            )  # fmt: skip
        self.logins = Logins(
            accounts=self.accounts, passwords=self.passwords, sessions=self.sessions, devices=self.devices,
            throttle=self.throttle, passkeys=self.passkeys, oidc=self.oidc, is_revoked=around.is_revoked,
        )  # fmt: skip
        self.invitations = Invitations(
            keyvalue, accounts=self.accounts, passwords=self.passwords, logins=self.logins, now_ms=now_ms,
            valid_h=settings.invitation_h, may_give=around.may_give,
        )  # fmt: skip

    async def open(self) -> None:
        # Accounts first: sessions of those who are gone are swept.
        for part in (self.accounts, self.sessions, self.devices, self.passkeys, self.invitations):
            await part.open()
        if self.oidc is not None:
            await self.oidc.open()

    def opens_page_at(self, *origins: str) -> None:
        """At these addresses browsers may open the page. No password may be made of their names either."""
        self.passkeys.listens_at(*origins)
        self.passwords.words.update(urlsplit(origin).hostname or "" for origin in origins)

    async def run(self) -> None:
        """Forgets what is over, and asks the provider for those who send nothing but listen on. Until cancelled."""
        while True:
            await anyio.sleep(_SWEEP_S)
            try:
                await self.sweep()
                await self._recheck()
            except HubError as error:  # a full disk: the next round tries again
                log.warning("sessions_not_swept", reason=str(error))
            except Exception:  # one person's trouble must not end a hub
                log.exception("sessions_not_swept")

    async def sweep(self) -> None:
        for part in (self.sessions, self.invitations, self.passkeys, self.devices):
            await part.sweep()

    async def remove(self, name: str) -> None:
        """A person, with all that proves it, and the links that are open for the name. Raises NotFound."""
        await self.logins.remove(name)
        await self.invitations.forget(name)

    def by_address(self, address: str) -> Account | None:
        """Of `user:NAME`."""
        kind, _, name = address.partition(":")
        return self.accounts.find(name) if kind == "user" else None

    def session_of(self, credential: str) -> Session | None:
        """Of a principal whose credential is `session:HANDLE`."""
        kind, _, handle = credential.partition(":")
        return self.sessions.named(handle) if kind == "session" else None

    def wants_passkey(self, account: Account) -> bool:
        """Whether it has a role that counts after a login by passkey alone."""
        return not set(account.roles).isdisjoint(self.settings.passkey_roles)

    def roles_in(self, session: Session, account: Account) -> tuple[Role, ...]:
        """What a person is in this session: a passkey is two factors in one (OWASP ASVS 5, 6.3.3)."""
        if session.method == "passkey" or not self.wants_passkey(account):
            return account.roles
        return tuple(role for role in account.roles if role not in self.settings.passkey_roles)

    def scopes_in(self, session: Session, account: Account) -> tuple[str, ...]:
        return scopes_of(self.roles_in(session, account), account.name)

    async def _recheck(self) -> None:
        if self.oidc is None:
            return
        for session in self.sessions.all():
            account = self.accounts.find(session.name)
            if session.method != "oidc" or account is None:
                continue
            try:
                await self.oidc.recheck(account)
            except SessionEnded:
                await self.sessions.end_named(session.name, session.handle)
