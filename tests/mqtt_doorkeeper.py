"""An Authenticate for tests of the MQTT gate: signed tokens, proofs of a key, nonces, as the hub's own has them.

What it refuses is real; its formats are its own and short.
"""

import base64
import hashlib
import json
import secrets
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from autoglm.channels.broker.gate.grants import Grants
from autoglm.channels.broker.gate.rights import METHOD, Attempt, Challenge, Rights
from autoglm.core.clock import now_ms
from autoglm.core.errors import Unauthorized

WINDOW_MS = 60_000


def signed(key: Ed25519PrivateKey, fields: dict[str, Any]) -> str:
    body = json.dumps(fields).encode()
    return f"{base64.urlsafe_b64encode(body).decode()}.{base64.urlsafe_b64encode(key.sign(body)).decode()}"


def verified(key: Ed25519PublicKey, text: str) -> dict[str, Any]:
    """Raises Unauthorized."""
    try:
        body, signature = (base64.urlsafe_b64decode(part) for part in text.split("."))
        key.verify(signature, body)
        found: dict[str, Any] = json.loads(body)
    except (InvalidSignature, ValueError):
        raise Unauthorized("bad signature") from None
    return found


def public_text(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()


class DeviceKey:
    def __init__(self) -> None:
        self.key = Ed25519PrivateKey.generate()

    def login(self, token: str, nonce: str = "") -> bytes:
        """A token with a fresh proof."""
        hashed = hashlib.sha256(token.encode()).hexdigest()
        proof = signed(self.key, {"jti": secrets.token_hex(8), "iat": now_ms(), "ath": hashed, "nonce": nonce})
        return f"{token}~{proof}".encode()


class Doorkeeper:
    def __init__(self) -> None:
        self._key = Ed25519PrivateKey.generate()
        self._seen: set[str] = set()
        self.revoked: set[str] = set()
        self.ahead_ms = 0
        """How far its clock, which is the gate's, is before the machine's."""

    def now_ms(self) -> int:
        return now_ms() + self.ahead_ms

    def token(
        self, device: DeviceKey, name: str = "device:press-7", *, publish: tuple[str, ...] = ("plant/7/#",),
        subscribe: tuple[str, ...] = ("plant/7/#",), ttl_s: float = 900,
    ) -> str:  # fmt: skip
        exp = self.now_ms() + round(ttl_s * 1000)
        fields = {"sub": name, "exp": exp, "jkt": public_text(device.key), "publish": publish, "subscribe": subscribe}
        return signed(self._key, fields)

    async def __call__(self, attempt: Attempt) -> Rights | Challenge:
        if attempt.method and not attempt.data:
            return Challenge(secrets.token_hex(8).encode())
        login = attempt.data if attempt.method == METHOD else attempt.password
        token, _, proof = login.decode("latin-1").partition("~")
        claims = verified(self._key.public_key(), token)
        if claims["exp"] <= self.now_ms():
            raise Unauthorized("expired")
        shown = verified(Ed25519PublicKey.from_public_bytes(bytes.fromhex(claims["jkt"])), proof)
        if shown["ath"] != hashlib.sha256(token.encode()).hexdigest() or shown["nonce"] != attempt.challenge.decode():
            raise Unauthorized("a proof of something else")
        if shown["jti"] in self._seen or abs(now_ms() - shown["iat"]) > WINDOW_MS:
            raise Unauthorized("replayed")
        self._seen.add(shown["jti"])
        return Rights(
            claims["sub"], Grants(claims["publish"], claims["subscribe"]), claims["exp"],
            lambda: claims["sub"] in self.revoked,
        )  # fmt: skip
