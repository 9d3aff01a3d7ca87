"""Verifies tokens for one hub. One that was verified before costs a look into a dict, and its times again."""

from autoglm.auth.tokens.claims import Claims
from autoglm.auth.tokens.pins import Pin, Pins
from autoglm.auth.tokens.token import check_times, verified

MAX_CACHED = 8192


class TokenVerifier:
    """Asked for each request. It remembers what verified, and nothing else: strangers fill no memory."""

    def __init__(
        self, pins: Pins, *, audience: str, skew_ms: int, max_ttl_ms: int, max_cached: int = MAX_CACHED
    ) -> None:  # fmt: skip
        """skew_ms: by which an issuer's clock may differ. max_ttl_ms: the longest life that a token may have."""
        self.audience = audience
        self.skew_ms = skew_ms
        self._pins = pins
        self.max_ttl_ms = max_ttl_ms
        self._max_cached = max_cached
        self._known: dict[bytes, tuple[Claims, Pin]] = {}

    def repin(self, pins: Pins) -> None:
        """From now on these keys count: a key was rotated, revoked, or a new policy snapshot came."""
        self._pins = pins
        self._known.clear()

    def verify(self, token: bytes, now_ms: int) -> Claims:
        """Raises TokenRefused. Whether it, its holder or its key was revoked is the caller's to ask, each time."""
        known = self._known.get(token)
        if known is not None:
            check_times(*known, now_ms, self.skew_ms)
            return known[0]
        claims, pin = verified(token, self._pins, audience=self.audience, max_ttl_ms=self.max_ttl_ms)
        check_times(claims, pin, now_ms, self.skew_ms)
        self._keep(token, claims, pin, now_ms)
        return claims

    def _keep(self, token: bytes, claims: Claims, pin: Pin, now_ms: int) -> None:
        if len(self._known) >= self._max_cached:
            ended = [key for key, (old, _) in self._known.items() if now_ms - self.skew_ms >= old.ends_at_ms]
            # When none has ended, the oldest: its next request costs one more signature.
            for key in ended or [next(iter(self._known))]:
                del self._known[key]
        self._known[token] = (claims, pin)
