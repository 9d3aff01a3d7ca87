"""Devices at the hub's own MQTT broker with the hub's tokens: what thieves try, against a running hub."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from autoglm.auth.tokens.challenge import password
from autoglm.auth.tokens.proof import make_proof
from autoglm.auth.tokens.signing import SigningKey
from autoglm.channels.broker.plan import free_port
from autoglm.channels.broker_settings import BrokerSettings
from autoglm.client.device import Device
from autoglm.core.clock import now_ms
from eventually import until
from gateway.inside import Inside, hub_inside, settings
from gateway.wire import call
from mqtt_packets import Answer, RawDevice, connect, packet, publish, subscribe, text

pytestmark = pytest.mark.skipif(
    shutil.which("mosquitto") is None and shutil.which("nats-server") is None, reason="no broker is installed"
)
SCOPES = ["publish:topic:plant/7/*", "subscribe:topic:plant/7/*"]
CONNACK, SUBACK, DISCONNECT, AUTH = 2, 9, 14, 15


class Plant:
    """A hub with its broker, and where devices reach that."""

    def __init__(self, hub: Inside, port: int, folder: Path) -> None:
        self.hub, self.port, self._folder = hub, port, folder

    def device(self, name: str) -> Device:
        wish = {"name": name, "scopes": SCOPES}
        code = call(self.hub.port, self.hub.key, "POST", "/api/devices/enrolments", wish).json()["code"]
        device = Device.enrol(self._folder / f"{name}.json", code, url=self.hub.hub.url)
        # Right after a start each proof wants a nonce, which MQTT 3.1.1 cannot ask for: wait it out by the clock.
        self.hub.hub._auth.requests._started_ms = now_ms() - 120_000
        return device


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    folder, port = tmp_path_factory.mktemp("mqtt-tokens"), free_port("127.0.0.1")
    broker = BrokerSettings(enabled=True, port=port, tokens=True)
    with hub_inside(folder / "data", settings().model_copy(update={"mqtt_broker": broker})) as hub:
        yield Plant(hub, port, folder)


def login(device: Device, **changes: Any) -> bytes:
    wanted: dict[str, Any] = {
        "key": device._key, "method": "MQTT", "url": "hub", "token": device.token(), "now_ms": now_ms(), **changes,
    }  # fmt: skip
    token = wanted["token"]
    return password(token, make_proof(wanted.pop("key"), **wanted)).encode()


async def enter(
    plant: Plant, device: Device, secret: bytes | None = None, *, username: str = "", will: str | None = None
) -> int | None:
    """The CONNACK's code; None when the connection ended without."""
    async with RawDevice(plant.port) as raw:
        answer = await raw.ask(connect(username=username or device.name, password=secret or login(device), will=will))
        return None if answer is None else answer.body[1]


def logins(plant: Plant, query: str) -> list[dict[str, Any]]:
    """As the audit has them; the gate tells it beside its answer to the device."""
    page = call(plant.hub.port, plant.hub.key, "GET", f"/api/audit?action=mqtt:connect&{query}")
    found: list[dict[str, Any]] = page.json()["entries"]
    return found


def refusals(plant: Plant) -> set[str]:
    """Why strangers were turned away from the broker."""
    found = call(plant.hub.port, plant.hub.key, "GET", "/api/audit?action=authenticate&outcome=denied").json()[
        "entries"
    ]
    assert all((entry["who"], entry["credential"]) == ("", "") for entry in found)  # whatever they called themselves
    assert not any("press-" in str(entry) for entry in found)
    return {entry["reason"] for entry in found if (entry["resource"], entry["client"]) == ("mqtt", "127.0.0.1")}


async def test_a_device_logs_in_by_its_token_and_gets_its_topics_only(plant: Plant) -> None:
    press = plant.device("press-7")
    async with RawDevice(plant.port) as device:
        welcome = await device.ask(connect(username="press-7", password=login(press)))
        assert welcome == Answer(CONNACK, b"\0\0")
        assert await device.ask(subscribe("plant/7/+", "plant/8/+", "#")) == Answer(SUBACK, b"\0\1\1\x80\x80")
        device.send(publish("plant/8/stop"))
        device.send(publish("plant/7/stop"))
        heard = await device.answer()
        assert heard is not None
        assert heard.body.startswith(text("plant/7/stop"))


