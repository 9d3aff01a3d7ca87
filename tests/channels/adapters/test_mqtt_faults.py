"""Nothing of QoS 1 and 2 is lost when the broker or the hub is killed, stopped or cut off in mid-flow."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

import mqtt_child
from autoglm.channels import web
from autoglm.channels.delivery import Delivery
from autoglm.core.tasks import one_task_group
from contracts.channel_contract import KeptInbox
from eventually import until, wait_until
from fakes.mqtt_proxy import MqttProxy
from mosquitto import Device, Mosquitto, needs_mosquitto
from mqtt_channels import channel, running, send, send_all

pytestmark = needs_mosquitto
COUNT = 200
ALL = {str(number) for number in range(COUNT)}


@pytest.fixture(params=["5", "3.1.1"])
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path) as broker:
        yield broker


def publish_all(device: Device) -> None:
    """COUNT messages, at most 20 without a PUBACK, each with an id."""
    open_ones: list[int] = []
    for number in range(COUNT):
        body = json.dumps({"id": f"e-{number}", "content": str(number)})
        open_ones.append(device.start_publishing(f"plant/{number % 5}/alarm", body))
        if len(open_ones) > 20:
            device.wait_for(open_ones.pop(0))
    for mid in open_ones:
        device.wait_for(mid)


@pytest.mark.parametrize("qos", [1, 2])
async def test_a_broker_that_is_killed_in_mid_flow_loses_nothing(broker: Mosquitto, version: str, qos: int) -> None:
    """From one channel to another, twice killed. What comes twice has the same id."""
    done: list[int] = []
    sender = channel(broker.port, version=version, qos=qos, client_id="device", topics=[])
    async with running(broker.port, version=version) as (_, inbox), one_task_group() as tasks:
        tasks.start_soon(send_all, sender, COUNT, lambda number: f"plant/{number % 5}/alarm", done)
        for least in (50, 120):
            await until(lambda least=least: len(done) >= least)  # type: ignore[misc]  # of this round
            await anyio.to_thread.run_sync(broker.stop, signal.SIGKILL)
            await anyio.to_thread.run_sync(broker.start)
        await until(lambda: len(done) == COUNT, timeout_s=30)
        await until(lambda: {each.content for each in inbox.taken} >= ALL, timeout_s=30)
        assert sender._link.connection >= 3
    assert len({each.id for each in inbox.taken}) == COUNT
    await sender.aclose()


async def test_a_broker_that_is_killed_does_not_lose_what_waits_for_a_hub(broker: Mosquitto, version: str) -> None:
    async with running(broker.port, version=version):
        pass
    with Device(broker.port, version=version, client_id="device") as device:
        publish_all(device)
        device.publish("plant/other", "")  # one more answer: what was confirmed before is saved
        broker.stop(signal.SIGKILL)
        broker.start()
    async with running(broker.port, version=version) as (_, inbox):
        await until(lambda: {each.content for each in inbox.taken} >= ALL, timeout_s=30)
    assert len(inbox.taken) == COUNT


@contextmanager
def child(broker: Mosquitto, version: str, path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    command = [sys.executable, mqtt_child.__file__, str(broker.port), version, str(path)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def lines(path: Path) -> list[dict[str, Any]]:
    """Whole lines; the last one may have been cut by the kill."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


def test_a_hub_that_is_killed_in_mid_flow_loses_nothing(broker: Mosquitto, version: str, tmp_path: Path) -> None:
    """Three times while messages come; what comes twice has the same id."""
    path = tmp_path / "inbox"
    with Device(broker.port, "hub/status", version=version) as device:
        sender = threading.Thread(target=publish_all, args=(device,))
        for least in (20, 60, 120):
            with child(broker, version, path) as process:
                wait_until(lambda: device.texts[-1:] == ["online"])
                if sender.ident is None:
                    sender.start()
                wait_until(lambda least=least: len(lines(path)) >= least)  # type: ignore[misc]  # of this round
                process.kill()
            wait_until(lambda: device.texts[-1:] == ["offline"])  # the will
        sender.join()
        with child(broker, version, path):
            wait_until(lambda: {each["content"] for each in lines(path)} >= ALL, timeout_s=30)
    found = lines(path)
    assert len({each["id"] for each in found}) == COUNT
    assert {each["id"].rpartition(".")[2] for each in found} == {f"e-{number}" for number in range(COUNT)}


