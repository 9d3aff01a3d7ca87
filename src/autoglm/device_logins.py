"""How devices log in at the hub's own MQTT broker: by token and proof, or as one of the fixed users of the settings.

And what each may do there: its filters say what at most, and the judge whether it still may, topic by topic.
"""

from collections.abc import Callable, Sequence

from autoglm.auth.audit.recorder import Audit, Who
from autoglm.auth.audit.refusals import Refusals
from autoglm.auth.authenticator import Authenticator, Shown
from autoglm.auth.occasion import Occasion, occasion
from autoglm.auth.principal import Principal
from autoglm.auth.tokens.challenge import Challenge as TokenChallenge
from autoglm.auth.tokens.challenge import is_password, parse_password
from autoglm.auth.vouched import Vouched
from autoglm.channels.broker.gate import (
    Attempt,
    Challenge,
    Decision,
    FixedUsers,
    Grants,
    Rights,
    filters_of,
    logged,
    subscribed,
)
from autoglm.channels.broker.gate.codec import SERVER_UNAVAILABLE, Violation
from autoglm.channels.broker.gate.rights import METHOD
from autoglm.channels.broker_settings import BrokerUser
from autoglm.core.clock import monotonic_s
from autoglm.core.errors import HubError, TooManyFailures, TooManyProofs, Unauthorized

_LOGIN = "connect"
_DOOR = "mqtt"
ASKED_AGAIN_S = 60
"""So long an answer about a topic is kept at most: the audit then tells in which minutes a device wrote there."""
_REFUSALS_WRITTEN = 100
"""Of one connection in that time; who tries a million topics must not fill the audit with them."""


class LoginRecord:
    """A `Record` for the gate: logins go into the audit. What devices do there, `JudgedTopics` writes down."""

    def __init__(self, audit: Audit, refusals: Refusals) -> None:
        self._audit, self._refusals = audit, refusals

    def __call__(self, decision: Decision) -> None:
        if decision.action != _LOGIN:
            logged(decision)
            return
        if not decision.name:
            self._refusals.note(_DOOR, decision.address, decision.reason)
            return
        moment = occasion.set(Occasion("", decision.address))
        try:
            who = Who(decision.name, decision.name if ":" in decision.name else "", f"mqtt:{decision.client_id}")
            self._audit.decision(
                who, "mqtt:connect", decision.resource, is_allowed=decision.is_allowed, reason=decision.reason[:200]
            )  # fmt: skip
        finally:
            occasion.reset(moment)


class JudgedTopics:
    """`Topics` of one connection. Beside its own filters, those of its roles count, as they are at the moment."""

    def __init__(
        self, principal: Principal, grants: Callable[[], Grants], client: str
    ) -> None:  # fmt: skip
        """grants: the filters of now. client: the device's IP address."""
        self._principal = principal
        self._grants = grants
        self._client = client
        self._known_epoch = -1
        self._granted = grants()
        self._refusals_left = _REFUSALS_WRITTEN

    @property
    def epoch(self) -> int:
        return self._principal.epoch + int(monotonic_s()) // ASKED_AGAIN_S  # neither goes back

    def may_publish(self, topic: str) -> bool:
        return self._decide("publish:topic", topic, is_granted=self._now().may_publish(topic))

    def may_still_publish(self, topic: str) -> bool:
        is_granted = self._now().may_publish(topic)
        return self._decide("publish:topic", topic, is_granted=is_granted, is_done=False)

    def may_read(self, topic: str) -> bool:
        """The subscription was written down; of what it brings, only refusals are."""
        return self._decide("subscribe:topic", topic, is_granted=self._now().may_read(topic), is_done=False)

    def may_subscribe(self, pattern: str) -> bool:
        wanted = subscribed(pattern)
        if wanted is None:  # no filter at all
            return False
        return self._decide("subscribe:topic", wanted, is_granted=self._now().may_subscribe(pattern))

    def _now(self) -> Grants:
        if (epoch := self.epoch) != self._known_epoch:
            self._known_epoch, self._granted, self._refusals_left = epoch, self._grants(), _REFUSALS_WRITTEN
        return self._granted

    def _decide(self, action: str, topic: str, *, is_granted: bool, is_done: bool = True) -> bool:
        """is_done: it is about to be done, if it is allowed."""
        moment = occasion.set(Occasion("", self._client, is_reading=action == "subscribe:topic"))
        try:
            is_allowed = is_granted and self._principal.allows(action, topic)
            if is_allowed:
                if is_done:
                    self._principal.decided(action, topic, is_allowed=True)
            elif self._refusals_left:
                self._refusals_left -= 1
                self._principal.decided(action, topic, is_allowed=False)
        except HubError as error:  # what cannot be written down is not done, nor said to be: it comes again
            raise Violation(SERVER_UNAVAILABLE, f"the audit does not take it: {error}") from error
        finally:
            occasion.reset(moment)
        return is_allowed


class DeviceLogins:
    """An `Authenticate` for the gate. MQTT 5 answers a challenge; with 3.1.1 the password is token and fresh proof."""

    def __init__(self, auth: Authenticator, vouched: Vouched, users: Sequence[BrokerUser]) -> None:
        self._auth = auth
        self._vouched = vouched
        self._fixed = FixedUsers(users)
        self._users = {user.name: user for user in users}

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
        return self._rights_of_user(attempt, (await self._fixed(attempt)).name)

    def _answered(self, attempt: Attempt) -> Shown:
        """The gate holds the challenge for its connection and lets it be answered once, within seconds."""
        answer = parse_password(attempt.data)
        challenge = TokenChallenge("MQTT", nonce=attempt.challenge.decode("latin-1"))
        return self._auth.by_answer(answer.token, answer.proof, challenge, attempt.address)

    def _rights(self, attempt: Attempt, shown: Shown) -> Rights:
        principal = shown.principal
        if attempt.username not in ("", principal.address, principal.address.partition(":")[2]):
            raise Unauthorized("the user name is not the one of the token")
        standing = shown._replace(ends_at_ms=None)  # that it ends is for the gate, which lets its will be published
        topics = JudgedTopics(principal, lambda: self._granted(principal.address, principal.scopes), attempt.address)
        return Rights(principal.address, topics, shown.ends_at_ms, lambda: not self._auth.is_current(standing))

    def _rights_of_user(self, attempt: Attempt, name: str) -> Rights:
        """To the judge it is `device:NAME`, as a fixed key is."""
        user, address = self._users[name], f"device:{name}"
        principal = self._vouched.of(address, "publish:topic", "subscribe:topic")
        topics = JudgedTopics(
            principal, lambda: self._granted(address, (), user.publish, user.subscribe), attempt.address
        )  # fmt: skip
        return Rights(name, topics, is_revoked=lambda: self._auth.is_revoked((address,)))

    def _granted(
        self, address: str, scopes: tuple[str, ...], publish: tuple[str, ...] = (), subscribe: tuple[str, ...] = ()
    ) -> Grants:  # fmt: skip
        """By filters, by scopes, and by the scopes of its roles at the moment."""
        held = (*scopes, *self._auth.scopes_by_roles(address))
        return Grants(
            (*publish, *filters_of(held, "publish:topic")), (*subscribe, *filters_of(held, "subscribe:topic"))
        )  # fmt: skip
