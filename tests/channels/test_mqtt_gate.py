"""The gate before a real broker: who comes in, what passes, when it ends, and what attacks come to."""

import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from autoglm.channels.broker import Broker, open_broker
from autoglm.channels.broker.gate import Decision, connection, strangers
from autoglm.channels.broker_settings import BrokerSettings
from autoglm.core.tasks import one_task_group
from eventually import until
from mosquitto import Device, needs_mosquitto
from mqtt_doorkeeper import DeviceKey, Doorkeeper
from mqtt_packets import Answer, RawDevice, connect, packet, properties, publish, subscribe, text
from nats_server import needs_nats

PROGRAMS = [pytest.param("mosquitto", marks=needs_mosquitto), pytest.param("nats-server", marks=needs_nats)]
pytestmark = pytest.mark.parametrize("anyio_backend", [("asyncio", {"use_uvloop": True})])  # as the hub runs
BOTH = pytest.mark.parametrize("program", PROGRAMS)
METHOD = "autoglm-pop"
CONNACK, PUBLISH, PUBACK, SUBACK, DISCONNECT, AUTH = 2, 3, 4, 9, 14, 15


class Scene:
    """A hub's broker behind its gate, a doorkeeper, and the key of a press."""

    def __init__(self, broker: Broker, door: Doorkeeper, decisions: list[Decision]) -> None:
        assert broker.gate is not None
        self.broker, self.door, self.decisions, self.gate = broker, door, decisions, broker.gate
        self.port = broker.gate.port
        self.key = DeviceKey()

    def login(self, level: int = 4, client_id: str = "p7", token: str | None = None, **fields: Any) -> bytes:
        token = token or self.door.token(self.key)
        return connect(level, client_id=client_id, username="press-7", password=self.key.login(token), **fields)

    def observer(self) -> Device:
        """Hears all, by the hub's own login."""
        return Device(
            int(self.broker.url.rpartition(":")[2]), "#", version="3.1.1", client_id="observer", username="autoglm",
            password=self.broker.password,
        )  # fmt: skip

    def reasons(self, action: str = "connect") -> list[str]:
        return [one.reason for one in self.decisions if one.action == action and not one.is_allowed]


@asynccontextmanager
async def scene(program: str, folder: Path, **fields: Any) -> AsyncIterator[Scene]:
    settings = BrokerSettings.model_validate({"program": program, "port": 0, "tokens": True, **fields})
    door, decisions = Doorkeeper(), list[Decision]()
    async with (
        open_broker(
            settings, folder / "mqtt", authenticate=door, record=decisions.append, now_ms=door.now_ms
        ) as broker,
        one_task_group() as tasks,
    ):
        tasks.start_soon(broker.run)
        yield Scene(broker, door, decisions)
        tasks.cancel_scope.cancel()


def is_welcome(answer: Answer | None) -> bool:
    return answer is not None and answer.kind == CONNACK and answer.body[1] == 0


# --- logins ---


@BOTH
async def test_a_token_and_its_proof_let_in_and_each_login_is_a_decision(program: str, tmp_path: Path) -> None:
    async with scene(program, tmp_path) as found, RawDevice(found.port) as device:
        assert is_welcome(await device.ask(found.login()))
        assert await device.ask(subscribe("plant/7/command")) == Answer(SUBACK, b"\0\1\1")
        assert await device.ask(publish("plant/7/x", qos=1, number=2)) == Answer(PUBACK, b"\0\2")
        assert found.gate.devices == 1
        assert found.gate.strangers == 0
        assert found.decisions == [
            Decision("connect", "", True, "ok", "device:press-7", "p7", "127.0.0.1")
        ]  # fmt: skip


@pytest.mark.attack("expired token")
@BOTH
async def test_a_token_that_has_ended_lets_nobody_in(program: str, tmp_path: Path) -> None:
    async with scene(program, tmp_path) as found, RawDevice(found.port) as device:
        token = found.door.token(found.key, ttl_s=60)
        found.door.ahead_ms = 61_000
        assert await device.ask(found.login(token=token)) == Answer(CONNACK, b"\0\4")
        assert await device.answer() is None
        assert "expired" in found.reasons()[0]


