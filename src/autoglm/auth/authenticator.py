"""Finds out who sends a request or opens a connection, by what it shows: a bearer key, a token and its proof, or the
cookie of a person's session.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from autoglm.auth.clock import TrustedClock
from autoglm.auth.devices import MAX_DEVICES, Device, Devices
from autoglm.auth.issuer import Issuer
from autoglm.auth.keys import KeyRing
from autoglm.auth.people.people import People
from autoglm.auth.principal import Judge, Principal
from autoglm.auth.rate import Rate, Rates
from autoglm.auth.revocations import Revocations
from autoglm.auth.scopes import is_within
from autoglm.auth.strangers import Strangers
from autoglm.auth.tokens.challenge import Challenge
from autoglm.auth.tokens.claims import Claims
from autoglm.auth.tokens.request import RequestVerifier, Verified
from autoglm.auth.tokens.target import RequestTarget
from autoglm.core.errors import RefusalReason, SessionEnded, TokenRefused, Unauthorized

RENEWALS_PER_MINUTE = 60
"""Of one device. Each costs a signature, and one token lasts for minutes."""
_MAX_CACHED = 8192
_NO_GUESSES: frozenset[RefusalReason] = frozenset(
    {"challenge_over", "expired", "key_ended", "key_revoked", "missing", "not_yet", "revoked"}
)
"""What comes of a wrong clock, of a right that ended, or of showing nothing: it does not count against the address."""


class Shown(NamedTuple):
    """Who it is, and how long that holds."""

    principal: Principal
    ids: tuple[str, ...]
    """All by which what was shown could be revoked."""
    ends_at_ms: int | None
    body_sha256: bytes | None = None
    """What the request's body must hash to; None where nothing binds it."""
    is_of_this_site: bool = False
    """A token that was issued here, so that its holder must have enrolled here."""

    @property
    def token_ids(self) -> tuple[str, ...]:
        """Those of them that are not in the principal. None of a key."""
        return tuple(id for id in self.ids if id.startswith(("jti:", "kid:")))


