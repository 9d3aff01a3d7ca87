"""Finds out who sends a request, by what it shows: a bearer key."""

from autoglm.auth.keys import KeyRing
from autoglm.auth.principal import Principal


class Authenticator:
    """Asked at each edge of the hub. Whoever it does not know gets Unauthorized, and learns nothing more."""

    def __init__(self, keys: KeyRing) -> None:
        self._keys = keys

    def by_header(self, authorization: bytes | None) -> Principal:
        """Of an `Authorization: Bearer KEY`. Raises Unauthorized."""
        return self._keys.by_header(authorization)

    def by_key(self, value: bytes) -> Principal:
        """Of a bare key. Raises Unauthorized."""
        return self._keys.by_key(value)
