"""The broker that the hub runs itself: hardened, supervised, gone with the hub."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
import trustme
from paho.mqtt.enums import CallbackAPIVersion, MessageState, MQTTProtocolVersion
from pydantic import ValidationError

from autoglm.channels.adapters.mqtt import Mqtt, MqttSettings
from autoglm.channels.adapters.mqtt.topics import as_name, matches
from autoglm.channels.broker import Broker, nats, open_broker, supervisor
from autoglm.channels.broker.plan import find_program
from autoglm.channels.broker.probe import answers
from autoglm.channels.broker_settings import BrokerSettings
from autoglm.channels.channel import Cannot, Resources
from autoglm.channels.settings import parse_channel
from autoglm.core.errors import SettingsError
from autoglm.core.tasks import one_task_group
from contracts.channel_contract import KeptInbox, message
from eventually import until, wait_until
from mosquitto import needs_mosquitto
from mqtt_channels import send_all
from nats_server import needs_nats

HALF_DONE = MessageState.MQTT_MS_WAIT_FOR_PUBCOMP
PASSWORD = "press-secret"
PRESS = {"name": "press-7", "password": PASSWORD, "publish": ["plant/7/#"], "subscribe": ["plant/7/command"]}
GATED = " behind the gate"
PROGRAMS = [
    pytest.param(f"{name}{gate}", marks=marks)
    for name, marks in (("mosquitto", needs_mosquitto), ("nats-server", needs_nats))
    for gate in ("", GATED)
]


@pytest.fixture(params=PROGRAMS)
def program(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def settings(program: str, **fields: Any) -> BrokerSettings:
    name, gate, _ = program.partition(GATED)
    return BrokerSettings.model_validate(
        {"program": name, "port": 0, "user": [PRESS], "tokens": bool(gate), **fields}
    )  # fmt: skip


@asynccontextmanager
async def running(program: str, folder: Path, **fields: Any) -> AsyncIterator[Broker]:
    async with open_broker(settings(program, **fields), folder) as broker, one_task_group() as tasks:
        tasks.start_soon(broker.run)
        yield broker
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def channel(broker: Broker, **fields: Any) -> AsyncIterator[tuple[Mqtt, KeptInbox]]:
    found = parse_channel(
        {"name": "mqtt", "kind": "mqtt", "topics": [{"topic": "plant/+/alarm"}], **broker.channel_fields(), **fields}
    )
    assert isinstance(found, MqttSettings)

    async def no_blob(sha256: str) -> bytes | None:
        return None

    mqtt, inbox = Mqtt(found, Resources("mqtt", no_blob)), KeptInbox()
    try:
        async with one_task_group() as tasks:
            tasks.start_soon(mqtt.run, inbox)
            await until(lambda: mqtt._link.is_up and mqtt._link.subscription.is_granted)
            yield mqtt, inbox
            tasks.cancel_scope.cancel()
    finally:
        await mqtt.aclose()


class Press:
    """A device with its user name."""

    def __init__(
        self, broker: Broker, *, name: str = "press-7", password: str = PASSWORD, client_id: str = "p7"
    ) -> None:
        self.heard: list[bytes] = []
        self.published: set[int] = set()
        self.refused: list[int] = []
        self.granted = False
        self.client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id, clean_session=False, protocol=MQTTProtocolVersion.MQTTv311
        )
        self.client.username_pw_set(name, password)
        self.client.on_message = lambda _client, _data, found: self.heard.append(bytes(found.payload))
        self.client.on_publish = lambda _client, _data, mid, *_: self.published.add(mid)
        self.client.on_connect = self._welcome
        self.client.on_subscribe = lambda *_: setattr(self, "granted", True)
        self.client.reconnect_delay_set(1, 1)
        self.client.connect("127.0.0.1", int(broker.device_url.rpartition(":")[2]), keepalive=5)
        self.client.loop_start()

    def _welcome(self, client: paho.Client, _data: object, _flags: object, reason: Any, *_: object) -> None:
        if reason.is_failure:
            self.refused.append(reason.value)
        else:
            client.subscribe("plant/7/command", 1)

    def __enter__(self) -> "Press":
        return self

    def __exit__(self, *_: object) -> None:
        self.client.disconnect()
        self.client.loop_stop()


def is_alive(pid: int) -> bool:
    """A zombie is none."""
    try:
        return re.search(r"^State:\s+Z", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE) is None
    except (FileNotFoundError, ProcessLookupError):  # the second: it ends while its status is read
        return False


async def test_devices_and_the_hub_meet_there(program: str, tmp_path: Path) -> None:
    async with running(program, tmp_path / "mqtt") as broker, channel(broker) as (mqtt, inbox):
        with Press(broker) as press:
            await until(lambda: press.granted)
            press.client.publish("plant/7/alarm", "hot", 1)
            await until(lambda: inbox.taken)
            (parcel,) = mqtt.compose(message("slow down"), "plant/7/command")
            assert (await mqtt.send(parcel, "k")).outcome == "accepted"
            await until(lambda: press.heard == [b"slow down"])
        is_five = program.startswith("mosquitto")
        assert program.startswith(broker.program)
        assert broker.version == ("5" if is_five else "3.1.1")
        assert bool(broker.limits) is not is_five


ODD = ("pa:ss:word", " blanks about ", "密码密码密码密码", 'quo"te\\u0041', "#hash-tag", "$7$101$salt$hash", "😀" * 8)


async def is_let_in(broker: Broker, name: str, password: str) -> bool:
    with Press(broker, name=name, password=password, client_id=f"{name}-{len(password)}") as press:
        await until(lambda: press.granted or press.refused)
        return press.granted


async def test_any_password_lets_in_as_it_is_and_no_part_of_it_does(program: str, tmp_path: Path) -> None:
    """In a folder of any name."""
    users = [{"name": f"user-{number}", "password": password} for number, password in enumerate(ODD)]
    async with running(program, tmp_path / "数据 1" / "mqtt", user=users) as broker:
        assert [await is_let_in(broker, f"user-{number}", text) for number, text in enumerate(ODD)] == [True] * len(ODD)
        assert not await is_let_in(broker, "user-0", "pa")
        assert not await is_let_in(broker, "user-1", "blanks about")


def test_a_hash_is_no_password() -> None:
    with pytest.raises(ValidationError, match="not as a hash"):
        settings("nats-server", user=[{"name": "a", "password": "$2a$11$0123456789"}])


async def test_strangers_and_wrong_passwords_stay_outside(program: str, tmp_path: Path) -> None:
    async with running(program, tmp_path / "mqtt") as broker:
        assert await broker.is_healthy()
        port = int(broker.device_url.rpartition(":")[2])
        assert await answers(port, "press-7", PASSWORD, timeout_s=5)
        assert not await answers(port, "press-7", "wrong", timeout_s=5)
        assert not await answers(port, "nobody", PASSWORD, timeout_s=5)
        anonymous = paho.Client(CallbackAPIVersion.VERSION2, "x", protocol=MQTTProtocolVersion.MQTTv311)
        codes: list[int] = []
        anonymous.on_connect = lambda _client, _data, _flags, reason, *_: codes.append(reason.value)
        anonymous.connect("127.0.0.1", port)
        anonymous.loop_start()
        await until(lambda: codes)
        anonymous.disconnect()
        anonymous.loop_stop()
        assert codes[0] in (134, 135)


async def test_a_device_reaches_its_own_topics_only(program: str, tmp_path: Path) -> None:
    async with running(program, tmp_path / "mqtt") as broker, channel(broker) as (mqtt, inbox):
        with Press(broker) as press:
            await until(lambda: press.granted)
            press.client.publish("plant/8/alarm", "not mine", 1)
            await until(press.client.is_connected)
            press.client.publish("plant/7/alarm", "mine", 1)
            await until(lambda: inbox.taken, timeout_s=20)
            assert [each.content for each in inbox.taken] == ["mine"]
            press.client.subscribe("plant/8/command", 1)
            for target in ("plant/8/command", "plant/7/command"):
                (parcel,) = mqtt.compose(message(target), target)
                found = None
                while found is None or found.outcome != "accepted":
                    found = await mqtt.send(parcel, target)
            await until(lambda: press.heard, timeout_s=20)
            assert press.heard == [b"plant/7/command"]


def modes(folder: Path) -> dict[str, int]:
    """Of the files that are there; the broker removes some meanwhile."""
    found = {}
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            found[path.name] = path.stat().st_mode & 0o777 if path.is_file() else 0
    return found


def environment(pid: int) -> list[str]:
    return [entry.partition("=")[0] for entry in Path(f"/proc/{pid}/environ").read_text().split("\0") if entry]


def process_list() -> str:
    return subprocess.run(["ps", "-ewwo", "args"], capture_output=True, text=True, check=True).stdout


async def test_its_files_are_for_the_owner_alone_and_no_secret_is_in_the_process_list(
    program: str, tmp_path: Path
) -> None:
    folder = tmp_path / "mqtt"
    async with running(program, folder) as broker:
        assert folder.stat().st_mode & 0o777 == 0o700
        assert modes(folder)
        assert [name for name, mode in modes(folder).items() if mode & 0o077] == []
        assert broker.pid is not None
        assert PASSWORD not in process_list()
        assert broker.password not in process_list()
        assert broker.password not in repr(broker)
        assert "PATH" in environment(broker.pid)
        assert set(environment(broker.pid)) <= {"PATH", "LC_CTYPE"}  # of PEP 538
        if broker.program == "mosquitto":
            hashed = (folder / "passwords").read_text()
            assert hashed.count(":$7$") == 2
            assert PASSWORD not in hashed


@needs_nats
async def test_nats_server_takes_unusual_topics_and_no_mqtt_5(tmp_path: Path) -> None:
    rules = [{"topic": "in/#", "labels": {"topic": "{1}"}}]
    async with running("nats-server", tmp_path / "mqtt") as broker, channel(broker, topics=rules) as (_, inbox):
        async with device_channel(**broker.channel_fields() | {"client_id": "other"}) as sender:
            for topic in ("a.b/c..d", "/x//y/", "😀", "压机", "$x", "x" * 3000):
                (parcel,) = sender.compose(message("x"), as_name(f"in/{topic}"))
                assert (await sender.send(parcel, topic)).outcome == "accepted"
                await until(lambda topic=topic: inbox.taken[-1:] and inbox.taken[-1].labels["topic"] == topic[:1024])  # type: ignore[misc]
            with pytest.raises(Cannot):
                sender.compose(message("x"), "in/a%20b")
        five = {**broker.channel_fields(), "client_id": "five", "version": "5", "broker": "any"}
        async with device_channel(**five) as sender:
            assert (await sender.check()).code == "132"


async def test_the_hubs_password_stays_over_restarts(program: str, tmp_path: Path) -> None:
    async with running(program, tmp_path / "mqtt") as broker:
        first = broker.password
    async with running(program, tmp_path / "mqtt") as broker:
        assert broker.password == first


async def test_a_broker_that_is_killed_comes_back_with_all_that_it_held(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub is away; each PUBACK is for good, save those of Mosquitto's last turn: the device waits one more."""
    async with running(program, tmp_path / "mqtt") as broker:
        async with channel(broker):
            pass
        with Press(broker) as press:
            await until(lambda: press.granted)
            mids = [press.client.publish("plant/7/alarm", str(number), 1).mid for number in range(200)]
            await until(lambda: press.published >= set(mids), timeout_s=30)
            fence = press.client.publish("plant/7/other", "", 1).mid
            await until(lambda: fence in press.published)
            assert broker.pid is not None
            os.kill(broker.pid, signal.SIGKILL)
            await until(lambda: broker.is_up and broker.starts == 2)
            async with channel(broker) as (_, inbox):
                await until(lambda: len(inbox.taken) >= 200, timeout_s=30)
    assert [each.content for each in inbox.taken] == [str(number) for number in range(200)]


