"""Devices enrol, prove who they are with each request, renew their tokens, and are sent away: against a running hub."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from autoglm.auth.tokens.proof import make_proof
from autoglm.auth.tokens.signing import SigningKey
from autoglm.client import Client, HubProblem
from autoglm.client.device import Device
from autoglm.core.clock import now_ms
from autoglm.core.errors import SettingsError
from autoglm.gateway.settings import GatewaySettings
from gateway.inside import Inside, hub_inside, settings
from gateway.wire import Reply, Wire, call

SCOPES = ["send:message:device:*", "read:message:device:*"]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    with hub_inside(tmp_path_factory.mktemp("devices") / "data", settings()) as inside:
        yield inside


def invite(hub: Inside, name: str, scopes: list[str] = SCOPES, **fields: Any) -> str:
    body = {"name": name, "scopes": scopes, **fields}
    made = call(hub.port, hub.key, "POST", "/api/devices/enrolments", body)
    assert (made.status, made.headers["cache-control"]) == (201, "no-store"), made.body
    return str(made.json()["code"])


def enrol(hub: Inside, folder: Path, name: str, **fields: Any) -> Device:
    return Device.enrol(folder / f"{name}.json", invite(hub, name, **fields), url=hub.hub.url)


class Raw:
    """A device whose requests the test makes itself, to send what no honest one would."""

    def __init__(self, hub: Inside, device: Device) -> None:
        self.hub = hub
        self.key: SigningKey = device._key
        self.token = device.token()
        self.nonce: str | None = None
        self.nonce = self.send("GET", "/api/me").headers.get("dpop-nonce")
        """Of this run: a proof that is as young as the hub needs one."""

    def proof(self, method: str, path: str, body: bytes = b"", **changes: Any) -> str:
        wanted: dict[str, Any] = {
            "key": self.key, "method": method, "url": self.hub.hub.url + path, "token": self.token, "body": body,
            "now_ms": now_ms(), "nonce": self.nonce, **changes,
        }  # fmt: skip
        return make_proof(wanted.pop("key"), **wanted)

    def send(
        self, method: str, path: str, body: bytes | None = None, *, proof: str | None = None, token: str | None = None
    ) -> Reply:
        proof = proof or self.proof(method, path, body or b"")
        return call(
            self.hub.port, "", method, path, body, authorization=f"DPoP {token or self.token}", dpop=proof
        )  # fmt: skip


def reason(reply: Reply) -> tuple[int, str]:
    members = reply.json()
    return reply.status, str(members.get("reason", members.get("code")))


# --- what honest devices do ---


def test_a_device_enrols_sends_reads_and_goes_on_after_a_restart_of_its_own(hub: Inside, tmp_path: Path) -> None:
    device = enrol(hub, tmp_path, "press-7")
    assert (tmp_path / "press-7.json").stat().st_mode & 0o777 == 0o600
    with Client(device=device) as client:
        sent = client.send("device:press-7", "hot")
    with Client(device=Device.load(tmp_path / "press-7.json")) as client:
        assert [message["id"] for message in client.inbox("device:press-7").messages] == [sent.id]
    (listed,) = [
        entry
        for entry in call(hub.port, hub.key, "GET", "/api/devices").json()["devices"]
        if entry["name"] == "press-7"
    ]
    assert (listed["address"], listed["enrolled_by"], listed["scopes"]) == ("device:press-7", "user:admin", SCOPES)


def test_a_program_that_enrols_writes_over_no_other_device(hub: Inside, tmp_path: Path) -> None:
    enrol(hub, tmp_path, "press-1")
    file = tmp_path / "press-1.json"
    key, code = file.read_bytes(), invite(hub, "press-2")
    with pytest.raises(SettingsError, match="is there already, and may be the only key of a device"):
        Device.enrol(file, code, url=hub.hub.url)
    assert file.read_bytes() == key
    assert Device.enrol(file, code, url=hub.hub.url, replace=True).name == Device.load(file).name == "press-2"
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_token_that_is_about_to_end_is_renewed_by_the_key_alone(hub: Inside, tmp_path: Path) -> None:
    device = enrol(hub, tmp_path, "press-8")
    first = device.token()
    device._keep(first, now_ms())
    with Client(device=device) as client:
        client.send("device:press-8", "hot")
    assert device.token() != first
    kept = json.loads((tmp_path / "press-8.json").read_text())
    assert kept["token"] == device.token()


def test_the_site_s_key_is_rotated_without_a_refusal(hub: Inside, tmp_path: Path) -> None:
    device = enrol(hub, tmp_path, "press-9")
    before = device.token()
    rotated = call(hub.port, hub.key, "POST", "/api/tokens/rotate", {})
    assert rotated.status == 200
    with Client(device=device) as client:
        client.send("device:press-9", "signed by the former key")
        assert device.token() == before
        device._keep(before, 0)
        client.send("device:press-9", "signed by the new key")
    checked = call(hub.port, hub.key, "POST", "/api/tokens/verify", {"token": before}).json()
    assert (checked["is_good"], checked["subject"]) == (True, "device:press-9")


def test_a_token_may_be_narrower_than_its_device_and_never_wider(hub: Inside, tmp_path: Path) -> None:
    raw = Raw(hub, enrol(hub, tmp_path, "narrow"))
    wish = {"device": "narrow", "scopes": ["send:message:device:narrow"]}
    narrow = call(hub.port, hub.key, "POST", "/api/tokens", wish).json()
    raw.token = narrow["token"]
    assert raw.send("GET", "/api/messages?to=device:narrow").status == 403
    for wider in ("send:message", "admin:*"):
        wish = {"device": "narrow", "scopes": [wider]}
        assert call(hub.port, hub.key, "POST", "/api/tokens", wish).status == 403


# --- connections that stay open ---


def url_of(hub: Inside) -> str:
    return f"ws://127.0.0.1:{hub.port}/api/ws"


def take(ws: ClientConnection) -> dict[str, Any]:
    frame: dict[str, Any] = json.loads(ws.recv(timeout=20))
    return frame


def greet(ws: ClientConnection, raw: Raw, **changes: Any) -> dict[str, Any]:
    ws.send(json.dumps({"type": "hello", "token": raw.token}))
    challenge = take(ws)
    assert (challenge["type"], challenge["audience"]) == ("challenge", "hub")
    wanted: dict[str, Any] = {
        "key": raw.key, "method": "WEBSOCKET", "url": "hub", "token": raw.token, "now_ms": now_ms(),
        "nonce": challenge["nonce"], **changes,
    }  # fmt: skip
    ws.send(json.dumps({"type": "proof", "proof": make_proof(wanted.pop("key"), **wanted)}))
    return take(ws)


def test_a_device_answers_the_challenge_of_its_websocket(hub: Inside, tmp_path: Path) -> None:
    raw = Raw(hub, enrol(hub, tmp_path, "socket-1"))
    with connect(url_of(hub), proxy=None) as ws:
        assert greet(ws, raw)["address"] == "device:socket-1"
        ws.send(json.dumps({"type": "send", "message": {"to": "device:socket-1", "content": "hot"}}))
        assert take(ws)["type"] == "accepted"
        ws.send(json.dumps({"type": "send", "message": {"to": "user:x", "content": "hot", "from": "user:boss"}}))
        assert take(ws)["problem"]["code"] == "forbidden"


@pytest.mark.attack("an answer to another connection's challenge")
def test_an_answer_fits_its_own_connection_and_key_only(hub: Inside, tmp_path: Path) -> None:
    raw = Raw(hub, enrol(hub, tmp_path, "socket-2"))
    nonce = raw.nonce
    for changes in ({"nonce": nonce}, {"key": SigningKey.generate()}, {"method": "MQTT"}, {"url": "other"}):
        with connect(url_of(hub), proxy=None) as ws:
            assert greet(ws, raw, **changes)["problem"]["code"] == "token_refused", changes
            with pytest.raises(ConnectionClosed):
                take(ws)


@pytest.mark.attack("a revoked device goes on")
def test_a_revoked_device_hears_nothing_more_by_what_it_has_open(hub: Inside, tmp_path: Path) -> None:
    raw = Raw(hub, enrol(hub, tmp_path, "socket-3"))
    path = "/api/messages/stream"
    with connect(url_of(hub), proxy=None) as ws, Wire(hub.port) as wire:
        assert greet(ws, raw)["type"] == "welcome"
        ws.send(json.dumps({"type": "subscribe", "to": "device:socket-3"}))
        assert take(ws)["type"] == "subscribed"
        wire.request(
            "GET", f"{path}?to=device:socket-3", authorization=f"DPoP {raw.token}", dpop=raw.proof("GET", path)
        )
        assert wire.start().status == 200
        assert call(hub.port, hub.key, "DELETE", "/api/devices/socket-3").status == 204
        with pytest.raises(ConnectionClosed) as closed:
            take(ws)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008
        assert list(wire.events())[1:] == []
    assert hub.count(lambda: len(hub.hub._standing._held)) == 0


@pytest.mark.attack("a revoked key goes on")
def test_a_revoked_key_hears_nothing_more_either(hub: Inside) -> None:
    key = call(hub.port, hub.key, "POST", "/api/keys", {"name": "ears", "scopes": ["read:message"]}).json()["key"]
    with connect(url_of(hub), proxy=None, additional_headers={"Authorization": f"Bearer {key}"}) as ws:
        assert take(ws)["type"] == "welcome"
        assert call(hub.port, hub.key, "DELETE", "/api/keys/ears").status == 204
        with pytest.raises(ConnectionClosed):
            take(ws)


def test_a_token_s_connection_ends_with_the_token(hub: Inside, tmp_path: Path) -> None:
    raw = Raw(hub, enrol(hub, tmp_path, "socket-4"))
    raw.token = call(hub.port, hub.key, "POST", "/api/tokens", {"device": "socket-4", "ttl_s": 1}).json()["token"]
    with connect(url_of(hub), proxy=None) as ws:
        assert greet(ws, raw)["type"] == "welcome"
        with pytest.raises(ConnectionClosed):
            take(ws)


# --- what thieves do ---


@pytest.mark.attack("a stolen token without its key")
def test_a_stolen_token_is_worth_nothing_without_its_key(hub: Inside, tmp_path: Path) -> None:
    raw = Raw(hub, enrol(hub, tmp_path, "victim-1"))
    assert raw.send("GET", "/api/me").status == 200
    bare = call(hub.port, "", "GET", "/api/me", None, authorization=f"DPoP {raw.token}")
    assert reason(bare) == (401, "missing")
    as_bearer = call(hub.port, "", "GET", "/api/me", None, authorization=f"Bearer {raw.token}")
    assert as_bearer.status == 401
    with_own_key = raw.proof("GET", "/api/me", key=SigningKey.generate())
    assert reason(raw.send("GET", "/api/me", proof=with_own_key)) == (401, "wrong_key")


@pytest.mark.attack("replay within a run")
def test_a_proof_counts_once(hub: Inside, tmp_path: Path) -> None:
    raw = Raw(hub, enrol(hub, tmp_path, "victim-2"))
    proof = raw.proof("GET", "/api/me")
    assert raw.send("GET", "/api/me", proof=proof).status == 200
    assert reason(raw.send("GET", "/api/me", proof=proof)) == (401, "replayed")


@pytest.mark.attack("a proof reused on another path or method")
def test_a_proof_fits_one_path_and_one_method(hub: Inside, tmp_path: Path) -> None:
    raw = Raw(hub, enrol(hub, tmp_path, "victim-3"))
    for method, path in (("GET", "/api/pool"), ("POST", "/api/messages"), ("GET", "/api/me/")):
        proof = raw.proof("GET", "/api/me")
        body = b"{}" if method == "POST" else None
        assert reason(raw.send(method, path, body, proof=proof))[0] in (401, 404), path
    other = raw.proof("GET", "/api/me", url="https://other.example/api/me")
    assert reason(raw.send("GET", "/api/me", proof=other)) == (401, "wrong_request")


@pytest.mark.attack("a proof reused with another body")
def test_a_body_that_was_changed_on_the_way_is_refused(hub: Inside, tmp_path: Path) -> None:
    raw = Raw(hub, enrol(hub, tmp_path, "victim-4"))
    body = json.dumps({"to": "device:victim-4", "content": "stop press 7"}).encode()
    proof = raw.proof("POST", "/api/messages", body)
    changed = body.replace(b"stop", b"heat")
    assert reason(raw.send("POST", "/api/messages", changed, proof=proof)) == (401, "wrong_body")
    proof = raw.proof("POST", "/api/messages", body)
    assert raw.send("POST", "/api/messages", body, proof=proof).status == 202
    assert len(raw.send("GET", "/api/messages?to=device:victim-4").json()["messages"]) == 1


@pytest.mark.attack("a right that grows by being passed on")
def test_nobody_invites_a_device_that_may_do_more_than_he(hub: Inside, tmp_path: Path) -> None:
    clerk = call(
        hub.port, hub.key, "POST", "/api/keys", {"name": "clerk", "scopes": ["admin:devices", "send:message:device:*"]}
    ).json()["key"]
    for scope in ("admin:*", "send:message", "read:message:device:x"):
        refused = call(hub.port, clerk, "POST", "/api/devices/enrolments", {"name": "more", "scopes": [scope]})
        assert (refused.status, refused.json()["scope"]) == (403, scope)
    enrol(hub, tmp_path, "strong")  # by the admin; its token is not the clerk's to make
    assert call(hub.port, clerk, "POST", "/api/tokens", {"device": "strong"}).status == 403


@pytest.mark.attack("an enrolment code used twice")
def test_an_enrolment_counts_once_and_only_for_who_holds_the_key(hub: Inside, tmp_path: Path) -> None:
    code = invite(hub, "once")
    key = SigningKey.generate()
    body = json.dumps({"code": code, "public_key": key.public.x}).encode()

    def ask(proof: str) -> tuple[int, str]:
        return reason(call(hub.port, "", "POST", "/api/devices/enrol", body, dpop=proof))

    def proof(by: SigningKey, shared: str, nonce: str | None) -> str:
        url = f"{hub.hub.url}/api/devices/enrol"
        return make_proof(by, method="POST", url=url, token=shared, body=body, now_ms=now_ms(), nonce=nonce)

    asked = call(hub.port, "", "POST", "/api/devices/enrol", body, dpop=proof(key, code, None))
    nonce = asked.headers.get("dpop-nonce")
    assert ask(proof(SigningKey.generate(), code, nonce)) == (401, "wrong_key")
    assert ask(proof(key, "another code", nonce)) == (401, "wrong_token")
    if asked.status == 401:
        assert ask(proof(key, code, nonce))[0] == 201
    assert ask(proof(key, code, nonce)) == (401, "unauthorized")


@pytest.mark.attack("a revoked device goes on")
@pytest.mark.parametrize("how", ["removed", "address", "jti", "jkt"])
def test_what_is_revoked_counts_no_more_at_once(hub: Inside, tmp_path: Path, how: str) -> None:
    name = f"gone-{how}"
    device = enrol(hub, tmp_path, name)
    raw = Raw(hub, device)
    assert raw.send("GET", "/api/me").status == 200
    seen = call(hub.port, hub.key, "POST", "/api/tokens/verify", {"token": raw.token}).json()
    if how == "removed":
        assert call(hub.port, hub.key, "DELETE", f"/api/devices/{name}").status == 204
    else:
        id = {"address": f"device:{name}", "jti": f"jti:{seen['jti']}", "jkt": f"jkt:{raw.key.kid}"}[how]
        assert call(hub.port, hub.key, "POST", "/api/revocations", {"id": id, "reason": "lost"}).status == 200
    assert reason(raw.send("GET", "/api/me")) == (401, "revoked")
    assert call(hub.port, hub.key, "POST", "/api/tokens/verify", {"token": raw.token}).json()["is_good"] is False
    device._keep(raw.token, 0)
    with Client(device=device) as client:
        if how == "jti":  # the one token is lost; the device is not
            client.send(f"device:{name}", "hot")
        else:
            with pytest.raises(HubProblem, match="refused"):
                client.send(f"device:{name}", "hot")


@pytest.mark.attack("replay across a restart")
def test_a_proof_of_an_earlier_run_counts_no_more(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with hub_inside(data) as first:
        device = enrol(first, tmp_path, "replayed")
        raw = Raw(first, device)
        port, fresh = first.port, raw.proof("GET", "/api/me")
        proof = raw.proof("GET", "/api/me")
        assert raw.send("GET", "/api/me", proof=proof).status == 200
    # On the same port, or the address in the proof would be another.
    same_place = settings().model_copy(update={"gateway": GatewaySettings(port=port)})
    with hub_inside(data, same_place) as again:
        raw.hub = again
        for old in (proof, fresh):
            answer = raw.send("GET", "/api/me", proof=old)
            assert answer.status == 401, answer.body
        raw.nonce = raw.send("GET", "/api/me", proof=raw.proof("GET", "/api/me", nonce=None)).headers["dpop-nonce"]
        assert raw.send("GET", "/api/me").status == 200
