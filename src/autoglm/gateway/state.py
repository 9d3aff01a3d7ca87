"""The hub about itself: health, metrics, pool, capabilities, who am I."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any, Literal, cast

import msgspec

from autoglm.auth.authenticator import Authenticator
from autoglm.auth.people.roles import Role
from autoglm.auth.people.sessions import Method
from autoglm.core.clock import monotonic_s
from autoglm.core.envelope import envelope_schema
from autoglm.core.errors import HubError, NotFound
from autoglm.doctor.capabilities import Capability
from autoglm.gateway.exchange import Exchange
from autoglm.gateway.metrics import CONTENT_TYPE, Metrics
from autoglm.gateway.router import Route
from autoglm.inference.instance import Instance
from autoglm.inference.providers.local import LocalFleet
from autoglm.inference.scheduler import Scheduler

_FRESH_S = 1.0
"""For so long a row that could be written shows that rows can be written."""
_ENVELOPE_SCHEMA = msgspec.json.format(msgspec.json.encode(envelope_schema()), indent=2) + b"\n"


class Health(msgspec.Struct, frozen=True):
    status: Literal["ok"]
    version: str


class Readiness(msgspec.Struct, frozen=True):
    is_ready: bool
    reasons: list[str]


class MySession(msgspec.Struct, frozen=True, kw_only=True):
    """Times are int64 milliseconds of the Unix epoch."""

    handle: str
    method: Method
    roles: tuple[Role, ...]
    """Those that count in this session."""
    passkey_roles: tuple[Role, ...]
    """Further ones of the person, which count after a login by passkey."""
    created_at: int
    ends_at: int
    is_fresh: bool
    """Whether passkeys may be changed, and other sessions ended, without another login."""


class Me(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks."""

    principal: str
    address: str
    scopes: tuple[str, ...]
    inside_wechat: bool
    session: MySession | None = None
    """Of a person who has logged in; null for a key or a token."""


class EngineReading(msgspec.Struct, frozen=True, kw_only=True):
    """Of an engine's own metrics."""

    running: int
    waiting: int
    foreign: int
    """How many of both are not this hub's."""
    cache_use: float | None
    """Of the KV cache, 0 to 1; null where the engine does not tell."""
    age_s: float


class PoolInstance(msgspec.Struct, frozen=True, kw_only=True):
    """One instance of the pool, as it is at this moment."""

    name: str
    provider: str
    models: tuple[str, ...]
    state: Literal[
        "starting", "ready", "down", "blocked", "cooling", "draining", "drained", "idle", "asleep", "stopped"
    ]
    slots: int
    """How many requests it may run at a time, by its settings."""
    limit: int
    """How many it bears now, as its throttling shows."""
    running: int
    waiting: int
    """Requests in the queue that it could take."""
    served: int
    engine: EngineReading | None
    """What the engine says of its own load; null when it is not asked, or has not said so lately."""
    error: str
    since: int
    """When it came into this state, milliseconds of the Unix epoch."""
    group: str
    """The local [[instance]] that it is a worker of; of any other instance its own name."""
    load_s: float
    """What a start of the local worker takes; 0 of any other instance."""
    pid: int
    """Of a local one's process; 0 while there is none."""
    memory_bytes: int
    """What the local worker takes of the memory now; 0 of any other instance."""


class Pool(msgspec.Struct, frozen=True):
    instances: list[PoolInstance]
    waiting: int


class InstanceState(msgspec.Struct, frozen=True):
    name: str
    state: str


class Drained(msgspec.Struct, frozen=True):
    name: str
    state: Literal["draining", "drained"]
    running: int
    """Requests that still run there."""


class Capabilities(msgspec.Struct, frozen=True):
    inside_wechat: bool
    capabilities: list[Capability]


