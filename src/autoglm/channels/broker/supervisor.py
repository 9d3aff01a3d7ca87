"""Starts the broker's program, watches it, starts it again when it ends or hangs, and ends it with the hub."""

import os
import random
import secrets
import signal
import subprocess
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Literal

import anyio
import anyio.to_thread
import structlog
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from autoglm.channels.broker import mosquitto, nats
from autoglm.channels.broker.gate import Authenticate, FixedUsers, Gate, Record, open_gate
from autoglm.channels.broker.gate.connection import Behind
from autoglm.channels.broker.plan import Login, Plan, Ports, choose_ports, choose_program, write
from autoglm.channels.broker.probe import answers
from autoglm.channels.broker_settings import HUB_USER, BrokerSettings, BrokerUser
from autoglm.core.child import bare_environment, open_child
from autoglm.core.errors import SettingsError
from autoglm.core.tasks import one_task_group

log = structlog.get_logger()

PROBE_EVERY_S = 5.0
PROBE_TIMEOUT_S = 5.0
_PROBES_BEFORE_KILL = 3
_FIRST_PAUSE_S = 0.5
_MAX_PAUSE_S = 30.0
_STABLE_S = 60.0
_STOP_S = 5.0
_LINE_BYTES = 4096
_GATE_USER = "autoglm-gate"
_LIMITS = (
    "MQTT 3.1.1 only: no user properties, no reason codes, no shared subscriptions",
    "no blanks in topics: the connection is closed",
    "about 5 times the CPU a message of mosquitto",
)


