"""The composition root: the only place that joins parts. `Hub` is a whole hub in one object."""

import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self, TextIO, cast

import anyio
import anyio.to_thread
import msgspec
import structlog

from autoglm.audit_places import open_places
from autoglm.auth.askers import Askers
from autoglm.auth.sending import Senders
from autoglm.auth.trust import Trust, TrustParts, open_trust
from autoglm.channels.broker import Broker, open_broker
from autoglm.channels.broker.own import with_own_broker
from autoglm.channels.channel import Inbox
from autoglm.channels.deltas import Delta, Deltas
from autoglm.channels.directory import Directory
from autoglm.channels.groups import Groups
from autoglm.channels.intake import Intake
from autoglm.channels.mailbox import Mailbox
from autoglm.channels.outbox.carrier import Outgoing
from autoglm.channels.outbox.outbox import Outbox
from autoglm.channels.question_counts import QuestionCounts
from autoglm.channels.questions import Questions
from autoglm.channels.routes.notifier import Notifier
from autoglm.core.clock import now_ms
from autoglm.core.errors import PULL, NotFound, QueueFull, SettingsError, StorageFull, StoreBroken
from autoglm.core.payer import Payer
from autoglm.core.ports import Blobs
from autoglm.core.preference import PreferenceName
from autoglm.core.standard_error import StandardError
from autoglm.device_logins import DeviceLogins, LoginRecord
from autoglm.doctor.capabilities import Capability, Facts, capabilities
from autoglm.gateway.access import AccessLog, Sink, json_line, text_line
from autoglm.gateway.acts import Acts
from autoglm.gateway.admission import Admission
from autoglm.gateway.audit import AuditGateway
from autoglm.gateway.budgets import BudgetsGateway, budget_metrics, cache_metrics
from autoglm.gateway.channel_metrics import ChannelMetrics, MessageTimes
from autoglm.gateway.channels import ChannelsGateway
from autoglm.gateway.clock import ClockGateway
from autoglm.gateway.decisions import DecisionsGateway
from autoglm.gateway.devices import DevicesGateway
from autoglm.gateway.events import EventsGateway
from autoglm.gateway.front import Front
from autoglm.gateway.intents import IntentsGateway
from autoglm.gateway.interop.routes import interop_routes
from autoglm.gateway.keys import KeysGateway
from autoglm.gateway.logins import LoginsGateway
from autoglm.gateway.messages import MessagesGateway
from autoglm.gateway.metrics import Metrics
from autoglm.gateway.openai import APIS, OpenAIGateway
from autoglm.gateway.openapi import openapi
from autoglm.gateway.own_account import OwnAccountGateway
from autoglm.gateway.page import Page, strict_hosts
from autoglm.gateway.people import PeopleGateway
from autoglm.gateway.policy import PolicyGateway
from autoglm.gateway.push import PushGateway, owner_of_pushed
from autoglm.gateway.questions import QuestionsGateway
from autoglm.gateway.router import Route, Router
from autoglm.gateway.server import Server, bind, make_server
from autoglm.gateway.settings import GatewaySettings
from autoglm.gateway.standing import Standing
from autoglm.gateway.state import StateGateway
from autoglm.gateway.tasks import TasksGateway
from autoglm.gateway.tls import GatewayTls, open_tls
from autoglm.gateway.tokens import TokensGateway
from autoglm.gateway.trust_metrics import trust_metrics
from autoglm.gateway.visitors import Visitors
from autoglm.gateway.websocket import SocketGateway
from autoglm.inference.budget.amounts import Price
from autoglm.inference.budget.budgets import Budgets
from autoglm.inference.budget.ledger import BudgetLedger
from autoglm.inference.cache.cache import Cache
from autoglm.inference.call import AUTO
from autoglm.inference.correspondent import Correspondent, UseOf
from autoglm.inference.dispatch import Dispatcher
from autoglm.inference.engine.engine import Engine
from autoglm.inference.engine.ledger import Ledger
from autoglm.inference.intent.reader import IntentReader
from autoglm.inference.intent.taught import TaughtIntents
from autoglm.inference.providers.address import configured_endpoint
from autoglm.inference.respondent import Respondent
from autoglm.inference.scheduler import Scheduler
from autoglm.inference.settings import EngineSettings
from autoglm.instances import add_instances, missing_models, model_folder
from autoglm.invocation import data_option
from autoglm.policy_fetch import http_fetch
from autoglm.rendezvous import ADMIN_KEY_FILE, STATE_FILE
from autoglm.settings import Settings, check_start
from autoglm.store import Store, open_store
from autoglm.version import __version__

