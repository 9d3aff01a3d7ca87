"""`/api/keys`: plain bearer keys for programs that can do no better, such as OpenAI's clients."""

from typing import Annotated

import msgspec

from autoglm.auth.authenticator import Authenticator
from autoglm.auth.keys import KeyRing, StoredKey
from autoglm.auth.principal import Principal
from autoglm.auth.scopes import MAX_SCOPES, flaw, is_within
from autoglm.auth.settings import KEY_NAME_PATTERN, TENANT_PATTERN
from autoglm.core.address import MAX_ADDRESS, check_address
from autoglm.core.errors import Forbidden, InvalidField
from autoglm.gateway import fields
from autoglm.gateway.exchange import Exchange
from autoglm.gateway.router import Route

MAX_TTL_S = 10 * 365 * 86_400
_AREA = "keys"
JSON = [(b"content-type", b"application/json")]

Scope = Annotated[str, msgspec.Meta(min_length=1, max_length=512, examples=["model:use:*"])]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=KEY_NAME_PATTERN, examples=["robot-7"])]


class NewKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: Name
    scopes: Annotated[tuple[Scope, ...], msgspec.Meta(min_length=1, max_length=MAX_SCOPES)]
    """Only what whoever issues it may do himself."""
    address: Annotated[str, msgspec.Meta(max_length=MAX_ADDRESS)] | None = None
    """Its own; `device:NAME` when absent."""
    tenant: Annotated[str, msgspec.Meta(pattern=TENANT_PATTERN)] | None = None
    rate_per_minute: Annotated[int, msgspec.Meta(ge=1, le=10_000_000)] | None = None
    ttl_s: Annotated[int, msgspec.Meta(ge=1, le=MAX_TTL_S)] | None = None
    """Seconds until it counts no more; without an end when absent."""


class KnownKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key without its value, which nobody knows any more."""

    name: str
    address: str
    scopes: tuple[str, ...]
    tenant: str | None
    rate_per_minute: int | None
    created_at: int | None
    """int64 milliseconds of the Unix epoch, as in the next."""
    created_by: str | None
    ends_at: int | None


class IssuedKey(msgspec.Struct, frozen=True, kw_only=True):
    key: str
    """Shown this once."""
    known: KnownKey


class KeyList(msgspec.Struct, frozen=True):
    keys: list[KnownKey]


class KeysGateway:
    def __init__(self, auth: Authenticator, keys: KeyRing, *, max_body_bytes: int) -> None:
        self._auth = auth
        self._keys = keys
        self._max_body_bytes = max_body_bytes

    def routes(self) -> list[Route]:
        return [
            Route("GET", "/api/keys", self.all),
            Route("POST", "/api/keys", self.issue),
            Route("DELETE", "/api/keys/{name}", self.revoke),
        ]

    async def all(self, exchange: Exchange, _: dict[str, str]) -> None:
        exchange.identify(self._auth).require("admin", _AREA)
        exchange.respond_json(200, KeyList([known(key) for key in self._keys.stored()]))

    async def issue(self, exchange: Exchange, _: dict[str, str]) -> None:
        principal = exchange.identify(self._auth)
        principal.require("admin", _AREA)
        new = fields.decode(await exchange.body(self._max_body_bytes), NewKey)
        exchange.acted_on = f"key:{new.name}"
        address = new.address or f"device:{new.name}"
        check_address(address, field="address")
        # Roles are given to addresses: who gives the address gives them.
        check_grant(principal, (*new.scopes, *self._auth.scopes_by_roles(address)), new.tenant)
        now_ms = self._keys.now_ms()
        value = await self._keys.issue(
            new.name, new.scopes, address=new.address, tenant=new.tenant, rate_per_minute=new.rate_per_minute,
            ends_at_ms=None if new.ttl_s is None else now_ms + new.ttl_s * 1000, created_by=principal.address,
        )  # fmt: skip
        (stored,) = [key for key in self._keys.stored() if key.name == new.name]
        exchange.respond(201, msgspec.json.encode(IssuedKey(key=value, known=known(stored))), JSON)

    async def revoke(self, exchange: Exchange, variables: dict[str, str]) -> None:
        exchange.identify(self._auth).require("admin", _AREA, despite_clock=True)
        exchange.acted_on = f"key:{variables['name']}"
        await self._keys.revoke(variables["name"])
        exchange.respond(204, b"")


def check_grant(principal: Principal, scopes: tuple[str, ...], tenant: str | None = None) -> None:
    """Raises InvalidField for what is no scope, Forbidden for one that is not the principal's to give."""
    if tenant is not None and tenant != principal.tenant:
        principal.require("tenant", tenant)
    if (wrong := flaw(scopes)) is not None:
        raise InvalidField("scopes", wrong)
    for scope in scopes:
        if not is_within(scope, principal.scopes):
            raise Forbidden(scope)


def known(key: StoredKey) -> KnownKey:
    return KnownKey(
        name=key.name, address=key.address, scopes=key.scopes, tenant=key.tenant, rate_per_minute=key.rate_per_minute,
        created_at=key.created_at_ms, created_by=key.created_by, ends_at=key.ends_at_ms,
    )  # fmt: skip
