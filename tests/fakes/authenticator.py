"""A software authenticator and its browser: answers WebAuthn's ceremonies as a passkey does, and can misbehave.

Source: WebAuthn Level 3, sections 6.1 (authenticator data), 6.5 (attestation), 5.8.1 (client data).
"""

import base64
import hashlib
import json
import secrets
from dataclasses import dataclass, field
from typing import Any

import cbor2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

_PRESENT, _VERIFIED, _HAS_KEY = 0x01, 0x04, 0x40


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass
class Authenticator:
    """One passkey at one origin. Change its fields to make it lie."""

    origin: str
    rp_id: str | None = None
    """What it signs for; the rp id of the options when None."""
    is_verifying: bool = True
    is_present: bool = True
    counts: bool = True
    is_framed: bool = False
    format: str = "none"
    count: int = 0
    type: str | None = None
    """Of the client data, where it should be wrong."""
    user_handle: bytes = b""
    credential_id: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    private: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def create(self, options: dict[str, Any]) -> dict[str, Any]:
        """`navigator.credentials.create(options)`, as JSON."""
        self.user_handle = unb64(options["user"]["id"])
        client_data = self._client_data("webauthn.create", options["challenge"])
        key = self.private.public_key().public_numbers()
        cose = cbor2.dumps({1: 2, 3: -7, -1: 1, -2: key.x.to_bytes(32, "big"), -3: key.y.to_bytes(32, "big")})
        credential = bytes(16) + len(self.credential_id).to_bytes(2, "big") + self.credential_id + cose
        data = self._data(options["rp"]["id"], _HAS_KEY) + credential
        attestation = cbor2.dumps({"fmt": self.format, "attStmt": {}, "authData": data})
        return self._answer({"clientDataJSON": b64(client_data), "attestationObject": b64(attestation)})

    def get(self, options: dict[str, Any]) -> dict[str, Any]:
        """`navigator.credentials.get(options)`, as JSON."""
        self.count += 1
        client_data = self._client_data("webauthn.get", options["challenge"])
        data = self._data(options["rpId"], 0)
        signature = self.private.sign(data + hashlib.sha256(client_data).digest(), ec.ECDSA(hashes.SHA256()))
        return self._answer({
            "clientDataJSON": b64(client_data), "authenticatorData": b64(data), "signature": b64(signature),
            "userHandle": b64(self.user_handle),
        })  # fmt: skip

    def _client_data(self, type: str, challenge: str) -> bytes:
        members = {"type": self.type or type, "challenge": challenge, "origin": self.origin}
        return json.dumps(members | {"crossOrigin": self.is_framed}).encode()

    def _data(self, rp_id: str, flags: int) -> bytes:
        flags |= (_VERIFIED if self.is_verifying else 0) | (_PRESENT if self.is_present else 0)
        count = self.count if self.counts else 0
        return hashlib.sha256((self.rp_id or rp_id).encode()).digest() + bytes([flags]) + count.to_bytes(4, "big")

    def _answer(self, response: dict[str, str]) -> dict[str, Any]:
        id = b64(self.credential_id)
        return {"id": id, "rawId": id, "type": "public-key", "response": response, "clientExtensionResults": {}}