@pytest.mark.attack("replayed password")
@BOTH
async def test_a_password_that_was_heard_on_the_way_opens_nothing(program: str, tmp_path: Path) -> None:
    async with scene(program, tmp_path) as found, RawDevice(found.port) as device, RawDevice(found.port) as thief:
        login = found.login()
        assert is_welcome(await device.ask(login))
        assert await thief.ask(login) == Answer(CONNACK, b"\0\4")
        assert "replayed" in found.reasons()[0]


@pytest.mark.attack("stolen token without its key")
@BOTH
async def test_a_stolen_token_is_nothing_without_its_key(program: str, tmp_path: Path) -> None:
    async with scene(program, tmp_path) as found, RawDevice(found.port) as device, RawDevice(found.port) as other:
        token = found.door.token(found.key)
        thief = connect(4, username="press-7", password=DeviceKey().login(token))
        assert await device.ask(thief) == Answer(CONNACK, b"\0\4")
        assert await other.ask(connect(4, username="press-7", password=token.encode())) == Answer(CONNACK, b"\0\4")


@needs_mosquitto
async def test_mqtt_5_answers_a_challenge_and_is_told_the_identifier_that_it_got(tmp_path: Path) -> None:
    async with scene("mosquitto", tmp_path) as found, RawDevice(found.port) as device:
        asked = await device.ask(connect(5, client_id="", method=METHOD))
        assert asked is not None
        nonce = challenge_of(asked)
        login = found.key.login(found.door.token(found.key), nonce)
        answer = await device.ask(auth(0x18, login))
        assert is_welcome(answer)
        assert answer is not None
        assert b"\x15" + text(METHOD) in answer.body
        assert b"\x12\0\x15auto-" in answer.body


@pytest.mark.attack("replayed password")
@needs_mosquitto
async def test_an_answer_to_one_challenge_is_none_to_another(tmp_path: Path) -> None:
    async with scene("mosquitto", tmp_path) as found, RawDevice(found.port) as device, RawDevice(found.port) as thief:
        asked = await device.ask(connect(5, method=METHOD))
        assert asked is not None
        login = found.key.login(found.door.token(found.key), challenge_of(asked))
        assert await thief.ask(connect(5, method=METHOD)) is not None
        assert await thief.ask(auth(0x18, login)) == Answer(CONNACK, b"\0\x87\0")


@needs_mosquitto
@pytest.mark.parametrize(
    ("data", "code"),
    [
        (connect(5, method="SCRAM-SHA-1"), 0x8C), (connect(5, username="u", password=b"p"), 0x86),
        (connect(5, will="a/+", username="u"), 0x90), (connect(5, client_id="c" * 600), 0x85),
        (packet(0x10, text("MQTT") + b"\6\2\0\0\0" + text("c")), 0x84),
    ],
)  # fmt: skip
async def test_a_login_in_mqtt_5_is_refused_with_its_reason(tmp_path: Path, data: bytes, code: int) -> None:
    async with scene("mosquitto", tmp_path) as found, RawDevice(found.port) as device:
        assert await device.ask(data) == Answer(CONNACK, bytes((0, code, 0)))
        assert await device.answer() is None
        assert len(found.reasons()) == 1


@needs_nats
async def test_a_version_that_the_broker_does_not_speak_is_refused_at_the_gate(tmp_path: Path) -> None:
    async with scene("nats-server", tmp_path) as found, RawDevice(found.port) as device:
        assert await device.ask(found.login(5)) == Answer(CONNACK, b"\0\x84\0")


@BOTH
async def test_mqtt_3_needs_an_identifier_for_a_session_that_lasts(program: str, tmp_path: Path) -> None:
    async with scene(program, tmp_path) as found, RawDevice(found.port) as device, RawDevice(found.port) as other:
        assert await device.ask(found.login(client_id="", clean=False)) == Answer(CONNACK, b"\0\2")
        assert is_welcome(await other.ask(found.login(client_id="")))


def auth(reason: int, data: bytes) -> bytes:
    return packet(0xF0, bytes((reason,)) + properties(b"\x15" + text(METHOD), b"\x16" + text(data)))


def challenge_of(answer: Answer) -> str:
    assert (answer.kind, answer.body[0]) == (AUTH, 0x18)
    head = 2 + len(b"\x15" + text(METHOD)) + 3
    return answer.body[head:].decode()


# --- topics ---


