"""The doors by which a device gets in: what each says to a token with its proof, and what came of it.

All but the first belong to one running hub.
"""

import asyncio
import contextlib
import itertools
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from auth.tokens.forge import DEVICE, HUB, SITE, claims
from autoglm.auth.tokens.challenge import password
from autoglm.auth.tokens.nonce import Nonces
from autoglm.auth.tokens.pins import Pin, Pins
from autoglm.auth.tokens.replay import ReplayMemory
from autoglm.auth.tokens.request import RequestVerifier
from autoglm.auth.tokens.token import issue
from autoglm.auth.tokens.verifier import TokenVerifier
from autoglm.channels.broker.gate.rights import METHOD
from autoglm.client.device import Device
from autoglm.core.clock import now_ms
from autoglm.core.errors import HubError, NonceWanted, RefusalReason, TokenRefused
from forged.holder import Holder, Moment, Prove
from gateway.inside import Inside
from gateway.wire import call
from mqtt_packets import Answer, RawDevice, packet, properties, publish, subscribe, text
from mqtt_packets import connect as mqtt_connect

SCOPES = ["send:message:device:*", "read:message:device:*", "publish:topic:forged/*", "subscribe:topic:forged/*"]
SKEW_MS, WINDOW_MS, LONGEST_MS = 60_000, 120_000, 86_400_000
"""The hub's settings as they come."""
_VICTIM = "device:victim"
_CONNACK, _PUBLISH, _PUBACK, _AUTH = 2, 3, 4, 15
_numbers = itertools.count(1)


class Said(NamedTuple):
    """What an entry answers."""

    code: str
    reason: str = ""
    what: str = ""


LET_IN = Said("let in")
NONCE_WANTED = Said("use_nonce")
NO_TOKEN = Said("unauthorized")
"""What is not even taken for a token."""


def refused(reason: RefusalReason, what: Any = "token") -> Said:
    return Said("token_refused", reason, what)


NO_HTTP = Said("invalid_http")
"""What is too long for a handshake."""


class Entry(ABC):
    name: str
    method: str
    url: str
    """As proofs name them."""
    is_hub = True
    has_challenge = False
    longest_bytes = 1 << 20
    """Of what goes into one header; more is no handshake at all."""

    def __init__(self, holder: Holder) -> None:
        self.holder = holder

    @abstractmethod
    def enter(self, token: bytes, prove: Prove) -> Said:
        """Show these, and at once do something."""

    @abstractmethod
    def state(self) -> object:
        """Differs once something that was done by this entry has come in."""

    def moment(self, nonce: str | None = None, body: bytes = b"") -> Moment:
        return Moment(self.method, self.url, nonce, now_ms(), body)


class Verifying(Entry):
    """No hub: the parts that verify, as it joins them."""

    name, method, url = "unit", "POST", "https://hub.example/api/messages"
    is_hub = False

    def __init__(self) -> None:
        now = now_ms()
        made = claims(issued_at_ms=now, ends_at_ms=now + 900_000)
        super().__init__(Holder(HUB, DEVICE, issue(HUB, made).encode()))
        self.verifier = RequestVerifier(
            TokenVerifier(
                Pins([Pin(HUB.public, SITE)]), audience=SITE, skew_ms=SKEW_MS, max_ttl_ms=LONGEST_MS
            ),
            ReplayMemory(window_ms=WINDOW_MS, skew_ms=SKEW_MS), Nonces(), origins=frozenset({"https://hub.example"}),
            started_ms=now - 3_600_000, window_ms=WINDOW_MS,
        )  # fmt: skip

    def enter(self, token: bytes, prove: Prove) -> Said:
        proof = prove(self.holder, self.moment(), token)
        try:
            self.verifier.verify(b"DPoP " + token, proof, self.method, "/api/messages", now_ms())
        except HubError as error:
            return Said(error.code, str(error.facts.get("reason", "")), str(error.facts.get("what", "")))
        return LET_IN

    def state(self) -> object:
        """How many proofs were used."""
        return len(self.verifier._replays)


