"""Keys that sign: the hub's for tokens, a device's for proofs."""

import json
from typing import Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from joserfc.jwk import OKPKey

from autoglm.auth.tokens.compact import ed25519, encode_base64url
from autoglm.auth.tokens.public_key import PublicKey
from autoglm.core.errors import SettingsError


class SigningKey:
    """A private key of Ed25519. Nothing but `pem` shows it."""

    __slots__ = ("_jose", "_private", "public")

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self._jose = OKPKey.import_key(private)
        self.public = PublicKey(private.public_key().public_bytes_raw())

    @classmethod
    def generate(cls) -> Self:
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_pem(cls, pem: bytes, passphrase: bytes | None = None) -> Self:
        """Of PKCS #8. Raises SettingsError when it is damaged, of another kind, or the passphrase does not fit."""
        try:
            private = load_pem_private_key(pem, passphrase)
        except TypeError:
            flaw = "is not encrypted, but there is a passphrase" if passphrase else "is encrypted; give its passphrase"
            raise SettingsError([f"the signing key {flaw}"]) from None
        except (ValueError, UnsupportedAlgorithm):
            raise SettingsError(["the signing key is damaged, or its passphrase is wrong"]) from None
        if not isinstance(private, Ed25519PrivateKey):
            raise SettingsError(["the signing key is not one of Ed25519"])
        return cls(private)

    def pem(self, passphrase: bytes | None = None) -> bytes:
        """PKCS #8, encrypted when there is a passphrase. To be kept where its owner alone may read it."""
        how: KeySerializationEncryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
        return self._private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how)

    @property
    def kid(self) -> str:
        return self.public.thumbprint

    def sign(self, message: bytes) -> bytes:
        return ed25519.sign(message, self._jose)

    def compact(self, header: dict[str, object], payload: dict[str, object]) -> str:
        """A JWS of these. header: without `alg`."""
        signing_input = signing_input_of({"alg": "Ed25519"} | header, payload)
        return f"{signing_input}.{encode_base64url(self.sign(signing_input.encode()))}"

    def __repr__(self) -> str:
        return f"SigningKey({self.kid})"


def signing_input_of(header: dict[str, object], payload: dict[str, object]) -> str:
    """RFC 7515, section 5.1, step 8."""
    parts = (json.dumps(part, ensure_ascii=False, separators=(",", ":")) for part in (header, payload))
    return ".".join(encode_base64url(part.encode()) for part in parts)