@pytest.mark.attack("topic outside of the scope")
@BOTH
async def test_what_is_outside_of_the_scope_reaches_nobody(program: str, tmp_path: Path) -> None:
    async with scene(program, tmp_path) as found, RawDevice(found.port) as device:
        with found.observer() as observer:
            await until(lambda: observer.is_granted)
            assert is_welcome(await device.ask(found.login()))
            for number, qos in ((1, 0), (2, 1), (3, 2)):
                device.send(publish("plant/8/x", b"not mine", qos=qos, number=number, retain=True))
            device.send(packet(0x62, b"\0\3") + publish("plant/7/x", b"mine", qos=1, number=4))
            await until(lambda: observer.texts == ["mine"])
        assert found.reasons("publish:topic") == ["scope"]


@pytest.mark.attack("wildcard widening")
@BOTH
async def test_a_wildcard_brings_no_more_than_was_granted(program: str, tmp_path: Path) -> None:
    """nats-server reads > and * as wildcards of its own."""
    async with scene(program, tmp_path) as found, RawDevice(found.port) as device, RawDevice(found.port) as other:
        token = found.door.token(found.key, subscribe=("plant/+",), publish=("#",))
        assert is_welcome(await device.ask(found.login(token=token)))
        for wanted in ("#", "plant/#", "+/+", "$share/g/#", "$SYS/#"):
            assert await device.ask(subscribe(wanted)) == Answer(SUBACK, b"\0\1\x80")
        await device.ask(subscribe("plant/>", "plant/*"))
        assert is_welcome(await other.ask(found.login(token=token, client_id="other")))
        assert await other.ask(publish("plant/7/deep", qos=1)) == Answer(PUBACK, b"\0\1")
        device.send(packet(0xC0))
        answer = await device.answer()
        assert answer is None or answer.kind != PUBLISH


@pytest.mark.attack("will message outside of the scope")
@pytest.mark.parametrize(("level", "refusal"), [(4, b"\0\5"), (5, b"\0\x87\0")])
@needs_mosquitto
async def test_a_will_says_nothing_that_the_device_may_not(tmp_path: Path, level: int, refusal: bytes) -> None:
    async with scene("mosquitto", tmp_path) as found:
        with found.observer() as observer:
            async with RawDevice(found.port) as device:
                assert await device.ask(found.login(level, will="plant/8/x")) == Answer(CONNACK, refusal)
            async with RawDevice(found.port) as device:
                assert is_welcome(await device.ask(found.login(level, will="plant/7/x")))
            await until(lambda: [one.topic for one in observer.heard] == ["plant/7/x"])
        assert found.reasons("publish:topic") == ["will"]


@pytest.mark.attack("will message outside of the scope")
@needs_mosquitto
async def test_a_will_does_not_wait_until_after_the_token(tmp_path: Path) -> None:
    """Its delay of an hour ends with the token's two seconds."""
    async with scene("mosquitto", tmp_path) as found:
        with found.observer() as observer:
            await until(lambda: observer.is_granted)
            token = found.door.token(found.key, ttl_s=2)
            expiry = b"\x11\0\0\x0e\x10"
            async with RawDevice(found.port) as device:
                login = found.login(5, token=token, will="plant/7/status", will_delay_s=3600, extra=expiry)
                assert is_welcome(await device.ask(login))
            await until(lambda: observer.texts == ["gone"])


@pytest.mark.attack("session takeover")
@BOTH
async def test_no_device_takes_anothers_session(program: str, tmp_path: Path) -> None:
    """By the same client identifier: neither does the one lose its connection, nor gets the other its messages."""
    async with scene(program, tmp_path) as found, RawDevice(found.port) as device, RawDevice(found.port) as thief:
        assert is_welcome(await device.ask(found.login(clean=False)))
        assert await device.ask(subscribe("plant/7/secret")) == Answer(SUBACK, b"\0\1\1")
        key = DeviceKey()
        password = key.login(found.door.token(key, "device:thief", publish=("#",), subscribe=("#",)))
        answer = await thief.ask(connect(4, client_id="p7", username="press-7", password=password, clean=False))
        assert answer == Answer(CONNACK, b"\0\0")  # no session present
        assert await thief.ask(publish("plant/7/secret", qos=1)) == Answer(PUBACK, b"\0\1")
        answer = await device.answer()
        assert answer is not None
        assert answer.kind == PUBLISH


