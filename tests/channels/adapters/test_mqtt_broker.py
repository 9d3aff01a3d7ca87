"""The MQTT channel with a real Mosquitto: both ways, both versions, sessions, retained messages, will, refusals."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from structlog.testing import capture_logs

from autoglm.channels import web
from autoglm.channels.adapters.mqtt.filters import PACKET_BYTES
from autoglm.channels.delivery import Delivery
from autoglm.core.errors import StorageFull
from autoglm.core.ports import KeyValue
from autoglm.core.tasks import one_task_group
from autoglm.store import StoreSettings, open_store
from eventually import until
from fakes.mqtt_proxy import MqttProxy
from mosquitto import Device, Mosquitto, needs_mosquitto
from mqtt_channels import ALARMS, channel, running, send

pytestmark = needs_mosquitto


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path) as broker:
        yield broker


@pytest.fixture(params=["5", "3.1.1"])
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_messages_go_both_ways(broker: Mosquitto, version: str) -> None:
    with Device(broker.port, "plant/7/command", version=version) as device:
        async with running(broker.port, version=version) as (mqtt, inbox):
            device.publish("plant/7/alarm", "hot")
            await until(lambda: inbox.taken)
            assert (inbox.taken[0].from_, inbox.taken[0].to, inbox.taken[0].content) == ("device:7", "group:ops", "hot")
            found = await send(mqtt, "slow down", "plant/7/command")
            assert (found.outcome, found.ticket, found.code) == ("accepted", "m-1", "")
            await until(lambda: device.texts == ["slow down"])


@pytest.mark.parametrize(
    "topic", ["hall 1/press 7", "a.b/c.d", "😀/👨\u200d👩\u200d👧", "/leading/", "//", "压机/7", "x" * 60_000]
)
async def test_unusual_topics_go_both_ways(broker: Mosquitto, version: str, topic: str) -> None:
    rules = [{"topic": "in/#", "labels": {"topic": "{1}"}}]
    targets = [{"target": "it", "topic": f"out/{topic}"}]
    with Device(broker.port, "out/#", version=version) as device:
        async with running(broker.port, version=version, topics=rules, targets=targets) as (mqtt, inbox):
            device.publish(f"in/{topic}", "x")
            await until(lambda: inbox.taken)
            assert inbox.taken[0].labels["topic"] == topic[:1024]
            assert (await send(mqtt, "x", "it")).outcome == "accepted"
            await until(lambda: [each.topic for each in device.heard] == [f"out/{topic}"])


async def test_properties_name_the_message_and_its_attempts(broker: Mosquitto) -> None:
    with Device(broker.port, "a") as device:
        async with running(broker.port) as (mqtt, _):
            await send(mqtt, [{"type": "json", "json": 5}], "a", key="k-1", thread="t", expires_at=4_000_000_000_000)
            await until(lambda: device.heard)
            found: Any = device.heard[0].properties
            assert dict(found.UserProperty) == {
                "id": "m-1", "from": "user:alice", "kind": "chat", "thread": "t", "key": "k-1",
            }  # fmt: skip
            assert (found.ContentType, found.PayloadFormatIndicator) == ("application/json", 1)
            assert found.MessageExpiryInterval > 1_000_000_000


async def test_what_came_while_the_hub_was_away_is_taken(broker: Mosquitto, version: str) -> None:
    async with running(broker.port, version=version):
        pass
    with Device(broker.port, version=version) as device:
        for number in range(50):
            device.publish("plant/7/alarm", str(number), qos=1 + number % 2)
    async with running(broker.port, version=version) as (_, inbox):
        await until(lambda: len(inbox.taken) == 50)
    assert [each.content for each in inbox.taken] == [str(number) for number in range(50)]


async def test_a_filter_that_the_settings_lost_is_given_up(broker: Mosquitto, version: str, tmp_path: Path) -> None:
    async with open_store(tmp_path / "data", StoreSettings()) as store:
        async with running(broker.port, store.keyvalue, version=version):
            pass
        wider = [{"topic": "plant/#"}]
        async with running(broker.port, store.keyvalue, version=version, topics=wider) as (_, inbox):
            with Device(broker.port, version=version) as device:
                device.publish("plant/7/alarm", "hot")
                device.publish("plant/7/end", "cold")
                await until(lambda: [each.content for each in inbox.taken][-1:] == ["cold"])
            assert [each.content for each in inbox.taken] == ["hot", "cold"]
        with Device(broker.port, version=version) as device:
            device.publish("plant/7/alarm", "kept for the filter that goes now", qos=1)
        other = [{"topic": "other/#"}]
        with capture_logs() as logs:
            async with running(broker.port, store.keyvalue, version=version, topics=other) as (_, inbox):
                with Device(broker.port, version=version) as device:
                    device.publish("plant/7/alarm", "hot")
                    device.publish("other/end", "cold")
                    await until(lambda: inbox.taken)
                assert [each.content for each in inbox.taken] == ["cold"]
        assert [line["event"] for line in logs].count("mqtt_message_left") == 1


def filters(number: int) -> list[dict[str, Any]]:
    """So many that none is in another."""
    return [{"topic": f"plant/{index}/{'x' * 200}"} for index in range(number)]


async def noted(keyvalue: KeyValue) -> list[str]:
    entry = await keyvalue.get("mqtt/mqtt/filters")
    return [] if entry is None else list(json.loads(entry.value))


async def test_filters_that_were_given_up_are_forgotten(broker: Mosquitto, version: str, tmp_path: Path) -> None:
    """In packets of a bounded size, and once: a later run does not ask for it again."""
    async with open_store(tmp_path / "data", StoreSettings()) as store:
        with MqttProxy(broker.port) as proxy:
            async with running(proxy.port, store.keyvalue, version=version, topics=filters(250)):
                assert len(await noted(store.keyvalue)) == 250
            proxy.unsubscribes.clear()
            async with running(proxy.port, store.keyvalue, version=version) as (mqtt, inbox):
                await until(mqtt._link.subscription.has_pruned.is_set)
                await eventually_noted(store.keyvalue, [ALARMS["topic"]])
                packets = [packet for packet in proxy.unsubscribes if b"plant/" in packet]
                assert sum(packet.count(b"plant/") for packet in packets) == 250
                assert max(map(len, packets)) <= PACKET_BYTES
                with Device(broker.port, version=version) as device:
                    device.publish(filters(1)[0]["topic"], "given up")
                    device.publish("plant/7/alarm", "wanted")
                    await until(lambda: inbox.taken)
                assert [each.content for each in inbox.taken] == ["wanted"]
            proxy.unsubscribes.clear()
            async with running(proxy.port, store.keyvalue, version=version) as (mqtt, _):
                await until(mqtt._link.subscription.has_pruned.is_set)
            assert not any(b"plant/" in packet for packet in proxy.unsubscribes)


async def test_a_filter_that_the_broker_keeps_is_asked_for_again(broker: Mosquitto, tmp_path: Path) -> None:
    async with open_store(tmp_path / "data", StoreSettings()) as store:
        with MqttProxy(broker.port) as proxy:
            async with running(proxy.port, store.keyvalue, topics=filters(1)):
                pass
            for code, left in ((135, filters(1)), (17, [])):  # not authorized; no subscription existed
                proxy.unsuback_code = code
                proxy.unsubscribes.clear()
                async with running(proxy.port, store.keyvalue) as (mqtt, _):
                    await until(mqtt._link.subscription.has_pruned.is_set)
                    await eventually_noted(store.keyvalue, [ALARMS["topic"], *(one["topic"] for one in left)])
                assert len([packet for packet in proxy.unsubscribes if b"plant/" in packet]) == 1


async def test_a_connection_that_ends_before_filters_are_given_up_is_followed_by_one_that_does(
    broker: Mosquitto, tmp_path: Path
) -> None:
    """Nothing is sent meanwhile: it connects again by itself, and forgets them after that one's answer."""
    async with open_store(tmp_path / "data", StoreSettings()) as store:
        with MqttProxy(broker.port) as proxy:
            async with running(proxy.port, store.keyvalue, topics=filters(1)):
                pass
            proxy.unsubscribes.clear()
            proxy.cuts_unsubscribe = True
            async with running(proxy.port, store.keyvalue) as (mqtt, _):
                await until(lambda: mqtt.link_state == (True, 2))
                await eventually_noted(store.keyvalue, [ALARMS["topic"]])
                assert [b"plant/" in packet for packet in proxy.unsubscribes] == [True, True]


