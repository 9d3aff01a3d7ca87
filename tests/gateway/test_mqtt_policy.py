"""At the hub's own MQTT broker the policy counts as everywhere: for each topic, and from the moment it comes."""

from collections.abc import Iterator

import pytest

from auth.policy.authority import policy_files
from autoglm.channels.broker.plan import free_port
from autoglm.channels.broker_settings import BrokerSettings
from eventually import until
from gateway.inside import settings
from gateway.ruled import Ruled, forbidding, revoked, ruled_hub
from gateway.test_mqtt_tokens import CONNACK, SUBACK, Plant, login
from gateway.wire import call
from mosquitto import needs_mosquitto
from mqtt_packets import Answer, RawDevice, connect, packet, publish, subscribe, text
from nats_server import needs_nats

MINE, OTHER = "plant/7/alarm", "plant/7/state"
PUBACK = 4


@pytest.fixture(
    scope="module",
    params=[pytest.param("mosquitto", marks=needs_mosquitto), pytest.param("nats-server", marks=needs_nats)],
)
def site(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[tuple[Ruled, Plant]]:
    folder, port = tmp_path_factory.mktemp("mqtt-policy"), free_port("127.0.0.1")
    user = {"name": "old-plc", "password": "plc-secret", "publish": ["plant/7/#"], "subscribe": ["plant/7/#"]}
    broker = BrokerSettings.model_validate(
        {"enabled": True, "program": request.param, "port": port, "tokens": True, "user": [user]}
    )
    with ruled_hub(folder, settings().model_copy(update={"mqtt_broker": broker})) as ruled:
        yield ruled, Plant(ruled.hub, port, folder)


@pytest.fixture
def ruled(site: tuple[Ruled, Plant]) -> Ruled:
    site[0].rule()
    return site[0]


@pytest.fixture
def plant(site: tuple[Ruled, Plant]) -> Plant:
    return site[1]


async def hears(hearer: RawDevice, topic: str) -> bool:
    """Whether the next that comes is of this topic."""
    heard = await hearer.answer()
    assert heard is not None
    return heard.body.startswith(text(topic))


@pytest.mark.attack("a topic that a policy forbids")
async def test_a_new_policy_counts_on_a_connection_that_is_open(plant: Plant, ruled: Ruled) -> None:
    press, screen = plant.device("press-1"), plant.device("screen-1")
    async with RawDevice(plant.port) as speaker, RawDevice(plant.port) as hearer:
        assert await speaker.ask(connect(client_id="s", username=press.name, password=login(press))) == Answer(
            CONNACK, b"\0\0"
        )
        await hearer.ask(connect(client_id="h", username=screen.name, password=login(screen)))
        assert await hearer.ask(subscribe("plant/7/+")) == Answer(SUBACK, b"\0\1\1")
        speaker.send(publish(MINE))
        assert await hears(hearer, MINE)
        ruled.rule(forbidding('Device::"press-1"', "publish:topic", f'Topic::"{MINE}"'))
        speaker.send(publish(MINE) + publish(OTHER))
        assert await hears(hearer, OTHER)
        ruled.rule()
        speaker.send(publish(MINE))
        assert await hears(hearer, MINE)
    (denied,) = ruled.audit("kind=decision&outcome=denied&who=device:press-1")
    assert (denied["resource"], denied["reason"], denied["client"]) == (MINE, "forbidden", "127.0.0.1")
    assert denied["credential"].startswith("jkt:")


@pytest.mark.attack("a topic that a policy forbids")
async def test_what_a_policy_forbids_to_read_is_not_delivered_to_an_old_subscription(
    plant: Plant, ruled: Ruled
) -> None:
    press, screen = plant.device("press-2"), plant.device("screen-2")
    async with RawDevice(plant.port) as speaker, RawDevice(plant.port) as hearer:
        await speaker.ask(connect(client_id="s", username=press.name, password=login(press)))
        await hearer.ask(connect(client_id="h", username=screen.name, password=login(screen)))
        await hearer.ask(subscribe("plant/7/+"))
        ruled.rule(forbidding('Device::"screen-2"', "subscribe:topic", f'Topic::"{MINE}"'))
        speaker.send(publish(MINE) + publish(OTHER))
        assert await hears(hearer, OTHER)
        assert await hearer.ask(subscribe(MINE, OTHER, number=2)) == Answer(SUBACK, b"\0\2\x80\1")
    denied = ruled.audit("kind=decision&outcome=denied&who=device:screen-2")
    assert {(entry["action"], entry["resource"]) for entry in denied} == {("subscribe:topic", MINE)}


@pytest.mark.attack("a will outside of the scope")
async def test_a_will_that_a_policy_forbids_meanwhile_is_not_published(plant: Plant, ruled: Ruled) -> None:
    press, screen = plant.device("press-3"), plant.device("screen-3")
    async with RawDevice(plant.port) as leaver, RawDevice(plant.port) as hearer:
        await hearer.ask(connect(client_id="h", username=screen.name, password=login(screen)))
        await hearer.ask(subscribe("plant/7/+"))
        await leaver.ask(connect(client_id="l", username=press.name, password=login(press), will=MINE))
        ruled.rule(forbidding('Device::"press-3"', "publish:topic", f'Topic::"{MINE}"'))
        assert await leaver.answer() is None  # sent away, for the broker has the will already
        hearer.send(publish(OTHER))
        assert await hears(hearer, OTHER)


async def test_a_device_whose_token_ends_has_its_will_published(plant: Plant, ruled: Ruled) -> None:
    """It is none that was revoked."""
    press = plant.device("press-6")
    token = call(plant.hub.port, plant.hub.key, "POST", "/api/tokens", {"device": "press-6", "ttl_s": 2}).json()
    async with RawDevice(plant.port) as leaver, RawDevice(plant.port) as hearer:
        await hearer.ask(connect(client_id="h", username="old-plc", password=b"plc-secret"))
        await hearer.ask(subscribe("plant/7/+"))
        secret = login(press, token=token["token"])
        assert await leaver.ask(connect(client_id="l", username=press.name, password=secret, will=MINE)) == Answer(
            CONNACK, b"\0\0"
        )
        assert await leaver.answer() is None
        assert await hears(hearer, MINE)


async def test_a_role_of_the_policy_gives_topics_and_takes_them_back(plant: Plant, ruled: Ruled) -> None:
    wide = {
        "roles": {"line-8": ["publish:topic:plant/8/*", "subscribe:topic:plant/8/*"]},
        "grants": {"device:press-4": [{"role": "line-8"}]},
    }
    press = plant.device("press-4")
    async with RawDevice(plant.port) as device:
        await device.ask(connect(username=press.name, password=login(press)))
        assert await device.ask(subscribe("plant/8/+")) == Answer(SUBACK, b"\0\1\x80")
        ruled.rule(policy_files(roles=wide))
        assert await device.ask(subscribe("plant/8/+", number=2)) == Answer(SUBACK, b"\0\2\1")
        device.send(publish("plant/8/x"))
        assert await hears(device, "plant/8/x")
        ruled.rule()
        assert await device.ask(publish("plant/8/x", qos=1, number=3)) == Answer(PUBACK, b"\0\3")
        assert await device.ask(subscribe("plant/8/+", number=4)) == Answer(SUBACK, b"\0\4\x80")


@pytest.mark.attack("a revoked device goes on")
async def test_a_fixed_user_whom_the_centre_revokes_is_sent_away(plant: Plant, ruled: Ruled) -> None:
    """To the policy it is `device:NAME`."""
    entering = connect(username="old-plc", password=b"plc-secret")
    async with RawDevice(plant.port) as device, RawDevice(plant.port) as later:
        assert await device.ask(entering) == Answer(CONNACK, b"\0\0")
        ruled.rule(forbidding('Device::"old-plc"', "publish:topic", f'Topic::"{MINE}"'))
        await device.ask(subscribe("plant/7/+"))
        device.send(publish(MINE) + publish(OTHER))
        assert await hears(device, OTHER)
        ruled.rule(revoked("device:old-plc"))
        assert await device.answer() is None
        assert await later.ask(entering) == Answer(CONNACK, b"\0\5")
    assert ruled.audit("action=publish:topic&outcome=denied&who=device:old-plc")


async def test_what_a_device_does_is_in_the_audit_by_its_own_key(plant: Plant, ruled: Ruled) -> None:
    """So that it is judged again when a site that was cut off hears of more."""
    press = plant.device("press-5")
    async with RawDevice(plant.port) as device:
        await device.ask(connect(username=press.name, password=login(press)))
        for number in range(1, 4):
            assert await device.ask(publish(MINE, qos=1, number=number)) == Answer(PUBACK, bytes((0, number)))
        assert await device.ask(subscribe(MINE, number=9)) == Answer(SUBACK, b"\0\x09\1")
        assert await device.ask(packet(0xC0)) == Answer(13, b"")

    def entries() -> list[tuple[str, str, str]]:
        found = ruled.audit("outcome=allowed&who=device:press-5&kind=decision")
        return [(entry["action"], entry["resource"], entry["credential"][:4]) for entry in found]

    wanted = {("publish:topic", MINE, "jkt:"), ("subscribe:topic", MINE, "jkt:")}
    await until(lambda: wanted <= set(entries()))
    assert [entry[:2] for entry in entries()].count(("publish:topic", MINE)) == 1  # in one minute