@BOTH
async def test_a_device_takes_its_own_session_over(program: str, tmp_path: Path) -> None:
    async with scene(program, tmp_path) as found, RawDevice(found.port) as first, RawDevice(found.port) as second:
        assert is_welcome(await first.ask(found.login(clean=False)))
        assert await first.ask(subscribe("plant/7/x")) is not None
        assert await second.ask(found.login(clean=False)) == Answer(CONNACK, b"\1\0")
        assert await first.answer() is None
        await until(lambda: found.gate.devices == 1)


@pytest.mark.attack("topic outside of the scope")
@BOTH
async def test_a_session_brings_nothing_that_its_device_may_no_longer_read(program: str, tmp_path: Path) -> None:
    """Its subscription is from a time of wider rights. Both are acknowledged, so that nothing is stuck."""
    async with scene(program, tmp_path) as found:
        wide = found.door.token(found.key, subscribe=("#",), publish=("#",))
        async with RawDevice(found.port) as device:
            assert is_welcome(await device.ask(found.login(clean=False, token=wide)))
            assert await device.ask(subscribe("plant/#", qos=2)) == Answer(SUBACK, b"\0\1\2")
            device.send(packet(0xE0))
            assert await device.answer() is None
        async with RawDevice(found.port) as sender:
            assert is_welcome(await sender.ask(found.login(client_id="sender", token=wide)))
            for number, topic in enumerate(("plant/8/x", "plant/7/x"), 1):
                assert await sender.ask(publish(topic, qos=1, number=number)) is not None
        async with RawDevice(found.port) as device:
            assert await device.ask(found.login(clean=False)) == Answer(CONNACK, b"\1\0")
            answer = await device.answer()
            assert answer is not None
            assert answer.body.startswith(text("plant/7/x"))
        assert found.reasons("read:topic") == ["scope"]


# --- ends ---


@pytest.mark.attack("expired token")
@BOTH
async def test_a_connection_ends_with_its_token(program: str, tmp_path: Path) -> None:
    """Within a second, and the broker publishes its will."""
    async with scene(program, tmp_path) as found, RawDevice(found.port) as device:
        with found.observer() as observer:
            await until(lambda: observer.is_granted)
            assert is_welcome(await device.ask(found.login(will="plant/7/status")))
            found.door.ahead_ms = 901_000
            started_s = time.monotonic()
            assert await device.answer() is None
            assert time.monotonic() - started_s < 1
            await until(lambda: observer.texts == ["gone"])


@pytest.mark.attack("key revoked while connected")
@BOTH
async def test_who_is_revoked_is_out_at_once_and_has_no_last_word(program: str, tmp_path: Path) -> None:
    async with scene(program, tmp_path) as found, RawDevice(found.port) as device, RawDevice(found.port) as other:
        with found.observer() as observer:
            await until(lambda: observer.is_granted)
            assert is_welcome(await device.ask(found.login(will="plant/7/status")))
            key = DeviceKey()
            password = key.login(found.door.token(key, "device:other"))
            assert is_welcome(await other.ask(connect(4, client_id="o", username="o", password=password)))
            found.door.revoked.add("device:press-7")
            started_s = time.monotonic()
            assert await device.answer() is None
            assert time.monotonic() - started_s < 1
            assert await other.ask(publish("plant/7/last", qos=1)) == Answer(PUBACK, b"\0\1")
            await until(lambda: observer.heard)
            assert [one.topic for one in observer.heard] == ["plant/7/last"]
            async with RawDevice(found.port) as again:
                assert await again.ask(found.login()) == Answer(CONNACK, b"\0\5")


@needs_mosquitto
async def test_mqtt_5_is_told_why_it_ends(tmp_path: Path) -> None:
    async with scene("mosquitto", tmp_path) as found, RawDevice(found.port) as device, RawDevice(found.port) as other:
        assert is_welcome(await device.ask(found.login(5)))
        found.door.ahead_ms = 901_000
        assert await device.answer() == Answer(DISCONNECT, b"\xa0")
        found.door.ahead_ms = 0
        assert is_welcome(await other.ask(found.login(5)))
        found.door.revoked.add("device:press-7")
        assert await other.answer() == Answer(DISCONNECT, b"\x87")


