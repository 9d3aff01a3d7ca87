"""How devices log in at the hub's own MQTT broker: by token and proof, or as one of the fixed users of the settings."""

from autoglm.auth.audit.recorder import Audit, Who
from autoglm.auth.audit.refusals import Refusals
from autoglm.auth.authenticator import Authenticator, Shown
from autoglm.auth.occasion import Occasion, occasion
from autoglm.auth.tokens.challenge import Challenge as TokenChallenge
from autoglm.auth.tokens.challenge import is_password, parse_password
from autoglm.channels.broker.gate import Attempt, Challenge, Decision, FixedUsers, Rights, filters_of
from autoglm.channels.broker.gate.rights import METHOD
from autoglm.core.errors import TooManyFailures, TooManyProofs, Unauthorized

_LOGIN = "connect"
_DOOR = "mqtt"


class LoginRecord:
    """A `Record` for the gate: logins, and what devices were not let do, go into the audit."""

    def __init__(self, audit: Audit, refusals: Refusals) -> None:
        self._audit, self._refusals = audit, refusals

    def __call__(self, decision: Decision) -> None:
        if not decision.name:
            self._refusals.note(_DOOR, decision.address, decision.reason)
            return
        moment = occasion.set(Occasion("", decision.address))
        try:
            who = Who(decision.name, decision.name if ":" in decision.name else "", f"mqtt:{decision.client_id}")
            action = "mqtt:connect" if decision.action == _LOGIN else decision.action
            self._audit.decision(
                who, action, decision.resource, is_allowed=decision.is_allowed, reason=decision.reason[:200]
            )  # fmt: skip
        finally:
            occasion.reset(moment)


class DeviceLogins:
    """An `Authenticate` for the gate. MQTT 5 answers a challenge; with 3.1.1 the password is token and fresh proof."""

    def __init__(self, auth: Authenticator, users: FixedUsers) -> None:
        self._auth = auth
        self._users = users

    async def __call__(self, attempt: Attempt) -> Rights | Challenge:
        try:
            return await self._verified(attempt)
        except (TooManyFailures, TooManyProofs) as error:  # MQTT has no word for "later"
            raise Unauthorized(str(error)) from error

    async def _verified(self, attempt: Attempt) -> Rights | Challenge:
        if attempt.method and attempt.method != METHOD:
            raise Unauthorized(f"the authentication method is not {METHOD}")
        if attempt.method:
            if not attempt.challenge:
                return Challenge(TokenChallenge("MQTT").nonce.encode())
            return self._rights(attempt, self._answered(attempt))
        if is_password(attempt.password):
            return self._rights(attempt, self._auth.by_password(attempt.password, attempt.address))
        return await self._users(attempt)

    def _answered(self, attempt: Attempt) -> Shown:
        """The gate holds the challenge for its connection and lets it be answered once, within seconds."""
        answer = parse_password(attempt.data)
        challenge = TokenChallenge("MQTT", nonce=attempt.challenge.decode("latin-1"))
        return self._auth.by_answer(answer.token, answer.proof, challenge, attempt.address)

    def _rights(self, attempt: Attempt, shown: Shown) -> Rights:
        principal = shown.principal
        if attempt.username not in ("", principal.address, principal.address.partition(":")[2]):
            raise Unauthorized("the user name is not the one of the token")
        return Rights(
            principal.address,
            filters_of(principal.scopes, "publish:topic"),
            filters_of(principal.scopes, "subscribe:topic"),
            shown.ends_at_ms,
            lambda: not self._auth.is_current(shown),
        )
