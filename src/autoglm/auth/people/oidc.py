"""Logins by an OpenID provider, and going on without it.

Authorization code with PKCE, state and nonce, all three derived from one transaction that the browser keeps as a
cookie: a callback that another browser began, or that came before, opens nothing. Sources: OpenID Connect Core 1.0;
RFC 7636 (PKCE); RFC 9207 (`iss`, against mix-up); RFC 9700, section 2.1.

Offline grace: whoever logged in by the provider goes on for `grace_h` after its last yes while it cannot be reached.
Its no is kept on disk and outlives every grace; only a new login there ends it.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlencode

import msgspec
import structlog

from autoglm.auth.people.accounts import Account, Accounts, known_roles, normal_name
from autoglm.auth.people.challenges import Challenges
from autoglm.auth.people.id_token import Claims, check_claims, header_of, key_for, proven_ms, texts, verified_claims
from autoglm.auth.people.provider import Fetch, Provider, Tokens, fetch
from autoglm.auth.people.roles import Role
from autoglm.auth.people.settings import OidcSettings
from autoglm.core.clock import monotonic_s
from autoglm.core.errors import InvalidField, LoginRefused, ProviderUnreachable, SessionEnded
from autoglm.core.ports import KeyValue

log = structlog.get_logger(part="auth")

PREFIX = "auth/oidc/"
_TRANSACTION_S = 600.0
_PURPOSE = "oidc"
_MAX_CODE = 4096
_ASK_AGAIN_S = 60.0


@dataclass(frozen=True)
class Redirect:
    """Where to send the browser, and the cookie it keeps meanwhile (HttpOnly, SameSite=Lax, of this hub's origin)."""

    url: str
    transaction: str = field(repr=False)


@dataclass(frozen=True)
class Proven:
    """Whom the provider let in."""

    account: Account
    at_ms: int
    """When the person logged in there; 0 where it does not say (`auth_time`, OpenID Connect Core, section 2)."""


class _Link(msgspec.Struct, frozen=True, kw_only=True, tag="oidc", tag_field="type"):
    """Whose account a subject of the provider has."""

    version: int = 1
    name: str
    account_id: str
    confirmed_ms: int
    """The provider's last yes."""
    is_refused: bool = False
    is_removed: bool = False
    """An admin has removed the account: only an invitation lets its person in again, and not by the provider."""


class Oidc:
    """`open` before use. Refresh tokens stay in memory: no secret of a person at the provider is on the disk."""

    def __init__(
        self, settings: OidcSettings, keyvalue: KeyValue, accounts: Accounts, now_ms: Callable[[], int], *,
        fetch: Fetch = fetch, monotonic_s: Callable[[], float] = monotonic_s,
        is_claimed: Callable[[str], bool] = lambda _: False,
    ) -> None:  # fmt: skip
        """is_claimed: whether an address is somebody's already, a key's or a policy's, though no account has it."""
        self._is_claimed = is_claimed
        self._settings, self._keyvalue, self._accounts, self._now_ms = settings, keyvalue, accounts, now_ms
        self._monotonic_s = monotonic_s
        self._provider = Provider(settings, fetch=fetch, monotonic_s=monotonic_s)
        self._challenges = Challenges(_TRANSACTION_S, monotonic_s)
        self._links: dict[str, _Link] = {}
        self._by_account: dict[str, str] = {}
        self._refresh_tokens: dict[str, str] = {}
        self._asked_s: dict[str, float] = {}

    async def open(self) -> None:
        for entry in await self._keyvalue.list(PREFIX):
            self._keep(entry.key.removeprefix(PREFIX), msgspec.json.decode(entry.value, type=_Link))

    async def begin(self, *, is_fresh: bool = False) -> Redirect:
        """is_fresh: the person shall log in there anew, although the provider knows him. Raises ProviderUnreachable."""
        endpoint = (await self._provider.metadata())["authorization_endpoint"]
        transaction = self._challenges.make(_PURPOSE)
        verifier = self._derived(transaction, "verifier")
        query = urlencode({
            "response_type": "code", "client_id": self._settings.client_id, "scope": " ".join(self._settings.scopes),
            "redirect_uri": self._settings.redirect_uri, "state": self._derived(transaction, "state"),
            "nonce": self._derived(transaction, "nonce"), "code_challenge_method": "S256",
            "code_challenge": _b64(hashlib.sha256(verifier.encode()).digest()),
            # The second makes the provider say when it was (OpenID Connect Core, section 3.1.2.1).
            **({"prompt": "login", "max_age": "0"} if is_fresh else {}),
        })  # fmt: skip
        return Redirect(f"{endpoint}{'&' if '?' in endpoint else '?'}{query}", _b64(transaction))

    def check_begun(self, transaction: str, answer: Mapping[str, str]) -> None:
        """That this very browser left for the provider. Raises LoginRefused."""
        state = answer.get("state", "").encode("utf-8", "surrogatepass")
        if not hmac.compare_digest(state, self._derived(_unb64(transaction), "state").encode()):
            raise LoginRefused

    async def finish(self, transaction: str, answer: Mapping[str, str]) -> Proven:
        """Whom the provider sent back. transaction: the cookie. answer: the callback's query.

        Raises LoginRefused, whatever was wrong, and ProviderUnreachable.
        """
        # The state first: a callback that was not begun here must not spend the transaction of one that was.
        self.check_begun(transaction, answer)
        began = _unb64(transaction)
        if not self._challenges.use(began, _PURPOSE):
            raise LoginRefused
        metadata = await self._provider.metadata()
        needs_iss = metadata.get("authorization_response_iss_parameter_supported") is True
        if answer.get("iss", None if needs_iss else self._settings.issuer) != self._settings.issuer:
            raise LoginRefused
        code = answer.get("code", "")
        if "error" in answer or not 0 < len(code) <= _MAX_CODE:
            raise LoginRefused
        tokens = await self._provider.exchange(code, self._derived(began, "verifier"))
        claims = await self._claims_of(tokens, self._derived(began, "nonce"))
        digest = _digest(self._settings.issuer, claims["sub"])
        account = await self._account_of(digest, claims)
        await self._confirm(digest, account, tokens)
        return Proven(account, proven_ms(claims))

    async def recheck(self, account: Account) -> None:
        """For a request of a session that began here. Asks the provider when its last yes is `recheck_min` old.

        Raises SessionEnded: it said no, or was silent for longer than the grace.
        """
        digest, link = self._link_of(account)
        if link.is_refused:
            raise SessionEnded
        age_ms = self._now_ms() - link.confirmed_ms
        if 0 <= age_ms < self._settings.recheck_min * 60_000:
            return
        asked_s = self._asked_s.get(digest)
        if asked_s is None or self._monotonic_s() - asked_s >= _ASK_AGAIN_S:
            self._asked_s[digest] = self._monotonic_s()  # before the first await: others go on meanwhile
            if await self._ask(digest, account):
                return
        if age_ms >= self._settings.grace_h * 3_600_000:
            raise SessionEnded

    async def forget(self, name: str) -> None:
        """All of a person who is removed: the provider, which still knows him, does not let him in again."""
        for digest, link in list(self._links.items()):
            if link.name == name:
                self._refresh_tokens.pop(digest, None)
                await self._put(digest, msgspec.structs.replace(link, is_removed=True))

    async def _ask(self, digest: str, account: Account) -> bool:
        """True for a yes, False for silence. Raises SessionEnded for a no."""
        refresh_token = self._refresh_tokens.get(digest)
        try:
            if refresh_token is None:
                await self._provider.metadata(is_fresh=True)
                raise SessionEnded  # it is there: let it say yes itself
            tokens = await self._provider.refresh(refresh_token)
            if tokens.id_token is not None:
                claims = await self._claims_of(tokens, None)
                if _digest(self._settings.issuer, claims["sub"]) != digest:
                    raise LoginRefused
        except ProviderUnreachable as error:
            log.warning("oidc_provider_unreachable", person=account.name, reason=str(error))
            return False
        except LoginRefused:
            link = self._links[digest]
            self._refresh_tokens.pop(digest, None)
            await self._put(digest, msgspec.structs.replace(link, is_refused=True))
            log.warning("oidc_provider_refused", person=account.name)
            raise SessionEnded from None
        await self._confirm(digest, account, tokens)
        return True

    async def _claims_of(self, tokens: Tokens, nonce: str | None) -> Claims:
        token = tokens.id_token or ""
        alg, kid = header_of(token)
        if alg not in self._settings.algorithms:
            raise LoginRefused
        key = key_for(await self._provider.keys(), alg, kid) or key_for(
            await self._provider.keys(lacking=True), alg, kid
        )
        if key is None:
            raise LoginRefused
        claims = verified_claims(token, key, alg)
        check_claims(
            claims, issuer=self._settings.issuer, client_id=self._settings.client_id, nonce=nonce, now_ms=self._now_ms()
        )
        return claims

    async def _account_of(self, digest: str, claims: Claims) -> Account:
        link = self._links.get(digest)
        if link is None:
            return await self._new_account(digest, claims)
        account = self._accounts.find(link.name)
        if account is None and not link.is_removed:  # its account could not be written when the link was
            return await self._create(link.name, link.account_id, claims)
        if account is None or account.id != link.account_id or account.is_disabled:
            raise LoginRefused
        wanted = self._roles_of(claims)
        if self._settings.roles_by_value and account.roles != wanted:
            account = await self._accounts.change(account.name, roles=wanted)
        return account

    async def _new_account(self, digest: str, claims: Claims) -> Account:
        """The link first: an account without one would keep its person out for good."""
        if not self._settings.creates_accounts:
            raise LoginRefused
        try:
            name = normal_name(next(iter(texts(claims, "preferred_username")), claims["sub"]))
        except InvalidField as error:
            raise _not_made(error) from None
        self._check_free(name)
        id = secrets.token_hex(16)
        await self._put(digest, _Link(name=name, account_id=id, confirmed_ms=0))
        return await self._create(name, id, claims)

    async def _create(self, name: str, id: str, claims: Claims) -> Account:
        self._check_free(name)
        try:
            return await self._accounts.create(name, self._roles_of(claims), id=id)
        except InvalidField as error:
            raise _not_made(error) from None

    def _check_free(self, name: str) -> None:
        """A name proves nothing (OIDC Core, section 5.7): what is somebody's is his until an admin says otherwise."""
        if (
            self._accounts.find(name) is not None
            or self._accounts.was_removed(name)
            or self._is_claimed(f"user:{name}")
        ):
            raise _not_made(InvalidField("name", f"{name!r} is somebody's already; an admin may invite its person"))

    def holds(self, account: Account) -> bool:
        """Whether alarms go on to one who logged in by the provider: until its no, for its silence is no reason."""
        digest = self._by_account.get(account.id)
        link = None if digest is None else self._links[digest]
        return link is not None and not link.is_refused and not link.is_removed

    def _roles_of(self, claims: Claims) -> tuple[Role, ...]:
        mapped = [
            self._settings.roles_by_value[value]
            for value in texts(claims, self._settings.roles_claim)
            if value in self._settings.roles_by_value
        ]
        return known_roles(mapped or self._settings.default_roles)

    def _link_of(self, account: Account) -> tuple[str, _Link]:
        digest = self._by_account.get(account.id)
        if digest is None:
            raise SessionEnded
        return digest, self._links[digest]

    async def _confirm(self, digest: str, account: Account, tokens: Tokens) -> None:
        if tokens.refresh_token is not None:
            self._refresh_tokens[digest] = tokens.refresh_token
        self._asked_s.pop(digest, None)
        await self._put(digest, _Link(name=account.name, account_id=account.id, confirmed_ms=self._now_ms()))

    async def _put(self, digest: str, link: _Link) -> None:
        self._keep(digest, link)
        await self._keyvalue.put(PREFIX + digest, msgspec.json.encode(link))

    def _keep(self, digest: str, link: _Link) -> None:
        self._links[digest] = link
        self._by_account[link.account_id] = digest

    def _derived(self, transaction: bytes, label: str) -> str:
        return _b64(self._challenges.derive(transaction, label))


def _not_made(error: InvalidField) -> LoginRefused:
    log.warning("oidc_account_not_made", reason=str(error))
    return LoginRefused()


def _digest(issuer: str, subject: str) -> str:
    return hashlib.sha256(f"{issuer}\0{subject}".encode("utf-8", "surrogatepass")).hexdigest()


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _unb64(text: str) -> bytes:
    if len(text) > 200:
        raise LoginRefused
    try:
        return base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raise LoginRefused from None