@needs_mosquitto
async def test_mqtt_5_authenticates_anew_on_the_open_connection(tmp_path: Path) -> None:
    async with scene("mosquitto", tmp_path) as found, RawDevice(found.port) as device:
        assert is_welcome(await challenged(found, device))
        narrow = found.door.token(found.key, publish=("plant/7/alarm",), ttl_s=5000)
        asked = await device.ask(auth(0x19, b""))
        assert asked is not None
        assert await device.ask(auth(0x18, found.key.login(narrow, challenge_of(asked)))) == Answer(
            AUTH, b"\0" + properties(b"\x15" + text(METHOD))
        )  # fmt: skip
        found.door.ahead_ms = 901_000
        found.gate.review()
        assert await device.ask(publish("plant/7/alarm", level=5, qos=1)) == Answer(PUBACK, b"\0\1\x10")
        assert await device.ask(publish("plant/7/other", level=5, qos=1)) == Answer(PUBACK, b"\0\1\x87")


async def challenged(found: Scene, device: RawDevice, **fields: Any) -> Answer | None:
    """Logged in by METHOD."""
    asked = await device.ask(connect(5, client_id="p7", method=METHOD, **fields))
    assert asked is not None
    return await device.ask(auth(0x18, found.key.login(found.door.token(found.key), challenge_of(asked))))


@pytest.mark.attack("session takeover")
@needs_mosquitto
@pytest.mark.parametrize("is_thief", [True, False])
async def test_a_renewal_makes_nobody_another(tmp_path: Path, is_thief: bool) -> None:
    """Neither by another's token nor by a proof of the wrong key."""
    async with scene("mosquitto", tmp_path) as found, RawDevice(found.port) as device:
        assert is_welcome(await challenged(found, device))
        other = DeviceKey()
        token = found.door.token(other, "device:boss") if is_thief else found.door.token(found.key)
        asked = await device.ask(auth(0x19, b""))
        assert asked is not None
        assert await device.ask(auth(0x18, other.login(token, challenge_of(asked)))) == Answer(DISCONNECT, b"\x87")
        assert await device.answer() is None


@needs_mosquitto
async def test_a_renewal_is_for_those_who_came_by_the_method_and_not_too_often(tmp_path: Path) -> None:
    async with scene("mosquitto", tmp_path) as found, RawDevice(found.port) as device, RawDevice(found.port) as other:
        assert is_welcome(await device.ask(found.login(5)))
        assert await device.ask(auth(0x19, b"")) == Answer(DISCONNECT, b"\x82")
        assert is_welcome(await challenged(found, other))
        assert await other.ask(auth(0x19, b"")) is not None
        assert await other.ask(auth(0x19, b"")) == Answer(DISCONNECT, b"\x96")


# --- faults ---


@BOTH
async def test_a_broker_that_is_killed_ends_the_connection_and_lets_in_again(program: str, tmp_path: Path) -> None:
    async with scene(program, tmp_path) as found, RawDevice(found.port) as device:
        assert is_welcome(await device.ask(found.login()))
        assert found.broker.pid is not None
        os.kill(found.broker.pid, signal.SIGKILL)
        assert await device.answer() is None
        async with RawDevice(found.port) as early:
            assert await early.ask(found.login()) == Answer(CONNACK, b"\0\3")
        await until(lambda: found.broker.is_up and found.broker.starts == 2)
        async with RawDevice(found.port) as late:
            assert is_welcome(await late.ask(found.login()))


@BOTH
async def test_a_broker_that_does_not_know_the_gate_is_not_there_for_devices(program: str, tmp_path: Path) -> None:
    """It must not look as if the device's own password were wrong."""
    async with scene(program, tmp_path) as found:
        terms = found.gate._terms
        found.gate._terms = terms._replace(behind=terms.behind._replace(password="wrong"))
        async with RawDevice(found.port) as device:
            assert await device.ask(found.login()) == Answer(CONNACK, b"\0\3")


@pytest.mark.attack("packet bomb")
@needs_mosquitto
@pytest.mark.parametrize(
    "data",
    [
        b"\x10\xff\xff\xff\x7f", b"\x10\xff\xff\xff\xff\x7f", packet(0x10, b"x" * 70_000), b"\x10\x80\x00",
        b"GET / HTTP/1.1\r\n\r\n", b"\x30\x00", packet(0x10),
    ],
)  # fmt: skip
async def test_a_first_packet_that_is_no_connect_ends_the_connection(tmp_path: Path, data: bytes) -> None:
    async with scene("mosquitto", tmp_path) as found, RawDevice(found.port) as device:
        assert await device.ask(data) is None
        await until(lambda: found.gate.strangers == 0)