if TYPE_CHECKING:
    from autoglm.gateway.tracing import Tracing
    from autoglm.inference.engine.lessons import Lessons

log = structlog.get_logger()

PAGE = Path(__file__).parent / "console" / "static"
_TRIM_S = 60.0
_LAST_ANSWERS_S = 5.0
"""How long a shutdown waits for vendors' answers."""
_MAX_ATTACHMENT_BYTES = 64 << 20


class RunningHub(msgspec.Struct, frozen=True):
    """`DATA/hub.json`: how the CLI finds a hub that runs."""

    url: str
    pid: int


def load_lessons(settings: EngineSettings, state: bytes | None) -> "Lessons":
    """What the engine has learned, from its saved state or anew. Blocks: it loads numpy. Raises StateBroken."""
    from autoglm.inference.engine.learner import LearnerSettings
    from autoglm.inference.engine.lessons import Lessons

    learner = LearnerSettings(
        explore_share=settings.explore_share, young_share=settings.young_share, quality_floor=settings.quality_floor
    )
    return Lessons(learner) if state is None else Lessons.restore(state, learner)


def listen(gateway: GatewaySettings) -> socket.socket:
    """A socket that listens. Raises SettingsError with the way out."""
    try:
        return bind(gateway)
    except OSError as error:
        place = f"{gateway.host}:{gateway.port}"
        raise SettingsError([f"cannot listen on {place}: {error.strerror}; --port 0 takes a free one"]) from error


def _trust_parts(settings: Settings) -> TrustParts:
    return TrustParts(settings.trust, settings.clock, settings.policy, settings.audit, settings.key, settings.people)


def in_url(host: str) -> str:
    """An IPv6 address gets its brackets."""
    return f"[{host}]" if ":" in host else host


def _budgets(settings: Settings, store: Store) -> Budgets | None:
    """None where there is no `[[budget]]`."""
    if not settings.budget:
        return None
    prices = {model.name: Price(model.price_in, model.price_out) for model in settings.model}
    return Budgets(settings.budget, prices, BudgetLedger(store.keyvalue), currency=settings.models.currency)


async def _read_blob(blobs: Blobs, sha256: str) -> bytes | None:
    """For attachments; None also for one that no channel would carry."""
    size_bytes = await blobs.size(sha256)
    if size_bytes is None or size_bytes > _MAX_ATTACHMENT_BYTES:
        return None
    return b"".join([chunk async for chunk in blobs.read(sha256)])


