"""`/api/login` and `/api/logout`: how a person becomes one whom a cookie makes known. Nobody is known before."""

from collections.abc import Awaitable
from dataclasses import replace
from typing import Annotated, Any

import msgspec

from autoglm.auth.audit.recorder import Audit, Who
from autoglm.auth.audit.refusals import TURNED_AWAY, Refusals
from autoglm.auth.authenticator import Shown
from autoglm.auth.people.logins import Caller, LoggedIn
from autoglm.auth.people.people import People
from autoglm.auth.people.roles import Role
from autoglm.auth.people.sessions import digest_of
from autoglm.core.errors import CrossOrigin, HubError, LoginRefused, ProviderUnreachable
from autoglm.gateway import fields
from autoglm.gateway.exchange import Exchange
from autoglm.gateway.router import Route
from autoglm.gateway.visitors import (
    DEVICE,
    OWN_SITES,
    SESSION,
    TRANSACTION,
    Header,
    check_own_page,
    cookie,
    is_secure,
    session_cookies,
    set_cookie,
)

MAX_BODY_BYTES = 64 * 1024
"""A passkey's answer has a few thousand."""
_TRANSACTION_S = 600
_JSON: Header = (b"content-type", b"application/json")

Name = Annotated[str, msgspec.Meta(max_length=256, examples=["alice"])]
Password = Annotated[str, msgspec.Meta(max_length=1024)]
LinkToken = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
PasskeyAnswer = dict[str, Any]
"""What `PublicKeyCredential.toJSON()` gives (WebAuthn Level 3, section 5.1)."""


class LoginWays(msgspec.Struct, frozen=True, kw_only=True):
    password: bool
    passkey: bool
    """Whether a page that was opened under this request's host may use one."""
    oidc: bool
    has_people: bool
    """False until somebody was invited: then a key is the only way in."""