@pytest.mark.attack("packet bomb")
@needs_mosquitto
async def test_a_packet_over_the_limit_ends_the_connection(tmp_path: Path) -> None:
    async with scene("mosquitto", tmp_path, max_packet_bytes=1024) as found, RawDevice(found.port) as device:
        assert is_welcome(await device.ask(found.login(5)))
        assert await device.ask(publish("plant/7/x", b"x" * 2000, level=5)) == Answer(DISCONNECT, b"\x95")


@pytest.mark.attack("login flood")
@needs_mosquitto
async def test_who_says_nothing_is_sent_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "LOGIN_S", 0.2)
    async with scene("mosquitto", tmp_path) as found, RawDevice(found.port) as device, RawDevice(found.port) as slow:
        slow.send(found.login()[:20])
        assert await device.answer() is None
        assert await slow.answer() is None


@pytest.mark.attack("login flood")
@needs_mosquitto
async def test_a_crowd_that_says_nothing_keeps_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strangers, "MOST", 5)
    async with scene("mosquitto", tmp_path) as found, anyio.create_task_group() as tasks:
        ended: list[int] = []

        async def wait(number: int) -> None:
            async with RawDevice(found.port) as silent:
                assert await silent.answer(timeout_s=30) is None
                ended.append(number)

        for number in range(20):
            tasks.start_soon(wait, number)
        await until(lambda: len(ended) == 15)
        assert found.gate.strangers == 5
        async with RawDevice(found.port) as device:
            assert is_welcome(await device.ask(found.login()))
        tasks.cancel_scope.cancel()


@pytest.mark.attack("login flood")
@needs_mosquitto
async def test_who_comes_too_often_is_not_served_and_others_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strangers, "BURST", 20.0)
    monkeypatch.setattr(strangers, "RATE_PER_S", 0.001)
    async with scene("mosquitto", tmp_path) as found:
        for _ in range(25):
            async with RawDevice(found.port, local="127.0.0.2") as crowd:
                crowd.send(packet(0x10))
                assert await crowd.answer() is None
        known = len(found.decisions)
        async with RawDevice(found.port, local="127.0.0.2") as late:
            assert await late.ask(found.login()) is None
        assert len(found.decisions) == known
        async with RawDevice(found.port) as device:
            assert is_welcome(await device.ask(found.login()))


@BOTH
async def test_a_device_that_vanishes_is_noticed_by_its_silence(program: str, tmp_path: Path) -> None:
    """By the broker, which gets its PINGREQs; where it keeps none, by TCP's own probes."""
    async with scene(program, tmp_path) as found, RawDevice(found.port) as device:
        with found.observer() as observer:
            await until(lambda: observer.is_granted)
            assert is_welcome(await device.ask(found.login(keepalive_s=1, will="plant/7/status")))
            await until(lambda: observer.texts == ["gone"])
            await until(lambda: found.gate.devices == 0)


@needs_mosquitto
async def test_no_more_devices_than_may_be(tmp_path: Path) -> None:
    async with scene("mosquitto", tmp_path, max_connections=1) as found, RawDevice(found.port) as device:
        assert is_welcome(await device.ask(found.login()))
        async with RawDevice(found.port) as second:
            assert await second.ask(found.login(5, client_id="two")) == Answer(CONNACK, b"\0\x97\0")
        device.writer.close()
        await until(lambda: found.gate.devices == 0)
        async with RawDevice(found.port) as third:
            assert is_welcome(await third.ask(found.login(client_id="three")))


@needs_mosquitto
async def test_who_cannot_be_judged_any_more_is_out_and_the_others_are_not(tmp_path: Path) -> None:
    def fault() -> bool:
        raise RuntimeError("no policy")

    async with scene("mosquitto", tmp_path) as found, RawDevice(found.port) as device, RawDevice(found.port) as other:
        assert is_welcome(await device.ask(found.login()))
        assert is_welcome(await other.ask(found.login(client_id="other")))
        (ill,) = [one for one in found.gate._connections if one._client_id == "p7"]
        assert ill._rights is not None
        ill._rights = ill._rights._replace(is_revoked=fault)
        assert await device.answer() is None
        assert await other.ask(packet(0xC0)) == Answer(13, b"")


