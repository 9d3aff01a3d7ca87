"""Passkeys: registration and login by WebAuthn, with user verification, and no name typed (discoverable keys).

Nobody learns from a login's options whether an account exists, as these name no account. Sources: WebAuthn Level 3,
sections 7.1 and 7.2; OWASP ASVS 5, V6.4. Attestation is not asked for: which brand of key it is changes no right.
"""

import base64
import hashlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import anyio.to_thread
import msgspec
import structlog

from autoglm.auth.people.accounts import Account, Accounts
from autoglm.auth.people.challenges import Challenges
from autoglm.auth.people.kept import Kept
from autoglm.auth.people.settings import PasskeySettings
from autoglm.core.clock import monotonic_s
from autoglm.core.errors import InvalidField, LoginRefused, NotFound
from autoglm.core.ports import KeyValue

if TYPE_CHECKING:
    from webauthn.authentication.verify_authentication_response import VerifiedAuthentication
    from webauthn.registration.verify_registration_response import VerifiedRegistration

log = structlog.get_logger(part="auth")

PREFIX = "auth/passkey/"
_MAX_FIELD = 16_384
"""Characters of one field of an answer; attestation objects have some hundreds."""
_MAX_LABEL = 64
_RP_NAME = "AutoGLM Hub"
_FORMATS = ("none", "packed")
"""Browsers send these when no attestation is asked for; the other formats' parsers stay out of strangers' reach."""


class Passkey(msgspec.Struct, frozen=True, kw_only=True, tag="passkey", tag_field="type"):
    """One key of a person. Holds no secret."""

    version: int = 1
    credential_id: bytes
    public_key: bytes
    """COSE."""
    name: str
    account_id: str
    label: str
    sign_count: int
    is_backed_up: bool
    created_ms: int
    used_ms: int

    @property
    def handle(self) -> str:
        """Names it in lists."""
        return _digest(self.credential_id)[:16]


