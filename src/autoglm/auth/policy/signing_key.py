"""A key of somebody who signs policies: PKCS8 in PEM, for its holder's eyes only, or locked by a passphrase.

A PEM file that another program encrypted is read as well.
"""

import os
from pathlib import Path

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)  # fmt: skip
from securesystemslib.signer import CryptoSigner, SSlibKey

from autoglm.auth.sealing import is_locked, lock, unlock
from autoglm.core.errors import InvalidField, SettingsError, WrongPassphrase

_MAX_BYTES = 64 << 10
_ABOUT_KEY = b"a key that signs policies"


def make_key(file: Path, passphrase: bytes | None) -> SSlibKey:
    """A new key in `file` (0600) and its public half in `file.pub`. Raises SettingsError; no file is overwritten."""
    private = Ed25519PrivateKey.generate()
    public = private.public_key()
    content = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    if passphrase:
        try:
            content = lock(passphrase.decode(), content, _ABOUT_KEY)
        except (InvalidField, UnicodeDecodeError) as error:
            raise SettingsError([f"the passphrase for {file}: {error}"]) from None
    _write_new(file, content, 0o600)
    _write_new(public_file(file), public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), 0o644)
    return SSlibKey.from_crypto(public)


def public_file(file: Path) -> Path:
    return file.with_name(file.name + ".pub")


def read_signer(file: Path, passphrase: bytes | None) -> CryptoSigner:
    """Raises SettingsError; for a file that others may read as well."""
    data = _read(file)
    if file.stat().st_mode & 0o077:
        raise SettingsError([f"{file} can be read by others; run: chmod 600 {file}"])
    try:
        if is_locked(data):
            if not passphrase:
                raise TypeError
            data, passphrase = unlock(passphrase.decode(), data, _ABOUT_KEY), None
        private = load_pem_private_key(data, passphrase)
    except TypeError as error:  # a passphrase too many or too few
        way_out = "it has no passphrase" if passphrase else "it has a passphrase; give --passphrase-file"
        raise SettingsError([f"{file}: {way_out}"]) from error
    except (ValueError, UnsupportedAlgorithm, WrongPassphrase, msgspec.DecodeError) as error:
        raise SettingsError([f"{file} is no private key in PEM, or its passphrase is another"]) from error
    if not isinstance(private, Ed25519PrivateKey):
        raise SettingsError([f"{file} is no Ed25519 key"])
    return CryptoSigner(private)


def has_passphrase(file: Path) -> bool:
    """Raises SettingsError."""
    data = _read(file)
    return is_locked(data) or b"ENCRYPTED" in data[:200]


def read_public(file: Path) -> SSlibKey:
    """Raises SettingsError."""
    try:
        public = load_pem_public_key(_read(file))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SettingsError([f"{file} is no public key in PEM"]) from error
    if not isinstance(public, Ed25519PublicKey):
        raise SettingsError([f"{file} is no Ed25519 key"])
    return SSlibKey.from_crypto(public)


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as content:
            return content.read(_MAX_BYTES)
    except OSError as error:
        raise SettingsError([f"{file} cannot be read: {error.strerror}"]) from error


def _write_new(file: Path, data: bytes, mode: int) -> None:
    try:
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
    except OSError as error:
        raise SettingsError([f"{file} cannot be written: {error.strerror}"]) from error
