"""One file of TUF metadata: bounded, read strictly, and believed only with enough signatures by different keys.

Source: The Update Framework Specification 1.0.34, sections 4 (formats) and 5 (the client's checks). The formats and
the canonical form that is signed are python-tuf's.
"""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeVar

from securesystemslib.signer import Key, SSlibKey
from tuf.api.exceptions import LengthOrHashMismatchError
from tuf.api.metadata import Metadata, MetaFile, Root, Signed, Snapshot, TargetFile, Targets, Timestamp
from tuf.api.serialization import SerializationError

from autoglm.auth.policy.snapshot import MAX_TIME_MS
from autoglm.auth.policy.strict_json import parse_strictly
from autoglm.core.errors import PolicyRefused

TopRole = Literal["root", "timestamp", "snapshot", "targets"]
MAX_BYTES: Mapping[str, int] = {"root": 256 << 10, "timestamp": 16 << 10, "snapshot": 1 << 20, "targets": 1 << 20}
"""Refused before anything is parsed; what the metadata says itself can only be less."""
MAX_VERSION = 2**53
MAX_SIGNATURES = 100
ED25519_ONLY = frozenset({"ed25519"})
"""What this project signs with. A client may be told to take more, for repositories of others."""
ISSUED = "x-autoglm-issued-ms"
"""A field of timestamps and snapshots, signed as all of them: TUF itself signs when something ends, and never when it
was said. Of a snapshot, when its content was published first: renewing it leaves that as it is."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

S = TypeVar("S", Root, Timestamp, Snapshot, Targets)


def read_metadata(name: str, data: bytes, form: type[S], limit_bytes: int) -> "Metadata[S]":
    """name: the file's, for the reason. Nothing is verified yet. Raises PolicyRefused."""
    if len(data) > limit_bytes:
        raise PolicyRefused(name, f"it is over {limit_bytes} bytes")

    def refuse(reason: str) -> Exception:
        return PolicyRefused(name, reason)

    tree = parse_strictly(data, refuse)
    try:
        if len(tree["signatures"]) > MAX_SIGNATURES:
            raise PolicyRefused(name, f"it has more than {MAX_SIGNATURES} signatures")
        metadata: Metadata[S] = Metadata.from_dict(tree)
        # True is an int, and a version of 10**400 would be one that nothing can follow.
        is_version = type(metadata.signed.version) is int and metadata.signed.version <= MAX_VERSION
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise PolicyRefused(name, f"it is no TUF metadata: {str(error)[:200] or type(error).__name__}") from error
    if not isinstance(metadata.signed, form):
        raise PolicyRefused(name, f"it is a {metadata.signed.type}, not a {form.type}")
    if not is_version:
        raise PolicyRefused(name, "its version is no number up to 2**53")
    return metadata


def verify(
    name: str, role: str, delegator: Root | Targets, metadata: "Metadata[Any]", key_types: frozenset[str] = ED25519_ONLY
) -> None:
    """Raises PolicyRefused with fewer good signatures than the delegator wants of this role (section 5.3.4).

    Keys count, not their ids: one key under two ids, or written in capitals, is one.
    """
    try:
        result = delegator.get_verification_result(role, metadata.signed_bytes, metadata.signatures)
    except (ValueError, SerializationError) as error:
        raise PolicyRefused(name, f"its signatures cannot be checked: {str(error) or type(error).__name__}") from error
    keys = {identity(key) for key in result.signed.values() if key.keytype in key_types}
    if len(keys) < result.threshold:
        raise PolicyRefused(name, f"it is signed by {len(keys)} keys of {role}, and {result.threshold} are wanted")


def identity(key: Key) -> str:
    """Equal for equal keys, whatever ids they go by."""
    if isinstance(key, SSlibKey):
        public = str(key.keyval["public"]).strip()
        return public.lower() if key.keytype == "ed25519" else public
    return key.keyid


def check_content(name: str, data: bytes, said: MetaFile | TargetFile) -> None:
    """Against the length and the hashes, where the referring role names some. Raises PolicyRefused."""
    try:
        said.verify_length_and_hashes(data)
    except LengthOrHashMismatchError as error:
        raise PolicyRefused(name, f"it is not the one that was signed for: {error}") from error


def limit_of(role: str, said: MetaFile | None = None) -> int:
    """How many bytes are read. Raises PolicyRefused where the metadata announces more than we take."""
    limit = MAX_BYTES.get(role, MAX_BYTES["targets"])
    if said is None or said.length is None:
        return limit
    if said.length > limit:
        raise PolicyRefused(f"{role}.json", f"it is announced with {said.length} bytes, and {limit} are the limit")
    return said.length


def expires_ms(signed: Signed) -> int:
    return (signed.expires - _EPOCH) // timedelta(milliseconds=1)


def issued_ms(signed: Timestamp | Snapshot) -> int:
    """0 for a repository that does not say. Raises PolicyRefused for no time, or one after its own end."""
    found = signed.unrecognized_fields.get(ISSUED, 0)
    if type(found) is not int or not 0 <= found <= min(MAX_TIME_MS, expires_ms(signed)):
        raise PolicyRefused(f"{signed.type}.json", f"{ISSUED} is no time before its end")
    return found


def utc(at_ms: int) -> datetime:
    """As TUF's formats have it: whole seconds, rounded down."""
    return (_EPOCH + timedelta(milliseconds=at_ms)).replace(microsecond=0)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
