"""Compact JWS (RFC 7515, section 7.1), read strictly: one form only, so that no two readers understand it differently.

joserfc's algorithms sign and verify; its reader is not used. That takes padded and non-canonical base64url, keeps the
last of two equal JSON keys, and costs 21 us a token more than the 91 us of the signature.
"""

import binascii
import json
from collections.abc import Collection
from typing import Literal, NamedTuple, NoReturn

from joserfc.jws import JWSRegistry

from autoglm.core.errors import TokenRefused

Algorithm = Literal["Ed25519", "HS256"]
"""Ed25519: RFC 9864, which deprecates the name EdDSA."""
What = Literal["token", "proof"]

MAX_BYTES = 8192
"""Of a whole compact JWS; a server's limit for a header is near."""

ed25519 = JWSRegistry(algorithms=["Ed25519"]).get_alg("Ed25519")
hs256 = JWSRegistry(algorithms=["HS256"]).get_alg("HS256")


class Compact(NamedTuple):
    """A JWS in its parts. Its signature has not been verified."""

    header: dict[str, object]
    payload: dict[str, object]
    signing_input: bytes
    signature: bytes


def read(
    compact: bytes, *, what: What, algorithm: Algorithm, typ: str, members: Collection[frozenset[str]]
) -> Compact:  # fmt: skip
    """The parts of a JWS whose header says `algorithm` and `typ`, and has exactly the members of one of the sets.

    So `crit`, `jku`, `x5u`, `x5c`, `b64` and all that is not wanted are refused (RFC 8725, sections 3.1, 3.10, 3.11).
    Raises TokenRefused.
    """
    parts = compact.split(b".", 3) if len(compact) <= MAX_BYTES else []
    if len(parts) != 3:
        raise TokenRefused("malformed", what)
    try:
        # A member's name has no letter that needs an escape, and none of our values does.
        if b"\\" in (header_json := decode_base64url(parts[0])):
            raise TokenRefused("malformed", what)
        header = _read_object(header_json)
        payload = _read_object(decode_base64url(parts[1]))
        signature = decode_base64url(parts[2])
    except (ValueError, RecursionError):  # no base64url, no UTF-8, no JSON, nested without end
        raise TokenRefused("malformed", what) from None
    if header.get("alg") != algorithm:
        raise TokenRefused("wrong_algorithm", what)
    if header.get("typ") != typ:
        raise TokenRefused("wrong_type", what)
    if header.keys() not in members:
        raise TokenRefused("malformed", what)
    return Compact(header, payload, compact[: len(parts[0]) + 1 + len(parts[1])], signature)


def encode_base64url(data: bytes) -> str:
    """Without padding (RFC 7515, section 2)."""
    return _encoded(data).decode()


def decode_base64url(text: bytes) -> bytes:
    """Raises ValueError for all but the one form that encoding the result gives: no padding, blanks or stray bits."""
    data = binascii.a2b_base64(text.translate(_TO_BASE64) + b"=" * (-len(text) % 4))
    if not text or _encoded(data) != text:
        raise ValueError("not canonical base64url")
    return data


_TO_BASE64 = bytes.maketrans(b"-_", b"+/")
_TO_BASE64URL = bytes.maketrans(b"+/", b"-_")


def _encoded(data: bytes) -> bytes:
    return binascii.b2a_base64(data, newline=False).rstrip(b"=").translate(_TO_BASE64URL)


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Of each object at any depth. Two readers may each take another of two equal keys (RFC 8725, section 3.10)."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    for key, value in pairs:
        if not key.isascii():
            raise ValueError("no name of ours")
        if isinstance(value, str) and not value.isascii():
            value.encode()  # an escape may stand for half a character, which nobody can write down again
    return found


def _refuse_number(text: str) -> NoReturn:
    raise ValueError(f"no integer: {text[:20]}")


_json = json.JSONDecoder(
    object_pairs_hook=_without_repeats, parse_float=_refuse_number, parse_constant=_refuse_number
)  # fmt: skip


def _read_object(data: bytes) -> dict[str, object]:
    """Raises ValueError, RecursionError."""
    found = _json.decode(data.decode())
    if not isinstance(found, dict):
        raise ValueError("no object")
    return found