class Passkeys:
    """All passkeys of this hub. `open` before use."""

    def __init__(
        self, keyvalue: KeyValue, accounts: Accounts, settings: PasskeySettings, now_ms: Callable[[], int], *,
        monotonic_s: Callable[[], float] = monotonic_s,
    ) -> None:  # fmt: skip
        self._accounts, self._settings, self._now_ms = accounts, settings, now_ms
        self._challenges = Challenges(settings.ceremony_s, monotonic_s)
        self._kept = Kept(keyvalue, PREFIX, Passkey)

    async def open(self) -> None:
        await self._kept.open()

    def listens_at(self, *origins: str) -> None:
        """The page is opened at the first of these at which browsers allow passkeys, where the settings do not say."""
        for origin in origins:
            if self._settings.origins:
                return
            with suppress(ValueError):
                self._settings = PasskeySettings.model_validate({**self._settings.model_dump(), "origins": [origin]})

    def is_offered(self, authority: str) -> bool:
        """authority: of the request, `hub.example:8443`: whether a page that came from there can use passkeys."""
        return any(urlsplit(origin).netloc == authority.lower() for origin in self._settings.origins)

    def of(self, account: Account) -> list[Passkey]:
        """Oldest first."""
        own = [passkey for _, passkey in self._kept.items() if passkey.account_id == account.id]
        return sorted(own, key=lambda passkey: passkey.created_ms)

    async def begin_registration(self, account: Account) -> dict[str, Any]:
        """What `navigator.credentials.create` takes, as JSON. Raises InvalidField when the person has too many, and
        where no origin of the hub allows passkeys.
        """
        self._check_offered()
        self._check_room(account)
        challenge = self._challenges.make(_creating(account))
        return await anyio.to_thread.run_sync(self._creation_options, account, challenge, self.of(account))

    async def finish_registration(self, account: Account, answer: Mapping[str, Any], label: str = "") -> Passkey:
        """Keep the key that the browser made. Raises LoginRefused, InvalidField. answer: `toJSON()` of it."""
        challenge = _challenge_of(answer)
        if not self._challenges.is_good(challenge, _creating(account)):
            raise LoginRefused
        made = await anyio.to_thread.run_sync(self._verified_creation, answer, challenge)
        digest = _digest(made.credential_id)
        self._check_room(account)
        if digest in self._kept or not self._challenges.use(challenge, _creating(account)):
            raise LoginRefused
        now_ms = self._now_ms()
        passkey = Passkey(
            credential_id=made.credential_id, public_key=made.credential_public_key, name=account.name,
            account_id=account.id, label=label[:_MAX_LABEL], sign_count=made.sign_count,
            is_backed_up=made.credential_backed_up, created_ms=now_ms, used_ms=now_ms,
        )  # fmt: skip
        await self._kept.put(digest, passkey)
        return passkey

    async def begin_login(self) -> dict[str, Any]:
        """What `navigator.credentials.get` takes, as JSON; the same for all. Raises InvalidField: see above."""
        self._check_offered()
        return await anyio.to_thread.run_sync(self._request_options, self._challenges.make("get"))

    async def finish_login(self, answer: Mapping[str, Any]) -> Account:
        """Whose key answered. Raises LoginRefused, whatever was wrong."""
        challenge = _challenge_of(answer)
        digest = _digest(_bytes_of(answer, "rawId"))
        passkey = self._kept.get(digest)
        if passkey is None or not self._challenges.is_good(challenge, "get"):
            raise LoginRefused
        account = self._accounts.find(passkey.name)
        if account is None or account.id != passkey.account_id or account.is_disabled:
            raise LoginRefused
        handle = answer["response"].get("userHandle")
        if handle is not None and _bytes_of(answer["response"], "userHandle") != bytes.fromhex(account.id):
            raise LoginRefused
        seen = await anyio.to_thread.run_sync(self._verified_request, answer, challenge, passkey)
        passkey = self._kept.get(digest) or passkey
        if seen.new_sign_count <= passkey.sign_count and (seen.new_sign_count or passkey.sign_count):
            # A second authenticator has the same key (WebAuthn, section 6.1.1).
            log.warning("passkey_counter_went_back", person=passkey.name, passkey=passkey.handle)
            raise LoginRefused
        if digest not in self._kept or not self._challenges.use(challenge, "get"):
            raise LoginRefused
        await self._kept.put(
            digest,
            msgspec.structs.replace(
                passkey, sign_count=seen.new_sign_count, used_ms=self._now_ms(),
                is_backed_up=seen.credential_backed_up,
            ),
        )  # fmt: skip
        return account

    def asked_for(self, answer: Mapping[str, Any]) -> Account | None:
        """Whose key an answer names, before anything of it is verified. Raises LoginRefused for a challenge that is not
        ours, or was used: such an answer costs nothing.
        """
        if not self._challenges.is_good(_challenge_of(answer), "get"):
            raise LoginRefused
        passkey = self._kept.get(_digest(_bytes_of(answer, "rawId")))
        return None if passkey is None else self._accounts.find(passkey.name)

    async def remove(self, account: Account, handle: str) -> None:
        """Raises NotFound for a handle that is not this person's."""
        for digest, passkey in self._kept.everything():
            if passkey.account_id == account.id and passkey.handle == handle:
                await self._kept.drop(digest)
                return
        raise NotFound("passkey", handle[:64])

    async def sweep(self) -> None:
        """Forget those whose end could not be written."""
        await self._kept.finish()

    async def forget(self, name: str) -> None:
        """All of a person."""
        for digest in [digest for digest, passkey in self._kept.everything() if passkey.name == name]:
            await self._kept.drop(digest)

    def _check_offered(self) -> None:
        if not self._settings.origins:
            raise InvalidField(
                "passkey", "none without people.passkey.origins: browsers want https, or http://localhost"
            )

    def _check_room(self, account: Account) -> None:
        if len(self.of(account)) >= self._settings.max_per_person:
            raise InvalidField("passkey", f"{account.name!r} has {self._settings.max_per_person} already; remove one")

    # --- in a thread: the first call loads the library ---

    def _creation_options(self, account: Account, challenge: bytes, own: list[Passkey]) -> dict[str, Any]:
        from webauthn import generate_registration_options
        from webauthn.helpers import options_to_json_dict
        from webauthn.helpers.structs import (
            AuthenticatorSelectionCriteria,
            PublicKeyCredentialDescriptor,
            ResidentKeyRequirement,
            UserVerificationRequirement,
        )

        options = generate_registration_options(
            rp_id=self._settings.name, rp_name=_RP_NAME, user_name=account.name, user_id=bytes.fromhex(account.id),
            challenge=challenge, timeout=int(self._settings.ceremony_s * 1000),
            exclude_credentials=[PublicKeyCredentialDescriptor(id=passkey.credential_id) for passkey in own],
            authenticator_selection=AuthenticatorSelectionCriteria(
                resident_key=ResidentKeyRequirement.REQUIRED, user_verification=UserVerificationRequirement.REQUIRED
            ),
        )  # fmt: skip
        return options_to_json_dict(options)

    def _request_options(self, challenge: bytes) -> dict[str, Any]:
        from webauthn import generate_authentication_options
        from webauthn.helpers import options_to_json_dict
        from webauthn.helpers.structs import UserVerificationRequirement

        options = generate_authentication_options(
            rp_id=self._settings.name, challenge=challenge, timeout=int(self._settings.ceremony_s * 1000),
            user_verification=UserVerificationRequirement.REQUIRED,
        )  # fmt: skip
        return options_to_json_dict(options)

    def _verified_creation(self, answer: Mapping[str, Any], challenge: bytes) -> "VerifiedRegistration":
        from webauthn import verify_registration_response
        from webauthn.helpers import parse_attestation_object

        _check_client_data(answer)
        try:
            attestation = parse_attestation_object(_bytes_of(answer["response"], "attestationObject"))
            if attestation.fmt not in _FORMATS:
                raise _refusal("attestation format")
            return verify_registration_response(
                credential=dict(answer), expected_challenge=challenge, expected_rp_id=self._settings.name,
                expected_origin=list(self._settings.origins), require_user_verification=True,
            )  # fmt: skip
        except LoginRefused:
            raise
        except Exception as error:  # noqa: BLE001  # the library's parsers raise whatever hostile bytes provoke
            raise _refusal(type(error).__name__) from None

    def _verified_request(
        self, answer: Mapping[str, Any], challenge: bytes, passkey: Passkey
    ) -> "VerifiedAuthentication":
        from webauthn import verify_authentication_response

        _check_client_data(answer)
        try:
            return verify_authentication_response(
                credential=dict(answer), expected_challenge=challenge, expected_rp_id=self._settings.name,
                expected_origin=list(self._settings.origins), credential_public_key=passkey.public_key,
                credential_current_sign_count=0,  # compared by the caller, who tells a copied key from a bad answer
                require_user_verification=True,
            )  # fmt: skip
        except Exception as error:  # noqa: BLE001  # as above
            raise _refusal(type(error).__name__) from None