async def test_a_session_that_is_gone_has_no_filters(broker: Mosquitto, tmp_path: Path) -> None:
    async with open_store(tmp_path / "data", StoreSettings()) as store:
        await store.keyvalue.put("mqtt/mqtt/filters", json.dumps(["of/another/session"]).encode())
        with MqttProxy(broker.port) as proxy:
            async with running(proxy.port, store.keyvalue):
                await eventually_noted(store.keyvalue, [ALARMS["topic"]])
            assert not any(b"of/another" in packet for packet in proxy.unsubscribes)


async def eventually_noted(keyvalue: KeyValue, wanted: list[str]) -> None:
    with anyio.fail_after(10):
        while await noted(keyvalue) != wanted:  # noqa: ASYNC110  # the store tells nobody
            await anyio.sleep(0.01)


async def test_what_the_inbox_refuses_stays_with_the_broker(broker: Mosquitto, version: str) -> None:
    with Device(broker.port, version=version) as device:
        async with running(broker.port, version=version) as (mqtt, inbox):
            inbox.refusal = StorageFull("/data")
            for number in range(100):
                device.publish(f"plant/{number}/alarm", str(number))
            await until(lambda: mqtt._intake._messages >= 20)  # as many as the broker gives without a PUBACK
            assert inbox.taken == []
        async with running(broker.port, version=version) as (_, inbox):
            inbox.refusal = StorageFull("/data")
            await until(lambda: mqtt._intake._messages >= 20)
            inbox.refusal = None
            await until(lambda: len(inbox.taken) == 100, 60.0)  # pauses grow up to 30 s
        async with running(broker.port, version=version) as (_, after):
            device.publish("plant/7/alarm", "last")
            await until(lambda: after.taken)
    assert sorted(int(str(each.content)) for each in inbox.taken) == list(range(100))
    assert [each.content for each in after.taken] == ["last"]


