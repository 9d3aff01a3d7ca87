"""Proofs for connections: a challenge that one connection answers once, and the password of MQTT 3.1.1.

WebSocket, MQTT 5 and WebRTC signalling let the hub speak before the client has to prove who it is. The client answers
with its token and a proof whose `htm` is `WEBSOCKET`, `MQTT` or `RTC`, whose `htu` is the hub's audience, and whose
`nonce` is the challenge. MQTT 3.1.1 has no such step: there both are the password, and the proof counts as one of HTTP
does, once and while it is fresh.
"""

import hmac
import secrets
from collections.abc import Callable
from typing import NamedTuple

from autoglm.auth.tokens.target import ConnectionMethod
from autoglm.core.clock import monotonic_s
from autoglm.core.errors import TokenRefused

CHALLENGE_TTL_S = 30.0
_BETWEEN = "~"
"""No compact JWS has it."""


class Challenge:
    """Belongs to one connection, which holds it; so an answer fits no other."""

    def __init__(
        self, method: ConnectionMethod, ttl_s: float = CHALLENGE_TTL_S, monotonic_s: Callable[[], float] = monotonic_s,
        nonce: str = "",
    ) -> None:  # fmt: skip
        """nonce: of one that was given before, where somebody else sees to it that it is answered once and in time."""
        self.method = method
        self.nonce = nonce or secrets.token_urlsafe(16)
        self._monotonic_s = monotonic_s
        self._ends_at_s = monotonic_s() + ttl_s
        self._is_used = False

    def take(self) -> None:
        """To be called with each answer, good or bad, before it is looked at. Raises TokenRefused after the first."""
        if self._is_used or self._monotonic_s() >= self._ends_at_s:
            raise TokenRefused("challenge_over", "proof")
        self._is_used = True

    def is_met_by(self, nonce: str | None) -> bool:
        return nonce is not None and hmac.compare_digest(nonce, self.nonce)


class Password(NamedTuple):
    token: bytes
    proof: bytes


def password(token: str, proof: str) -> str:
    """For MQTT 3.1.1. Make a new proof for each attempt to connect."""
    return f"{token}{_BETWEEN}{proof}"


def is_password(text: bytes) -> bool:
    """Whether it has the form of `password`, and not that of a fixed user's."""
    return text.startswith(b"eyJ") and text.count(_BETWEEN.encode()) == 1


def parse_password(text: bytes) -> Password:
    """Raises TokenRefused. What the parts are worth, and their size, is looked at when they are verified."""
    parts = text.split(_BETWEEN.encode(), 2)
    if len(parts) != 2:
        raise TokenRefused("malformed")
    return Password(*parts)