@pytest.mark.parametrize("qos", [1, 2])
async def test_nothing_is_lost_when_it_is_killed_in_mid_flow(program: str, tmp_path: Path, qos: int) -> None:
    """From a device that speaks as the hub does: each message until it is accepted.

    Both brokers bear QoS 2 from a device (nats-server by MQTT 3.1.1 alone); the hub asks for it at QoS 1.
    """
    done: list[int] = []
    async with running(program, tmp_path / "mqtt") as broker, channel(broker) as (_, inbox):
        login = {**device_fields(broker), "client_id": "p7", "qos": qos}
        async with device_channel(**login) as press, one_task_group() as tasks:
            tasks.start_soon(send_all, press, 200, lambda _: "plant/7/alarm", done)
            for round_, least in ((1, 50), (2, 120)):
                await until(lambda least=least, round_=round_: len(done) >= least and broker.starts == round_)  # type: ignore[misc]
                assert broker.pid is not None
                os.kill(broker.pid, signal.SIGKILL)
            await until(lambda: len(done) == 200, timeout_s=40)
            await until(lambda: {each.content for each in inbox.taken} >= set(map(str, range(200))), timeout_s=40)
    assert len({each.id for each in inbox.taken}) == 200


async def test_what_a_killed_client_left_half_done_at_qos_2_takes_no_place_of_what_is_new(
    program: str, tmp_path: Path
) -> None:
    """Its successor counts its packets from the same number: nats-server would take a new message for the old one."""
    async with running(program, tmp_path / "mqtt") as broker, channel(broker) as (_, inbox):
        with Press(broker) as press:
            await until(lambda: press.granted)
            press.client._send_pubrel = lambda mid: paho.MQTT_ERR_SUCCESS  # type: ignore[method-assign]  # killed before
            for number in range(10):
                press.client.publish("plant/7/alarm", f"old {number}", 2)
            await until(lambda: {each.state for each in press.client._out_messages.values()} == {HALF_DONE})
        login = {**device_fields(broker), "client_id": "p7", "qos": 2}
        done: list[int] = []
        async with device_channel(**login) as after:
            await send_all(after, 30, lambda _: "plant/7/alarm", done)
            await until(lambda: {each.content for each in inbox.taken} >= set(map(str, range(30))))