class Broker:
    """Made by `open_broker`; `run` must run as long as it is wanted."""

    def __init__(self, settings: BrokerSettings, plan: Plan, ports: Ports, password: str) -> None:
        self._settings = settings
        self._plan = plan
        self._ports = ports
        self._process: Process | None = None
        self._tail: deque[str] = deque(maxlen=20)
        self.username = HUB_USER
        self.password = password
        self.gate: Gate | None = None
        """What stands between the devices and the program, where the settings want tokens."""
        self.starts = 0
        """How often the program was started."""
        self.is_up = False
        """Whether it runs and has answered since its start."""

    def __repr__(self) -> str:
        return f"Broker({self.program!r}, {self.url!r})"

    @property
    def program(self) -> str:
        """mosquitto or nats-server."""
        return self._plan.program

    @property
    def version(self) -> Literal["5", "3.1.1"]:
        return "5" if self.program == "mosquitto" else "3.1.1"

    @property
    def url(self) -> str:
        """For the hub, on this machine."""
        return f"mqtt://127.0.0.1:{self._ports.hub}"

    @property
    def device_url(self) -> str:
        """For devices."""
        scheme = "mqtt" if self._settings.tls_certificate_file is None else "mqtts"
        host = f"[{self._settings.host}]" if ":" in self._settings.host else self._settings.host
        return f"{scheme}://{host}:{self._ports.device}"

    @property
    def limits(self) -> tuple[str, ...]:
        """What this program does not bear, in words."""
        return () if self.program == "mosquitto" else _LIMITS

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def channel_fields(self) -> dict[str, str | int]:
        """The settings by which a `[[channel]]` of the kind mqtt reaches it."""
        broker = "any" if self.program == "mosquitto" else "nats-server"
        return {
            "url": self.url, "version": self.version, "broker": broker, "username": self.username,
            "password": self.password, "inflight_max": mosquitto.HUB_INFLIGHT,
        }  # fmt: skip

    async def is_healthy(self) -> bool:
        """Whether it lets the hub in."""
        return await answers(self._ports.hub, self.username, self.password, timeout_s=PROBE_TIMEOUT_S)

    async def run(self) -> None:
        """Until cancelled."""
        pause_s = _FIRST_PAUSE_S
        while True:
            started_s = anyio.current_time()
            why = await self._until_it_fails()
            if anyio.current_time() - started_s >= _STABLE_S:
                pause_s = _FIRST_PAUSE_S
            log.error("mqtt_broker_failed", program=self.program, reason=why, said=list(self._tail)[-3:])
            await self.stop()
            await anyio.sleep(random.uniform(pause_s / 2, pause_s))  # noqa: S311  # spreads load, keeps no secret
            pause_s = min(_MAX_PAUSE_S, 2 * pause_s)
            try:
                await self.start()
            except SettingsError as error:
                log.error("mqtt_broker_not_started", program=self.program, reason=str(error))

    async def start(self) -> None:
        """Returns when it answers. Raises SettingsError with what it said."""
        self.starts += 1
        self._tail.clear()
        await anyio.to_thread.run_sync(write, self._plan)
        process = self._process = await open_child(
            list(self._plan.command),
            environment=bare_environment(), death_signal=signal.SIGTERM,  # it writes down what it holds
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        with anyio.move_on_after(self._settings.start_timeout_s):
            while not await self.is_healthy():
                if process.returncode is not None:
                    break
                await anyio.sleep(0.05)
            else:
                self.is_up = True
                log.info("mqtt_broker_started", program=self.program, url=self.device_url)
                return
        await self._read_rest()
        await self.stop()
        said = "; ".join(self._tail)[-400:] or "it said nothing"
        raise SettingsError([f"mqtt_broker: {self.program} does not run at {self.device_url}: {said}"])

    async def stop(self) -> None:
        """Shielded: it is gone when this returns."""
        self.is_up = False
        process, self._process = self._process, None
        if process is None:
            return
        with anyio.CancelScope(shield=True):
            with suppress(ProcessLookupError):
                process.terminate()
            with anyio.move_on_after(_STOP_S) as deadline:
                await process.wait()
            if deadline.cancelled_caught:
                with suppress(ProcessLookupError):
                    process.kill()
            await process.aclose()

    async def _until_it_fails(self) -> str:
        """Why it must be started again."""
        if (process := self._process) is None:
            return "it is not running"
        found: list[str] = []
        async with one_task_group() as tasks:
            tasks.start_soon(self._read_log, process)

            async def end() -> None:
                status = await process.wait()
                found.append(f"it ended with status {status}")
                tasks.cancel_scope.cancel()

            async def hang() -> None:
                failures = 0
                while failures < _PROBES_BEFORE_KILL:
                    await anyio.sleep(PROBE_EVERY_S)
                    failures = 0 if await self.is_healthy() else failures + 1
                found.append("it does not answer")
                with suppress(ProcessLookupError):
                    process.kill()
                tasks.cancel_scope.cancel()

            tasks.start_soon(end)
            tasks.start_soon(hang)
        return found[0]

    async def _read_log(self, process: Process) -> None:
        """Else its pipe would fill, and it would wait."""
        if process.stderr is None:
            return
        stream = BufferedByteReceiveStream(process.stderr)
        with suppress(anyio.EndOfStream, anyio.IncompleteRead, anyio.ClosedResourceError):
            while True:
                try:
                    line = await stream.receive_until(b"\n", _LINE_BYTES)
                except anyio.DelimiterNotFound:
                    line = await stream.receive(_LINE_BYTES)
                text = line.decode("utf-8", "replace").strip()
                self._tail.append(text[:300])
                log.info("mqtt_broker_said", program=self.program, text=text[:300])

    async def _read_rest(self) -> None:
        if self._process is not None:
            with anyio.move_on_after(0.5):
                await self._read_log(self._process)


@asynccontextmanager
async def open_broker(
    settings: BrokerSettings, folder: Path, *, authenticate: Authenticate | None = None, record: Record | None = None,
    now_ms: Callable[[], int] | None = None,
) -> AsyncIterator[Broker]:  # fmt: skip
    """Start the broker; it is gone on leaving. Let `Broker.run` watch it meanwhile.

    folder: for its configuration and its state, such as DATA/mqtt; made with mode 0700. Enter it in a thread that lives
    as long as the broker may, as the event loop's does: the kernel ends it when that thread ends (prctl(2)).
    The others are for its gate, which there is with `tokens` of the settings. authenticate: None knows the fixed users
    alone; another one takes their place. record: is told of each decision. now_ms: of the trusted clock.
    Raises SettingsError when no program is installed, or it does not come up.
    """
    program, path = choose_program(settings)
    password = await anyio.to_thread.run_sync(_hub_password, folder)
    ports = choose_ports(settings)
    make = mosquitto.plan if program == "mosquitto" else nats.plan
    hub = Login(HUB_USER, password)
    if not settings.tokens:
        users = (_login(user) for user in settings.user)
        plan = make(path, folder, settings, ports, [hub, *users])
    else:
        gate = Login(_GATE_USER, secrets.token_urlsafe(32), subscribe=("#", "$SYS/#"))
        plan = make(path, folder, _hidden(settings), Ports(ports.hub, ports.hub), [hub, gate])
    broker = Broker(settings, plan, ports, password)
    try:
        await broker.start()
        if not settings.tokens:
            yield broker
            return
        levels = frozenset((3, 4, 5)) if program == "mosquitto" else frozenset((4,))
        behind = Behind(ports.hub, gate.name, gate.password, levels, settings.max_packet_bytes)
        open_ = open_gate(
            settings.model_copy(update={"port": ports.device}), behind, authenticate or FixedUsers(settings.user),
            record=record, now_ms=now_ms,
        )  # fmt: skip
        async with open_ as broker.gate:
            yield broker
    finally:
        await broker.stop()


def _hidden(settings: BrokerSettings) -> BrokerSettings:
    """For a broker that only the hub and its gate reach. A login is longer there by the device's name."""
    return settings.model_copy(
        update={
            "host": "127.0.0.1",
            "tls_certificate_file": None,
            "tls_key_file": None,
            "tls_ca_file": None,
            "max_connections": settings.max_connections + 16,
        }
    )


def _login(user: BrokerUser) -> Login:
    return Login(user.name, user.password.get_secret_value(), user.publish, user.subscribe)


def _hub_password(folder: Path) -> str:
    """The hub's own, made at the first start, as the folder is."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    path = folder / "hub.password"
    try:
        if known := path.read_text().strip():
            return known
    except FileNotFoundError:
        pass
    fresh = secrets.token_urlsafe(32)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(fresh)
    return fresh
