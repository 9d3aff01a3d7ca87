"""`/api/clock`: what time the hub goes by, and whether it can be believed."""

from typing import Annotated

import msgspec

from autoglm.auth.audit.recorder import Audit
from autoglm.auth.authenticator import Authenticator
from autoglm.auth.clock import Reason, TrustedClock
from autoglm.core.errors import Forbidden
from autoglm.gateway import fields
from autoglm.gateway.exchange import Exchange
from autoglm.gateway.router import Route


class ClockState(msgspec.Struct, frozen=True, kw_only=True):
    now: int
    """int64 milliseconds of the Unix epoch."""
    is_trusted: bool
    reason: Reason
    boots: int
    """Since the last signed time, or since an administrator confirmed the time."""


class ConfirmedTime(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    now: Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]
    """What time it is, in int64 milliseconds of the Unix epoch."""


class ClockGateway:
    def __init__(self, auth: Authenticator, clock: TrustedClock, audit: Audit, *, max_body_bytes: int) -> None:
        self._auth = auth
        self._clock = clock
        self._audit = audit
        self._max_body_bytes = max_body_bytes

    def routes(self) -> list[Route]:
        return [Route("GET", "/api/clock", self.state), Route("POST", "/api/clock/confirm", self.confirm)]

    async def state(self, exchange: Exchange, _: dict[str, str]) -> None:
        exchange.identify(self._auth).require("admin", "clock")
        exchange.respond_json(200, self._state())

    async def confirm(self, exchange: Exchange, _: dict[str, str]) -> None:
        """An administrator says what time it is. It may take the time back, never below what is proven."""
        principal = exchange.identify(self._auth)
        principal.require("admin", "clock")
        if principal.ends_at_ms is not None or not principal.credential.startswith("key:"):
            # Who has a credential that ends could make its time, and that of others, come again.
            raise Forbidden("admin:clock", "credential_ends", "only a key without an end says what time it is")
        confirmed = fields.decode(await exchange.body(self._max_body_bytes), ConfirmedTime)
        exchange.acted_on = str(confirmed.now)
        self._audit.act("clock:confirm", principal, kind="clock", text=str(confirmed.now))
        await self._audit.written()
        self._clock.confirm(confirmed.now)
        exchange.respond_json(200, self._state())

    def _state(self) -> ClockState:
        clock = self._clock
        return ClockState(now=clock.now_ms(), is_trusted=clock.is_trusted, reason=clock.reason, boots=clock.boots)
