"""Joins token, proof, nonce and memory of used proofs: whose request is it, or whose connection?"""

from typing import NamedTuple

from autoglm.auth.tokens.challenge import Challenge, parse_password
from autoglm.auth.tokens.claims import Claims
from autoglm.auth.tokens.nonce import Nonces
from autoglm.auth.tokens.proof import VerifiedProof, verify_proof
from autoglm.auth.tokens.replay import ReplayMemory
from autoglm.auth.tokens.shared_secret import SharedSecret
from autoglm.auth.tokens.target import ConnectionTarget, RequestTarget, Target
from autoglm.auth.tokens.verifier import TokenVerifier
from autoglm.core.errors import NonceWanted, TokenRefused


class Verified(NamedTuple):
    claims: Claims
    body_sha256: bytes | None
    """What the request's body must hash to: see `proof.body_matches`. None for a bearer token, which binds none."""


class RequestVerifier:
    """One for each run of the hub. What it lets through is who they say, and holds the key of the token.

    What an earlier run used is forgotten, so a proof that it may have taken must carry a nonce of this run. It took
    none whose `iat` is later than its own end and the skew, hence none later than `started_ms` and the skew. That holds
    as long as the clock does not go back between runs; `TrustedClock` sees to it, or says that it cannot be trusted.
    """

    def __init__(
        self, tokens: TokenVerifier, replays: ReplayMemory, nonces: Nonces, *, origins: frozenset[str],
        started_ms: int, window_ms: int, shared_secret: SharedSecret | None = None,
    ) -> None:  # fmt: skip
        """origins: by which this hub is called, each by `target.normal_origin`. window_ms: how old a proof may be."""
        self.tokens = tokens
        self.nonces = nonces
        self.origins = origins
        self._replays = replays
        self._started_ms = started_ms
        self._window_ms = window_ms
        self._shared_secret = shared_secret

    def verify(
        self, authorization: bytes, dpop: bytes | None, method: str, path: str, now_ms: int, *,
        is_clock_trusted: bool = True,
    ) -> Verified:  # fmt: skip
        """Whose request over HTTP it is. Raises TokenRefused, NonceWanted, TooManyProofs.

        authorization, dpop: the headers' values; whoever calls refuses a request that has one of them twice. path: as
        in the request's line. is_clock_trusted: without, each proof must carry a nonce.
        """
        scheme, _, token = authorization.partition(b" ")
        token = token.strip(b" \t")
        if scheme.lower() == b"bearer":
            return self._bearer(token, now_ms)
        if scheme.lower() != b"dpop":
            raise TokenRefused("missing")
        if dpop is None:
            raise TokenRefused("missing", "proof")
        target = RequestTarget(method, path, self.origins)
        claims, proof = self._verify(token, dpop, target, now_ms)
        self._check_fresh(proof, now_ms, is_clock_trusted=is_clock_trusted)
        return Verified(claims, proof.body_sha256)

    def verify_key(
        self, dpop: bytes | None, target: RequestTarget, now_ms: int, *, jkt: str, shared: bytes,
        is_clock_trusted: bool = True,
    ) -> VerifiedProof:  # fmt: skip
        """Whether who asks over HTTP holds the key with this thumbprint, without a token yet. Raises as `verify` does.

        shared: stands in the place of the token (`ath`), such as the code of an enrolment.
        """
        if dpop is None:
            raise TokenRefused("missing", "proof")
        proof = verify_proof(
            dpop, target=target, token=shared, jkt=jkt, now_ms=now_ms, skew_ms=self.tokens.skew_ms,
            window_ms=self._window_ms,
        )  # fmt: skip
        self._check_fresh(proof, now_ms, is_clock_trusted=is_clock_trusted)
        return proof

    def verify_answer(self, token: bytes, proof: bytes, challenge: Challenge, now_ms: int) -> Verified:
        """Whose connection it is that answers its own challenge. Raises TokenRefused."""
        challenge.take()
        target = ConnectionTarget(challenge.method, self.tokens.audience)
        claims, verified = self._verify(token, proof, target, now_ms)
        if not challenge.is_met_by(verified.nonce):
            raise TokenRefused("wrong_token", "proof")
        return Verified(claims, verified.body_sha256)

    def verify_password(self, password: bytes, now_ms: int, *, is_clock_trusted: bool = True) -> Verified:
        """Whose MQTT 3.1.1 connection it is. Raises TokenRefused, NonceWanted (no client can answer), TooManyProofs."""
        token, proof = parse_password(password)
        claims, verified = self._verify(token, proof, ConnectionTarget("MQTT", self.tokens.audience), now_ms)
        self._check_fresh(verified, now_ms, is_clock_trusted=is_clock_trusted)
        return Verified(claims, verified.body_sha256)

    def _verify(self, token: bytes, proof: bytes, target: Target, now_ms: int) -> tuple[Claims, VerifiedProof]:
        claims = self.tokens.verify(token, now_ms)
        if claims.jkt is None:
            raise TokenRefused("malformed")
        verified = verify_proof(
            proof, target=target, token=token, jkt=claims.jkt, now_ms=now_ms, skew_ms=self.tokens.skew_ms,
            window_ms=self._window_ms,
        )  # fmt: skip
        return claims, verified

    def _check_fresh(self, proof: VerifiedProof, now_ms: int, *, is_clock_trusted: bool) -> None:
        may_be_of_another_run = not is_clock_trusted or proof.iat_ms <= self._started_ms + self.tokens.skew_ms
        if proof.nonce is None:
            if may_be_of_another_run:
                raise NonceWanted(self.nonces.current())
        elif not self.nonces.is_valid(proof.nonce):
            raise NonceWanted(self.nonces.current())
        self._replays.use(proof.jkt, proof.jti, iat_ms=proof.iat_ms, now_ms=now_ms)

    def _bearer(self, token: bytes, now_ms: int) -> Verified:
        if self._shared_secret is None:
            raise TokenRefused("missing", "proof")
        claims = self._shared_secret.verify(
            token, audience=self.tokens.audience, now_ms=now_ms, skew_ms=self.tokens.skew_ms,
            max_ttl_ms=self.tokens.max_ttl_ms,
        )  # fmt: skip
        if claims.jkt is not None:  # bound to a key: no bearer token
            raise TokenRefused("missing", "proof")
        return Verified(claims, None)
