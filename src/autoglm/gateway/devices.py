"""`/api/devices`: which devices have enrolled, how one enrols, and how one is sent away."""

from typing import Annotated

import msgspec

from autoglm.auth.authenticator import Authenticator
from autoglm.auth.devices import Device, Devices
from autoglm.auth.revocations import Revocations
from autoglm.auth.scopes import MAX_SCOPES
from autoglm.auth.settings import TENANT_PATTERN
from autoglm.auth.tokens.public_key import PublicKey
from autoglm.core.address import GROUP_NAME_PATTERN
from autoglm.core.errors import InvalidField, Unauthorized
from autoglm.gateway import fields
from autoglm.gateway.exchange import Exchange
from autoglm.gateway.keys import JSON, Scope, check_grant
from autoglm.gateway.router import Route
from autoglm.gateway.tokens import IssuedToken

MAX_CODE_TTL_S = 7 * 86_400
_AREA = "devices"

DeviceName = Annotated[str, msgspec.Meta(pattern=GROUP_NAME_PATTERN, max_length=64, examples=["press-7"])]


class NewEnrolment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: DeviceName
    """It becomes `device:NAME`."""
    scopes: Annotated[tuple[Scope, ...], msgspec.Meta(min_length=1, max_length=MAX_SCOPES)]
    """Only what whoever invites it may do himself."""
    token_ttl_s: Annotated[int, msgspec.Meta(ge=60)] | None = None
    """How long each of its tokens lives: long for one that works out of the hub's reach; else `trust.token_ttl_s`."""
    ttl_s: Annotated[int, msgspec.Meta(ge=10, le=MAX_CODE_TTL_S)] = 600
    """Seconds until the code is void."""
    rate_per_minute: Annotated[int, msgspec.Meta(ge=1, le=10_000_000)] | None = None
    tenant: Annotated[str, msgspec.Meta(pattern=TENANT_PATTERN)] | None = None


class EnrolmentCode(msgspec.Struct, frozen=True, kw_only=True):
    code: str
    """Shown this once. Whoever has it becomes the device."""
    name: str
    ends_at: int
    """int64 milliseconds of the Unix epoch."""


class Enrolling(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    code: Annotated[str, msgspec.Meta(min_length=8, max_length=100)]
    public_key: Annotated[str, msgspec.Meta(min_length=43, max_length=43)]
    """The 32 bytes of an Ed25519 key as base64url. The header `DPoP` proves that the device holds its other half."""


class KnownDevice(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    address: str
    jkt: str
    """Thumbprint of its key (RFC 7638)."""
    scopes: tuple[str, ...]
    token_ttl_s: int
    rate_per_minute: int | None
    tenant: str | None
    enrolled_at: int
    enrolled_by: str


class DeviceList(msgspec.Struct, frozen=True):
    devices: list[KnownDevice]


class Enrolled(msgspec.Struct, frozen=True, kw_only=True):
    device: KnownDevice
    token: IssuedToken


class DevicesGateway:
    def __init__(
        self, auth: Authenticator, devices: Devices, revocations: Revocations, *, token_ttl_s: int, max_body_bytes: int
    ) -> None:  # fmt: skip
        """token_ttl_s: where an enrolment does not say."""
        self._auth = auth
        self._devices = devices
        self._revocations = revocations
        self._token_ttl_s = token_ttl_s
        self._max_body_bytes = max_body_bytes

    def routes(self) -> list[Route]:
        return [
            Route("GET", "/api/devices", self.all),
            Route("POST", "/api/devices/enrolments", self.invite),
            Route("POST", "/api/devices/enrol", self.enrol),
            Route("DELETE", "/api/devices/{name}", self.remove),
        ]

    async def all(self, exchange: Exchange, _: dict[str, str]) -> None:
        exchange.identify(self._auth).require("admin", _AREA)
        exchange.respond_json(200, DeviceList([_known(device) for device in self._devices.all()]))

    async def invite(self, exchange: Exchange, _: dict[str, str]) -> None:
        principal = exchange.identify(self._auth)
        principal.require("admin", _AREA)
        new = fields.decode(await exchange.body(self._max_body_bytes), NewEnrolment)
        exchange.acted_on = f"device:{new.name}"
        check_grant(principal, (*new.scopes, *self._auth.scopes_by_roles(f"device:{new.name}")), new.tenant)
        code, enrolment = await self._devices.invite(
            new.name, new.scopes, token_ttl_s=new.token_ttl_s or self._token_ttl_s, ends_in_s=new.ttl_s,
            created_by=principal.address, rate_per_minute=new.rate_per_minute, tenant=new.tenant,
        )  # fmt: skip
        shown = EnrolmentCode(code=code, name=new.name, ends_at=enrolment.ends_at_ms)
        exchange.respond(201, msgspec.json.encode(shown), JSON)

    async def enrol(self, exchange: Exchange, _: dict[str, str]) -> None:
        """The code is the key; a proof by the new key over it and the body comes along."""
        enrolling = fields.decode(await exchange.body(self._max_body_bytes), Enrolling)
        try:
            public_key = PublicKey.from_text(enrolling.public_key)
        except InvalidField as error:
            raise InvalidField("public_key", str(error)) from None
        exchange.acted_on = f"jkt:{public_key.thumbprint}"
        if not await self._devices.is_open(enrolling.code):  # before its proof takes a place in the memory of proofs
            self._auth.strangers.failed(exchange.client)
            raise Unauthorized("this enrolment is not known, was used, or has ended")
        exchange.hold_key(self._auth, public_key.thumbprint, shared=enrolling.code.encode())
        device = await self._devices.redeem(enrolling.code, jkt=public_key.thumbprint, public_key=public_key.x)
        token, claims = self._auth.issuer.token_for(device)
        exchange.acted_on = f"{device.address} jkt:{device.jkt} jti:{claims.jti}"
        enrolled = Enrolled(
            device=_known(device), token=IssuedToken(token=token, ends_at=claims.ends_at_ms, scopes=claims.scopes)
        )
        exchange.respond(201, msgspec.json.encode(enrolled), JSON)

    async def remove(self, exchange: Exchange, variables: dict[str, str]) -> None:
        """Its key and all its tokens count no more when this answers."""
        principal = exchange.identify(self._auth)
        principal.require("admin", _AREA, despite_clock=True)
        exchange.acted_on = f"device:{variables['name']}"
        device = self._devices.get(variables["name"])
        await self._revocations.add(f"jkt:{device.jkt}", by=principal.address, reason="removed")
        await self._devices.remove(device.name)
        exchange.respond(204, b"")


def _known(device: Device) -> KnownDevice:
    return KnownDevice(
        name=device.name, address=device.address, jkt=device.jkt, scopes=device.scopes, token_ttl_s=device.token_ttl_s,
        rate_per_minute=device.rate_per_minute, tenant=device.tenant, enrolled_at=device.enrolled_at_ms,
        enrolled_by=device.enrolled_by,
    )  # fmt: skip