class Hub:
    """A whole hub, for `autoglm up` and for programs: `async with Hub(settings, Path("data")) as hub: ...`.

    Listens when entered; `url` and `admin_key_file` then tell how to reach it. Leaving drains it: running requests end
    (at most gateway.drain_s), children stop, the store closes. Needs asyncio; uvloop makes it faster.
    """

    def __init__(
        self, settings: Settings, data_dir: Path, *, access_log: Sink | None = None, is_terminal: bool = False,
        wall_ms: Callable[[], int] = now_ms,
    ) -> None:  # fmt: skip
        """access_log: where a line for each request goes; standard error when absent.

        wall_ms: the machine's clock, for programs that try what time does; messages keep the real one.
        """
        self._wall_ms = wall_ms
        if not structlog.is_configured():
            # structlog's default prints local variables in tracebacks when rich is there: keys and messages.
            plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
            structlog.configure(
                processors=[structlog.processors.add_log_level, plain],
                logger_factory=structlog.WriteLoggerFactory(cast(TextIO, StandardError())),
            )
        self.settings = settings
        self.data_dir = data_dir = data_dir.absolute()  # workers run in another working directory
        self.url = ""
        self.new_admin_key: str | None = None
        """The admin key, when this start made it; it is shown once."""
        self.admin_key_file = data_dir / ADMIN_KEY_FILE
        self.folder = model_folder(settings, data_dir)
        self._access = AccessLog(access_log or StandardError(), text_line if is_terminal else json_line)
        self.broker: Broker | None = None
        """The hub's own MQTT broker, where the settings want one."""
        self._resources = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        try:
            await self._resources.enter_async_context(self._running())
        except BaseException:
            await self._resources.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._resources.aclose()

    @property
    def models(self) -> list[str]:
        """The models that are served."""
        return self._scheduler.models()

    @property
    def has_page(self) -> bool:
        """Whether the console is built; one that is built later is served at once."""
        return (PAGE / "index.html").exists()

    @property
    def running(self) -> int:
        """Requests for models that run or wait for a slot."""
        return self._scheduler.waiting + sum(entry.running for entry in self._scheduler.instances.values())

    @contextlib.asynccontextmanager
    async def _running(self) -> AsyncIterator[None]:
        settings = self.settings
        check_start(settings)
        async with (
            open_store(self.data_dir, settings.store) as store,
            open_places(settings.audit.place, settings.trust.site) as places,
            open_trust(
                self.data_dir,
                _trust_parts(settings),
                store.keyvalue,
                store.journal,
                fetching=http_fetch,
                places=places,
                wall_ms=self._wall_ms,
                failures_per_minute=settings.gateway.failures_per_minute,
            ) as trust,
            self._own_broker(trust),
        ):
            self._compose(store, trust)
            self.new_admin_key = await self._keys.open(self.admin_key_file)
            await self._groups.open()
            await self._taught.open()
            if self._budgets is not None:
                await self._budgets.open()
            self._tell_recovery(store)
            tls = await self._open_tls(trust.clock.now_ms)
            listener = listen(settings.gateway)
            self._listens_at(trust, listener, "http" if tls is None else "https")
            async with anyio.create_task_group() as tasks:
                for provider in self._providers:
                    tasks.start_soon(provider.run, self._scheduler.changed)
                if self.broker is not None:
                    tasks.start_soon(self.broker.run)
                tasks.start_soon(self._mailbox.run)
                tasks.start_soon(self._outbox.run)
                tasks.start_soon(self._notifier.run)
                tasks.start_soon(self._question_counts.run)
                tasks.start_soon(self._directory.run, self._inbox_of)
                if self._budgets is not None:
                    tasks.start_soon(self._budgets.ledger.run)
                tasks.start_soon(self._trim, store)
                tasks.start_soon(trust.run)
                tasks.start_soon(self._standing.run)
                if tls is not None:
                    tasks.start_soon(tls.run)
                writing = anyio.CancelScope()
                tasks.start_soon(self._correspond, writing)
                async with self._serving(listener, tls):
                    self._write_state()
                    if settings.engine.learns:  # after the start, which must not wait for numpy
                        tasks.start_soon(self._ledger.run)
                        tasks.start_soon(self._taught.run)
                    try:
                        yield
                    finally:
                        (self.data_dir / STATE_FILE).unlink(missing_ok=True)
                        self._drain()
                        writing.cancel()  # its messages are safe in the log and are answered after the next start
                if self._tracing is not None:
                    await self._tracing.aclose()
                await self._notifier.save()
                await self._outbox.drain(_LAST_ANSWERS_S)
                tasks.cancel_scope.cancel()
            await self._directory.aclose()
        self._access.flush()

    def _listens_at(self, trust: Trust, listener: socket.socket, scheme: str) -> None:
        host, port = listener.getsockname()[:2]
        self.url = f"{scheme}://{in_url(host)}:{port}"
        names = ("localhost", "127.0.0.1", *self.settings.gateway.tls_names)
        trust.listens_at(self.url, *(f"{scheme}://{in_url(name)}:{port}" for name in names if "*" not in name))
        usual = {"https": 443, "http": 80}[scheme]
        behind = "" if port == usual else f":{port}"  # browsers leave the usual port out
        pages = (*self.settings.gateway.tls_names, *(() if self.settings.gateway.is_exposed else ("localhost",)))
        trust.opens_page_at(*(f"{scheme}://{name}{behind}" for name in pages))

    async def _open_tls(self, now_ms: Callable[[], int]) -> GatewayTls | None:
        """None where the hub speaks plain HTTP. Raises SettingsError."""
        gateway = self.settings.gateway
        if not gateway.has_tls:
            return None
        from autoglm.certificates import certificate_source  # cryptography's X.509: 30 ms

        source = certificate_source(gateway, self.settings.acme, self.data_dir, now_ms)
        return await open_tls(
            source, client_ca_file=gateway.tls_client_ca_file, client_crl_file=gateway.tls_client_crl_file
        )  # fmt: skip

    @contextlib.asynccontextmanager
    async def _own_broker(self, trust: Trust) -> AsyncIterator[None]:
        """The MQTT broker that the hub runs itself, where the settings want one."""
        if not self.settings.mqtt_broker.enabled:
            yield
            return
        broker = self.settings.mqtt_broker
        logins = DeviceLogins(trust.authenticator, trust.vouched, broker.user)
        async with open_broker(
            broker, self.data_dir / "mqtt", authenticate=logins, record=LoginRecord(trust.audit, trust.refusals),
            now_ms=trust.clock.now_ms,
        ) as self.broker:  # fmt: skip
            yield

    def _compose(self, store: Store, trust: Trust) -> None:
        settings, limit = self.settings, self.settings.gateway.max_body_bytes
        self._trust, self._keys, self._auth = trust, trust.keys, trust.authenticator
        self._standing = Standing(self._auth)
        elsewhere = data_option(self.data_dir)
        pull = f"{PULL}{elsewhere}"
        self._scheduler = Scheduler(settings.scheduler, pool=settings.pool, pull=pull)
        self._ledger = Ledger(store.log, store.keyvalue, store.blobs, partial(load_lessons, settings.engine))
        configured = {entry.name: entry.examples for entry in settings.intent}
        self._reader = IntentReader(configured, with_encoder=settings.intents.encoder)
        self._taught = TaughtIntents(store.keyvalue, self._reader)
        engine = Engine(
            self._scheduler, settings.engine,
            ledger=self._ledger, understand=self._taught.understand, models=settings.model,
        )  # fmt: skip
        dispatcher = Dispatcher(self._scheduler, engine)
        self._fleet, self._providers = add_instances(settings, self.folder, self._scheduler)
        self._groups = Groups(store.keyvalue)
        self._directory = directory = Directory(
            with_own_broker(settings.channel, self.broker), partial(_read_blob, store.blobs), store.keyvalue
        )
        times = MessageTimes()
        self._outbox = outbox = Outbox(
            store.log, store.keyvalue, store.blobs, directory.outgoing, settings.outbox, on_end=times.observe
        )
        self._mailbox = Mailbox(
            store.log, store.keyvalue, self._groups, self._serves_model, directory.check_message, ends=outbox.ends
        )
        self._notifier = Notifier(
            store.log, store.keyvalue, self._mailbox, routes=settings.route, inhibits=settings.inhibit,
            people=settings.person, members=self._members,
        )  # fmt: skip
        self._compose_inboxes(store, trust)
        deltas = Deltas()

        def publish(*, reply_to: str, from_: str, to: str, index: int, text: str) -> None:
            deltas.publish(Delta(reply_to=reply_to, from_=from_, to=to, index=index, text=text))

        strip = {model.name: model.strip for model in settings.model if model.strip}
        self._budgets = budgets = _budgets(settings, store)
        respondent = Respondent(
            self._mailbox, dispatcher, publish, strip=strip, prefers=self._prefers, budgets=budgets
        )  # fmt: skip
        self._correspondent = Correspondent(
            self._mailbox, store.keyvalue, respondent, self._scheduler, payer=self._payer,
            use=self._model_use(trust),
        )  # fmt: skip
        metrics = Metrics(dispatcher)
        cache = None if settings.cache.mode == "off" else Cache(settings.cache)
        if budgets is not None:
            metrics.sources.append(lambda: budget_metrics(budgets))
        if cache is not None:
            metrics.sources.append(lambda: cache_metrics(cache))
        self._tracing = self._open_tracing(metrics)
        openai = OpenAIGateway(
            self._auth, dispatcher, metrics, standing=self._standing, max_body_bytes=limit, strip=strip,
            admission=None if budgets is None and cache is None else Admission(budgets, cache),
        )  # fmt: skip
        self._messages = MessagesGateway(
            self._auth, self._mailbox, deltas, owner_of=partial(owner_of_pushed, directory),
            standing=self._standing, lasting=trust.lasting, max_body_bytes=limit,
        )  # fmt: skip
        self._events = EventsGateway(self._auth, self._notifier, max_body_bytes=limit)
        self._compose_questions(store)
        channels = self._counted_channels(metrics, times)
        self._tasks = TasksGateway(self._auth, trust.lasting, self._mailbox, self._correspondent, max_body_bytes=limit)

        def facts() -> Facts:
            here = [model.name for model in self.folder.list()]
            exposed = settings.gateway.is_exposed
            missing = missing_models(settings, self.folder)
            served = dict.fromkeys(
                name
                for entry in self._scheduler.instances.values()
                for name in entry.models
                if entry.provider != "local" or name not in missing
            )
            return Facts(
                models_here=here, models_served=list(served), page=PAGE, is_exposed=exposed, pull=pull,
                channel_kinds=frozenset(entry.kind for entry in settings.channel),
                models_missing={name: f"autoglm {words}{elsewhere}" for name, words in missing.items()},
            )  # fmt: skip

        async def current() -> list[Capability]:
            return await anyio.to_thread.run_sync(capabilities, facts)

        state = StateGateway(
            self._auth, self._scheduler, metrics, self._fleet,
            check_ready=store.check_writable,
            capabilities=current,
            openapi=openapi,
            version=__version__,
        )  # fmt: skip
        routes = [
            *(Route("POST", path, lambda exchange, _: openai.handle(exchange)) for path in APIS),
            Route("GET", "/v1/models", lambda exchange, _: openai.models(exchange)),
            Route("GET", "/v1/models/{id}", openai.model, takes_rest=True),
            *self._messages.routes(),
            *self._tasks.routes(),
            *self._events.routes(),
            *self._questions.routes(),
            *interop_routes(self._auth, self._notifier, self._messages.check_open, max_body_bytes=limit),
            *DecisionsGateway(self._auth, self._ledger, engine, settings.engine, max_body_bytes=limit).routes(),
            *IntentsGateway(self._auth, self._reader, self._taught, max_body_bytes=limit).routes(),
            *state.routes(),
            *KeysGateway(self._auth, self._keys, max_body_bytes=limit).routes(),
            *DevicesGateway(
                self._auth,
                trust.devices,
                trust.revocations,
                token_ttl_s=settings.trust.token_ttl_s,
                max_body_bytes=limit,
            ).routes(),
            *TokensGateway(self._auth, trust, max_body_bytes=limit).routes(),
            *PolicyGateway(self._auth, trust.policy, trust.decider, max_body_bytes=limit).routes(),
            *ClockGateway(self._auth, trust.clock, trust.audit, max_body_bytes=limit).routes(),
            *AuditGateway(self._auth, trust, max_body_bytes=limit).routes(),
            *self._people_routes(trust),
            *BudgetsGateway(self._auth, budgets).routes(),
            *channels.routes(),
            *PushGateway(self._auth, trust.lasting, store.keyvalue, directory, max_body_bytes=limit).routes(),
        ]
        self._sockets = SocketGateway(self._auth, self._mailbox, self._messages, self._standing, trust.refusals)
        self._front = Front(
            openai=openai, messages=self._messages, router=Router(routes),
            page=Page(PAGE, strict_hosts=strict_hosts(settings.gateway)),
            metrics=metrics, access=self._access, acts=Acts(trust.audit, trust.refusals),
            visitors=Visitors(self._auth, has_tls=settings.gateway.has_tls),
            tracing=self._tracing,
        )  # fmt: skip

    def _people_routes(self, trust: Trust) -> list[Route]:
        logins = LoginsGateway(trust.people, trust.audit, trust.refusals, has_tls=self.settings.gateway.has_tls)
        own = OwnAccountGateway(self._auth, trust.people, logins)
        return [*logins.routes(), *own.routes(), *PeopleGateway(self._auth, trust.people, trust.lasting).routes()]

    def _compose_questions(self, store: Store) -> None:
        questions = Questions(store.log, self._mailbox, self._notifier.reach)
        self._question_counts = QuestionCounts(store.log, questions)
        self._questions = QuestionsGateway(self._auth, questions, max_body_bytes=self.settings.gateway.max_body_bytes)

    def _counted_channels(self, metrics: Metrics, times: MessageTimes) -> ChannelsGateway:
        gateway = ChannelsGateway(
            self._auth, self._directory, self._outbox, self._mailbox, notifier=self._notifier,
            inbox_of=self._inbox_of, max_body_bytes=self.settings.gateway.max_body_bytes,
        )  # fmt: skip
        counted = ChannelMetrics(
            self._directory, self._outbox, times, self._notifier, self._inboxes, self._question_counts, gateway,
            self.broker,
        )  # fmt: skip
        metrics.readings.append(counted.read)
        metrics.sources.append(counted.collect)
        metrics.sources.append(partial(trust_metrics, self._trust))
        return gateway

    def _compose_inboxes(self, store: Store, trust: Trust) -> None:
        senders = self._senders = self._senders_by(trust)
        self._inboxes = {
            name: Intake(
                outgoing.settings, self._mailbox, self._notifier, store.log, door=senders,
                dead=self._outbox.dead_letters, early=self._outbox.early_reports,
            )
            for name, outgoing in self._directory.outgoing.items()
        }  # fmt: skip

    def _model_use(self, trust: Trust) -> UseOf:
        askers = Askers(trust.lasting, trust.audit, self._senders.standing)
        return lambda message, asker: askers.use(
            message.id, message.from_, message.to.removeprefix("model:"), asker
        )  # fmt: skip

    def _senders_by(self, trust: Trust) -> Senders:
        owners: dict[str, tuple[str, ...]] = {}
        for person in self.settings.person:
            for way in person.reach:
                owners[way.by] = (*owners.get(way.by, ()), person.address)
        return Senders(trust.vouched, trust.audit, trust.authenticator.is_revoked, owners)

    def _members(self, group: str) -> tuple[str, ...]:
        """Of a group; none where there is no such group."""
        try:
            return self._groups.get(group).members
        except NotFound:
            return ()

    def _inbox_of(self, outgoing: Outgoing) -> Inbox:
        return self._inboxes[outgoing.settings.name]

    def _payer(self, address: str) -> Payer:
        """On whose account a message from this address goes that no key posted."""
        sender = self._keys.sender(address)
        return Payer("", address) if sender is None else sender.payer

    def _prefers(self, key: str) -> PreferenceName | None:
        named = self._keys.named(key)
        return None if named is None else named.prefer

    def _open_tracing(self, metrics: Metrics) -> "Tracing | None":
        """Raises MissingExtra."""
        settings = self.settings
        if settings.telemetry.otlp_endpoint is None:
            return None
        from autoglm.gateway.tracing import Place, Tracing  # 150 ms, for those who want it

        places: dict[str, Place] = {}
        for entry in settings.instance:
            if entry.provider != "local":
                origin = configured_endpoint(entry).origin
                places[entry.name] = Place(entry.provider, origin.host, origin.port)
        tracing = Tracing(settings.telemetry, places)
        metrics.sources.append(tracing.metrics)
        return tracing

    def _serves_model(self, name: str) -> bool:
        known = self._scheduler.models()
        return bool(known) if name == AUTO else name in known

    def _tell_recovery(self, store: Store) -> None:
        if not store.recovered.was_clean:
            log.warning(
                "hub_recovered", last_seq=store.recovered.last_seq, wal_bytes=store.recovered.wal_bytes,
                note="the last run did not end cleanly; nothing that was acknowledged is lost",
            )  # fmt: skip

    async def _correspond(self, writing: anyio.CancelScope) -> None:
        with writing:
            await self._correspondent.run()

    async def _trim(self, store: Store) -> None:
        """Apply the retention every minute, until cancelled."""
        while True:
            try:
                await store.trim()
            except (StorageFull, QueueFull, StoreBroken) as error:
                log.warning("retention_delayed", reason=str(error))
            await anyio.sleep(_TRIM_S)

    @contextlib.asynccontextmanager
    async def _serving(self, listener: socket.socket, tls: GatewayTls | None) -> AsyncIterator[Server]:
        server = self._server = make_server(self._front, self._sockets, self.settings.gateway, tls)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._serve, server, listener)
            await server.ready.wait()
            try:
                yield server
            finally:
                server.should_exit = True

    async def _serve(self, server: Server, listener: socket.socket) -> None:
        with anyio.CancelScope(shield=True):  # ends by should_exit, after the drain
            await server.serve(sockets=[listener])

    def _drain(self) -> None:
        self._scheduler.is_draining = True
        self._tasks.is_draining = True
        self._events.is_draining = True
        self._questions.drain()
        self._messages.drain()

    def _write_state(self) -> None:
        path = self.data_dir / STATE_FILE
        draft = path.with_suffix(".new")
        try:
            draft.write_bytes(msgspec.json.encode(RunningHub(self.url, os.getpid())))
            draft.rename(path)
        except OSError as error:  # a full disk must not keep the hub from serving
            log.warning("state_file_not_written", path=str(path), reason=str(error))