async def test_a_broker_that_hangs_is_started_again(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "PROBE_EVERY_S", 0.05)
    monkeypatch.setattr(supervisor, "PROBE_TIMEOUT_S", 0.3)
    async with running(program, tmp_path / "mqtt") as broker:
        hung = broker.pid
        assert hung is not None
        os.kill(hung, signal.SIGSTOP)
        await until(lambda: not is_alive(hung), timeout_s=20)
        monkeypatch.setattr(supervisor, "PROBE_TIMEOUT_S", 5.0)
        await until(lambda: broker.is_up and broker.starts >= 2)
        assert await broker.is_healthy()


async def test_it_ends_with_its_context(program: str, tmp_path: Path) -> None:
    async with running(program, tmp_path / "mqtt") as broker:
        pid = broker.pid
        assert pid is not None
        assert is_alive(pid)
    assert not is_alive(pid)


HUB = """
import anyio, structlog, sys
from pathlib import Path
from autoglm.channels.broker import open_broker
from autoglm.channels.broker_settings import BrokerSettings

structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))

async def main():
    settings = BrokerSettings(program=sys.argv[1].split()[0], port=0, tokens=" " in sys.argv[1])
    async with open_broker(settings, Path(sys.argv[2])) as broker:
        print(broker.pid, flush=True)
        await broker.run()

anyio.run(main)
"""