class PasswordLogin(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: Name
    password: Password


class PasskeyLogin(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    answer: PasskeyAnswer


class InvitationToken(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    token: LinkToken


class InvitationLogin(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    token: LinkToken
    password: Password


class SeenInvitation(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    roles: tuple[Role, ...]
    is_reset: bool
    """True for a new password of an account that is there."""
    ends_at: int


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """Who has logged in; the session is in a cookie that no script reads."""

    name: str
    address: str
    roles: tuple[Role, ...]


class LoginsGateway:
    def __init__(self, people: People, audit: Audit, refusals: Refusals, *, has_tls: bool) -> None:
        self._people = people
        self._audit = audit
        self._refusals = refusals
        self._has_tls = has_tls
        self._device_days = people.settings.throttle.device_days

    def routes(self) -> list[Route]:
        return [
            Route("GET", "/api/login", self.ways),
            Route("POST", "/api/login/password", self.with_password),
            Route("POST", "/api/login/passkey/options", self.passkey_options),
            Route("POST", "/api/login/passkey", self.with_passkey),
            Route("GET", "/api/login/oidc", self.to_provider),
            Route("GET", "/api/login/oidc/callback", self.from_provider),
            Route("POST", "/api/login/invitation/look", self.look),
            Route("POST", "/api/login/invitation", self.with_invitation),
            Route("POST", "/api/logout", self.log_out),
        ]

    async def ways(self, exchange: Exchange, _: dict[str, str]) -> None:
        people = self._people
        authority = exchange.headers.get(b"host", b"").decode("latin-1")
        exchange.respond_json(200, LoginWays(
            password=True, passkey=people.passkeys.is_offered(authority), oidc=people.oidc is not None,
            has_people=bool(people.accounts.all()),
        ))  # fmt: skip

    async def with_password(self, exchange: Exchange, _: dict[str, str]) -> None:
        login = await self._read(exchange, PasswordLogin)
        await self._enter(exchange, "password", self._people.logins.with_password(
            login.name, login.password, self.caller(exchange)
        ))  # fmt: skip

    async def passkey_options(self, exchange: Exchange, _: dict[str, str]) -> None:
        self._check(exchange)
        exchange.respond_json(200, await self._people.passkeys.begin_login())

    async def with_passkey(self, exchange: Exchange, _: dict[str, str]) -> None:
        login = await self._read(exchange, PasskeyLogin)
        await self._enter(
            exchange, "passkey", self._people.logins.with_passkey(login.answer, self.caller(exchange))
        )  # fmt: skip

    async def to_provider(self, exchange: Exchange, _: dict[str, str]) -> None:
        """From the hub's own page alone, or the browser's address line: no page of others begins a session."""
        if exchange.headers.get(b"sec-fetch-site", b"none") not in OWN_SITES:
            raise CrossOrigin(exchange.headers.get(b"origin", b"(another)").decode("latin-1"))
        query = exchange.query()
        fields.only(query, ("fresh",))
        is_fresh = bool(fields.integer(query, "fresh", 0, high=1))
        if self._people.oidc is None:
            raise LoginRefused
        redirect = await self._people.oidc.begin(is_fresh=is_fresh)
        former = cookie(exchange.headers, SESSION, is_secure=self._comes_back_by_https)
        # Lax: the provider leads the browser back here, and a Strict one, such as the session's, stays at home then.
        began = f"{redirect.transaction}.{digest_of(former) if former else ''}"
        keep = set_cookie(
            TRANSACTION, began, is_secure=self._comes_back_by_https, max_age_s=_TRANSACTION_S, same_site="Lax"
        )
        exchange.respond(303, b"", [(b"location", redirect.url.encode()), keep])

    async def from_provider(self, exchange: Exchange, _: dict[str, str]) -> None:
        """For people: where it went wrong, the page says so."""
        secure = self._comes_back_by_https
        drop = set_cookie(TRANSACTION, "", is_secure=secure, max_age_s=0, same_site="Lax")
        kept = cookie(exchange.headers, TRANSACTION, is_secure=secure) or ""
        began, _dot, former = kept.partition(".")
        caller = replace(self.caller(exchange), former_digest=former or None)
        try:
            entered = await self._noted("oidc", self._people.logins.with_oidc(began, exchange.query(), caller))
        except HubError as error:
            exchange.note(error)
            if isinstance(error, TURNED_AWAY):
                self._refusals.note(exchange.route, exchange.client, error.code, request_id=exchange.request_id)
            word = "unreachable" if isinstance(error, ProviderUnreachable) else "refused"
            exchange.respond(303, b"", [(b"location", f"/#login={word}".encode()), drop])
            return
        cookies = session_cookies(entered, is_secure=secure, device_days=self._device_days)
        exchange.respond(303, b"", [(b"location", b"/"), drop, *cookies])

    async def look(self, exchange: Exchange, _: dict[str, str]) -> None:
        """By POST: a link's secret belongs in no address, which logs and histories keep."""
        found = self._people.invitations.look((await self._read(exchange, InvitationToken)).token)
        exchange.respond_json(200, SeenInvitation(
            name=found.name, roles=found.roles, is_reset=found.account_id is not None, ends_at=found.ends_ms
        ))  # fmt: skip

    async def with_invitation(self, exchange: Exchange, _: dict[str, str]) -> None:
        login = await self._read(exchange, InvitationLogin)
        await self._enter(exchange, "invitation", self._people.invitations.accept(
            login.token, login.password, self.caller(exchange)
        ))  # fmt: skip

    async def log_out(self, exchange: Exchange, _: dict[str, str]) -> None:
        """Also for a session that is over. The device stays known."""
        self._check(exchange)
        id = cookie(exchange.headers, SESSION, is_secure=self._is_secure(exchange))
        if id is not None and isinstance(visit := exchange.visit, Shown):
            self._audit.act("logout", visit.principal)
            await self._people.sessions.end(id)
        gone = set_cookie(SESSION, "", is_secure=self._is_secure(exchange), max_age_s=0)
        # Or the browser's "back" would show what the page showed before: W3C Clear Site Data, section 3.1.
        exchange.respond(204, b"", [gone, (b"clear-site-data", b'"cache"')])

    # --- what all have in common ------------------------------------------------------------------------

    def caller(self, exchange: Exchange) -> Caller:
        headers, secure = exchange.headers, self._is_secure(exchange)
        return Caller(
            exchange.client, headers.get(b"user-agent", b"").decode("latin-1")[:200],
            device=cookie(headers, DEVICE, is_secure=secure), session=cookie(headers, SESSION, is_secure=secure),
        )  # fmt: skip

    def answer(self, exchange: Exchange, entered: LoggedIn) -> None:
        """Who he is now, and his cookies."""
        account = entered.account
        person = Person(name=account.name, address=account.address, roles=account.roles)
        cookies = session_cookies(entered, is_secure=self._is_secure(exchange), device_days=self._device_days)
        exchange.respond(200, msgspec.json.encode(person), [_JSON, *cookies])

    @property
    def _comes_back_by_https(self) -> bool:
        oidc = self._people.settings.oidc
        return oidc is not None and oidc.redirect_uri.startswith("https:")

    def _is_secure(self, exchange: Exchange) -> bool:
        return self._has_tls or is_secure(exchange.headers)

    def _check(self, exchange: Exchange) -> None:
        """No page of others logs a browser in, or out. Programs have no origin. Raises CrossOrigin."""
        if not exchange.headers.keys().isdisjoint((b"origin", b"sec-fetch-site")):
            check_own_page(exchange.headers, exchange.hosts)

    async def _read(self, exchange: Exchange, kind: type[Any]) -> Any:
        self._check(exchange)
        return fields.decode(await exchange.body(MAX_BODY_BYTES), kind)

    async def _enter(self, exchange: Exchange, way: str, entering: Awaitable[LoggedIn]) -> None:
        self.answer(exchange, await self._noted(way, entering))

    async def _noted(self, way: str, entering: Awaitable[LoggedIn]) -> LoggedIn:
        """Written down; so are those who are refused (see acts), without the name: people type passwords there."""
        entered = await entering
        account = entered.account
        who = Who(account.address, account.address, f"session:{entered.handle}")
        self._audit.act(f"login:{way}", who)
        return entered
