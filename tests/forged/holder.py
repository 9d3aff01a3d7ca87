"""A real device's credential, and the means to forge others from it: by its own key, by the hub's, or by a thief's.

Forgeries are signed as well as can be, by the hub's own key where that helps: one thing alone is wrong with each, so
that it is this which is refused.
"""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from auth.tokens.forge import signed
from autoglm.auth.tokens.claims import new_jti
from autoglm.auth.tokens.compact import decode_base64url
from autoglm.auth.tokens.proof import make_proof, sha256_text
from autoglm.auth.tokens.signing import SigningKey

THIEF = SigningKey(Ed25519PrivateKey.from_private_bytes(b"thief" * 6 + b"!!"))

Json = dict[str, Any]


class Moment(NamedTuple):
    """What an honest client knows when it makes its proof."""

    method: str
    url: str
    nonce: str | None
    now_ms: int
    body: bytes = b""


class Holder(NamedTuple):
    """A device that has enrolled, with the key of the hub where it has."""

    site: SigningKey
    key: SigningKey
    token: bytes

    def header(self, **changes: Any) -> Json:
        return self._part(0) | changes

    def payload(self, **changes: Any) -> Json:
        return self._part(1) | changes

    def issued(
        self, head: Json | bytes | None = None, body: Json | bytes | None = None, by: SigningKey | None = None
    ) -> bytes:
        """A token of these parts, signed by the hub's own key where nobody else is named."""
        head, body = head or self.header(), body or self.payload()
        return signed(head, body, by or self.site)

    def with_claims(self, **changes: Any) -> bytes:
        return self.issued(body=self.payload(**changes))

    def with_header(self, **changes: Any) -> bytes:
        return self.issued(self.header(**changes))

    def proof_header(self, **changes: Any) -> Json:
        return {"alg": "Ed25519", "typ": "dpop+jwt", "jwk": self.key.public.jwk} | changes

    def proof_payload(self, moment: Moment, token: bytes, **changes: Any) -> Json:
        payload = {
            "jti": new_jti(), "htm": moment.method, "htu": moment.url, "iat": moment.now_ms // 1000,
            "ath": sha256_text(token), "bh": sha256_text(moment.body),
        }  # fmt: skip
        return payload | ({} if moment.nonce is None else {"nonce": moment.nonce}) | changes

    def _part(self, number: int) -> Json:
        part: Json = json.loads(decode_base64url(self.token.split(b".")[number]))
        return part


Prove = Callable[[Holder, Moment, bytes], bytes]
"""Makes a proof for a token, at a moment."""


def honest(holder: Holder, moment: Moment, token: bytes) -> bytes:
    """As the client of this project does."""
    return make_proof(
        holder.key, method=moment.method, url=moment.url, token=token.decode("latin-1"), body=moment.body,
        now_ms=moment.now_ms, nonce=moment.nonce,
    ).encode()  # fmt: skip


def forged(head: Json | None = None, by: SigningKey | None = None, **changes: Any) -> Prove:
    """A proof that differs by these from an honest one. head: changes to its header; by: who signs it."""

    def prove(holder: Holder, moment: Moment, token: bytes) -> bytes:
        claims = holder.proof_payload(moment, token, **changes)
        kept = {name: value for name, value in claims.items() if value is not GONE}
        return signed(holder.proof_header(**(head or {})), kept, by or holder.key)

    return prove


GONE = object()
"""Of a claim that is left out."""
