"""The MQTT channel keeps to the port, over a real Mosquitto that a proxy makes misbehave."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from autoglm.channels.delivery import Delivery
from autoglm.core.envelope import Envelope
from contracts.channel_contract import ChannelContract, Rig
from eventually import until
from fakes.mqtt_proxy import MqttProxy
from mosquitto import Device, Mosquitto, needs_mosquitto
from mqtt_channels import channel

pytestmark = needs_mosquitto
PASSWORD = "not-for-the-log"


class WatchingRig(Rig):
    """Sends when the channel has noticed that the proxy ended its connection: before, it would be in doubt."""

    proxy: MqttProxy

    async def send(self, envelope: Envelope) -> list[Delivery]:
        if self.proxy.has_cut:
            self.proxy.has_cut = False
            await until(lambda: not self.channel._link.is_up)  # type: ignore[attr-defined]
        return await super().send(envelope)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    with Mosquitto(tmp_path) as broker, Device(broker.port, "plant/#") as device, MqttProxy(broker.port) as proxy:

        def texts() -> list[str]:
            device.catch_up()
            return device.texts

        mqtt = channel(proxy.port, username="hub", password=PASSWORD, topics=[])
        rig = WatchingRig(
            mqtt, target="plant/7/command", texts=texts, misbehave=proxy.misbehave, stop=proxy.stop,
            secrets=(PASSWORD,), unknown_target="$SYS/broker",
        )  # fmt: skip
        rig.proxy = proxy
        yield rig
        await mqtt.aclose()


class TestContract(ChannelContract):
    pass
