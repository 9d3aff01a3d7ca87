"""`/api/people`: who has an account, in which roles, and the links by which people get in."""

from typing import Annotated

import msgspec

from autoglm.auth.authenticator import Authenticator
from autoglm.auth.lasting import LastingRights
from autoglm.auth.people.accounts import Account, known_roles, normal_name
from autoglm.auth.people.people import People
from autoglm.auth.people.recovery import Invitation
from autoglm.auth.people.roles import ROLES, Role, scopes_of
from autoglm.auth.principal import Principal
from autoglm.core.lasting import LastingRight
from autoglm.gateway import fields
from autoglm.gateway.exchange import Exchange
from autoglm.gateway.keys import JSON, check_grant
from autoglm.gateway.logins import MAX_BODY_BYTES, Name
from autoglm.gateway.router import Route

_AREA = "people"

Roles = Annotated[tuple[Role, ...], msgspec.Meta(min_length=1, max_length=len(ROLES))]


class NewInvitation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: Name
    roles: Roles = ("member",)
    """Only such whose scopes whoever invites has himself."""


class ChangedPerson(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is absent stays."""

    roles: Roles | None = None
    is_disabled: bool | None = None
    """True ends all sessions at once."""


class KnownPerson(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    address: str
    roles: tuple[Role, ...]
    is_disabled: bool
    has_password: bool
    passkeys: int
    sessions: int
    created_at: int
    """int64 milliseconds of the Unix epoch."""


class PeopleList(msgspec.Struct, frozen=True):
    people: list[KnownPerson]


class OpenInvitation(msgspec.Struct, frozen=True, kw_only=True):
    handle: str
    """Names it here; it opens nothing."""
    name: str
    roles: tuple[Role, ...]
    is_reset: bool
    made_by: str
    ends_at: int


class MadeInvitation(msgspec.Struct, frozen=True, kw_only=True):
    token: str
    """Shown this once. The link is the page's address with `#invite=TOKEN` behind it."""
    invitation: OpenInvitation


class InvitationList(msgspec.Struct, frozen=True):
    invitations: list[OpenInvitation]


class PeopleGateway:
    def __init__(self, auth: Authenticator, people: People, lasting: LastingRights) -> None:
        self._auth, self._people, self._lasting = auth, people, lasting

    def routes(self) -> list[Route]:
        return [
            Route("GET", "/api/people", self.all),
            Route("PATCH", "/api/people/{name}", self.change),
            Route("DELETE", "/api/people/{name}", self.remove),
            Route("DELETE", "/api/people/{name}/sessions", self.end_sessions),
            Route("POST", "/api/people/{name}/reset", self.reset),
            Route("GET", "/api/invitations", self.invitations),
            Route("POST", "/api/invitations", self.invite),
            Route("DELETE", "/api/invitations/{handle}", self.withdraw),
        ]

    async def all(self, exchange: Exchange, _: dict[str, str]) -> None:
        self._admin(exchange)
        people = [await self._known(account) for account in self._people.accounts.all()]
        exchange.respond_json(200, PeopleList(people))

    async def change(self, exchange: Exchange, variables: dict[str, str]) -> None:
        principal = exchange.identify(self._auth)
        change = fields.decode(await exchange.body(MAX_BODY_BYTES), ChangedPerson)
        is_ending = change.roles is None and change.is_disabled is True
        principal.require("admin", _AREA, despite_clock=is_ending)
        account = self._theirs(exchange, principal, variables)
        if change.roles is not None:
            check_grant(principal, scopes_of(known_roles(change.roles), account.name))
        changed = await self._people.accounts.change(
            account.name, roles=change.roles, is_disabled=change.is_disabled
        )  # fmt: skip
        exchange.respond_json(200, await self._known(changed))

    async def remove(self, exchange: Exchange, variables: dict[str, str]) -> None:
        principal = self._admin(exchange, ends_rights=True)
        await self._people.remove(self._theirs(exchange, principal, variables).name)
        exchange.respond(204, b"")

    async def end_sessions(self, exchange: Exchange, variables: dict[str, str]) -> None:
        """All of them, and the links that are open for this account. Takes nothing that a login does not give back."""
        self._admin(exchange, ends_rights=True)
        name = normal_name(variables["name"])
        exchange.acted_on = f"user:{name}"
        await self._people.accounts.begin_epoch(name)
        await self._people.sessions.end_all(name)
        exchange.respond(204, b"")

    async def reset(self, exchange: Exchange, variables: dict[str, str]) -> None:
        principal = self._admin(exchange)
        account = self._theirs(exchange, principal, variables)
        token, made = await self._people.invitations.reset(
            account.name,
            made_by=principal.address,
            right=self._right(exchange, principal),
        )
        _respond_made(exchange, token, made)

    async def invitations(self, exchange: Exchange, _: dict[str, str]) -> None:
        self._admin(exchange)
        exchange.respond_json(200, InvitationList([_open(one) for one in self._people.invitations.all()]))

    async def invite(self, exchange: Exchange, _: dict[str, str]) -> None:
        principal = self._admin(exchange)
        new = fields.decode(await exchange.body(MAX_BODY_BYTES), NewInvitation)
        name = normal_name(new.name)
        exchange.acted_on = f"user:{name}"
        check_grant(principal, (*scopes_of(new.roles, name), *self._auth.scopes_by_roles(f"user:{name}")))
        token, made = await self._people.invitations.invite(
            name,
            new.roles,
            made_by=principal.address,
            right=self._right(exchange, principal),
        )
        _respond_made(exchange, token, made)

    async def withdraw(self, exchange: Exchange, variables: dict[str, str]) -> None:
        self._admin(exchange, ends_rights=True)
        exchange.acted_on = f"invitation:{variables['handle']}"
        await self._people.invitations.withdraw(variables["handle"])
        exchange.respond(204, b"")

    def _admin(self, exchange: Exchange, *, ends_rights: bool = False) -> Principal:
        """ends_rights: and gives none, so that a clock which is not believed is no reason to wait."""
        principal = exchange.identify(self._auth)
        principal.require("admin", _AREA, despite_clock=ends_rights)
        return principal

    def _right(self, exchange: Exchange, principal: Principal) -> LastingRight:
        return self._lasting.of(principal, None if exchange.shown is None else exchange.shown.ends_at_ms)

    def _theirs(self, exchange: Exchange, principal: Principal, variables: dict[str, str]) -> Account:
        """An account that the principal may rule over: one that may do no more than he does himself.

        Whoever sets a password becomes its person. Raises NotFound, Forbidden.
        """
        name = normal_name(variables["name"])
        exchange.acted_on = f"user:{name}"
        account = self._people.accounts.get(name)
        check_grant(principal, (*account.scopes, *self._auth.scopes_by_roles(account.address)))
        return account

    async def _known(self, account: Account) -> KnownPerson:
        people = self._people
        return KnownPerson(
            name=account.name, address=account.address, roles=account.roles, is_disabled=account.is_disabled,
            has_password=await people.passwords.has(account), passkeys=len(people.passkeys.of(account)),
            sessions=len(people.sessions.of(account.name)), created_at=account.created_ms,
        )  # fmt: skip


def _open(invitation: Invitation) -> OpenInvitation:
    return OpenInvitation(
        handle=invitation.handle, name=invitation.name, roles=invitation.roles,
        is_reset=invitation.account_id is not None, made_by=invitation.made_by, ends_at=invitation.ends_ms,
    )  # fmt: skip


def _respond_made(exchange: Exchange, token: str, made: Invitation) -> None:
    exchange.respond(201, msgspec.json.encode(MadeInvitation(token=token, invitation=_open(made))), JSON)
