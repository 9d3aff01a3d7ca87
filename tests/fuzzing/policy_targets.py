"""What a policy repository sends: TUF metadata, the files of a policy, and the tests that people write."""

import json
from datetime import UTC, datetime
from typing import Any

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Root, Timestamp

from autoglm.auth.policy.cedar import check_readable
from autoglm.auth.policy.client import read_root
from autoglm.auth.policy.draft import FIRST
from autoglm.auth.policy.metadata import expires_ms, issued_ms, read_metadata, verify
from autoglm.auth.policy.sentences import parse_sentences
from autoglm.auth.policy.snapshot import parse_pins, parse_revocations, parse_roles
from autoglm.core.errors import PolicyRefused
from fuzzing.target import Target

_SIGNER = CryptoSigner.generate_ed25519()
_END = datetime(2030, 1, 1, tzinfo=UTC)


def _root() -> Root:
    root = Root(expires=_END)
    for role in root.roles:
        root.add_key(_SIGNER.public_key, role)
    return root


def _signed(metadata: "Metadata[Any]") -> bytes:
    metadata.sign(_SIGNER)
    return metadata.to_bytes()


_ROOT = _root()


def _timestamp(data: bytes) -> None:
    metadata = read_metadata("timestamp.json", data, Timestamp, 16 << 10)
    verify("timestamp.json", "timestamp", _ROOT, metadata)
    # What the signature holds for is what was signed: nobody else has the key.
    assert (metadata.signed.version, metadata.signed.expires) == (1, _END)
    assert issued_ms(metadata.signed) <= expires_ms(metadata.signed)


def _read_root(data: bytes) -> None:
    assert 1 <= read_root(data).version <= 2**53


def _void(_: object) -> None:
    """What is read is not looked at."""


def _cedar(data: bytes) -> None:
    check_readable(data.decode(errors="replace"))


def _sentences(data: bytes) -> None:
    parse_sentences(data.decode(errors="replace"))


_ROLES = {"roles": {"n": ["read:message"]}, "groups": {"group:g": ["user:a"]}, "grants": {"group:g": [{"role": "n"}]}}
_PIN = {"kid": "k", "issuer": "i", "public_key": "A" * 43, "not_after_ms": 1}
_REFUSED = (PolicyRefused,)
_JSON = (b'"', b"{", b"[", b"null", b"1e999", b"NaN", b"\xff")

TARGETS = (
    Target(
        "policy_root",
        _read_root,
        (_signed(Metadata(_ROOT)),),
        _REFUSED,
        (b'"keyids":[', b'"threshold":', b'"sig":', *_JSON),
    ),
    Target(
        "policy_timestamp", _timestamp, (_signed(Metadata(Timestamp(expires=_END))),), _REFUSED, (b'"version":', *_JSON)
    ),
    Target("policy_roles", lambda data: _void(parse_roles(data)), (json.dumps(_ROLES).encode(),), _REFUSED, _JSON),
    Target(
        "policy_revocations",
        lambda data: _void(parse_revocations(data)),
        (b'{"user:a": {"at_ms": 1, "reason": "x"}, "jti:b": {"at_ms": 2}}',),
        _REFUSED,
        (b"site:", *_JSON),
    ),
    Target("policy_pins", lambda data: _void(parse_pins(data)), (json.dumps([_PIN]).encode(),), _REFUSED, _JSON),
    Target(
        "policy_cedar", _cedar, (FIRST["policies.cedar"].encode(),), _REFUSED, (b"permit(", b"when {", b"?resource")
    ),
    Target(
        "policy_tests", _sentences, (FIRST["tests.toml"].encode(),), _REFUSED, (b"[[test]]", b"says =", b" may not ")
    ),
)