async def test_a_retained_message_is_taken_once(broker: Mosquitto, version: str) -> None:
    with Device(broker.port, version=version) as device, MqttProxy(broker.port) as proxy:
        device.publish("plant/7/alarm", "kept", retain=True)
        async with running(proxy.port, version=version) as (mqtt, inbox):
            await until(lambda: inbox.taken)
            proxy.cut()
            await until(lambda: mqtt._link.connection == 2 and mqtt._link.is_up)
            device.publish("plant/7/alarm", "live")
            await until(lambda: len(inbox.taken) > 1)
    assert [each.content for each in inbox.taken] == ["kept", "live"]


async def test_retained_messages_may_be_left(broker: Mosquitto, version: str) -> None:
    with Device(broker.port, version=version) as device:
        device.publish("plant/7/alarm", "kept", retain=True)
        async with running(broker.port, version=version, topics=[{**ALARMS, "retained": False}]) as (_, inbox):
            device.publish("plant/7/alarm", "live")
            await until(lambda: inbox.taken)
    assert [each.content for each in inbox.taken] == ["live"]


async def test_the_broker_keeps_what_is_retained(broker: Mosquitto, version: str) -> None:
    async with running(broker.port, version=version, retain=True) as (mqtt, _):
        await send(mqtt, "set", "plant/7/speed")
    with Device(broker.port, "plant/7/speed", version=version) as late:
        await until(lambda: late.texts == ["set"])


async def test_presence_is_told_by_the_hub_and_by_its_will(broker: Mosquitto, version: str) -> None:
    with Device(broker.port, "hub/status", version=version) as watcher, MqttProxy(broker.port) as proxy:
        async with running(proxy.port, version=version, presence={"topic": "hub/status"}):
            await until(lambda: watcher.texts == ["online"])
            proxy.cut()  # no DISCONNECT: the will
            await until(lambda: watcher.texts[:3] == ["online", "offline", "online"])
        await until(lambda: watcher.texts[-1] == "offline")
        assert set(watcher.texts[3:-1]) <= {"online"}  # one whose PUBACK was cut off comes again


async def test_a_shared_subscription_gives_each_message_to_one_hub(broker: Mosquitto) -> None:
    first = running(broker.port, share="hubs", client_id="north")
    second = running(broker.port, share="hubs", client_id="south")
    async with first as (_, north), second as (_, south):
        with Device(broker.port) as device:
            for number in range(20):
                device.publish("plant/7/alarm", str(number))
        await until(lambda: len(north.taken) + len(south.taken) == 20)
    assert sorted(int(str(each.content)) for each in north.taken + south.taken) == list(range(20))
    assert north.taken
    assert south.taken


