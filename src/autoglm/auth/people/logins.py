"""Logging in, whatever the proof: slowed down, told apart by nothing, and always into a new session."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import structlog

from autoglm.auth.people.accounts import Account, Accounts, typed_name
from autoglm.auth.people.devices import KnownDevices
from autoglm.auth.people.oidc import Oidc
from autoglm.auth.people.passkeys import Passkeys
from autoglm.auth.people.passwords import Passwords
from autoglm.auth.people.sessions import Method, Session, Sessions
from autoglm.auth.people.throttle import Attempt, Throttle, block_of
from autoglm.core.errors import LoginRefused, LoginThrottled, SessionEnded

log = structlog.get_logger(part="auth")

_PASSKEY, _OIDC = "*passkey", "*oidc"
"""No account has these names."""
_AT_A_TIME = 4
"""Passwords of one address that are checked at a time, so that one caller does not fill the queue."""


@dataclass(frozen=True)
class Caller:
    """Where a login comes from, and what the browser brought along."""

    client: str
    """The address."""
    agent: str = ""
    device: str | None = field(default=None, repr=False)
    """The known-device token of an earlier login."""
    session: str | None = field(default=None, repr=False)
    """An earlier session; it is ended, never taken over."""
    former_digest: str | None = None
    """The same, by its digest: of who comes back from a provider."""


@dataclass(frozen=True)
class LoggedIn:
    """What goes back to the browser, as cookies that no script reads."""

    account: Account
    session: str = field(repr=False)
    device: str = field(repr=False)
    """Empty where none is remembered."""
    handle: str = ""
    """Of the session, for the audit."""


class Logins:
    """Joins accounts, proofs, throttle and sessions."""

    def __init__(
        self, *, accounts: Accounts, passwords: Passwords, sessions: Sessions, devices: KnownDevices,
        throttle: Throttle, passkeys: Passkeys | None = None, oidc: Oidc | None = None,
        is_revoked: Callable[[str], bool] = lambda _: False,
    ) -> None:  # fmt: skip
        """is_revoked: whether whoever has this address was."""
        self._is_revoked = is_revoked
        self._accounts, self._passwords, self._sessions = accounts, passwords, sessions
        self._devices, self._throttle, self._passkeys = devices, throttle, passkeys
        self._oidc = oidc
        self._underway: Counter[str] = Counter()

    async def with_password(self, name: str, password: str, caller: Caller) -> LoggedIn:
        """Raises LoginRefused (one text and one time for all reasons), LoginThrottled."""
        account = self._accounts.find(name)
        attempt = await self._proven(account, name, password, caller)
        if account is None or account.is_disabled:
            raise LoginRefused
        attempt.succeeded()
        return await self.enter(account, "password", caller)

    async def with_passkey(self, answer: Mapping[str, Any], caller: Caller) -> LoggedIn:
        """Raises LoginRefused, LoginThrottled. answer: see Passkeys.finish_login."""
        if self._passkeys is None:
            raise LoginRefused
        # A key cannot be guessed: what is slowed down is the address, as its failures cost signatures. They keep out
        # nobody who has been here before.
        device = self._devices.known(caller.device, self._passkeys.asked_for(answer))
        attempt = self._throttle.begin(_PASSKEY, caller.client, device=device)
        account = await self._passkeys.finish_login(answer)
        attempt.succeeded()
        return await self.enter(account, "passkey", caller)

    async def with_oidc(self, transaction: str, answer: Mapping[str, str], caller: Caller) -> LoggedIn:
        """Raises LoginRefused, LoginThrottled, ProviderUnreachable. transaction, answer: see Oidc.finish."""
        if self._oidc is None:
            raise LoginRefused
        self._oidc.check_begun(transaction, answer)  # a callback that was not begun here costs nothing
        attempt = self._throttle.begin(_OIDC, caller.client)
        proven = await self._oidc.finish(transaction, answer)
        attempt.succeeded()
        return await self.enter(proven.account, "oidc", caller, proven_ms=proven.at_ms)

    async def check(self, session_id: str) -> tuple[Session, Account]:
        """Whose request it is. Raises SessionEnded. Asks the provider now and then for those whom it let in."""
        session, account = await self._sessions.check(session_id)
        if session.method == "oidc":
            try:
                if self._oidc is None:  # it was switched off
                    raise SessionEnded
                await self._oidc.recheck(account)
            except SessionEnded:
                await self._sessions.end(session_id)
                raise
        return session, account

    async def change_password(self, account: Account, current: str, new: str, caller: Caller) -> LoggedIn:
        """Ends all sessions and known devices of the person, and begins one here. Raises as `with_password` does, and
        InvalidField for the new password.
        """
        self._passwords.check(new, account.name)
        (await self._proven(account, account.name, current, caller)).succeeded()
        hash = await self._passwords.hashed(new, account.name)
        return await self.enter(await self.replace_password(account, hash), "password", caller)

    async def replace_password(self, account: Account, hash: str) -> Account:
        """Without the old one. hash: see Passwords.hashed. Returns the account in its new epoch.

        An epoch begins before, so that no session outlives a crash in between; and one when the password is on disk,
        so that a login by the old one that is under way is of an old epoch.
        """
        await self._accounts.begin_epoch(account.name)
        await self._passwords.keep(account, hash)
        changed = await self._accounts.begin_epoch(account.name)
        await self._sessions.end_all(account.name)
        await self._devices.forget(account.name)
        log.info("password_changed", person=account.name)
        return changed

    async def remove(self, name: str) -> None:
        """A person, with all that proves it. Raises NotFound."""
        await self._accounts.remove(name)
        await self._sessions.end_all(name)
        await self._devices.forget(name)
        await self._passwords.forget(name)
        if self._passkeys is not None:
            await self._passkeys.forget(name)
        if self._oidc is not None:
            await self._oidc.forget(name)

    async def enter(
        self, account: Account, method: Method, caller: Caller, *, proven_ms: int | None = None
    ) -> LoggedIn:  # fmt: skip
        """A new session for somebody who has been proven, now if proven_ms is None.

        Raises LoginRefused for one whose address was revoked.
        """
        if self._is_revoked(account.address):
            raise LoginRefused
        if caller.former_digest is not None:
            await self._sessions.end_digest(caller.former_digest)
        session = await self._sessions.begin(
            account, method, client=caller.client, agent=caller.agent, former=caller.session, proven_ms=proven_ms
        )
        # Who comes back from a provider brings none of his cookies, and guesses nothing there.
        device = "" if method == "oidc" else await self._devices.remember(account, caller.device)
        log.info("logged_in", person=account.name, method=method)
        return LoggedIn(account, session, device, self._sessions.handle_of(session))

    async def _proven(self, account: Account | None, name: str, password: str, caller: Caller) -> Attempt:
        device = self._devices.known(caller.device, account)
        attempt = self._throttle.begin(typed_name(name), caller.client, device=device)
        try:
            with self._place(caller.client, is_known=device is not None):
                is_right = await self._passwords.verify(account, password, is_known_device=device is not None)
        except LoginThrottled:
            attempt.withdraw()
            raise
        if not is_right:
            log.info("login_refused", client=block_of(caller.client))  # no name: people type passwords there
            raise LoginRefused
        return attempt

    @contextmanager
    def _place(self, client: str, *, is_known: bool) -> Iterator[None]:
        block = block_of(client)
        if is_known:
            yield
            return
        if self._underway[block] >= _AT_A_TIME:
            raise LoginThrottled(1.0)
        self._underway[block] += 1
        try:
            yield
        finally:
            self._underway[block] -= 1
            if not self._underway[block]:
                del self._underway[block]
