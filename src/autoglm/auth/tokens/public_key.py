"""Public keys of Ed25519, and the thumbprint by which each is known (RFC 7638)."""

import hashlib
from typing import Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from joserfc.jwk import OKPKey

from autoglm.auth.tokens.compact import decode_base64url, ed25519, encode_base64url
from autoglm.core.errors import InvalidField

KEY_BYTES = 32
_FIELD_PRIME = 2**255 - 19
_SMALL_ORDER_Y = frozenset({
    0, 1, _FIELD_PRIME - 1,
    0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826,
    0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7,
})  # fmt: skip
"""Of the eight points of small order. Under such a key anyone can sign (OpenSSL takes them): for that of order 1 one
signature fits each message. Source: Chalkias, Garillot, Nikolaenko 2020 (Taming the many EdDSAs), section 3."""


class PublicKey:
    """One key, checked to be of use. Equal when the 32 bytes are."""

    __slots__ = ("_jose", "raw", "thumbprint", "x")

    def __init__(self, raw: bytes) -> None:
        """raw: 32 bytes (RFC 8032, section 5.1.2). Raises InvalidField when they are no key that can prove anything."""
        # The field's prime and up: a second form of another key (RFC 8032, section 5.1.3).
        y = int.from_bytes(raw, "little") & ~(1 << 255)
        if len(raw) != KEY_BYTES or y >= _FIELD_PRIME or y in _SMALL_ORDER_Y:
            raise InvalidField("public_key", "this is no public key of Ed25519 that can be used")
        self.raw = raw
        self.x = encode_base64url(raw)
        """The 32 bytes as base64url, as JWK has them."""
        canonical = f'{{"crv":"Ed25519","kty":"OKP","x":"{self.x}"}}'  # RFC 8037, appendix A.3
        self.thumbprint = encode_base64url(hashlib.sha256(canonical.encode()).digest())
        self._jose = OKPKey.import_key(Ed25519PublicKey.from_public_bytes(raw))

    @classmethod
    def from_jwk(cls, jwk: object) -> Self:
        """Of a JWK with `kty`, `crv` and `x` and nothing else: no `d`, no `use`, no `key_ops`. Raises InvalidField."""
        if not isinstance(jwk, dict) or jwk.keys() != {"kty", "crv", "x"}:
            raise InvalidField("jwk", "must have kty, crv and x, and nothing else")
        if jwk["kty"] != "OKP" or jwk["crv"] != "Ed25519" or not isinstance(x := jwk["x"], str):
            raise InvalidField("jwk", "must be a key of Ed25519")
        return cls.from_text(x)

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Of the 32 bytes as base64url, or of a PEM block. Raises InvalidField."""
        try:
            if not text.lstrip().startswith("-----BEGIN"):
                return cls(decode_base64url(text.encode()))
            key = load_pem_public_key(text.encode())
        except (ValueError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, Ed25519PublicKey):
            raise InvalidField("public_key", "must be a key of Ed25519: 43 letters of base64url, or PEM")
        return cls(key.public_bytes(Encoding.Raw, PublicFormat.Raw))

    @property
    def jwk(self) -> dict[str, str]:
        return {"kty": "OKP", "crv": "Ed25519", "x": self.x}

    def has_signed(self, message: bytes, signature: bytes) -> bool:
        return ed25519.verify(message, signature, self._jose)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PublicKey) and self.raw == other.raw

    def __hash__(self) -> int:
        return hash(self.raw)

    def __repr__(self) -> str:
        return f"PublicKey({self.thumbprint})"
