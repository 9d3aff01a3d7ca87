"""Pinned keys: which public keys may sign tokens, and for which issuer. A `kid` is looked up here and nowhere else."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from autoglm.auth.tokens.limit import Limit
from autoglm.auth.tokens.public_key import PublicKey
from autoglm.core.errors import InvalidField, TokenRefused


@dataclass(frozen=True, slots=True)
class Pin:
    public_key: PublicKey
    issuer: str
    """The `iss` for which it may sign, and no other."""
    not_after_ms: int | None = None
    """From when on it verifies no more; None for a key without an end."""
    is_revoked: bool = False
    limit: Limit | None = None
    """None for this hub's own keys, which sign nothing that was not decided here."""

    @property
    def kid(self) -> str:
        return self.public_key.thumbprint

    def check(self, now_ms: int) -> None:
        """Raises TokenRefused when it verifies no more."""
        if self.is_revoked:
            raise TokenRefused("key_revoked")
        if self.not_after_ms is not None and now_ms >= self.not_after_ms:
            raise TokenRefused("key_ended")


class Pins:
    """A set of pins by `kid`, which is always the key's own thumbprint: no chosen name can stand for another key."""

    def __init__(self, pins: Iterable[Pin] = ()) -> None:
        """Of two for one key the stricter limits hold. Raises InvalidField when they are for two issuers."""
        self._by_kid: dict[str, Pin] = {}
        for pin in pins:
            known = self._by_kid.get(pin.kid)
            self._by_kid[pin.kid] = pin if known is None else _stricter(known, pin)

    def get(self, kid: object) -> Pin:
        """kid: as a stranger wrote it. Raises TokenRefused."""
        pin = self._by_kid.get(kid) if isinstance(kid, str) else None
        if pin is None:
            raise TokenRefused("unknown_key")
        return pin

    def __iter__(self) -> Iterator[Pin]:
        return iter(self._by_kid.values())

    def __len__(self) -> int:
        return len(self._by_kid)


def _stricter(one: Pin, other: Pin) -> Pin:
    if one.issuer != other.issuer:
        raise InvalidField("pins", f"the key {one.kid} is pinned for {one.issuer!r} and for {other.issuer!r}")
    ends = [pin.not_after_ms for pin in (one, other) if pin.not_after_ms is not None]
    limits = one.limit, other.limit
    # A list of all sites' keys has this hub's own as well.
    limit = None if limits[0] is None or limits[1] is None else limits[0].both(limits[1])
    return Pin(one.public_key, one.issuer, min(ends, default=None), one.is_revoked or other.is_revoked, limit)
