"""Listens where devices connect, lets in whom Authenticate knows, and ends what has no right any more."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import anyio
import structlog
from anyio.abc import TaskGroup

from autoglm.channels.broker.gate import codec
from autoglm.channels.broker.gate.connection import LOGIN_S, Behind, Connection, Terms
from autoglm.channels.broker.gate.rights import Authenticate, Decision, Record
from autoglm.channels.broker.gate.strangers import Strangers
from autoglm.channels.broker.gate.wire import Wire
from autoglm.channels.broker_settings import BrokerSettings
from autoglm.core.clock import now_ms as wall_clock_ms
from autoglm.core.errors import SettingsError
from autoglm.core.tasks import one_task_group

log = structlog.get_logger()

REVIEW_EVERY_S = 0.25
_BACKLOG = 512
_IDLE_S, _PROBE_EVERY_S, _PROBES = 60, 15, 4
"""Of TCP: who is gone without a word, and keeps no keepalive of MQTT, is noticed after two minutes."""


class Gate:
    """Made by `open_gate`."""

    def __init__(
        self, tasks: TaskGroup, settings: BrokerSettings, behind: Behind, authenticate: Authenticate, *,
        record: Record, now_ms: Callable[[], int], port: int,
    ) -> None:  # fmt: skip
        self._tasks = tasks
        self._settings = settings
        self._tls = _context(settings)
        self._strangers = Strangers()
        self._connections: set[Connection] = set()
        self.port = port
        self._terms = Terms(behind, authenticate, record, now_ms, self._has_room, self._start)

    @property
    def devices(self) -> int:
        """Those that are connected."""
        return len(self._connections)

    @property
    def strangers(self) -> int:
        """Those whose login is under way."""
        return self._strangers.waiting

    def review(self) -> None:
        """End all whose rights have ended; done four times a second, and for who cannot wait so long."""
        for connection in list(self._connections):
            try:
                connection.review()
            except Exception:  # who cannot be judged is not let through
                log.exception("mqtt_gate_failed")
                connection.close()

    def begin(self, listener: socket.socket) -> None:
        self._tasks.start_soon(self._accept, listener)
        self._tasks.start_soon(self._watch)

    def end(self) -> None:
        """Each device is told."""
        for connection in list(self._connections):
            connection.end(codec.SERVER_SHUTTING_DOWN, "the hub ends")
            connection.close()

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, address = await loop.sock_accept(listener)
            except OSError as error:
                log.warning("mqtt_gate_not_accepting", reason=error.strerror)  # such as no file left
                await anyio.sleep(0.1)
                continue
            if self._strangers.take_turn(address[0]):
                self._tasks.start_soon(self._serve, accepted, address[0])
            else:
                accepted.close()

    async def _watch(self) -> None:
        while True:
            await anyio.sleep(REVIEW_EVERY_S)
            self.review()

    async def _serve(self, accepted: socket.socket, address: str) -> None:
        connection: Connection | None = None
        try:
            with anyio.CancelScope() as scope:
                leave = self._strangers.enter(address, scope.cancel)
                try:
                    connection = await self._admitted(accepted, address)
                finally:
                    leave()
            if connection is not None and not scope.cancelled_caught:
                self._strangers.give_back(address)
                self._connections.add(connection)
                connection.review()
                await connection.relay()
        except Exception:  # one device's fault is not the others'
            log.exception("mqtt_gate_failed", address=address)
        finally:
            if connection is not None:
                connection.close()
                self._connections.discard(connection)

    async def _admitted(self, accepted: socket.socket, address: str) -> Connection | None:
        device = Wire()
        try:
            _keep_alive(accepted)
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: device, accepted, ssl=self._tls, ssl_handshake_timeout=LOGIN_S if self._tls else None
            )
        except OSError:  # and ssl.SSLError: it does not speak TLS, or is gone
            accepted.close()
            return None
        connection = Connection(device, address, self._terms)
        is_admitted = False
        try:
            is_admitted = await connection.admit()
        finally:
            if not is_admitted:
                connection.close()
        return connection if is_admitted else None

    def _has_room(self) -> bool:
        return len(self._connections) < self._settings.max_connections

    def _start(self, task: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async def guarded() -> None:
            try:
                await task()
            except Exception:  # one device's fault is not the others'
                log.exception("mqtt_gate_failed")

        self._tasks.start_soon(guarded)


@asynccontextmanager
async def open_gate(
    settings: BrokerSettings, behind: Behind, authenticate: Authenticate, *, record: Record | None = None,
    now_ms: Callable[[], int] | None = None,
) -> AsyncIterator[Gate]:  # fmt: skip
    """Listen at the settings' address before the broker `behind`; its devices are told when it closes.

    record: for the audit; None: the log. now_ms: the trusted clock's; None: the machine's.
    Raises SettingsError when the port is taken, or the certificates cannot be read.
    """
    with _listening(settings.host, settings.port) as listener:
        async with one_task_group() as tasks:
            gate = Gate(
                tasks, settings, behind, authenticate, record=record or logged, now_ms=now_ms or wall_clock_ms,
                port=listener.getsockname()[1],
            )  # fmt: skip
            gate.begin(listener)
            try:
                yield gate
            finally:
                gate.end()
                tasks.cancel_scope.cancel()


def _listening(host: str, port: int) -> socket.socket:
    """Raises SettingsError."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setblocking(False)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise SettingsError([f"mqtt_broker: nothing can listen at {host}:{port}: {error.strerror}"]) from error
    return listener


def logged(decision: Decision) -> None:
    """A Record for hubs without an audit."""
    log.info(
        "mqtt_device_allowed" if decision.is_allowed else "mqtt_device_refused", action=decision.action,
        resource=decision.resource, reason=decision.reason, name=decision.name, client_id=decision.client_id,
        address=decision.address,
    )  # fmt: skip


def _context(settings: BrokerSettings) -> ssl.SSLContext | None:
    """Raises SettingsError."""
    if settings.tls_certificate_file is None or settings.tls_key_file is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.tls_certificate_file, settings.tls_key_file)
        if settings.tls_ca_file is not None:
            context.load_verify_locations(settings.tls_ca_file)
            context.verify_mode = ssl.CERT_REQUIRED
    except OSError as error:  # and ssl.SSLError
        raise SettingsError([f"mqtt_broker: the certificates cannot be used: {error}"]) from error
    return context


def _keep_alive(accepted: socket.socket) -> None:
    accepted.setblocking(False)
    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", _IDLE_S), ("TCP_KEEPINTVL", _PROBE_EVERY_S), ("TCP_KEEPCNT", _PROBES)):
        if (option := getattr(socket, name, None)) is not None:  # macOS has not all
            accepted.setsockopt(socket.IPPROTO_TCP, option, value)
