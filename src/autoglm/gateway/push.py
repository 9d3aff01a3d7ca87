"""`/api/push`: the browsers in which somebody has switched notifications on."""

from typing import Annotated

import msgspec

from autoglm.auth.authenticator import Authenticator
from autoglm.auth.lasting import LastingRights
from autoglm.channels.adapters.web_push.channel import WebPush
from autoglm.channels.adapters.web_push.endpoint import origin_of
from autoglm.channels.adapters.web_push.subscriptions import (
    MAX_ENDPOINT,
    Keys,
    Subscription,
    Subscriptions,
    check_endpoint,
    owner_of,
)
from autoglm.channels.adapters.web_push.vapid import VapidKey
from autoglm.channels.directory import Directory
from autoglm.core.errors import InvalidField, NotFound
from autoglm.core.lasting import RightState
from autoglm.core.ports import KeyValue
from autoglm.gateway import fields
from autoglm.gateway.exchange import Exchange
from autoglm.gateway.router import Route

KIND = "web-push"


class PushKey(msgspec.Struct, frozen=True):
    key: str
    """`applicationServerKey` for `PushManager.subscribe`: base64url of the hub's public key."""


class NewSubscription(msgspec.Struct, frozen=True, kw_only=True):
    """What the browser's `PushSubscription.toJSON()` gives; other members of it are left."""

    endpoint: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ENDPOINT)]
    keys: Keys
    expirationTime: float | None = None  # the browser's name
    """Not looked at: the push service says when a subscription has ended."""


class PushBrowser(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    service: str
    """Origin of the browser's push service."""
    created: int
    """Milliseconds of the Unix epoch."""


class PushBrowsers(msgspec.Struct, frozen=True):
    subscriptions: list[PushBrowser]


class PushGateway:
    def __init__(
        self, auth: Authenticator, rights: LastingRights, keyvalue: KeyValue, directory: Directory, *,
        max_body_bytes: int,
    ) -> None:  # fmt: skip
        self._auth = auth
        self._rights = rights
        self._subscriptions = Subscriptions(keyvalue)
        self._key = VapidKey(keyvalue)
        self._channels = [
            outgoing.channel for outgoing in directory.outgoing.values() if isinstance(outgoing.channel, WebPush)
        ]
        for channel in self._channels:
            channel.right_of = self._right_of
        self._max_body_bytes = max_body_bytes

    def routes(self) -> list[Route]:
        return [
            Route("GET", "/api/push/key", self.key),
            Route("GET", "/api/push/subscriptions", self.own),
            Route("POST", "/api/push/subscriptions", self.subscribe),
            Route("DELETE", "/api/push/subscriptions/{id}", self.unsubscribe),
        ]

    async def key(self, exchange: Exchange, _: dict[str, str]) -> None:
        exchange.identify(self._auth)
        self._check_set_up()
        exchange.respond_json(200, PushKey(await self._key.public()))

    async def own(self, exchange: Exchange, _: dict[str, str]) -> None:
        """Those of the key's own address."""
        principal = exchange.identify(self._auth)
        found = await self._subscriptions.of(principal.address)
        exchange.respond_json(200, PushBrowsers([_shown(one) for one in found]))

    async def subscribe(self, exchange: Exchange, _: dict[str, str]) -> None:
        """For the key's own address: what is pushed is what its messages say."""
        principal = exchange.identify(self._auth)
        principal.require("read:message", principal.address)
        body = fields.decode(await exchange.body(self._max_body_bytes), NewSubscription)
        self._check_set_up()
        self._check_endpoint(body.endpoint)
        right = self._rights.of(principal, None if exchange.shown is None else exchange.shown.ends_at_ms)
        added = await self._subscriptions.add(principal.address, body.endpoint, body.keys, right)
        exchange.respond_json(200, _shown(added))

    async def unsubscribe(self, exchange: Exchange, variables: dict[str, str]) -> None:
        principal = exchange.identify(self._auth)
        await self._subscriptions.remove(principal.address, variables["id"])
        exchange.respond(204, b"")

    def _right_of(self, owner: str, subscription: Subscription) -> RightState:
        return self._rights.state(subscription.right, owner, "read:message", owner)

    def _check_set_up(self) -> None:
        if not self._channels:
            raise NotFound("channel of the kind", KIND)

    def _check_endpoint(self, endpoint: str) -> None:
        """Raises InvalidField for what is no endpoint, and for one that no channel would call."""
        check_endpoint(endpoint)
        refusals = [channel.rule.refusal(endpoint) for channel in self._channels]
        if None not in refusals:
            raise InvalidField("endpoint", next(words.en for words in refusals if words is not None))


def owner_of_pushed(directory: Directory, address: str) -> str | None:
    """In whose browsers a message to the address is shown: user:alice for channel:push/alice, None for other kinds."""
    name, _, target = address.removeprefix("channel:").partition("/")
    outgoing = directory.outgoing.get(name) if address.startswith("channel:") else None
    return owner_of(target) if outgoing is not None and isinstance(outgoing.channel, WebPush) else None


def _shown(subscription: Subscription) -> PushBrowser:
    """Without the endpoint and the keys, which are secrets."""
    return PushBrowser(
        id=subscription.id, service=origin_of(subscription.endpoint), created=subscription.created
    )  # fmt: skip