def _creating(account: Account) -> str:
    return f"create {account.id}"


def _digest(credential_id: bytes) -> str:
    return hashlib.sha256(credential_id).hexdigest()


def _refusal(reason: str) -> LoginRefused:
    log.info("passkey_refused", reason=reason)
    return LoginRefused()


def _client_data_of(answer: Mapping[str, Any]) -> dict[str, Any]:
    response = answer.get("response")
    if not isinstance(response, dict):
        raise LoginRefused
    try:
        found = msgspec.json.decode(_bytes_of(response, "clientDataJSON"))
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        raise LoginRefused from None
    if not isinstance(found, dict):
        raise LoginRefused
    return found


def _challenge_of(answer: Mapping[str, Any]) -> bytes:
    return _bytes_of(_client_data_of(answer), "challenge")


def _check_client_data(answer: Mapping[str, Any]) -> None:
    """What the library leaves out: the page must not be framed by another origin (WebAuthn, section 7.2, step 14)."""
    found = _client_data_of(answer)
    if found.get("crossOrigin") not in (None, False) or "topOrigin" in found:
        raise LoginRefused


def _bytes_of(members: Mapping[str, Any], name: str) -> bytes:
    """A field in base64url without padding. Raises LoginRefused."""
    text = members.get(name)
    if not isinstance(text, str) or not 0 < len(text) <= _MAX_FIELD:
        raise LoginRefused
    try:
        return base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raise LoginRefused from None
