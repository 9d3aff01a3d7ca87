"""Who was turned away from the WebSocket is in the audit as one turned away from HTTP: where, from where, and why."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from autoglm.auth.tokens.proof import make_proof
from autoglm.auth.tokens.signing import SigningKey
from autoglm.client.device import Device
from autoglm.core.clock import now_ms
from gateway.inside import Inside, hub_inside
from gateway.wire import call


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Inside]:
    with hub_inside(tmp_path / "data") as inside:
        yield inside


def refused(hub: Inside) -> list[tuple[str, str, str, int]]:
    """Where, from where, why, and how often, the oldest first."""

    async def close() -> None:
        hub.hub._trust.audit.close_sums(older_than_s=0)
        await hub.hub._trust.audit.written()

    hub.ask(close())
    page: dict[str, Any] = call(hub.port, hub.key, "GET", "/api/audit?action=authenticate").json()
    assert all(not (entry["who"] or entry["credential"]) for entry in page["entries"])
    found = [entry for entry in page["entries"][::-1] if entry["resource"] == "/api/ws"]
    assert not found or found[0]["request_id"]
    return [(entry["resource"], entry["client"], entry["reason"], entry["count"]) for entry in found]


@contextmanager
def greeting(hub: Inside, *frames: dict[str, str]) -> Iterator[ClientConnection]:
    with connect(f"ws://127.0.0.1:{hub.port}/api/ws", proxy=None) as ws:
        for frame in frames:
            ws.send(json.dumps(frame))
        yield ws


def is_turned_away(ws: ClientConnection) -> bool:
    with suppress(ConnectionClosed):
        while True:
            ws.recv(timeout=20)
    return ws.close_code == 1008


def test_a_hello_without_or_with_a_wrong_key_is_written_down(hub: Inside) -> None:
    for hello in ({"type": "hello"}, {"type": "hello", "key": "sk-guess"}):
        with greeting(hub, hello) as ws:
            assert is_turned_away(ws)
    assert refused(hub) == [("/api/ws", "127.0.0.1", "unauthorized", 1)] * 2


def test_a_wrong_key_in_the_handshake_is_written_down(hub: Inside) -> None:
    wrong = {"Authorization": "Bearer sk-x"}
    with (
        pytest.raises(InvalidStatus),
        connect(f"ws://127.0.0.1:{hub.port}/api/ws", proxy=None, additional_headers=wrong),
    ):
        pass
    assert refused(hub) == [("/api/ws", "127.0.0.1", "unauthorized", 1)]


@pytest.mark.attack("a stolen token without its key")
def test_a_thief_s_proof_is_written_down_without_the_name_in_his_token(hub: Inside, tmp_path: Path) -> None:
    wish = {"name": "press-7", "scopes": ["send:message"]}
    code = call(hub.port, hub.key, "POST", "/api/devices/enrolments", wish).json()["code"]
    token = Device.enrol(tmp_path / "press-7.json", code, url=hub.hub.url).token()
    with greeting(hub, {"type": "hello", "token": token}) as ws:
        nonce = json.loads(ws.recv(timeout=20))["nonce"]
        thief, at_ms = SigningKey.generate(), now_ms()
        proof = make_proof(thief, method="WEBSOCKET", url="hub", token=token, now_ms=at_ms, nonce=nonce)
        ws.send(json.dumps({"type": "proof", "proof": proof}))
        assert is_turned_away(ws)
    with greeting(hub, {"type": "hello", "token": "not.a.token"}, {"type": "proof", "proof": "x"}) as ws:
        assert is_turned_away(ws)
    assert [(door, reason) for door, _, reason, _ in refused(hub)] == [
        ("/api/ws", "wrong_key"), ("/api/ws", "malformed"),
    ]  # fmt: skip


def test_who_is_let_in_is_not_among_them(hub: Inside) -> None:
    with greeting(hub, {"type": "hello", "key": hub.key}) as ws:
        assert json.loads(ws.recv(timeout=20))["type"] == "welcome"
    assert refused(hub) == []