class OfHub(Entry):
    def __init__(self, hub: Inside, holder: Holder) -> None:
        super().__init__(holder)
        self.hub = hub
        self._read = 0

    def message(self) -> dict[str, str]:
        return {"to": _VICTIM, "content": f"{self.name} {next(_numbers)}"}

    def state(self) -> object:
        """Up to where the victim has messages."""
        page = call(self.hub.port, self.hub.key, "GET", f"/api/messages?to={_VICTIM}&after={self._read}")
        self._read = page.json()["next"]
        return self._read

    @staticmethod
    def of_problem(members: dict[str, Any]) -> Said:
        return Said(members["code"], members.get("reason", ""), members.get("what", ""))


class Http(OfHub):
    name, method = "http", "POST"

    @property
    def url(self) -> str:  # type: ignore[override]  # of the hub that runs
        return f"{self.hub.hub.url}/api/messages"

    def enter(self, token: bytes, prove: Prove) -> Said:
        body = json.dumps(self.message()).encode()
        proof = prove(self.holder, self.moment(body=body), token)
        reply = call(
            self.hub.port, "", self.method, "/api/messages", body,
            authorization=f"DPoP {token.decode('latin-1')}", dpop=proof.decode("latin-1"),
        )  # fmt: skip
        if reply.status == 202:
            return LET_IN
        assert reply.status == 401, reply
        return self.of_problem(reply.json())


class WebSocket(OfHub):
    """By hello, challenge and proof."""

    name, method, url, has_challenge = "websocket", "WEBSOCKET", "hub", True

    @property
    def address(self) -> str:
        return f"ws://127.0.0.1:{self.hub.port}/api/ws"

    def enter(self, token: bytes, prove: Prove) -> Said:
        with connect(self.address, proxy=None) as ws:
            ws.send(json.dumps({"type": "hello", "token": token.decode("latin-1")}))
            challenge = json.loads(ws.recv(timeout=20))
            assert (challenge["type"], challenge["audience"]) == ("challenge", self.url)
            proof = prove(self.holder, self.moment(challenge["nonce"]), token)
            ws.send(json.dumps({"type": "proof", "proof": proof.decode("latin-1")}))
            return self.act(ws)

    def act(self, ws: ClientConnection) -> Said:
        with contextlib.suppress(ConnectionClosed):  # without waiting to be welcome
            ws.send(json.dumps({"type": "send", "message": self.message()}))
        first = json.loads(ws.recv(timeout=20))
        if first["type"] == "welcome":
            assert json.loads(ws.recv(timeout=20))["type"] == "accepted"
            return LET_IN
        with pytest.raises(ConnectionClosed) as closed:
            ws.recv(timeout=20)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008
        return self.of_problem(first["problem"])


class WebSocketHeader(WebSocket):
    """By the headers of the handshake."""

    name, method, has_challenge, longest_bytes = "websocket-header", "GET", False, 8000

    @property
    def url(self) -> str:  # type: ignore[override]  # of the hub that runs
        return f"{self.hub.hub.url}/api/ws"

    def enter(self, token: bytes, prove: Prove) -> Said:
        proof = prove(self.holder, self.moment(), token)
        shown = {"Authorization": f"DPoP {token.decode('latin-1')}", "DPoP": proof.decode("latin-1")}
        try:
            with connect(self.address, proxy=None, additional_headers=shown) as ws:
                return self.act(ws)
        except InvalidStatus as refusal:
            return self.of_problem(json.loads(refusal.response.body or b"{}"))


