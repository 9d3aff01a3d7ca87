"""Encrypts what lies on the disk: AES-256-GCM under a random key, and keys made of passphrases.

Sources: NIST SP 800-38D (GCM, 96-bit nonces at random: far below 2^32 for each key); RFC 7914 (scrypt), with OWASP's
Password Storage Cheat Sheet for its cost: 128 MiB and 0.3 s on the machine this was measured on.
"""

import hashlib
import secrets
from pathlib import Path

import msgspec

from autoglm.core.errors import InvalidField, WrongPassphrase

KEY_BYTES = 32
MIN_PASSPHRASE_CHARACTERS = 12
_NONCE_BYTES = 12
_MAX_PASSPHRASE_BYTES = 4096
_MAX_SCRYPT_BYTES = 1 << 30


class Scrypt(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a passphrase becomes a key. Read from files: nobody may have us take more than 1 GiB."""

    salt: bytes
    n: int = 1 << 17
    r: int = 8
    p: int = 1


class _Locked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A private key under a passphrase. OpenSSL's own PKCS 8 has 2,048 rounds of PBKDF2; scrypt costs a thief more."""

    scrypt: Scrypt
    sealed: bytes


def new_key() -> bytes:
    return secrets.token_bytes(KEY_BYTES)


def new_scrypt() -> Scrypt:
    return Scrypt(salt=secrets.token_bytes(16))


def seal(key: bytes, plain: bytes, about: bytes) -> bytes:
    """nonce + ciphertext + tag. about: what it is and whose, which `unseal` has to be told just so."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plain, about)


def unseal(key: bytes, sealed: bytes, about: bytes) -> bytes:
    """Raises WrongPassphrase when the key is another, or anything of it was changed: nobody can tell which."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        return AESGCM(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], about)
    except (InvalidTag, ValueError):  # the latter: a nonce of another length
        raise WrongPassphrase(about.decode("utf-8", "replace")) from None


def key_of(passphrase: str, scrypt: Scrypt) -> bytes:
    """Takes 0.3 s and 128 MiB. Raises WrongPassphrase for costs that no file of ours has."""
    cost_bytes = 128 * scrypt.n * scrypt.r
    is_sound = scrypt.n > 1 and scrypt.n & (scrypt.n - 1) == 0 and 1 <= scrypt.r <= 32 and 1 <= scrypt.p <= 4
    if not is_sound or cost_bytes > _MAX_SCRYPT_BYTES or len(scrypt.salt) < 16:
        raise WrongPassphrase("a file with another cost of scrypt than a hub writes")
    return hashlib.scrypt(
        passphrase.encode(), salt=scrypt.salt, n=scrypt.n, r=scrypt.r, p=scrypt.p, dklen=KEY_BYTES,
        maxmem=cost_bytes + (64 << 20),
    )  # fmt: skip


def lock(passphrase: str, plain: bytes, about: bytes) -> bytes:
    """A file that `unlock` opens. Raises InvalidField for a passphrase that is too short."""
    scrypt = new_scrypt()
    sealed = seal(key_of(check_passphrase(passphrase), scrypt), plain, about)
    return msgspec.json.encode(_Locked(scrypt=scrypt, sealed=sealed))


def is_locked(content: bytes) -> bool:
    """Of what `lock` made; PEM is not."""
    return content.startswith(b"{")


def unlock(passphrase: str, content: bytes, about: bytes) -> bytes:
    """Raises WrongPassphrase, and msgspec.DecodeError for what `lock` did not make."""
    locked = msgspec.json.decode(content, type=_Locked)
    return unseal(key_of(passphrase, locked.scrypt), locked.sealed, about)


def check_passphrase(passphrase: str) -> str:
    """For a new one. Raises InvalidField. Source: NIST SP 800-63B, 5.1.1.2: length, and no rules about characters."""
    if len(passphrase) < MIN_PASSPHRASE_CHARACTERS:
        raise InvalidField("passphrase", f"has {len(passphrase)} characters; {MIN_PASSPHRASE_CHARACTERS} at least")
    if len(passphrase.encode()) > _MAX_PASSPHRASE_BYTES:
        raise InvalidField("passphrase", f"is over {_MAX_PASSPHRASE_BYTES} bytes")
    return passphrase


def read_passphrase(path: Path) -> str:
    """The first line of a file, such as a systemd credential. Raises InvalidField."""
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_PASSPHRASE_BYTES + 2).decode()
    except OSError as error:
        raise InvalidField("passphrase_file", f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InvalidField("passphrase_file", f"{path} is no text") from None
    passphrase = text.split("\n", 1)[0].removesuffix("\r")
    if not passphrase:
        raise InvalidField("passphrase_file", f"{path} is empty")
    return passphrase
