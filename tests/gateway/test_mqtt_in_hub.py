"""MQTT through a whole hub: from device to device, while the hub is killed; and the hub with a broker of its own."""

import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import httpx2
import pytest

from eventually import wait_until
from hub import running_hub
from mosquitto import Device, Mosquitto, free_port, needs_mosquitto

COUNT = 150
CONFIG = """
[outbox]
first_retry_s = 0.05
max_retry_s = 0.5
[[channel]]
name = "mqtt"
kind = "mqtt"
url = "{url}"
qos = {qos}
[[channel.topics]]
topic = "in/+"
kind = "chat"
to = "channel:mqtt/out/{{1}}"
"""


@needs_mosquitto
@pytest.mark.parametrize("qos", [1, 2])
def test_a_hub_that_is_killed_between_two_devices_loses_nothing(tmp_path: Path, qos: int) -> None:
    """Killed three times while messages come in and go out. What comes out twice has the same id."""
    with (
        Mosquitto(tmp_path) as broker,
        Device(broker.port, "out/#", client_id="hearer", qos=qos) as hearer,
        Device(broker.port, client_id="speaker") as speaker,
        running_hub(tmp_path / "hub", CONFIG.format(url=broker.url, qos=qos)) as hub,
    ):

        def speak() -> None:
            for number in range(COUNT):
                body = json.dumps({"id": f"e-{number}", "content": str(number)})
                speaker.publish("in/press", body, qos)

        with hub.client() as http:  # not only connected: what is said before the broker granted it, nobody hears
            (channel,) = http.get("/api/channels", params={"check": 1}).json()["channels"]
        assert channel["health"]["ok"]
        speaking = threading.Thread(target=speak)
        speaking.start()
        for least in (15, 40, 75):
            wait_until(lambda least=least: len(set(hearer.texts)) >= least)  # type: ignore[misc]  # of this round
            hub.kill()
            hub.start()
        speaking.join()
        wait_until(lambda: set(hearer.texts) == {str(number) for number in range(COUNT)}, timeout_s=60)
        ids = {dict(message.properties.UserProperty)["id"] for message in list(hearer.heard)}  # type: ignore[union-attr]
        assert len(ids) == COUNT


@pytest.mark.skipif(
    shutil.which("mosquitto") is None and shutil.which("nats-server") is None, reason="no broker is installed"
)
def test_up_with_mqtt_serves_a_broker_of_its_own(tmp_path: Path) -> None:
    port = free_port()
    tmp_path.joinpath("autoglm.toml").write_text(f"""
[mqtt_broker]
port = {port}
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