async def test_a_device_answers_a_challenge_with_mqtt_5(plant: Plant) -> None:
    if not plant.hub.hub.broker or plant.hub.hub.broker.version != "5":
        pytest.skip("the broker here speaks 3.1.1 only")
    press = plant.device("press-5")
    async with RawDevice(plant.port) as device:
        asked = await device.ask(connect(5, method="autoglm-pop"))
        assert asked is not None
        assert asked.kind == AUTH
        nonce = asked.body.partition(b"\x15" + text("autoglm-pop") + b"\x16")[2][2:].decode()
        answer = login(press, nonce=nonce)
        properties = b"\x15" + text("autoglm-pop") + b"\x16" + text(answer)
        sized = len(properties)
        assert sized > 127
        body = b"\x18" + bytes((sized % 128 | 128, sized // 128)) + properties
        welcome = await device.ask(packet(0xF0, body))
        assert welcome is not None
        assert (welcome.kind, welcome.body[1]) == (CONNACK, 0)


@pytest.mark.attack("a stolen token without its key")
async def test_a_token_without_its_key_does_not_enter(plant: Plant) -> None:
    press = plant.device("press-1")
    assert await enter(plant, press) == 0
    assert await enter(plant, press, press.token().encode()) != 0
    assert await enter(plant, press, login(press, key=SigningKey.generate())) != 0
    assert await enter(plant, press, username="press-7") != 0
    await until(lambda: logins(plant, "who=device:press-1&outcome=allowed"))
    await until(lambda: "wrong_key" in refusals(plant))


@pytest.mark.attack("replay within a run")
async def test_a_password_enters_once(plant: Plant) -> None:
    press = plant.device("press-2")
    secret = login(press)
    assert await enter(plant, press, secret) == 0
    assert await enter(plant, press, secret) != 0


@pytest.mark.attack("a proof reused on another path or method")
async def test_a_proof_for_something_else_does_not_enter(plant: Plant) -> None:
    press = plant.device("press-3")
    for changes in ({"method": "WEBSOCKET"}, {"url": "other"}, {"method": "GET", "url": plant.hub.hub.url}):
        assert await enter(plant, press, login(press, **changes)) != 0, changes


@pytest.mark.attack("expired token")
async def test_an_expired_token_does_not_enter(plant: Plant) -> None:
    press = plant.device("press-4")
    token = call(plant.hub.port, plant.hub.key, "POST", "/api/tokens", {"device": "press-4", "ttl_s": 1}).json()[
        "token"
    ]
    clock = plant.hub.hub._auth._clock
    claims = plant.hub.hub._auth.requests.tokens.verify(token.encode(), clock.now_ms())
    later_ms = claims.ends_at_ms + 61_000
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "now_ms", lambda: later_ms)
        assert await enter(plant, press, login(press, token=token, now_ms=later_ms)) != 0
    assert await enter(plant, press) == 0


@pytest.mark.attack("a revoked device goes on")
async def test_a_device_that_is_sent_away_loses_its_connection(plant: Plant) -> None:
    press = plant.device("press-6")
    async with RawDevice(plant.port) as device:
        assert await device.ask(connect(username="press-6", password=login(press))) == Answer(CONNACK, b"\0\0")
        assert call(plant.hub.port, plant.hub.key, "DELETE", "/api/devices/press-6").status == 204
        assert await device.answer() is None
    assert await enter(plant, press) != 0


@pytest.mark.attack("a will outside of the scope")
async def test_a_will_needs_the_right_to_its_topic(plant: Plant) -> None:
    press = plant.device("press-8")
    assert await enter(plant, press, will="plant/8/stop") != 0
    assert await enter(plant, press, will="plant/7/stop") == 0
    assert json.loads((plant._folder / "press-8.json").read_text())["name"] == "press-8"
