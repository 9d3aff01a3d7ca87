"""Encrypts what is pushed to one browser, so that its push service cannot read it.

Sources: RFC 8291 (message encryption for Web Push), RFC 8188 (the content coding aes128gcm), RFC 5869 (HKDF).
"""

import base64
import binascii
import hashlib
import hmac
import os
import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

MAX_BODY_BYTES = 4096
"""What each push service has to take (RFC 8030, section 7.2)."""
_POINT_BYTES = 65
_HEADER_BYTES = 16 + 4 + 1 + _POINT_BYTES
_TAG_BYTES = 16
MAX_PLAINTEXT_BYTES = MAX_BODY_BYTES - _HEADER_BYTES - _TAG_BYTES - 1
"""3,993: one byte says that the record is the last."""
_is_base64url = re.compile(r"[A-Za-z0-9_-]+={0,2}").fullmatch


class Receiver(NamedTuple):
    """A browser's keys, from its subscription."""

    public_key: bytes
    """`p256dh`: 65 bytes, an uncompressed point of P-256."""
    secret: bytes
    """`auth`: 16 bytes."""


def parse_receiver(p256dh: str, auth: str) -> Receiver:
    """From the base64url of a subscription. Raises ValueError, naming what is wrong."""
    from cryptography.hazmat.primitives.asymmetric import ec

    receiver = Receiver(decode_base64url(p256dh, "p256dh"), decode_base64url(auth, "auth"))
    if len(receiver.secret) != 16:
        raise ValueError(f"auth must be 16 bytes, not {len(receiver.secret)}")
    if len(receiver.public_key) != _POINT_BYTES or receiver.public_key[0] != 4:
        raise ValueError("p256dh must be an uncompressed point of P-256, 65 bytes")
    try:
        ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), receiver.public_key)
    except ValueError:
        raise ValueError("p256dh is no point of P-256") from None
    return receiver


def encrypt(
    plaintext: bytes, receiver: Receiver, *, sender: "EllipticCurvePrivateKey | None" = None, salt: bytes | None = None
) -> bytes:
    """The body of a push: a header and one record, 103 bytes longer than the plaintext.

    plaintext: at most MAX_PLAINTEXT_BYTES. sender, salt: made anew for each push; given by tests only.
    Raises ValueError: the plaintext is too long, or the receiver's key is no point of the curve.
    """
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    if len(plaintext) > MAX_PLAINTEXT_BYTES:
        raise ValueError(f"{len(plaintext)} bytes are over the {MAX_PLAINTEXT_BYTES} of a push")
    sender = sender or ec.generate_private_key(ec.SECP256R1())
    salt = salt or os.urandom(16)
    public_key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), receiver.public_key)
    own_key = public_bytes(sender)
    shared = sender.exchange(ec.ECDH(), public_key)
    key_info = b"WebPush: info\0" + receiver.public_key + own_key
    key, nonce = _key_and_nonce(salt, _hkdf(receiver.secret, shared, key_info, 32))
    record = AESGCM(key).encrypt(nonce, plaintext + b"\x02", None)  # 2: the last record, without padding
    return salt + MAX_BODY_BYTES.to_bytes(4, "big") + bytes([_POINT_BYTES]) + own_key + record


def public_bytes(key: "EllipticCurvePrivateKey") -> bytes:
    """The public key as an uncompressed point, 65 bytes."""
    numbers = key.public_key().public_numbers()
    return b"\x04" + numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")


def encode_base64url(data: bytes) -> str:
    """Without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode_base64url(text: str, name: str) -> bytes:
    """With or without padding. Raises ValueError, naming `name`."""
    bare = text.rstrip("=")
    try:
        if _is_base64url(text) is None:
            raise ValueError
        return base64.urlsafe_b64decode(bare + "=" * (-len(bare) % 4))
    except (ValueError, binascii.Error):
        raise ValueError(f"{name} is no base64url") from None


def _key_and_nonce(salt: bytes, secret: bytes) -> tuple[bytes, bytes]:
    """RFC 8188, sections 2.2 and 2.3, for the first record."""
    key = _hkdf(salt, secret, b"Content-Encoding: aes128gcm\0", 16)
    return key, _hkdf(salt, secret, b"Content-Encoding: nonce\0", 12)


def _hkdf(salt: bytes, secret: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869 with SHA-256, for at most 32 bytes: one round of its expansion."""
    drawn = hmac.digest(salt, secret, hashlib.sha256)
    return hmac.digest(drawn, info + b"\x01", hashlib.sha256)[:length]
