"""`/api/policy`: which policy is in force, bring a newer one, and why somebody may or may not."""

from typing import Annotated

import msgspec

from autoglm.auth.authenticator import Authenticator
from autoglm.auth.policy.decider import Decider
from autoglm.auth.policy.keeper import PolicyKeeper, PullState
from autoglm.auth.policy.ladder import Stage
from autoglm.auth.scopes import MAX_SCOPES
from autoglm.core.address import MAX_ADDRESS, check_address
from autoglm.gateway import fields
from autoglm.gateway.exchange import Exchange
from autoglm.gateway.keys import Scope
from autoglm.gateway.router import Route

_AREA = "policy"


class PolicyState(msgspec.Struct, frozen=True, kw_only=True):
    version: int
    """0: none, and scopes decide alone."""
    stage: Stage
    """How far it is believed: `fresh`, `warn`, `read_only`, `deny`; `none` for a hub that has no authority."""
    expires_at: int | None
    """int64 milliseconds of the Unix epoch: when it should have been renewed."""
    pull: PullState
    problem: str


class AccessQuestion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    address: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ADDRESS, examples=["user:alice"])]
    action: Annotated[str, msgspec.Meta(min_length=1, max_length=64, examples=["send:message"])]
    resource: Annotated[str, msgspec.Meta(max_length=512)] = ""
    scopes: Annotated[tuple[Scope, ...], msgspec.Meta(max_length=MAX_SCOPES)] = ()
    """Of the credential, beside what roles give."""
    credential: Annotated[str, msgspec.Meta(max_length=256)] = ""
    """By which it is known, such as `key:robot-7`."""


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    allowed: bool
    reason: str
    detail: str
    policies: tuple[str, ...]
    version: int
    stage: Stage


class PolicyGateway:
    def __init__(
        self, auth: Authenticator, keeper: PolicyKeeper, decider: Decider, *, max_body_bytes: int
    ) -> None:  # fmt: skip
        self._auth = auth
        self._keeper = keeper
        self._decider = decider
        self._max_body_bytes = max_body_bytes

    def routes(self) -> list[Route]:
        return [
            Route("GET", "/api/policy", self.state),
            Route("POST", "/api/policy/pull", self.pull),
            Route("POST", "/api/policy/snapshot", self.take),
            Route("POST", "/api/policy/explain", self.explain),
        ]

    async def state(self, exchange: Exchange, _: dict[str, str]) -> None:
        exchange.identify(self._auth).require("admin", _AREA)
        exchange.respond_json(200, self._state())

    async def pull(self, exchange: Exchange, _: dict[str, str]) -> None:
        """From the source of the settings: a request names none, or it could have the hub ask any address."""
        exchange.identify(self._auth).require("admin", _AREA, despite_clock=True)
        exchange.acted_on = f"policy:{self._decider.version}"
        await self._keeper.pull()
        exchange.acted_on = f"policy:{self._decider.version}"
        exchange.respond_json(200, self._state())

    async def take(self, exchange: Exchange, _: dict[str, str]) -> None:
        """What somebody carries here, such as on a stick. It is believed by its signatures alone."""
        exchange.identify(self._auth).require("admin", _AREA, despite_clock=True)
        exchange.acted_on = f"policy:{self._decider.version}"
        await self._keeper.take(await exchange.body(self._max_body_bytes))
        exchange.acted_on = f"policy:{self._decider.version}"
        exchange.respond_json(200, self._state())

    async def explain(self, exchange: Exchange, _: dict[str, str]) -> None:
        exchange.identify(self._auth).require("admin", _AREA)
        question = fields.decode(await exchange.body(self._max_body_bytes), AccessQuestion)
        check_address(question.address, field="address")
        found = self._decider.decide(question, question.action, question.resource)
        exchange.respond_json(
            200,
            Explanation(
                allowed=found.allowed, reason=found.reason, detail=found.detail, policies=found.policy_ids,
                version=found.version, stage=found.stage,
            ),
        )  # fmt: skip

    def _state(self) -> PolicyState:
        snapshot = self._decider.snapshot
        return PolicyState(
            version=self._decider.version, stage=self._decider.stage,
            expires_at=None if snapshot is None else snapshot.expires_ms, pull=self._keeper.pull_state,
            problem=self._keeper.problem,
        )  # fmt: skip
