"""`/api/me/...`: what a person who has logged in sees and changes of his own logins."""

from typing import Annotated

import msgspec

from autoglm.auth.authenticator import Authenticator
from autoglm.auth.people.accounts import Account
from autoglm.auth.people.passkeys import Passkey
from autoglm.auth.people.people import People
from autoglm.auth.people.sessions import Method, Session
from autoglm.core.errors import FreshLoginWanted, LoginWanted, SessionEnded
from autoglm.gateway import fields
from autoglm.gateway.exchange import Exchange
from autoglm.gateway.logins import MAX_BODY_BYTES, LoginsGateway, PasskeyAnswer, Password
from autoglm.gateway.router import Route


class NewPassword(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    current: Password
    new: Password


class NewPasskey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    answer: PasskeyAnswer
    label: Annotated[str, msgspec.Meta(max_length=64, examples=["ward 3's laptop"])] = ""


class OwnSession(msgspec.Struct, frozen=True, kw_only=True):
    """Times are int64 milliseconds of the Unix epoch."""

    handle: str
    method: Method
    created_at: int
    seen_at: int
    ends_at: int
    client: str
    agent: str
    is_this: bool


class OwnSessions(msgspec.Struct, frozen=True):
    sessions: list[OwnSession]


class OwnPasskey(msgspec.Struct, frozen=True, kw_only=True):
    handle: str
    label: str
    is_backed_up: bool
    created_at: int
    used_at: int


class OwnPasskeys(msgspec.Struct, frozen=True, kw_only=True):
    passkeys: list[OwnPasskey]
    is_offered: bool
    """Whether a page that was opened under this request's host may make one."""


class OwnAccountGateway:
    def __init__(self, auth: Authenticator, people: People, logins: LoginsGateway) -> None:
        self._auth, self._people, self._logins = auth, people, logins

    def routes(self) -> list[Route]:
        return [
            Route("POST", "/api/me/password", self.change_password),
            Route("GET", "/api/me/sessions", self.sessions),
            Route("DELETE", "/api/me/sessions/{handle}", self.end_session),
            Route("GET", "/api/me/passkeys", self.passkeys),
            Route("POST", "/api/me/passkeys/options", self.passkey_options),
            Route("POST", "/api/me/passkeys", self.add_passkey),
            Route("DELETE", "/api/me/passkeys/{handle}", self.remove_passkey),
        ]

    async def change_password(self, exchange: Exchange, _: dict[str, str]) -> None:
        """Ends all other sessions; this browser gets a new one."""
        account, _session = self._known(exchange)
        exchange.acted_on = account.address
        change = fields.decode(await exchange.body(MAX_BODY_BYTES), NewPassword)
        entered = await self._people.logins.change_password(
            account, change.current, change.new, self._logins.caller(exchange)
        )
        self._logins.answer(exchange, entered)

    async def sessions(self, exchange: Exchange, _: dict[str, str]) -> None:
        account, session = self._known(exchange)
        exchange.respond_json(200, OwnSessions([
            OwnSession(
                handle=one.handle, method=one.method, created_at=one.created_ms, seen_at=one.seen_ms,
                ends_at=one.ends_ms, client=one.client, agent=one.agent, is_this=one.handle == session.handle,
            )
            for one in self._people.sessions.of(account.name)
        ]))  # fmt: skip

    async def end_session(self, exchange: Exchange, variables: dict[str, str]) -> None:
        """Another one than this: a thief of a session shall not end those of its person."""
        account, session = self._known(exchange)
        if variables["handle"] != session.handle:
            self._fresh(exchange)
        exchange.acted_on = f"session:{variables['handle']}"
        await self._people.sessions.end_named(account.name, variables["handle"])
        exchange.respond(204, b"")

    async def passkeys(self, exchange: Exchange, _: dict[str, str]) -> None:
        account, _session = self._known(exchange)
        authority = exchange.headers.get(b"host", b"").decode("latin-1")
        exchange.respond_json(200, OwnPasskeys(
            passkeys=[_own(passkey) for passkey in self._people.passkeys.of(account)],
            is_offered=self._people.passkeys.is_offered(authority),
        ))  # fmt: skip

    async def passkey_options(self, exchange: Exchange, _: dict[str, str]) -> None:
        account = self._fresh(exchange)
        exchange.acted_on = account.address
        exchange.respond_json(200, await self._people.passkeys.begin_registration(account))

    async def add_passkey(self, exchange: Exchange, _: dict[str, str]) -> None:
        account = self._fresh(exchange)
        exchange.acted_on = account.address
        new = fields.decode(await exchange.body(MAX_BODY_BYTES), NewPasskey)
        made = await self._people.passkeys.finish_registration(account, new.answer, new.label)
        exchange.acted_on = f"passkey:{made.handle}"
        exchange.respond_json(201, _own(made))

    async def remove_passkey(self, exchange: Exchange, variables: dict[str, str]) -> None:
        account = self._fresh(exchange)
        exchange.acted_on = f"passkey:{variables['handle']}"
        await self._people.passkeys.remove(account, variables["handle"])
        exchange.respond(204, b"")

    def _known(self, exchange: Exchange) -> tuple[Account, Session]:
        """Raises LoginWanted for a key or a token."""
        principal = exchange.identify(self._auth)
        session = self._people.session_of(principal.credential)
        if session is None:
            raise LoginWanted
        account = self._people.accounts.find(session.name)
        if account is None:
            raise SessionEnded
        return account, session

    def _fresh(self, exchange: Exchange) -> Account:
        """Raises FreshLoginWanted, and as `_known` does."""
        account, session = self._known(exchange)
        if not self._people.sessions.is_fresh(session):
            raise FreshLoginWanted(self._people.settings.session.fresh_min)
        if self._people.wants_passkey(account) and session.method != "passkey" and self._people.passkeys.of(account):
            # A password alone, or a link for a new one, would else be a way around the passkey.
            raise FreshLoginWanted(self._people.settings.session.fresh_min, by="passkey")
        return account


def _own(passkey: Passkey) -> OwnPasskey:
    return OwnPasskey(
        handle=passkey.handle, label=passkey.label, is_backed_up=passkey.is_backed_up,
        created_at=passkey.created_ms, used_at=passkey.used_ms,
    )  # fmt: skip
