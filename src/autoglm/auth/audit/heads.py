"""Heads: the site's signatures under the chain, kept in the chain and outside of it.

Without one that lies elsewhere, a chain that was cut short or taken from an old copy looks like any other.
"""

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from autoglm.auth.audit.entry import Head, Loss
from autoglm.auth.tokens.compact import decode_base64url, encode_base64url
from autoglm.auth.tokens.public_key import PublicKey
from autoglm.core.errors import InvalidField, StateBroken
from autoglm.core.ports import JournalEnd
from autoglm.core.private_file import write_private

HEAD_FILE_NAME = "audit-head.json"
_MAX_FILE_BYTES = 64 * 1024
_MAX_LOST = 32
_MAX_KEYS = 256


class Signer(Protocol):
    """The site's key: a `SigningKey` is one."""

    @property
    def public(self) -> PublicKey: ...

    def sign(self, message: bytes) -> bytes:
        """Ed25519, 64 bytes."""
        ...


def sign_head(site: str, end: JournalEnd, at_ms: int, signer: Signer) -> Head:
    kid = signer.public.thumbprint
    unsigned = Head(site=site, kid=kid, seq=end.seq, digest=end.digest.hex(), at_ms=at_ms, signature="")
    signature = encode_base64url(signer.sign(unsigned.signed_bytes()))
    return msgspec.structs.replace(unsigned, signature=signature)


def sign_loss(site: str, lost: "Lost", signer: Signer) -> Loss:
    unsigned = Loss(
        site=site, kid=signer.public.thumbprint, seq=lost.seq, digest=lost.digest, kept_seq=lost.kept_seq,
        found_ms=lost.found_ms, signature="",
    )  # fmt: skip
    signature = encode_base64url(signer.sign(unsigned.signed_bytes()))
    return msgspec.structs.replace(unsigned, signature=signature)


class Lost(NamedTuple):
    """Entries that are gone: see `Loss`."""

    seq: int
    digest: str
    kept_seq: int
    found_ms: int


class HeadKeys:
    """The keys whose word is believed: the site's, and those it had before."""

    def __init__(self, keys: Iterable[PublicKey]) -> None:
        self._by_kid = {key.thumbprint: key for key in keys}

    def flaw(self, head: Head | Loss) -> str | None:
        """What is wrong with it; None when one of the keys signed it."""
        key = self._by_kid.get(head.kid)
        if key is None:
            return f"it names the key {head.kid[:64]!r}, which is not one of the site's"
        try:
            is_right = key.has_signed(head.signed_bytes(), decode_base64url(head.signature.encode()))
        except ValueError:
            is_right = False
        return None if is_right else "its signature is wrong"


class KeptHeads(msgspec.Struct, frozen=True, kw_only=True, tag="audit-heads", tag_field="type"):
    """What audit-head.json holds."""

    version: int = 1
    newest: Head | None = None
    lost: tuple[Head, ...] = ()
    """Heads that the chain did not have any more when a hub began to work on it: it is not the one they were under."""
    keys: tuple[str, ...] = ()
    """The public keys that have signed heads, the last one last: base64url of 32 bytes. Tokens forget those that signed
    them as soon as the tokens have ended; heads are for ever."""

    def all(self) -> tuple[Head, ...]:
        return self.lost if self.newest is None else (*self.lost, self.newest)

    def public_keys(self) -> list[PublicKey]:
        """Raises InvalidField when one is none."""
        return [PublicKey.from_text(key) for key in self.keys]

    def with_newest(self, head: Head, key: PublicKey) -> "KeptHeads":
        keys = (*(other for other in self.keys if other != key.x), key.x)[-_MAX_KEYS:]
        return msgspec.structs.replace(self, newest=head, keys=keys)

    def with_newest_lost(self) -> "KeptHeads":
        """The oldest goes where there are too many."""
        lost = self.all()[-_MAX_LOST:]
        return msgspec.structs.replace(self, newest=None, lost=lost)


class HeadFile:
    """DATA/trust/audit-head.json. Blocks."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        """A thread goes on saving when who waits for it is cancelled."""

    def load(self) -> KeptHeads | None:
        """None when there is no such file. Raises StateBroken for what cannot be read."""
        try:
            with self.path.open("rb") as file:
                content = file.read(_MAX_FILE_BYTES + 1)
            if len(content) > _MAX_FILE_BYTES:
                raise StateBroken(str(self.path), "it is too large")
            kept = msgspec.json.decode(content, type=KeptHeads)
            kept.public_keys()
            return kept
        except FileNotFoundError:
            return None
        except (OSError, ValueError, InvalidField) as error:  # msgspec's DecodeError is a ValueError
            raise StateBroken(str(self.path), str(error)) from error

    def save(self, kept: KeptHeads) -> None:
        """On disk when it returns, or as it was. Raises OSError."""
        with self._lock:
            self._save(kept)

    def _save(self, kept: KeptHeads) -> None:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(self.path, msgspec.json.encode(kept))