class Authenticator:
    """Asked at each edge of the hub. Whoever it does not know gets Unauthorized, and learns nothing more.

    client: the address that a request comes from; empty where there is none. Wrong keys, tokens and proofs count
    against it.
    """

    def __init__(
        self, keys: KeyRing, *, issuer: Issuer, requests: RequestVerifier, devices: Devices, revocations: Revocations,
        clock: TrustedClock, judge: Judge, strangers: Strangers, people: People,
        is_revoked: Callable[[Iterable[str]], bool] = lambda _: False,
        scopes_by_roles: Callable[[str], tuple[str, ...]] = lambda _: (),
    ) -> None:  # fmt: skip
        """is_revoked: whether the policy revokes one of these ids. scopes_by_roles: what it gives an address."""
        self.scopes_by_roles = scopes_by_roles
        self.issuer = issuer
        self.requests = requests
        self.strangers = strangers
        self.people = people
        self._keys = keys
        self._devices = devices
        self._revocations = revocations
        self._clock = clock
        self._judge = judge
        self._is_revoked = is_revoked
        self._holders: dict[tuple[object, ...], Principal] = {}
        """By address, key, scopes and the issuer's limit."""
        self._rates = Rates(MAX_DEVICES)
        """By a device's key: its limit is not renewed with its token."""
        self._renewals = Rates(MAX_DEVICES)

    def by_header(self, authorization: bytes | None, client: str) -> Principal:
        """Of an `Authorization: Bearer KEY`. Raises Unauthorized, TooManyFailures."""
        if authorization is not None and authorization[7:10] == b"eyJ":  # a token, where only a shared secret is taken
            return self.by_proof(authorization, None, "", "", client).principal
        try:
            principal = self._keys.by_header(authorization)
        except Unauthorized:
            if authorization is not None:  # who shows nothing guesses nothing
                self.strangers.failed(client)
            raise
        return self._admitted(principal, client)

    def by_key(self, value: bytes, client: str) -> Principal:
        """Of a bare key. Raises Unauthorized, TooManyFailures."""
        try:
            principal = self._keys.by_key(value)
        except Unauthorized:
            self.strangers.failed(client)
            raise
        return self._admitted(principal, client)

    def _admitted(self, principal: Principal, client: str) -> Principal:
        """Raises Unauthorized for one that was revoked by its address, or by the policy."""
        if self.is_revoked((principal.credential, principal.address)):
            raise Unauthorized("this key, or whoever it belongs to, was revoked")
        if (client, principal) not in self.strangers.welcome:
            self.strangers.met(client, principal)
        return principal

    def by_proof(
        self, authorization: bytes, dpop: bytes | None, method: str, path: str, client: str = ""
    ) -> Shown:  # fmt: skip
        """Of an `Authorization: DPoP TOKEN` with the proof in the header `DPoP`, for this method and path (RFC 9449).

        Raises TokenRefused, NonceWanted, TooManyProofs, TooManyFailures.
        """
        now_ms, is_clock_trusted = self._clock.now_ms(), self._clock.is_trusted
        try:
            verified = self.requests.verify(
                authorization, dpop, method, path, now_ms, is_clock_trusted=is_clock_trusted
            )  # fmt: skip
        except TokenRefused as error:
            self._refused(error, client)
            raise
        return self._shown(verified, client)

    def check_holds(
        self, dpop: bytes | None, method: str, path: str, *, jkt: str, shared: bytes, client: str = ""
    ) -> bytes:
        """That who asks holds the key with this thumbprint, before it has a token. Returns the body's sha256.

        Raises TokenRefused, NonceWanted, TooManyProofs, TooManyFailures.
        """
        target = RequestTarget(method, path, self.requests.origins)
        try:
            proof = self.requests.verify_key(
                dpop, target, self._clock.now_ms(), jkt=jkt, shared=shared, is_clock_trusted=self._clock.is_trusted
            )  # fmt: skip
        except TokenRefused as error:
            self._refused(error, client)
            raise
        self._let_in(client, f"jkt:{jkt}")
        return proof.body_sha256

    def by_answer(self, token: bytes, proof: bytes, challenge: Challenge, client: str = "") -> Shown:
        """Who answers the challenge of his own connection. Raises TokenRefused, TooManyFailures."""
        try:
            verified = self.requests.verify_answer(token, proof, challenge, self._clock.now_ms())
        except TokenRefused as error:
            self._refused(error, client)
            raise
        return self._shown(verified, client)

    def by_password(self, password: bytes, client: str = "") -> Shown:
        """Of an MQTT 3.1.1 client: token and proof in one.

        Raises TokenRefused, NonceWanted, TooManyProofs, TooManyFailures.
        """
        try:
            verified = self.requests.verify_password(
                password, self._clock.now_ms(), is_clock_trusted=self._clock.is_trusted
            )  # fmt: skip
        except TokenRefused as error:
            self._refused(error, client)
            raise
        return self._shown(verified, client)

    def take_renewal(self, device: Device) -> None:
        """Count a token that a device gets by its key alone, against its own limit as well. Raises RateLimited."""
        self._renewals.of(device.jkt, RENEWALS_PER_MINUTE).take()
        if device.rate_per_minute is not None:
            self._rates.of(device.jkt, device.rate_per_minute).take()

    def _refused(self, error: TokenRefused, client: str) -> None:
        """Raises TooManyFailures. A good device whose clock is wrong, or which was revoked, is no guesser."""
        if error.reason not in _NO_GUESSES:
            self.strangers.failed(client)

    def _let_in(self, client: str, credential: str) -> None:
        """Raises TooManyFailures for one that was never verified from there, where others failed too often."""
        if (client, credential) not in self.strangers.welcome:
            self.strangers.met(client, credential)

    async def by_session(self, id: str) -> Shown:
        """Of a session's cookie, whose request came from the hub's own page. Raises SessionEnded."""
        session, account = await self.people.logins.check(id)
        ids = (f"session:{session.handle}", account.address)
        if self.is_revoked(ids):
            raise SessionEnded
        rate = self.people.settings.session.requests_per_minute
        principal = self._kept(
            account.address, ids[0], self.people.scopes_in(session, account),
            rate=self._rates.of(account.address, rate), ends_at_ms=session.ends_ms,
        )  # fmt: skip
        return Shown(principal, ids, session.ends_ms)

    def of_key(self, principal: Principal) -> Shown:
        """Of one that `by_header` or `by_key` found, for a connection that stays open."""
        return Shown(principal, (principal.credential, principal.address), principal.ends_at_ms)

    def is_current(self, shown: Shown) -> bool:
        """Whether one who was let in may go on."""
        if shown.ends_at_ms is not None and self._clock.now_ms() >= shown.ends_at_ms:
            return False
        if self.is_revoked(shown.ids):
            return False
        principal = shown.principal
        if principal.credential.startswith("key:"):
            return self._keys.is_current(principal)
        if principal.credential.startswith("session:"):
            account = self.people.by_address(principal.address)
            session = self.people.session_of(principal.credential)
            if session is None or account is None:
                return False
            return self.people.scopes_in(session, account) == principal.scopes
        return not shown.is_of_this_site or self._devices.by_jkt(principal.credential[4:]) is not None

    def is_revoked(self, ids: tuple[str, ...]) -> bool:
        """By this hub, or by the policy."""
        return self._revocations.of(ids) is not None or self._is_revoked(ids)

    def is_refused(self, claims: Claims) -> bool:
        """Whether a token that verifies was revoked, or its holder has not enrolled at this site, which issued it."""
        if self.is_revoked(_ids(claims)):
            return True
        if not self._is_of_this_site(claims):
            return False
        device = None if claims.jkt is None else self._devices.by_jkt(claims.jkt)
        return device is None or device.address != claims.subject

    def _is_of_this_site(self, claims: Claims) -> bool:
        return claims.issuer == self.issuer.site and not claims.is_shared_secret

    def _shown(self, verified: Verified, client: str) -> Shown:
        """Raises TokenRefused for who was revoked, or has not enrolled at this site that issued the token.

        Raises TooManyFailures.
        """
        claims = verified.claims
        ids = _ids(claims)
        is_of_this_site = self._is_of_this_site(claims)
        if self.is_refused(claims):
            raise TokenRefused("revoked")
        scopes, rate, tenant = claims.scopes, None, None
        if is_of_this_site and claims.jkt is not None and (device := self._devices.by_jkt(claims.jkt)) is not None:
            rate, tenant = device.rate_per_minute, device.tenant
            scopes = tuple(scope for scope in scopes if is_within(scope, device.scopes))
        principal = self._holder(claims, scopes, rate, tenant)
        self._let_in(client, principal.credential)
        return Shown(principal, ids, claims.ends_at_ms, verified.body_sha256, is_of_this_site)

    def _holder(self, claims: Claims, scopes: tuple[str, ...], rate: int | None, tenant: str | None) -> Principal:
        credential = f"jkt:{claims.jkt}" if claims.jkt else f"jti:{claims.jti}"
        own = None if rate is None or claims.jkt is None else self._rates.of(claims.jkt, rate)
        return self._kept(claims.subject, credential, scopes, rate=own, tenant=tenant, limit=claims.limit)

    def _kept(
        self, address: str, credential: str, scopes: tuple[str, ...], *, rate: Rate | None, tenant: str | None = None,
        ends_at_ms: int | None = None, limit: tuple[str, ...] | None = None,
    ) -> Principal:  # fmt: skip
        place = address, credential, scopes, limit
        known = self._holders.get(place)
        if known is None:
            known = Principal(
                address, address, scopes, None if rate is None else rate.per_minute, tenant,
                credential=credential, ends_at_ms=ends_at_ms, judge=self._judge, rate=rate, limit=limit,
            )  # fmt: skip
            if len(self._holders) >= _MAX_CACHED:
                self._holders.clear()
            self._holders[place] = known
        return known


def _ids(claims: Claims) -> tuple[str, ...]:
    """All by which the token could have been revoked."""
    holder = (f"jti:{claims.jti}", f"kid:{claims.kid}", claims.subject)
    return holder if claims.jkt is None else (*holder, f"jkt:{claims.jkt}")