class StateGateway:
    def __init__(
        self, auth: Authenticator, scheduler: Scheduler, metrics: Metrics, fleet: LocalFleet, *,
        check_ready: Callable[[], Awaitable[None]],
        capabilities: Callable[[], Awaitable[list[Capability]]],
        openapi: Callable[[], dict[str, Any]],
        version: str,
    ) -> None:  # fmt: skip
        """check_ready: raises a HubError when the store cannot be written to."""
        self._auth = auth
        self._scheduler = scheduler
        self._metrics = metrics
        self._fleet = fleet
        self._check_ready = check_ready
        self._capabilities = capabilities
        self._openapi = openapi
        self._version = version
        self._description: bytes | None = None
        self._checking = asyncio.Lock()
        self._checked_s = -math.inf
        self._trouble = ""

    def routes(self) -> list[Route]:
        return [
            Route("GET", "/healthz", self.healthz),
            Route("GET", "/readyz", self.readyz),
            Route("GET", "/metrics", self.metrics),
            Route("GET", "/openapi.json", self.openapi),
            Route("GET", "/api/schemas/envelope.json", self.schema),
            Route("GET", "/api/me", self.me),
            Route("GET", "/api/pool", self.pool),
            Route("POST", "/api/pool/{name}/resume", self.resume),
            Route("POST", "/api/pool/{name}/drain", self.drain),
            Route("POST", "/api/pool/{name}/start", self.start),
            Route("POST", "/api/pool/{name}/stop", self.stop),
            Route("GET", "/api/capabilities", self.capabilities),
        ]

    async def healthz(self, exchange: Exchange, _: dict[str, str]) -> None:
        exchange.respond_json(200, Health("ok", self._version))

    async def readyz(self, exchange: Exchange, _: dict[str, str]) -> None:
        reasons = []
        if self._scheduler.is_draining:
            reasons.append("the hub is shutting down")
        if trouble := await self._trouble_now():
            reasons.append(trouble)
        exchange.respond_json(503 if reasons else 200, Readiness(not reasons, reasons))

    async def _trouble_now(self) -> str:
        """Why the store takes no writes. Tried once a second at most: it writes to the disk, and anybody may ask."""
        async with self._checking:
            if monotonic_s() - self._checked_s > _FRESH_S:
                try:
                    await self._check_ready()
                    self._trouble = ""
                except HubError as error:
                    self._trouble = str(error)
                self._checked_s = monotonic_s()
            return self._trouble

    async def metrics(self, exchange: Exchange, _: dict[str, str]) -> None:
        exchange.identify(self._auth).require("read:metrics")
        exchange.respond(200, await self._metrics.page(), [(b"content-type", CONTENT_TYPE)])

    async def openapi(self, exchange: Exchange, _: dict[str, str]) -> None:
        if self._description is None:
            self._description = msgspec.json.encode(self._openapi())
        exchange.respond(200, self._description, [(b"content-type", b"application/json")])

    async def schema(self, exchange: Exchange, _: dict[str, str]) -> None:
        exchange.respond(200, _ENVELOPE_SCHEMA, [(b"content-type", b"application/schema+json")])

    async def me(self, exchange: Exchange, _: dict[str, str]) -> None:
        principal = exchange.identify(self._auth)
        me = Me(
            principal=principal.name, address=principal.address, scopes=principal.scopes,
            inside_wechat=is_inside_wechat(exchange), session=self._session(principal.credential),
        )  # fmt: skip
        exchange.respond_json(200, me)

    def _session(self, credential: str) -> MySession | None:
        people = self._auth.people
        session = people.session_of(credential)
        account = None if session is None else people.accounts.find(session.name)
        if session is None or account is None:
            return None
        roles = people.roles_in(session, account)
        return MySession(
            handle=session.handle, method=session.method, roles=roles,
            passkey_roles=tuple(role for role in account.roles if role not in roles), created_at=session.created_ms,
            ends_at=session.ends_ms, is_fresh=people.sessions.is_fresh(session),
        )  # fmt: skip

    async def pool(self, exchange: Exchange, _: dict[str, str]) -> None:
        exchange.identify(self._auth)
        instances = [
            PoolInstance(
                name=instance.name,
                provider=instance.provider,
                models=instance.models,
                state=cast(Any, instance.shown_state),
                slots=instance.slots,
                limit=int(instance.limit),
                running=instance.running,
                waiting=self._scheduler.waiting_for(instance),
                served=instance.served,
                engine=_reading(instance),
                error=instance.error,
                since=instance.since_ms,
                group=instance.process.group if instance.process else instance.name,
                load_s=round(instance.process.load_s, 2) if instance.process else 0.0,
                pid=instance.process.pid if instance.process else 0,
                memory_bytes=instance.process.memory_bytes if instance.process else 0,
            )
            for instance in self._scheduler.instances.values()
        ]
        exchange.respond_json(200, Pool(instances, self._scheduler.waiting))

    async def resume(self, exchange: Exchange, variables: dict[str, str]) -> None:
        """The operator says that what blocked an instance is gone."""
        exchange.identify(self._auth).require("admin", "pool")
        instance = self._instance(variables["name"])
        instance.resume()
        self._scheduler.changed()
        exchange.respond_json(200, InstanceState(instance.name, instance.shown_state))

    async def start(self, exchange: Exchange, variables: dict[str, str]) -> None:
        """The operator wants a worker of a local instance, now."""
        exchange.identify(self._auth).require("admin", "pool")
        instance = self._fleet.start(variables["name"])
        exchange.respond_json(200, InstanceState(instance.name, instance.shown_state))

    async def stop(self, exchange: Exchange, variables: dict[str, str]) -> None:
        """The operator wants no worker of a local instance; what runs ends first."""
        exchange.identify(self._auth).require("admin", "pool")
        instance = self._fleet.stop(variables["name"])
        exchange.respond_json(200, InstanceState(instance.name, instance.shown_state))

    async def drain(self, exchange: Exchange, variables: dict[str, str]) -> None:
        """The operator takes an instance out; asked again, it tells how far that is."""
        exchange.identify(self._auth).require("admin", "pool")
        instance = self._instance(variables["name"])
        instance.drain()
        self._scheduler.changed()
        exchange.respond_json(200, Drained(instance.name, cast(Any, instance.shown_state), instance.running))

    def _instance(self, name: str) -> Instance:
        instance = self._scheduler.instances.get(name)
        if instance is None:
            raise NotFound("instance", name)
        return instance

    async def capabilities(self, exchange: Exchange, _: dict[str, str]) -> None:
        exchange.identify(self._auth)
        inside_wechat = is_inside_wechat(exchange)
        found = [capability.seen_from(inside_wechat=inside_wechat) for capability in await self._capabilities()]
        exchange.respond_json(200, Capabilities(inside_wechat, found))


def _reading(instance: Instance) -> EngineReading | None:
    load = instance.engine_load
    if load is None:
        return None
    return EngineReading(
        running=load.running,
        waiting=load.waiting,
        foreign=instance.foreign_running,
        cache_use=load.cache_use,
        age_s=round(monotonic_s() - load.at_s, 3),
    )


def is_inside_wechat(exchange: Exchange) -> bool:
    """True when the page runs in WeChat's own browser, whose user agent says `MicroMessenger`.

    Source: WeChat's documentation on its built-in browser.
    """
    return b"micromessenger" in exchange.headers.get(b"user-agent", b"").lower()