class Mqtt(OfHub):
    method, url = "MQTT", "hub"
    level: int
    bad_login: int
    """The code in its CONNACK."""

    def __init__(self, hub: Inside, holder: Holder, port: int, heard: Mapping[str, Exception]) -> None:
        """heard: why the hub refused a login, by the client's id."""
        super().__init__(hub, holder)
        self.port = port
        self.heard = heard
        self.client_id = ""

    def enter(self, token: bytes, prove: Prove) -> Said:
        with ThreadPoolExecutor(1) as thread:  # a proof may be tried while another login waits for it
            return thread.submit(asyncio.run, self._enter(token, prove)).result()

    async def _enter(self, token: bytes, prove: Prove) -> Said:
        self.client_id = f"c{next(_numbers)}"
        async with RawDevice(self.port) as device:
            answer = await self.log_in(device, token, prove)
            assert answer is not None
            assert answer.kind == _CONNACK
            if answer.body[1] == 0:
                answer = await device.answer()
                assert answer is not None
                assert answer.kind == _PUBACK
                return LET_IN
            assert answer.body[1] == self.bad_login
            assert await device.answer() is None
        return self._reason()

    @abstractmethod
    async def log_in(self, device: RawDevice, token: bytes, prove: Prove) -> Answer | None:
        """The answer to the last packet of the login, after which it has published already."""

    def deed(self) -> bytes:
        return publish(f"forged/{self.name}/{next(_numbers)}", level=self.level, qos=1, retain=True)

    def _reason(self) -> Said:
        """As the hub told its gate: a device is not told, and the audit has it without the device's own words."""
        match self.heard[self.client_id]:
            case NonceWanted():
                return NONCE_WANTED
            case TokenRefused() as error:
                return refused(error.reason, error.what)
        return NO_TOKEN

    def state(self) -> object:
        """The topics that a message is kept under."""
        return asyncio.run(self._topics())

    async def _topics(self) -> frozenset[bytes]:
        found = set()
        async with RawDevice(self.port) as device:
            login = mqtt_connect(client_id=f"r{next(_numbers)}", username="reader", password=b"reader's password")
            assert await device.ask(login) == Answer(_CONNACK, b"\0\0")
            device.send(subscribe(f"forged/{self.name}/+", "end", qos=0) + publish("end"))
            while (answer := await device.answer()) is not None:
                topic = answer.body[2 : 2 + int.from_bytes(answer.body[:2], "big")]
                if answer.kind == _PUBLISH and topic == b"end":
                    break
                if answer.kind == _PUBLISH:
                    found.add(topic)
        return frozenset(found)


class Mqtt3(Mqtt):
    """3.1.1: token and proof are the password."""

    name, level, bad_login = "mqtt-3.1.1", 4, 4

    async def log_in(self, device: RawDevice, token: bytes, prove: Prove) -> Answer | None:
        proof = prove(self.holder, self.moment(), token)
        secret = password(token.decode("latin-1"), proof.decode("latin-1")).encode("latin-1")
        hello = mqtt_connect(client_id=self.client_id, username="", password=secret)
        return await device.ask(hello + self.deed())


class Mqtt5(Mqtt):
    """5: AUTH packets carry a challenge and its answer."""

    name, level, bad_login, has_challenge = "mqtt-5", 5, 0x87, True

    async def log_in(self, device: RawDevice, token: bytes, prove: Prove) -> Answer | None:
        asked = await device.ask(mqtt_connect(5, client_id=self.client_id, method=METHOD))
        assert asked is not None
        assert asked.kind == _AUTH
        nonce = asked.body.partition(b"\x15" + text(METHOD) + b"\x16")[2][2:].decode()
        proof = prove(self.holder, self.moment(nonce), token)
        answer = password(token.decode("latin-1"), proof.decode("latin-1")).encode("latin-1")
        said = b"\x18" + properties(b"\x15" + text(METHOD), b"\x16" + text(answer))
        return await device.ask(packet(0xF0, said) + self.deed())


def enrolled(hub: Inside, folder: Path, name: str = "forger") -> Holder:
    wish = {"name": name, "scopes": SCOPES}
    code = call(hub.port, hub.key, "POST", "/api/devices/enrolments", wish).json()["code"]
    device = Device.enrol(folder / f"{name}.json", code, url=hub.hub.url)
    return Holder(hub.hub._trust.issuer.key, device._key, device.token().encode())
