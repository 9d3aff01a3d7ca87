"""Heads: the site's signatures under the chain, kept in the chain and outside of it.

Without one that lies elsewhere, a chain that was cut short or taken from an old copy looks like any other.
"""

import base64
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from autoglm.auth.audit.entry import Head
from autoglm.core.errors import InvalidField, StateBroken
from autoglm.core.ports import JournalEnd

HEAD_FILE_NAME = "audit-head.json"
_MAX_FILE_BYTES = 64 * 1024
_MAX_LOST = 32
_MAX_PEM_BYTES = 16 * 1024


class Signer(Protocol):
    """The site's key."""

    @property
    def kid(self) -> str:
        """Its thumbprint (RFC 7638)."""
        ...

    def sign(self, message: bytes) -> bytes:
        """Ed25519, 64 bytes."""
        ...


def sign_head(site: str, end: JournalEnd, at_ms: int, signer: Signer) -> Head:
    unsigned = Head(site=site, kid=signer.kid, seq=end.seq, digest=end.digest.hex(), at_ms=at_ms, signature="")
    signature = base64.urlsafe_b64encode(signer.sign(unsigned.signed_bytes())).rstrip(b"=").decode()
    return msgspec.structs.replace(unsigned, signature=signature)


def thumbprint(key: Ed25519PublicKey) -> str:
    """RFC 7638, of a key of Ed25519 as RFC 8037, appendix A.3, has it."""
    x = base64.urlsafe_b64encode(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).rstrip(b"=").decode()
    digest = hashlib.sha256(f'{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}'.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


class HeadKeys:
    """The keys whose heads are believed: the site's, and those it had before."""

    def __init__(self, keys: Iterable[Ed25519PublicKey]) -> None:
        self._by_kid = {thumbprint(key): key for key in keys}

    def flaw(self, head: Head) -> str | None:
        """What is wrong with the head; None when one of the keys signed it."""
        key = self._by_kid.get(head.kid)
        if key is None:
            return f"it names the key {head.kid[:64]!r}, which is not one of the site's"
        try:
            signature = base64.b64decode(head.signature + "==", altchars=b"-_", validate=True)
            key.verify(signature, head.signed_bytes())
        except (ValueError, InvalidSignature):
            return "its signature is wrong"
        return None


def read_public_key(path: Path) -> Ed25519PublicKey:
    """Of a PEM file with a private or a public key. Raises InvalidField when it holds none of Ed25519."""
    try:
        with path.open("rb") as file:
            pem = file.read(_MAX_PEM_BYTES)
        if b"PRIVATE KEY" in pem:
            private = load_pem_private_key(pem, password=None)
            key = private.public_key() if isinstance(private, Ed25519PrivateKey) else None
        else:
            public = load_pem_public_key(pem)
            key = public if isinstance(public, Ed25519PublicKey) else None
    except OSError as error:
        raise InvalidField("key", f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if key is None:
        raise InvalidField("key", f"{path} holds no key of Ed25519 in PEM")
    return key


class KeptHeads(msgspec.Struct, frozen=True, kw_only=True, tag="audit-heads", tag_field="type"):
    """What audit-head.json holds."""

    version: int = 1
    newest: Head | None = None
    lost: tuple[Head, ...] = ()
    """Heads that the chain did not have any more when a hub began to work on it: it is not the one they were under."""

    def all(self) -> tuple[Head, ...]:
        return self.lost if self.newest is None else (*self.lost, self.newest)

    def with_newest(self, head: Head) -> "KeptHeads":
        return msgspec.structs.replace(self, newest=head)

    def with_newest_lost(self) -> "KeptHeads":
        """The oldest goes where there are too many."""
        lost = self.all()[-_MAX_LOST:]
        return KeptHeads(lost=lost)


class HeadFile:
    """DATA/trust/audit-head.json. Blocks."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> KeptHeads | None:
        """None when there is no such file. Raises StateBroken for what cannot be read."""
        try:
            with self.path.open("rb") as file:
                content = file.read(_MAX_FILE_BYTES + 1)
            if len(content) > _MAX_FILE_BYTES:
                raise StateBroken(str(self.path), "it is too large")
            return msgspec.json.decode(content, type=KeptHeads)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise StateBroken(str(self.path), str(error)) from error

    def save(self, kept: KeptHeads) -> None:
        """On disk when it returns, or as it was. Raises OSError."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = self.path.with_name(f".{self.path.name}.new")
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(msgspec.json.encode(kept))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.path)
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