async def test_a_broker_that_stops_answering_leaves_messages_in_doubt_and_then_settles_them(
    broker: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "TIMEOUT_S", 0.3)
    with Device(broker.port, "a") as device:
        async with running(broker.port) as (mqtt, _):
            assert (await send(mqtt, "before", "a")).outcome == "accepted"
            broker.send(signal.SIGSTOP)
            found = await send(mqtt, "meanwhile", "a", key="k-2")
            assert (found.outcome, found.code, found.is_in_doubt) == ("retry", "timeout", True)
            assert (await send(mqtt, "meanwhile", "a", key="k-2")).is_in_doubt
            broker.send(signal.SIGCONT)
            await until(lambda: "meanwhile" in device.texts)
            monkeypatch.setattr(web, "TIMEOUT_S", 5.0)
            assert (await send(mqtt, "meanwhile", "a", key="k-2")).outcome == "accepted"
            assert (await send(mqtt, "after", "a", key="k-3")).outcome == "accepted"
            await until(lambda: "after" in device.texts)
    assert device.texts == ["before", "meanwhile", "after"]  # the retries joined the first attempt


async def test_a_broker_that_hangs_is_noticed_by_its_silence(
    broker: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(broker.port, keepalive_s=1) as (mqtt, _):
        broker.send(signal.SIGSTOP)
        await until(lambda: not mqtt._link.is_up)
        monkeypatch.setattr("autoglm.channels.adapters.mqtt.link.CONNECT_TIMEOUT_S", 0.3)
        await until(lambda: mqtt._link._failure.code == "connect_timeout")
        broker.send(signal.SIGCONT)
        await until(lambda: mqtt._link.is_up)
        assert (await mqtt.check()).ok


@pytest.mark.parametrize("qos", [1, 2])
async def test_what_a_cut_left_open_is_repeated_once(broker: Mosquitto, qos: int) -> None:
    """By paho, with DUP; the outbox's retry joins it. At QoS 2 the broker recognises the repeated one."""
    with Device(broker.port, "a", qos=2) as device, MqttProxy(broker.port) as proxy:
        async with running(proxy.port, qos=qos) as (mqtt, _):
            proxy.misbehave("cut")
            found = await send(mqtt, "x", "a", key="k-1")
            assert (found.outcome, found.code, found.is_in_doubt) == ("retry", "cut", True)
            found = await send(mqtt, "x", "a", key="k-1")
            assert found.outcome == "accepted"
            assert (await send(mqtt, "last", "a", key="k-2")).outcome == "accepted"
            await until(lambda: "last" in device.texts)
            repeated = [packet for packet in proxy.publishes if packet.endswith(b"x")]
            assert [packet[0] & 0x08 for packet in repeated] == [0, 0x08]
    assert device.texts == (["x", "x", "last"] if qos == 1 else ["x", "last"])


async def test_what_a_killed_broker_had_in_memory_alone_is_published_again(broker: Mosquitto, version: str) -> None:
    """A PUBREC is not believed before the broker has answered once more. In 3.1.1 a PUBCOMP does not say: unknown."""
    with Device(broker.port, "a", version=version, qos=2) as device, MqttProxy(broker.port) as proxy:
        async with running(proxy.port, version=version, qos=2) as (mqtt, _):
            proxy.forgets = True
            found = await send(mqtt, "x", "a", key="k-1")
            assert (found.outcome, found.code, found.is_in_doubt) == ("retry", "cut", True)
            assert (await send(mqtt, "x", "a", key="k-1")).outcome == "accepted"
            await until(lambda: device.texts == ["x"])


async def test_a_pubrec_is_an_answer_after_which_a_message_stays_the_same_one(broker: Mosquitto) -> None:
    """It is repeated under its number on each connection, and heard once, however often that ends in between."""
    with Device(broker.port, "a", qos=2) as device, MqttProxy(broker.port) as proxy:
        async with running(proxy.port, qos=2) as (mqtt, _):
            proxy.pubrecs_to_cut = 3
            while (await send(mqtt, "x", "a", key="k-1")).outcome != "accepted":
                pass
            assert (await send(mqtt, "last", "a", key="k-2")).outcome == "accepted"
            await until(lambda: "last" in device.texts)
    assert device.texts == ["x", "last"]


async def test_at_qos_2_a_broker_gets_no_more_at_a_time_than_it_bears(broker: Mosquitto, version: str) -> None:
    """Mosquitto drops what is beyond; to a client of MQTT 3.1.1 it confirms that, and says no limit beforehand."""
    mqtt = channel(broker.port, version=version, qos=2, client_id="device", topics=[])
    with Device(broker.port, "a", version=version) as device:
        async with one_task_group() as tasks:
            for number in range(COUNT):
                tasks.start_soon(partial(send, mqtt, str(number), "a", key=f"k-{number}", id=f"e-{number}"))
        await until(lambda: set(device.texts) == ALL)
    assert "rc151" not in broker.log
    await mqtt.aclose()


@pytest.mark.parametrize("anyio_backend", [("asyncio", {"use_uvloop": True})])
async def test_a_connection_that_the_broker_resets_is_noticed_by_the_hubs_loop(
    broker: Mosquitto, anyio_backend: object
) -> None:
    """It is killed with unread data on both sides: uvloop then calls once more for reading, and never again."""
    with Device(broker.port) as device:
        async with running(broker.port) as (mqtt, inbox):
            for number in range(10):  # each holds up the loop, so that the channel reads nothing
                device.publish("plant/7/alarm", str(number))
            broker.send(signal.SIGSTOP)
            mqtt._link._client.publish("a", "x")  # type: ignore[union-attr]
            mqtt._link._writable()
            broker.stop(signal.SIGKILL)
            broker.start()
            await until(lambda: mqtt._link.connection > 1 and mqtt._link.is_up)
            await until(lambda: {each.content for each in inbox.taken} == {str(number) for number in range(10)})


async def test_a_refusal_at_qos_2_says_why(broker: Mosquitto) -> None:
    with Device(broker.port, "a", qos=2) as device, MqttProxy(broker.port) as proxy:
        async with running(proxy.port, qos=2) as (mqtt, _):
            proxy.misbehave("throttled")
            found = await send(mqtt, "x", "a", key="k-1")
            assert (found.outcome, found.code) == ("retry", "151")
            assert (await send(mqtt, "x", "a", key="k-1")).outcome == "accepted"
            await until(lambda: device.texts == ["x"])


async def test_what_must_not_arrive_twice_is_not_repeated(broker: Mosquitto) -> None:
    with Device(broker.port, "a") as device, MqttProxy(broker.port) as proxy:
        async with running(proxy.port, on_doubt="fail") as (mqtt, _):
            proxy.misbehave("cut")
            assert (await send(mqtt, "x", "a", key="k-1")).is_in_doubt
            assert (await send(mqtt, "last", "a", key="k-2")).outcome == "accepted"
            await until(lambda: "last" in device.texts)
    assert device.texts == ["x", "last"]


async def test_a_message_that_ends_each_connection_does_not_hold_up_the_others(broker: Mosquitto) -> None:
    """It is repeated once; then it is the outbox's, whose pauses grow."""
    with Device(broker.port, "a") as device, MqttProxy(broker.port) as proxy:
        async with running(proxy.port) as (mqtt, _):
            for _ in range(2):
                proxy.misbehave("cut")
            assert (await send(mqtt, "poison", "a", key="k-1")).is_in_doubt
            await until(lambda: mqtt._link.connection >= 3 and mqtt._link.is_up)
            assert (await send(mqtt, "others", "a", key="k-2")).outcome == "accepted"
            await until(lambda: "others" in device.texts)
            assert len([packet for packet in proxy.publishes if packet.endswith(b"poison")]) == 2


async def test_a_message_without_an_id_is_taken_once_while_the_hub_runs(broker: Mosquitto, version: str) -> None:
    """The PUBACK of each is lost with its connection; the broker repeats it with DUP and the same number."""
    with Device(broker.port, version=version) as device, MqttProxy(broker.port) as proxy:
        async with running(proxy.port, version=version) as (mqtt, inbox):
            acknowledge = mqtt._link.acknowledge
            for number in range(5):
                mqtt._link.acknowledge = lambda arrival: None  # type: ignore[method-assign]  # the fault: no PUBACK
                device.publish("plant/7/alarm", "same")
                await until(lambda number=number: len(inbox.taken) == number + 1)  # type: ignore[misc]
                mqtt._link.acknowledge = acknowledge  # type: ignore[method-assign]
                connection = mqtt._link.connection
                proxy.cut()
                await until(lambda connection=connection: mqtt._link.connection > connection and mqtt._link.is_up)  # type: ignore[misc]
            device.publish("plant/7/alarm", "last")
            await until(lambda: inbox.taken[-1].content == "last")
    assert [each.content for each in inbox.taken] == ["same"] * 5 + ["last"]


async def test_a_broker_that_was_never_there_keeps_the_channel_running(tmp_path: Path) -> None:
    broker = Mosquitto(tmp_path)
    mqtt = channel(broker.port)
    async with one_task_group() as tasks:
        tasks.start_soon(mqtt.run, KeptInbox())
        await until(lambda: mqtt._link._failures >= 2)
        with broker:
            await until(lambda: mqtt._link.is_up)
            found: Delivery = await send(mqtt, "x", "a")
            assert found.outcome == "accepted"
        tasks.cancel_scope.cancel()
    await mqtt.aclose()
