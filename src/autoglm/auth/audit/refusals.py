"""Who was turned away at a door: that of HTTP, of WebSockets or of MQTT.

He is a stranger: what he says of himself is not written down, and how much he can have written is bounded.
"""

from collections.abc import Callable

import structlog

from autoglm.auth.audit.recorder import Audit, Who
from autoglm.auth.occasion import Occasion, occasion
from autoglm.auth.strangers import Strangers
from autoglm.core.clock import monotonic_s
from autoglm.core.errors import (
    HubError,
    LoginRefused,
    LoginThrottled,
    QueueFull,
    SessionEnded,
    StorageFull,
    StoreBroken,
    TooManyFailures,
    Unauthorized,
)

TURNED_AWAY = (Unauthorized, SessionEnded, LoginRefused, LoginThrottled)
"""By these errors, whoever showed nothing that counts."""
ACTION = "authenticate"
PER_BLOCK = 30
"""A minute, of one address or /64: see strangers."""
PER_MINUTE = 120
"""Of all together: some 90 MB a day for as long as a flood from everywhere lasts."""
SUMMED_S = 60.0
MORE = "more"
"""The reason of what is over these: all of it is one entry a minute, with its count."""
_MAX_REASON = 200

log = structlog.get_logger(part="auth")


class Refusals:
    """Equal ones within a minute are an entry for the first, and one with the count of the others."""

    def __init__(self, audit: Audit, now_s: Callable[[], float] = monotonic_s) -> None:
        self._audit = audit
        self._now_s = now_s
        self._by_block = Strangers(PER_BLOCK, now_s)
        self._left, self._since_s = float(PER_MINUTE), now_s()

    def note(self, door: str, client: str, reason: str, *, request_id: str = "") -> None:
        """door: what he knocked at, in the hub's own words. client: where he came from. reason: a code.

        A full disk is the store's to tell: he has his answer already.
        """
        if self._is_flood(client):
            door, client, reason, request_id = "", "", MORE, ""
        token = occasion.set(Occasion(request_id, client))
        try:
            self._audit.decision(
                Who(), ACTION, door, is_allowed=False, reason=reason[:_MAX_REASON], summed_s=SUMMED_S
            )  # fmt: skip
        except (QueueFull, StorageFull, StoreBroken) as error:
            log.warning("refusal_not_recorded", door=door, reason=str(error))
        finally:
            occasion.reset(token)

    def _is_flood(self, client: str) -> bool:
        try:
            self._by_block.failed(client)
        except TooManyFailures:
            return True
        now_s = self._now_s()
        self._left = min(float(PER_MINUTE), self._left + (now_s - self._since_s) * PER_MINUTE / 60)
        self._since_s = now_s
        if self._left < 1:
            return True
        self._left -= 1
        return False


def reason_of(error: HubError) -> str:
    """The code by which the audit has it."""
    return str(error.facts.get("reason") or error.code)