async def test_the_hub_does_not_hear_itself(broker: Mosquitto) -> None:
    with Device(broker.port, "plant/#") as device:
        async with running(broker.port) as (mqtt, inbox):
            assert (await send(mqtt, "mine", "plant/7/alarm")).outcome == "accepted"
            device.publish("plant/7/alarm", "theirs")
            await until(lambda: inbox.taken)
    assert [each.content for each in inbox.taken] == ["theirs"]


async def test_overlapping_filters_bring_a_message_once(broker: Mosquitto, version: str) -> None:
    rules = [ALARMS, {"topic": "plant/7/#", "to": "user:bob"}, {"topic": "plant/#", "to": "user:carol"}]
    with Device(broker.port, version=version) as device:
        async with running(broker.port, version=version, topics=rules) as (_, inbox):
            device.publish("plant/7/alarm", "a")
            device.publish("plant/7/x", "b")
            device.publish("plant", "c")
            await until(lambda: len(inbox.taken) >= 3)
    assert [(each.content, each.to) for each in inbox.taken] == [
        ("a", "group:ops"),
        ("b", "user:bob"),
        ("c", "user:carol"),
    ]


async def test_a_receipt_of_the_device_is_reported(broker: Mosquitto) -> None:
    rules = [{"topic": "plant/+/ack", "receipt": True}]
    with Device(broker.port, "plant/7/command") as device:
        async with running(broker.port, topics=rules) as (mqtt, inbox):
            found = await send(mqtt, "slow down", "plant/7/command")
            await until(lambda: device.heard)
            heard: Any = device.heard[0].properties
            device.publish("plant/7/ack", dict(heard.UserProperty)["id"])
            await until(lambda: inbox.reported)
    assert [(ticket, delivery.outcome) for ticket, delivery in inbox.reported] == [(found.ticket, "delivered")]


async def test_an_answer_of_the_device_names_its_message(broker: Mosquitto) -> None:
    with Device(broker.port) as device:
        async with running(broker.port) as (_, inbox):
            inbox.messages["ticket-1"] = "m-1"
            device.publish("plant/7/alarm", "done", properties={"UserProperty": ("reply_to", "ticket-1")})
            device.publish("plant/7/alarm", "done", properties={"CorrelationData": b"other"})
            await until(lambda: len(inbox.taken) == 2)
    assert [each.reply_to for each in inbox.taken] == ["m-1", "other"]


async def test_an_id_of_the_device_is_taken_once(broker: Mosquitto) -> None:
    with Device(broker.port) as device:
        async with running(broker.port) as (_, inbox):
            for text in ("first", "again"):
                device.publish("plant/7/alarm", text, properties={"UserProperty": ("id", "e-1")})
            device.publish("plant/7/alarm", "last")
            await until(lambda: len(inbox.taken) >= 2)
    assert [each.content for each in inbox.taken] == ["first", "last"]


async def test_a_message_that_is_too_large_is_left_and_the_next_is_taken(broker: Mosquitto, version: str) -> None:
    with Device(broker.port, version=version) as device:
        async with running(broker.port, version=version, payload_max_bytes=1024) as (_, inbox):
            device.publish("plant/7/alarm", "x" * 500_000)
            device.publish("plant/7/alarm", "next")
            await until(lambda: inbox.taken)
    assert [each.content for each in inbox.taken] == ["next"]


async def test_files_of_the_store_go_out_as_they_are(broker: Mosquitto) -> None:
    with Device(broker.port, "a") as device:
        async with running(broker.port) as (mqtt, _):
            assert (await send(mqtt, [{"type": "file", "file": {"file_id": "known"}}], "a")).outcome == "accepted"
            assert (await send(mqtt, [{"type": "file", "file": {"file_id": "gone"}}], "a")).code == "no_file"
            await until(lambda: [each.payload for each in device.heard] == [b"\xffblob"])


# --- refusals ---------------------------------------------------------------------------------------


async def test_that_nobody_subscribes_is_told(broker: Mosquitto) -> None:
    async with running(broker.port) as (mqtt, _), running(broker.port, client_id="b", unheard="retry") as (picky, _):
        found = await send(mqtt, "hello?", "nobody/here")
        assert (found.outcome, found.code, found.ticket) == ("accepted", "16", "m-1")
        found = await send(picky, "hello?", "nobody/here")
        assert (found.outcome, found.failure, found.code) == ("retry", "transient", "16")


