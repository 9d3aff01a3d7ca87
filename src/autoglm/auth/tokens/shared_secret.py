"""Tokens by HS256 and a secret that both sides have: only for programs that can do no better, and off by default.

Whoever can verify such a token can make one, and without `cnf` it is a bearer token: what is copied works. So the hub
warns, and what comes of it says `is_shared_secret`. Header: exactly `alg`, `typ` = `JWT`, and, where it is there, `kid`
= `shared`; so no token of one kind can pass for the other.
"""

import base64
from collections.abc import Iterable

from joserfc.jwk import OctKey

from autoglm.auth.tokens.claims import Claims, claims_of
from autoglm.auth.tokens.compact import hs256, read
from autoglm.auth.tokens.public_key import PublicKey
from autoglm.auth.tokens.token import check_bounds, check_times
from autoglm.core.errors import SettingsError, TokenRefused

TYPE = "JWT"
KID = "shared"
MIN_BYTES = 32
_MIN_DIFFERENT = 8
_MEMBERS = (frozenset({"alg", "typ"}), frozenset({"alg", "typ", "kid"}))
_MARKS_OF_KEYS = (b"-----BEGIN ", b"---- BEGIN ", b"ssh-", b"ecdsa-")
_PUBLIC = "the shared secret is a public key, which everybody may know; make a random one"


class SharedSecret:
    def __init__(self, secret: bytes, issuer: str, public_keys: Iterable[PublicKey] = ()) -> None:
        """issuer: the only `iss` that counts. public_keys: all that are pinned. Raises SettingsError."""
        if len(secret) < MIN_BYTES or len(set(secret)) < _MIN_DIFFERENT:
            raise SettingsError([f"the shared secret must be random, and at least {MIN_BYTES} bytes long"])
        self._secret = secret
        self._issuer = issuer
        self.check_against(public_keys)
        if any(mark in secret for mark in _MARKS_OF_KEYS):
            raise SettingsError([_PUBLIC])
        try:
            self._key = OctKey.import_key(secret)
        except ValueError:  # public keys and certificates of all kinds
            raise SettingsError([_PUBLIC]) from None

    def check_against(self, public_keys: Iterable[PublicKey]) -> None:
        """Raises SettingsError when the secret is or holds one of these. To be asked again when keys are pinned later.

        Source: RFC 8725, section 2.1 (a verifier that takes a public key for a secret).
        """
        for key in public_keys:
            # PEM has the key as whole letters of base64: 12 bytes come before it.
            standard = base64.b64encode(key.raw).rstrip(b"=")
            texts = (key.x.encode(), standard, key.raw.hex().encode(), key.thumbprint.encode())
            if key.raw in self._secret or any(text.lower() in self._secret.lower() for text in texts):
                raise SettingsError([_PUBLIC])

    def verify(self, token: bytes, *, audience: str, now_ms: int, skew_ms: int, max_ttl_ms: int) -> Claims:
        """Raises TokenRefused."""
        compact = read(token, what="token", algorithm="HS256", typ=TYPE, members=_MEMBERS)
        if compact.header.get("kid", KID) != KID:
            raise TokenRefused("unknown_key")
        if not hs256.verify(compact.signing_input, compact.signature, self._key):
            raise TokenRefused("bad_signature")
        try:
            claims = claims_of(compact.payload, KID, is_shared_secret=True)
        except ValueError:
            raise TokenRefused("malformed") from None
        check_bounds(claims, self._issuer, audience, max_ttl_ms)
        check_times(claims, None, now_ms, skew_ms)
        return claims

    def __repr__(self) -> str:
        return f"SharedSecret(issuer={self._issuer!r})"
