"""Tells push services who pushes: a signed token for each of them (VAPID).

Sources: RFC 8292 (VAPID), RFC 7515 (JWS), RFC 7518, section 3.4 (ES256).
"""

import importlib
import json
import time
from typing import TYPE_CHECKING

import anyio.to_thread

from autoglm.channels.adapters.web_push.encryption import encode_base64url, public_bytes
from autoglm.channels.adapters.web_push.endpoint import origin_of
from autoglm.core.errors import RevisionMismatch
from autoglm.core.ports import KeyValue

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

LIFETIME_S = 12 * 3600
"""Of a token: RFC 8292 allows 24 hours, and half of that bears a clock that is wrong by as much."""
_KEY = "push/key"
_MAX_TOKENS = 1_000


class VapidKey:
    """The hub's key pair: browsers bind their subscriptions to the public key, so it is made once and never changed.

    The private key lies in the store, whose files only their owner can read, and is shown nowhere.
    """

    def __init__(self, keyvalue: KeyValue) -> None:
        self._keyvalue = keyvalue
        self._private: EllipticCurvePrivateKey | None = None
        self._tokens: dict[tuple[str, str], tuple[str, float]] = {}
        """By (audience, contact): the token, and until when it is used; Unix time."""

    async def public(self) -> str:
        """base64url of the uncompressed point. Raises StorageFull, QueueFull, StoreBroken."""
        return encode_base64url(public_bytes(await self._opened()))

    async def authorization(self, endpoint: str, contact: str) -> str:
        """The header `Authorization` for a push to this endpoint. Raises as `public` does."""
        private = await self._opened()
        audience = origin_of(endpoint)
        now_s = time.time()
        token, until_s = self._tokens.get((audience, contact), ("", 0.0))
        if not now_s < until_s <= now_s + LIFETIME_S:  # also after the clock was set back
            token = signed_token(private, audience, contact, round(now_s) + LIFETIME_S)
            if len(self._tokens) >= _MAX_TOKENS:  # endpoints come from outside
                self._tokens.clear()
            self._tokens[audience, contact] = token, now_s + LIFETIME_S / 2
        return f"vapid t={token}, k={encode_base64url(public_bytes(private))}"

    async def _opened(self) -> "EllipticCurvePrivateKey":
        if self._private is None:
            await anyio.to_thread.run_sync(importlib.import_module, "cryptography.hazmat.primitives.asymmetric.ec")
            entry = await self._keyvalue.get(_KEY)
            self._private = await self._made() if entry is None else _loaded(entry.value)
        return self._private

    async def _made(self) -> "EllipticCurvePrivateKey":
        from cryptography.hazmat.primitives.asymmetric import ec

        key = ec.generate_private_key(ec.SECP256R1())
        try:
            value = key.private_numbers().private_value.to_bytes(32, "big")
            await self._keyvalue.put(_KEY, value, expected_revision=0)
        except RevisionMismatch:  # another was faster
            entry = await self._keyvalue.get(_KEY)
            assert entry is not None, "it is never deleted"
            return _loaded(entry.value)
        return key


def signed_token(private: "EllipticCurvePrivateKey", audience: str, contact: str, expires_s: int) -> str:
    """A JWT by ES256. audience: the origin of the endpoint. contact: mailto: or https:."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    parts = ({"typ": "JWT", "alg": "ES256"}, {"aud": audience, "exp": expires_s, "sub": contact})
    signed = ".".join(encode_base64url(json.dumps(part, separators=(",", ":")).encode()) for part in parts)
    r, s = decode_dss_signature(private.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
    return f"{signed}.{encode_base64url(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def _loaded(value: bytes) -> "EllipticCurvePrivateKey":
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.derive_private_key(int.from_bytes(value, "big"), ec.SECP256R1())
