"""Signs and verifies as Standard Webhooks says: over `id.timestamp.payload`, by HMAC-SHA256 (v1) or ed25519 (v1a).

Source: github.com/standard-webhooks/standard-webhooks, spec/standard-webhooks.md.
"""

import base64
import binascii
import hmac
from collections.abc import Sequence
from typing import Literal, NamedTuple

Scheme = Literal["whsec", "whsk", "whpk"]
_KEY_BYTES: dict[Scheme, tuple[int, ...]] = {
    "whsec": tuple(range(24, 65)),
    "whsk": (32, 64),  # the seed, alone or as libsodium keeps it: with the public key behind it
    "whpk": (32,),
}
_MAX_SIGNATURES = 16
"""Of one call; further ones are not looked at."""
_MAX_ED25519 = 4
"""Each costs a hash of the body and 0.1 ms for each key."""


class Secret(NamedTuple):
    """One key. whsec: shared by both sides. whsk: ed25519, private, also verifies. whpk: ed25519, public."""

    scheme: Scheme
    key: bytes

    def __repr__(self) -> str:
        return f"Secret({self.scheme})"

    @property
    def can_sign(self) -> bool:
        return self.scheme != "whpk"


def parse_secrets(text: str) -> tuple[Secret, ...]:
    """Secrets with blanks or line breaks between them, as they are while one replaces another.

    Raises ValueError, which does not show them.
    """
    secrets = tuple(_parsed(word) for word in text.split())
    if not secrets:
        raise ValueError("there is no secret")
    return secrets


def _parsed(word: str) -> Secret:
    prefix, _, encoded = word.partition("_")
    sizes = next((sizes for scheme, sizes in _KEY_BYTES.items() if scheme == prefix), None)
    if sizes is None:
        raise ValueError("a secret must begin with whsec_, whsk_ or whpk_")
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except binascii.Error:
        raise ValueError(f"what follows {prefix}_ must be base64") from None
    if len(key) not in sizes:
        wanted = f"{sizes[0]} to {sizes[-1]}" if len(sizes) > 2 else " or ".join(map(str, sizes))
        raise ValueError(f"what follows {prefix}_ must be {wanted} bytes in base64, and is {len(key)}")
    return Secret(prefix, key)  # type: ignore[arg-type]  # a key of the table


def sign(secrets: Sequence[Secret], id: str, timestamp_s: int, payload: bytes) -> str:
    """The header `webhook-signature`: one signature for each secret that can sign. id: without a full stop."""
    signed = _signed(id, str(timestamp_s), payload)
    return " ".join(_signature(secret, signed) for secret in secrets if secret.can_sign)


def is_signed(secrets: Sequence[Secret], header: str, id: str, timestamp: str, payload: bytes) -> bool:
    """Whether a signature in the header is by one of the secrets. What was not well-formed costs no hashing."""
    hashes, signatures = _given(header)
    if not hashes and not signatures:
        return False
    signed = _signed(id, timestamp, payload)
    for secret in secrets:
        if secret.scheme == "whsec":
            wanted = hmac.digest(secret.key, signed, "sha256") if hashes else b""
            if any(hmac.compare_digest(wanted, given) for given in hashes):
                return True
        elif any(_is_by(secret, given, signed) for given in signatures):
            return True
    return False


def _given(header: str) -> tuple[list[bytes], list[bytes]]:
    """The signatures of v1 (32 bytes) and those of v1a (64 bytes)."""
    found: dict[str, list[bytes]] = {"v1": [], "v1a": []}
    for word in header.split(" ")[:_MAX_SIGNATURES]:
        version, _, encoded = word.partition(",")
        if version not in found or len(encoded) > 88:
            continue
        try:
            raw = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):  # ValueError: not ASCII
            continue
        if len(raw) == (32 if version == "v1" else 64):
            found[version].append(raw)
    return found["v1"], found["v1a"][:_MAX_ED25519]


def _signed(id: str, timestamp: str, payload: bytes) -> bytes:
    return f"{id}.{timestamp}.".encode() + payload


def _signature(secret: Secret, signed: bytes) -> str:
    if secret.scheme == "whsec":
        return "v1," + base64.b64encode(hmac.digest(secret.key, signed, "sha256")).decode()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return "v1a," + base64.b64encode(Ed25519PrivateKey.from_private_bytes(secret.key[:32]).sign(signed)).decode()


def _is_by(secret: Secret, signature: bytes, signed: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

    if secret.scheme == "whsk":
        public = Ed25519PrivateKey.from_private_bytes(secret.key[:32]).public_key()
    else:
        public = Ed25519PublicKey.from_public_bytes(secret.key)
    try:
        public.verify(signature, signed)
    except InvalidSignature:
        return False
    return True
