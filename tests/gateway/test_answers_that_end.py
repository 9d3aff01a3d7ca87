"""What a model is still writing for somebody ends with his right, whatever it was that he asked for."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from autoglm.client.device import Device
from autoglm.gateway.standing import LOOK_S
from autoglm.inference.settings import InstanceSettings
from autoglm.settings import Settings
from eventually import wait_until
from gateway.inside import Inside, hub_inside, settings
from gateway.openai_hub import chat
from gateway.test_enrolled_devices import Raw, invite
from gateway.wire import Wire, call
from scripted_model import Gate, ScriptedModel, echo, event

DONE = b"data: [DONE]\n\n"
PATH = "/v1/chat/completions"


@pytest.fixture(scope="module")
def model() -> Iterator[ScriptedModel]:
    with ScriptedModel(models=("solo",)) as model:
        yield model


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, model: ScriptedModel) -> Iterator[Inside]:
    instance = InstanceSettings.model_validate(
        {"name": "a", "provider": "openai", "base_url": model.url, "models": ["solo"], "slots": 1}
    )
    chosen = Settings(gateway=settings().gateway, engine=settings().engine, instance=(instance,))
    with hub_inside(tmp_path_factory.mktemp("answers") / "data", chosen) as inside:
        wait_until(lambda: pool(inside)["state"] == "ready")
        yield inside


def pool(hub: Inside) -> dict[str, object]:
    (instance,) = call(hub.port, hub.key, "GET", "/api/pool").json()["instances"]
    return dict(instance)


def issue(hub: Inside, name: str) -> str:
    made = call(hub.port, hub.key, "POST", "/api/keys", {"name": name, "scopes": ["model:use:*"]})
    return str(made.json()["key"])


def body(**fields: object) -> bytes:
    return json.dumps(chat(**fields)).encode()  # type: ignore[arg-type]  # as chat takes them


@pytest.mark.attack("a revoked key goes on")
def test_a_stream_of_a_model_ends_with_the_key_that_asked(hub: Inside, model: ScriptedModel) -> None:
    gate = Gate()
    model.behaviour = gate.within(event("first"), event("secret", "stop") + DONE)
    with Wire(hub.port, issue(hub, "reader")) as wire:
        wire.request("POST", PATH, body(stream=True))
        assert wire.start().status == 200
        chunks = wire.chunks()
        assert b"first" in next(chunks)
        assert call(hub.port, hub.key, "DELETE", "/api/keys/reader").status == 204
        rest = b"".join(chunks)  # the model has not ended, and never does
    assert json.loads(rest.split(b"data: ")[-1])["error"]["code"] == "invalid_api_key"
    wait_until(lambda: gate.left_s)  # it writes for nobody any more
    assert (pool(hub)["state"], pool(hub)["running"]) == ("ready", 0)
    assert hub.count(lambda: len(hub.hub._standing._held)) == 0


@pytest.mark.attack("a revoked device goes on")
def test_a_stream_of_a_model_ends_with_the_device_that_asked(hub: Inside, model: ScriptedModel, tmp_path: Path) -> None:
    gate = Gate()
    model.behaviour = gate.within(event("first"), event("secret", "stop") + DONE)
    code = invite(hub, "robot", ["model:use:*"])
    raw = Raw(hub, Device.enrol(tmp_path / "robot.json", code, url=hub.hub.url))
    sent = body(stream=True)
    with Wire(hub.port) as wire:
        wire.request("POST", PATH, sent, authorization=f"DPoP {raw.token}", dpop=raw.proof("POST", PATH, sent))
        assert wire.start().status == 200
        chunks = wire.chunks()
        assert b"first" in next(chunks)
        assert call(hub.port, hub.key, "POST", "/api/revocations", {"id": "device:robot"}).status == 200
        assert b"secret" not in b"".join(chunks)


@pytest.mark.attack("a revoked key goes on")
def test_who_is_revoked_while_the_model_thinks_gets_no_answer(hub: Inside, model: ScriptedModel) -> None:
    gate = Gate()
    model.behaviour = gate.before(echo)
    thinking, queued = issue(hub, "thinking"), issue(hub, "queued")
    with Wire(hub.port, thinking) as first, Wire(hub.port, queued) as second:
        asked_s = time.monotonic()
        first.request("POST", PATH, body(text="secret"))
        wait_until(lambda: gate.waiting)
        second.request("POST", PATH, body())
        wait_until(lambda: call(hub.port, hub.key, "GET", "/api/pool").json()["waiting"] == 1)
        for name in ("thinking", "queued"):
            assert call(hub.port, hub.key, "DELETE", f"/api/keys/{name}").status == 204
        assert second.reply().status == 401  # it waited for its slot
        wait_until(lambda: time.monotonic() - asked_s > LOOK_S)
        gate.open()
        reply = first.reply()
    assert (reply.status, reply.json()["error"]["code"]) == (401, "invalid_api_key")
    assert pool(hub)["state"] == "ready"


def test_others_are_not_disturbed(hub: Inside, model: ScriptedModel) -> None:
    gate = Gate()
    model.behaviour = gate.within(event("first"), event("last", "stop") + DONE)
    issue(hub, "other")
    with Wire(hub.port, hub.key) as wire:
        wire.request("POST", PATH, body(stream=True))
        wire.start()
        assert call(hub.port, hub.key, "DELETE", "/api/keys/other").status == 204
        hub.hub._standing.look()
        gate.open()
        assert b"".join(wire.chunks()).endswith(DONE)
