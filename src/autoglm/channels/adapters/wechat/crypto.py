"""The signature and the encryption of callbacks of WeCom (企业微信) and WeChat Official Accounts (公众号).

Source: developer.work.weixin.qq.com/document/path/90968 (encryption), developers.weixin.qq.com/doc/offiaccount
(Message_Management: message encryption; Basic_Information: access overview).
"""

import base64
import binascii
import hashlib
import hmac
import os
import re

AES_KEY_PATTERN = r"^[A-Za-z0-9]{43}$"
"""EncodingAESKey: 32 bytes in base64 without the `=` at its end."""
_PADDED_TO_BYTES = 32
_RANDOM_BYTES = 16
_LENGTH_BYTES = 4
_is_signature = re.compile(r"[0-9a-f]{40}").fullmatch


class BadCall(Exception):
    """A call that is not the vendor's, or is broken. `code` is stable; the text has no secrets and none of the call."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def signature_of(*parts: str) -> str:
    """SHA-1 in hexadecimal of the parts, sorted and joined: token, timestamp, nonce and any encrypted text."""
    joined = "".join(sorted(parts)).encode("utf-8", "surrogatepass")
    return hashlib.sha1(joined, usedforsecurity=False).hexdigest()  # the vendor's choice; FIPS builds refuse it else


def check_signature(signature: str, *parts: str) -> None:
    """Compared in constant time. Raises BadCall."""
    if _is_signature(signature) is None or not hmac.compare_digest(signature, signature_of(*parts)):
        raise BadCall("signature", "the signature is wrong; does the token of the settings equal the vendor's?")


class CallbackCipher:
    """AES-256-CBC, its first 16 bytes of key as the vector: 16 random bytes, the length of the message (4 bytes, big
    endian), the message, the receiver; padded to a multiple of 32 bytes by PKCS #7.

    receiver: the corp id of a WeCom app, the app id of an Official Account, empty for a WeCom AI bot.
    """

    def __init__(self, aes_key: str, receiver: str) -> None:
        """aes_key: of AES_KEY_PATTERN."""
        self._key = base64.b64decode(aes_key + "=")
        self._receiver = receiver.encode()

    def decrypt(self, text: str) -> str:
        """Raises BadCall, whatever the text is."""
        try:
            sealed = base64.b64decode(text.encode("ascii"), validate=True)
        except (binascii.Error, UnicodeEncodeError):
            raise BadCall("base64", "the encrypted text is no base64") from None
        if len(sealed) % 16 or len(sealed) < _PADDED_TO_BYTES:
            raise BadCall("length", f"the encrypted text has {len(sealed)} bytes, which no encryption gives")
        plain = _unpadded(_aes(self._key, sealed, encrypt=False))
        start = _RANDOM_BYTES + _LENGTH_BYTES
        size = int.from_bytes(plain[_RANDOM_BYTES:start], "big")
        if start + size > len(plain):
            raise BadCall("length", "the message is shorter than it says; does the EncodingAESKey equal the vendor's?")
        if not hmac.compare_digest(plain[start + size :], self._receiver):
            raise BadCall("receiver", "the message is for another app; does the id in the settings equal the vendor's?")
        try:
            return plain[start : start + size].decode()
        except UnicodeDecodeError:
            raise BadCall("encoding", "the message is not UTF-8") from None

    def encrypt(self, message: str) -> str:
        """For answers to a callback, in base64."""
        data = message.encode()
        plain = os.urandom(_RANDOM_BYTES) + len(data).to_bytes(_LENGTH_BYTES, "big") + data + self._receiver
        pad = _PADDED_TO_BYTES - len(plain) % _PADDED_TO_BYTES
        return base64.b64encode(_aes(self._key, plain + bytes([pad]) * pad, encrypt=True)).decode()


def decrypt_file(aes_key: str, sealed: bytes) -> bytes:
    """A picture or file of an AI bot's chat, each of which has a key of its own. Raises BadCall.

    Source: developer.work.weixin.qq.com/document/path/100719.
    """
    try:
        key = base64.b64decode(aes_key.encode("ascii") + b"==")
    except (binascii.Error, UnicodeEncodeError):
        key = b""
    if len(key) != 32 or len(sealed) % 16 or not sealed:
        raise BadCall("length", "the file or its key has a length that no encryption gives")
    plain = _aes(key, sealed, encrypt=False)
    pad = plain[-1]
    if not 1 <= pad <= _PADDED_TO_BYTES or not plain.endswith(bytes([pad]) * pad):
        raise BadCall("padding", "the padding of the file is wrong")
    return plain[:-pad]


def _unpadded(plain: bytes) -> bytes:
    pad = plain[-1]
    if not 1 <= pad <= _PADDED_TO_BYTES or not plain.endswith(bytes([pad]) * pad):
        raise BadCall("padding", "the padding is wrong; does the EncodingAESKey equal the vendor's?")
    if len(plain) - pad < _RANDOM_BYTES + _LENGTH_BYTES:
        raise BadCall("length", "the encrypted text is too short to hold a message")
    return plain[:-pad]


def _aes(key: bytes, data: bytes, *, encrypt: bool) -> bytes:
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.algorithms import AES256
    from cryptography.hazmat.primitives.ciphers.modes import CBC

    cipher = Cipher(AES256(key), CBC(key[:16]))
    step = cipher.encryptor() if encrypt else cipher.decryptor()
    return step.update(data) + step.finalize()