def test_a_hub_that_is_killed_leaves_no_broker_behind(program: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", HUB, program, str(tmp_path / "mqtt")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as hub:
        assert hub.stdout is not None
        pid = int(hub.stdout.readline())
        assert is_alive(pid)
        hub.kill()
    wait_until(lambda: not is_alive(pid))


async def test_a_port_that_is_taken_is_told(program: str, tmp_path: Path) -> None:
    async with running(program, tmp_path / "one") as broker:
        port = int(broker.device_url.rpartition(":")[2])
        said = "nothing can listen at " if program.endswith(GATED) else "does not run at mqtt://"
        with pytest.raises(SettingsError, match=f"{said}127.0.0.1:{port}"):
            async with open_broker(settings(program, port=port, start_timeout_s=10), tmp_path / "two"):
                pass


@pytest.mark.parametrize("is_mutual", [False, True])
@pytest.mark.parametrize("program", [one for one in PROGRAMS if one.values != ("nats-server",)], indirect=True)
async def test_devices_use_tls_and_the_hub_a_door_of_its_own(program: str, tmp_path: Path, is_mutual: bool) -> None:
    authority = trustme.CA()
    issued, own = authority.issue_cert("127.0.0.1"), authority.issue_cert("press-7")
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    for name, leaf in (("broker", issued), ("press", own)):
        leaf.cert_chain_pems[0].write_to_path(str(tmp_path / f"{name}.pem"))
        leaf.private_key_pem.write_to_path(str(tmp_path / f"{name}.key"))
    fields: dict[str, Any] = {
        "tls_certificate_file": tmp_path / "broker.pem", "tls_key_file": tmp_path / "broker.key",
        **({"tls_ca_file": tmp_path / "ca.pem"} if is_mutual else {}),
    }  # fmt: skip
    device: dict[str, Any] = {"tls_ca_file": tmp_path / "ca.pem"}
    own_files = {"tls_certificate_file": tmp_path / "press.pem", "tls_key_file": tmp_path / "press.key"}
    async with running(program, tmp_path / "mqtt", **fields) as broker, channel(broker) as (_, inbox):
        assert broker.device_url.startswith("mqtts://")
        assert broker.device_url.rpartition(":")[2] != broker.url.rpartition(":")[2]
        login: dict[str, Any] = {**device_fields(broker), "client_id": "p7", "topics": []}
        async with device_channel(**login, **device, **(own_files if is_mutual else {})) as press:
            (parcel,) = press.compose(message("hot"), "plant/7/alarm")
            assert (await press.send(parcel, "k")).outcome == "accepted"
            await until(lambda: inbox.taken)
        if is_mutual:
            async with device_channel(**login, **device) as press:
                # asyncio hangs up before OpenSSL's alert is sent, which Mosquitto sends.
                wanted = "ended" if program.endswith(GATED) else "tls_certificate"
                assert (await press.send(parcel, "k")).code == wanted


def device_fields(broker: Broker) -> dict[str, str | int]:
    """The settings of a channel that logs in as the device."""
    return {**broker.channel_fields(), "url": broker.device_url, "username": "press-7", "password": PASSWORD}


@asynccontextmanager
async def device_channel(**fields: Any) -> AsyncIterator[Mqtt]:
    found = parse_channel({"name": "press", "kind": "mqtt", **fields})
    assert isinstance(found, MqttSettings)

    async def no_blob(sha256: str) -> bytes | None:
        return None

    mqtt = Mqtt(found, Resources("press", no_blob))
    try:
        yield mqtt
    finally:
        await mqtt.aclose()


async def test_a_machine_without_a_broker_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing: Callable[[str], str | None] = lambda name: None  # noqa: E731
    monkeypatch.setattr("autoglm.channels.broker.plan.find_program", nothing)
    with pytest.raises(SettingsError, match="mosquitto or nats-server is not installed"):
        async with open_broker(BrokerSettings(), tmp_path / "mqtt"):
            pass
    assert find_program("no-such-program") is None


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"host": "0.0.0.0"}, "open to others"),
        ({"tls_key_file": "x"}, "go together"),
        ({"program": "nats-server", "tls_certificate_file": "x", "tls_key_file": "y"}, "mosquitto"),
        ({"user": [{"name": "autoglm", "password": "x" * 8}]}, "the hub's own"),
        ({"user": [{"name": "a", "password": "x" * 8}] * 2}, "same name"),
        ({"user": [{"name": "a\nuser b", "password": "x" * 8}]}, "pattern"),
        ({"user": [{"name": "a", "password": "x" * 8 + "\n"}]}, "control characters"),
        ({"user": [{"name": "a", "password": "x" * 8, "publish": ["a\ntopic b"]}]}, "control character"),
        ({"user": [{"name": "a", "password": "short"}]}, "at least 8"),
    ],
)
def test_settings_that_are_no_good_are_told(fields: dict[str, Any], part: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(part)):
        BrokerSettings.model_validate(fields)


@pytest.mark.parametrize(
    ("pattern", "subjects"),
    [
        ("#", [">"]), ("a/#", ["a", "a.>"]), ("a/+/b", ["a.*.b"]), ("a.b/c", ["a//b.c"]), ("+", ["*"]),
        ("+/#", ["*", "*.>"]),
    ],
)  # fmt: skip
def test_filters_become_subjects(pattern: str, subjects: list[str]) -> None:
    assert nats.subjects(pattern) == subjects
    assert matches(pattern, pattern.replace("+", "x").removesuffix("/#").replace("#", "x"))