@needs_mosquitto
async def test_an_authenticate_that_fails_fails_for_one_device_only(tmp_path: Path) -> None:
    async with scene("mosquitto", tmp_path) as found:
        async with RawDevice(found.port) as device:
            token = found.door.token(found.key, publish=("not+a filter",))
            assert await device.ask(found.login(token=token)) is None
        async with RawDevice(found.port) as device:
            assert is_welcome(await device.ask(found.login()))
        assert found.gate.devices == 1


def buffered(found: Scene) -> int:
    """Bytes in the gate's memory for all connections."""
    wires = [wire for one in found.gate._connections for wire in (one._device, one._broker)]
    return sum(wire._transport.get_write_buffer_size() for wire in wires if wire._transport is not None)


@needs_mosquitto
async def test_a_device_that_does_not_read_slows_the_broker_and_fills_no_memory(tmp_path: Path) -> None:
    """And gets all when it reads."""
    async with scene("mosquitto", tmp_path) as found, RawDevice(found.port) as device, RawDevice(found.port) as sender:
        assert is_welcome(await device.ask(found.login()))
        assert await device.ask(subscribe("plant/7/x", qos=0)) is not None
        device.writer.transport.pause_reading()  # type: ignore[attr-defined]
        assert is_welcome(await sender.ask(found.login(client_id="sender")))
        count, payload = 400, b"x" * 50_000
        for number in range(1, count + 1):
            sender.send(publish("plant/7/x", payload, qos=1, number=number))
            assert await sender.answer(timeout_s=30) is not None
            assert buffered(found) < 1_000_000
        device.writer.transport.resume_reading()  # type: ignore[attr-defined]
        for _ in range(count):
            answer = await device.answer()
            assert answer is not None
            assert answer.body.endswith(payload)


@pytest.mark.attack("packet bomb")
@needs_mosquitto
async def test_a_device_that_reads_no_refusals_is_read_no_more(tmp_path: Path) -> None:
    async with scene("mosquitto", tmp_path) as found, RawDevice(found.port) as device:
        assert is_welcome(await device.ask(found.login(5)))
        device.writer.transport.pause_reading()  # type: ignore[attr-defined]
        batch = b"".join(publish("plant/8/x", b"", level=5, qos=1, number=number) for number in range(1, 60_001))
        for _ in range(30):
            device.send(batch)
        is_held: Callable[[], bool] = lambda: any(one._device._holds for one in found.gate._connections)  # noqa: E731
        await until(is_held)
        assert buffered(found) < 1_500_000


@needs_mosquitto
async def test_the_devices_are_told_when_the_hub_ends(tmp_path: Path) -> None:
    async with RawDeviceLater() as device:
        async with scene("mosquitto", tmp_path) as found:
            await device.open(found.port)
            assert is_welcome(await device.ask(found.login(5)))
        assert await device.answer() == Answer(DISCONNECT, b"\x8b")


class RawDeviceLater(RawDevice):
    def __init__(self) -> None:
        super().__init__(0)

    async def open(self, port: int) -> None:
        self._port = port
        await super().__aenter__()

    async def __aenter__(self) -> "RawDeviceLater":
        return self


@pytest.mark.attack("session takeover")
@BOTH
async def test_a_stolen_user_name_gets_no_more(program: str, tmp_path: Path) -> None:
    """Of the fixed users and of the hub itself, whose login is not the gate's to give."""
    user = {"name": "press-7", "password": "press-secret", "publish": ["plant/7/#"], "subscribe": ["plant/7/#"]}
    settings = BrokerSettings.model_validate({"program": program, "port": 0, "tokens": True, "user": [user]})
    async with open_broker(settings, tmp_path / "mqtt") as broker:
        assert broker.gate is not None
        for name, password in (
            ("press-7", b""),
            ("press-7", b"wrong"),
            ("autoglm", broker.password.encode()),
            ("", b""),
        ):
            async with RawDevice(broker.gate.port) as device:
                answer = await device.ask(connect(4, username=name, password=password))
                assert answer == Answer(CONNACK, b"\0\4")
        async with RawDevice(broker.gate.port) as device:
            assert await device.ask(connect(4)) == Answer(CONNACK, b"\0\4")
        async with RawDevice(broker.gate.port) as device:
            assert is_welcome(await device.ask(connect(4, username="press-7", password=b"press-secret")))