async def test_a_message_over_the_brokers_packet_size_never_goes_out(tmp_path: Path) -> None:
    with Mosquitto(tmp_path, "max_packet_size 2000") as broker, Device(broker.port, "a") as device:
        async with running(broker.port) as (mqtt, _):
            found = await send(mqtt, "x" * 2000, "a")
            assert (found.outcome, found.failure) == ("permanent", "too_large")
            assert "2,000" in found.reason.en
            assert (await send(mqtt, "x" * 1500, "a")).outcome == "accepted"
            await until(lambda: [len(each.payload) for each in device.heard] == [1500])
            assert mqtt._link.connection == 1


async def test_a_topic_that_is_not_allowed_is_refused_for_good(tmp_path: Path) -> None:
    rules = tmp_path / "acl"
    rules.write_text("topic read #\ntopic write allowed/#\n")
    with Mosquitto(tmp_path, f"acl_file {rules}") as broker, Device(broker.port, "#"):
        async with running(broker.port) as (mqtt, _):
            found = await send(mqtt, "x", "forbidden/7")
            assert (found.outcome, found.failure, found.code) == ("permanent", "permanent", "135")
            assert (await send(mqtt, "x", "allowed/7")).outcome == "accepted"
            refused = await send(mqtt, "x", "forbidden/7", key="k2", id="m-2")
            assert refused.code == "135"


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_what_a_puback_confirms_depends_on_the_qos(broker: Mosquitto, qos: int) -> None:
    with Device(broker.port, "a", qos=2) as device:
        async with running(broker.port, qos=qos) as (mqtt, _):
            found = await send(mqtt, "x", "a")
            assert (found.outcome, found.code) == ("accepted", "" if qos else "qos_0")
            await until(lambda: [each.qos for each in device.heard] == [qos])


async def test_a_wrong_password_waits_for_the_operator(tmp_path: Path, version: str) -> None:
    with Mosquitto(tmp_path, is_anonymous=False) as broker:
        mqtt = channel(broker.port, version=version, username="hub", password="wrong-secret")
        found = await send(mqtt, "x", "a")
        assert (found.outcome, found.failure, found.is_in_doubt) == ("retry", "auth", False)
        assert found.code in ("134", "135")
        health = await mqtt.check()
        assert (health.ok, health.code) == (False, found.code)
        assert "wrong-secret" not in f"{found} {health} {vars(mqtt)}"
        await mqtt.aclose()


async def test_two_hubs_of_one_name_do_not_chase_each_other(broker: Mosquitto) -> None:
    """Each connection of one ends that of the other."""
    async with running(broker.port) as (first, _), running(broker.port) as (second, _):
        await until(lambda: min(first._link._failures, second._link._failures) >= 2)
        assert max(first._link.pause_s, second._link.pause_s) > 0.0
        assert first._link.connection + second._link.connection <= 6


async def test_failures_to_connect_are_spaced(tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker:
        mqtt = channel(broker.port)
        broker.stop()
        for _ in range(20):
            assert (await send(mqtt, "x", "a")).code == "refused"
        assert mqtt._link._failures == 2  # the one after the first is at once
        assert 0.0 < mqtt._link.pause_s <= 1.0
        broker.start()
        await until(lambda: mqtt._link.pause_s == 0.0)
        assert (await send(mqtt, "x", "a")).outcome == "accepted"
        await mqtt.aclose()


async def test_more_at_a_time_than_the_broker_bears_wait_their_turn(tmp_path: Path) -> None:
    with Mosquitto(tmp_path, "max_inflight_messages 3") as broker, Device(broker.port, "a") as device:
        async with running(broker.port, inflight_max=200) as (mqtt, _):
            found: list[Delivery] = []

            async def one(number: int) -> None:
                found.append(await send(mqtt, str(number), "a", key=str(number)))

            async with one_task_group() as tasks:
                for number in range(100):
                    tasks.start_soon(one, number)
            assert {each.outcome for each in found} == {"accepted"}
            assert mqtt._link.connection == 1
        await until(lambda: sorted(map(int, device.texts)) == list(range(100)), 60.0)


async def test_the_port_says_how_many_at_a_time(broker: Mosquitto, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "TIMEOUT_S", 0.2)
    mqtt = channel(broker.port, inflight_max=5, per_minute=30)
    limits = mqtt.limits("a")
    assert (limits.parallel, limits.windows, limits.per) == (5, ((30, 60.0),), "channel")
    await mqtt.aclose()
    assert (await send(mqtt, "x", "a")).code == "closed"
