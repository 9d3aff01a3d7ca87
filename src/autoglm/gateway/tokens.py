"""`/api/tokens`: a device gets its next token; an administrator makes, looks at and revokes tokens."""

from typing import Annotated

import msgspec

from autoglm.auth.authenticator import Authenticator
from autoglm.auth.revocations import Revocation
from autoglm.auth.scopes import MAX_SCOPES
from autoglm.auth.trust import Trust
from autoglm.core.errors import NotFound, TokenRefused
from autoglm.gateway import fields
from autoglm.gateway.exchange import Exchange
from autoglm.gateway.keys import JSON, Scope, check_grant
from autoglm.gateway.router import Route

_AREA = "devices"


class NewToken(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    device: Annotated[str, msgspec.Meta(min_length=1, max_length=64, examples=["press-7"])]
    """The name under which it has enrolled."""
    scopes: Annotated[tuple[Scope, ...], msgspec.Meta(max_length=MAX_SCOPES)] = ()
    """Fewer than the device's own; all of them when empty."""
    ttl_s: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """Seconds; no longer than the device's tokens live."""


class IssuedToken(msgspec.Struct, frozen=True, kw_only=True):
    token: str
    """Worth nothing without the device's key."""
    ends_at: int
    """int64 milliseconds of the Unix epoch."""
    scopes: tuple[str, ...]


class TokenText(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    token: Annotated[str, msgspec.Meta(min_length=1, max_length=8192)]


class VerifiedToken(msgspec.Struct, frozen=True, kw_only=True):
    """What the hub makes of a token, apart from the proof without which it opens nothing."""

    is_good: bool
    reason: str
    """Of a refusal, as in the problem `token_refused`; empty for a good one."""
    issuer: str = ""
    subject: str = ""
    scopes: tuple[str, ...] = ()
    issued_at: int = 0
    ends_at: int = 0
    jti: str = ""


class NewRevocation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    id: Annotated[str, msgspec.Meta(min_length=1, max_length=512, examples=["device:press-7"])]
    """`jti:ID`, `jkt:THUMBPRINT`, `kid:THUMBPRINT`, or the address of whoever bears it."""
    reason: Annotated[str, msgspec.Meta(max_length=500)] = ""


class KnownRevocation(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    at: int
    """int64 milliseconds of the Unix epoch."""
    by: str
    reason: str


class RevocationList(msgspec.Struct, frozen=True):
    revocations: list[KnownRevocation]


class RotatedKey(msgspec.Struct, frozen=True):
    kid: str
    """Of the key that signs from now on."""


class TokensGateway:
    def __init__(self, auth: Authenticator, trust: Trust, *, max_body_bytes: int) -> None:
        self._auth = auth
        self._trust = trust
        self._max_body_bytes = max_body_bytes

    def routes(self) -> list[Route]:
        return [
            Route("POST", "/api/tokens", self.issue),
            Route("POST", "/api/tokens/renew", self.renew),
            Route("POST", "/api/tokens/verify", self.verify),
            Route("POST", "/api/tokens/rotate", self.rotate),
            Route("GET", "/api/revocations", self.revocations),
            Route("POST", "/api/revocations", self.revoke),
            Route("DELETE", "/api/revocations/{id}", self.take_back),
        ]

    async def issue(self, exchange: Exchange, _: dict[str, str]) -> None:
        principal = exchange.identify(self._auth)
        principal.require("admin", _AREA)
        new = await self._wish(exchange)
        device = self._trust.devices.get(new.device)
        check_grant(principal, new.scopes or device.scopes)
        self._answer(exchange, new)

    async def renew(self, exchange: Exchange, _: dict[str, str]) -> None:
        """By the device itself: the proof by its key is all that it shows."""
        new = await self._wish(exchange)
        try:
            device = self._trust.devices.get(new.device)
        except NotFound:
            self._auth.strangers.failed(exchange.client)
            raise TokenRefused("wrong_key", "proof") from None  # as for a key that is another's
        exchange.hold_key(self._auth, device.jkt, shared=b"")
        if self._auth.is_revoked((f"jkt:{device.jkt}", device.address)):
            raise TokenRefused("revoked")
        self._auth.take_renewal(device)
        self._answer(exchange, new)

    async def _wish(self, exchange: Exchange) -> NewToken:
        new = fields.decode(await exchange.body(self._max_body_bytes), NewToken)
        exchange.acted_on = f"device:{new.device}"
        return new

    def _answer(self, exchange: Exchange, new: NewToken) -> None:
        device = self._trust.devices.get(new.device)
        token, claims = self._trust.issuer.token_for(device, scopes=new.scopes, ttl_s=new.ttl_s)
        exchange.acted_on = f"{claims.subject} jti:{claims.jti}"
        issued = IssuedToken(token=token, ends_at=claims.ends_at_ms, scopes=claims.scopes)
        exchange.respond(201, msgspec.json.encode(issued), JSON)

    async def verify(self, exchange: Exchange, _: dict[str, str]) -> None:
        exchange.identify(self._auth).require("admin", _AREA)
        text = fields.decode(await exchange.body(self._max_body_bytes), TokenText)
        try:
            claims = self._trust.tokens.verify(text.token.encode(), self._trust.clock.now_ms())
        except TokenRefused as error:
            exchange.respond_json(200, VerifiedToken(is_good=False, reason=error.reason))
            return
        exchange.acted_on = f"{claims.subject} jti:{claims.jti}"
        reason = "revoked" if self._auth.is_refused(claims) else ""
        exchange.respond_json(
            200,
            VerifiedToken(
                is_good=not reason, reason=reason, issuer=claims.issuer, subject=claims.subject, scopes=claims.scopes,
                issued_at=claims.issued_at_ms, ends_at=claims.ends_at_ms, jti=claims.jti,
            ),
        )  # fmt: skip

    async def rotate(self, exchange: Exchange, _: dict[str, str]) -> None:
        exchange.identify(self._auth).require("admin", _AREA)
        former = self._trust.issuer.key.kid
        exchange.acted_on = f"kid:{former}"
        kid = await self._trust.rotate()
        exchange.acted_on = f"kid:{former} kid:{kid}"
        exchange.respond_json(200, RotatedKey(kid))

    async def revocations(self, exchange: Exchange, _: dict[str, str]) -> None:
        exchange.identify(self._auth).require("admin", _AREA)
        exchange.respond_json(200, RevocationList([_known(entry) for entry in self._trust.revocations.all()]))

    async def revoke(self, exchange: Exchange, _: dict[str, str]) -> None:
        principal = exchange.identify(self._auth)
        principal.require("admin", _AREA, despite_clock=True)
        new = fields.decode(await exchange.body(self._max_body_bytes), NewRevocation)
        exchange.acted_on = new.id
        entry = await self._trust.revocations.add(new.id, by=principal.address, reason=new.reason)
        exchange.respond_json(200, _known(entry))

    async def take_back(self, exchange: Exchange, variables: dict[str, str]) -> None:
        exchange.identify(self._auth).require("admin", _AREA)
        if not await self._trust.revocations.take_back(variables["id"]):
            raise NotFound("revocation", variables["id"][:128])
        exchange.respond(204, b"")


def _known(entry: Revocation) -> KnownRevocation:
    return KnownRevocation(id=entry.id, at=entry.at_ms, by=entry.by, reason=entry.reason)
