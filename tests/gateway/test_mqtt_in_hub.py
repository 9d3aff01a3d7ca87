"""MQTT through a whole hub: from device to device, while the hub or the broker is killed; and a broker of its own."""

import json
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import anyio
import anyio.to_thread
import httpx2
import pytest
from paho.mqtt.client import Client, MQTTMessage

from autoglm.core.tasks import one_task_group
from eventually import until, wait_until
from hub import HubProcess, running_hub
from mosquitto import Device, Mosquitto, free_port, needs_mosquitto
from mqtt_channels import channel, send_all

COUNT = 150
CONFIG = """
[outbox]
first_retry_s = 0.05
max_retry_s = 0.5
[[channel]]
name = "mqtt"
kind = "mqtt"
url = "{url}"
version = "{version}"
form = "envelope"
qos = {qos}
[[channel.topics]]
topic = "in/+"
kind = "chat"
to = "channel:mqtt/out/{{1}}"
"""


ALL = {str(number) for number in range(COUNT)}
of_both_versions = pytest.mark.parametrize(("version", "qos"), [("5", 1), ("3.1.1", 2)])


def settings(broker: Mosquitto, version: str, qos: int) -> str:
    return CONFIG.format(url=broker.url, version=version, qos=qos)


def wait_for_subscription(hub: HubProcess) -> None:
    """Not only for the connection: what is said before the broker granted the subscription, nobody hears."""
    with hub.client() as http:
        (channel,) = http.get("/api/channels", params={"check": 1}).json()["channels"]
    assert channel["health"]["ok"]


def contents(hearer: Device) -> set[str]:
    return {json.loads(text)["content"] for text in hearer.texts}


def ids(hearer: Device) -> set[str]:
    return {json.loads(text)["id"] for text in hearer.texts}


@needs_mosquitto
@of_both_versions
def test_a_hub_that_is_killed_between_two_devices_loses_nothing(tmp_path: Path, version: str, qos: int) -> None:
    """Killed three times while messages come in and go out. What comes out twice has the same id."""
    with (
        Mosquitto(tmp_path) as broker,
        Device(broker.port, "out/#", version=version, client_id="hearer", qos=qos) as hearer,
        Device(broker.port, version=version, client_id="speaker") as speaker,
        running_hub(tmp_path / "hub", settings(broker, version, qos)) as hub,
    ):

        def speak() -> None:
            for number in range(COUNT):
                body = json.dumps({"id": f"e-{number}", "content": str(number)})
                speaker.publish("in/press", body, qos)

        wait_for_subscription(hub)
        speaking = threading.Thread(target=speak)
        speaking.start()
        for least in (15, 40, 75):
            wait_until(lambda least=least: len(contents(hearer)) >= least)  # type: ignore[misc]  # of this round
            hub.kill()
            hub.start()
        speaking.join()
        wait_until(lambda: contents(hearer) == ALL, timeout_s=60)
        assert len(ids(hearer)) == COUNT


@needs_mosquitto
@of_both_versions
async def test_a_broker_that_is_killed_between_two_devices_and_the_hub_loses_nothing(
    tmp_path: Path, version: str, qos: int
) -> None:
    """Killed three times while messages come in and go out. What comes out twice has the same id.

    The device that speaks counts on a message when the broker has it on its disk, as the hub does.
    """
    done: list[int] = []
    with (
        Mosquitto(tmp_path) as broker,
        Device(broker.port, "out/#", version=version, client_id="hearer", qos=qos) as hearer,
        running_hub(tmp_path / "hub", settings(broker, version, qos)) as hub,
    ):
        speaker = channel(broker.port, version=version, qos=qos, client_id="speaker", topics=[])
        wait_for_subscription(hub)
        async with one_task_group() as tasks:
            tasks.start_soon(send_all, speaker, COUNT, lambda _: "in/press", done)
            for least in (15, 40, 75):
                await until(lambda least=least: len(contents(hearer)) >= least)  # type: ignore[misc]  # of this round
                await anyio.to_thread.run_sync(broker.stop, signal.SIGKILL)
                await anyio.to_thread.run_sync(broker.start)
        await until(lambda: contents(hearer) == ALL, timeout_s=60)
        assert len(ids(hearer)) == COUNT
        await speaker.aclose()


@pytest.mark.skipif(
    shutil.which("mosquitto") is None and shutil.which("nats-server") is None, reason="no broker is installed"
)
@pytest.mark.parametrize("tokens", ["false", "true"])
def test_up_with_mqtt_serves_a_broker_of_its_own(tmp_path: Path, tokens: str) -> None:
    """With tokens through its gate, which knows the fixed users, too."""
    port = free_port()
    tmp_path.joinpath("autoglm.toml").write_text(f"""
[mqtt_broker]
port = {port}
tokens = {tokens}
[[mqtt_broker.user]]
name = "press"
password = "press-password"
""")
    command = [
        sys.executable, "-m", "autoglm", "up", "--mqtt", "--json", "--port", "0", "--data", str(tmp_path),
    ]  # fmt: skip
    with (tmp_path / "log").open("w") as log:
        hub = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    assert hub.stdout is not None
    try:
        ready = json.loads(hub.stdout.readline())
        key = Path(ready["key_file"]).read_text().strip()
        with httpx2.Client(base_url=ready["url"], headers={"authorization": f"Bearer {key}"}) as http:
            (channel,) = http.get("/api/channels", params={"check": 1}).json()["channels"]
            assert (channel["name"], channel["kind"], channel["health"]["ok"]) == ("mqtt", "mqtt", True)
            with Device(port, "press/orders", version="3.1.1", username="press", password="press-password") as device:
                http.post(
                    "/api/messages", json={"to": "channel:mqtt/press/orders", "content": "stop"}
                ).raise_for_status()
                wait_until(lambda: device.texts == ["stop"])
    finally:
        hub.terminate()
        assert hub.wait(30) == 0, tmp_path.joinpath("log").read_text()
        hub.stdout.close()


@needs_mosquitto
def test_a_device_that_confirms_at_once_is_believed(tmp_path: Path) -> None:
    """Its receipt comes before the hub has written down that the broker took the message."""
    receipts = '[[channel.topics]]\ntopic = "receipts"\nreceipt = true\n'
    with (
        Mosquitto(tmp_path) as broker,
        Device(broker.port, "out/#", client_id="device") as device,
        running_hub(tmp_path / "hub", settings(broker, "5", 1) + receipts) as hub,
        hub.client() as http,
    ):

        def confirm(client: Client, _: object, message: MQTTMessage) -> None:
            client.publish("receipts", json.loads(message.payload)["id"], 1)

        device.client.on_message = confirm
        wait_for_subscription(hub)
        sent = [http.post("/api/messages", json={"to": "channel:mqtt/out/x", "content": f"{n}"}) for n in range(30)]
        for answer in sent:
            path = f"/api/messages/{answer.json()['id']}/receipts"
            wait_until(lambda path=path: http.get(path).json()["receipts"][-1]["state"] == "delivered")  # type: ignore[misc]
