"""MQTT channels for tests that talk to a real broker."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio

from autoglm.channels.adapters.mqtt import Mqtt, MqttSettings
from autoglm.channels.channel import Resources
from autoglm.channels.delivery import Delivery
from autoglm.channels.settings import parse_channel
from autoglm.core.ports import KeyValue
from autoglm.core.tasks import one_task_group
from contracts.channel_contract import KeptInbox, message
from eventually import until

ALARMS = {"topic": "plant/+/alarm", "from": "device:{1}", "to": "group:ops"}


async def blob(sha256: str) -> bytes | None:
    """One is known."""
    return b"\xffblob" if sha256 == "known" else None


def channel(port: int, keyvalue: KeyValue | None = None, **fields: Any) -> Mqtt:
    settings = parse_channel(
        {"name": "mqtt", "kind": "mqtt", "url": f"mqtt://127.0.0.1:{port}", "topics": [ALARMS], **fields}
    )
    assert isinstance(settings, MqttSettings)
    return Mqtt(settings, Resources("mqtt", blob, keyvalue))


@asynccontextmanager
async def running(port: int, keyvalue: KeyValue | None = None, **fields: Any) -> AsyncIterator[tuple[Mqtt, KeptInbox]]:
    """A channel that is connected and takes in."""
    mqtt, inbox = channel(port, keyvalue, **fields), KeptInbox()
    try:
        async with one_task_group() as tasks:
            tasks.start_soon(mqtt.run, inbox)
            await until(lambda: mqtt._link.is_up and mqtt._link.subscription.is_granted)
            yield mqtt, inbox
            tasks.cancel_scope.cancel()
    finally:
        await mqtt.aclose()


async def send(mqtt: Mqtt, content: Any, target: str, key: str = "k", **fields: Any) -> Delivery:
    (parcel,) = mqtt.compose(message(content, **fields), target)
    return await mqtt.send(parcel, key)


async def send_all(mqtt: Mqtt, count: int, target: Callable[[int], str], done: list[int]) -> None:
    """`count` messages, ten at a time, each until it is accepted, as the outbox does; its number is then in `done`."""

    async def one(number: int) -> None:
        body = [{"type": "json", "json": {"id": f"e-{number}", "content": str(number)}}]
        async with slots:
            outcome = "retry"
            while outcome != "accepted":
                outcome = (await send(mqtt, body, target(number), f"k-{number}", id=f"e-{number}")).outcome
                await anyio.sleep(0.0 if outcome == "accepted" else 0.05)  # the outbox's pause
            done.append(number)

    slots = anyio.Semaphore(10)
    async with one_task_group() as tasks:
        for number in range(count):
            tasks.start_soon(one, number)
