"""Who asked for what a model does later is asked again when it is done: forbidden models, revoked senders, restarts."""

import base64
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks
from websockets.sync.client import connect

from auth.policy.authority import policy_files
from autoglm.auth.settings import KeySettings
from autoglm.channels.settings import parse_channel
from autoglm.inference.settings import EngineSettings, InstanceSettings
from autoglm.settings import Settings
from eventually import wait_until
from gateway.inside import Inside, hub_inside, settings
from gateway.ruled import Ruled, forbidding, new_authority, revoked, ruled_hub
from gateway.wire import call
from scripted_model import Gate, ScriptedModel, echo

ALICE, BOB, HOOK = "sk-alice", "sk-bob", "channel:hook/hub"
SECRET = "whsec_" + base64.b64encode(b"a caller" * 4).decode()
NO_FAST = 'forbid(principal == {0}, action == Action::"model:use", resource == Model::"fast");'


def chosen(model: ScriptedModel) -> Settings:
    """`auto` takes the first that there is: fast, then good."""
    scopes = ["model:use:*", "send:message", "read:message"]
    keys = [
        {"name": name, "value": f"sk-{name}", "address": f"user:{name}", "scopes": scopes} for name in ("alice", "bob")
    ]
    instances = [
        {"name": f"of-{name}", "provider": "openai", "base_url": model.url, "models": [name], "slots": 1}
        for name in ("fast", "good")
    ]
    hook = {
        "name": "hook", "kind": "webhook", "senders": ["hub"], "allow": ["127.0.0.1"],
        "endpoints": {"hub": {"secret": SECRET, "url": "http://127.0.0.1:9/"}},
    }  # fmt: skip
    return settings().model_copy(
        update={
            "engine": EngineSettings(learns=False),
            "key": tuple(KeySettings.model_validate(key) for key in keys),
            "instance": tuple(InstanceSettings.model_validate(instance) for instance in instances),
            "channel": (parse_channel(hook),),
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def model() -> Iterator[ScriptedModel]:
    with ScriptedModel() as scripted:
        yield scripted


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, model: ScriptedModel) -> Iterator[Ruled]:
    with ruled_hub(tmp_path_factory.mktemp("later"), chosen(model)) as ruled:
        yield ruled


@pytest.fixture
def ruled(site: Ruled, model: ScriptedModel) -> Ruled:
    site.rule()
    model.behaviour = echo
    wait_until(
        lambda: {one["state"] for one in get(site.hub, "/api/pool")["instances"]} == {"ready"}
    )  # fmt: skip
    return site


def get(hub: Inside, path: str, key: str = "") -> Any:
    reply = call(hub.port, key or hub.key, "GET", path)
    assert reply.status == 200, reply
    return reply.json()


def submit(hub: Inside, id: str, key: str = ALICE, model: str = "auto") -> int:
    request = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
    return call(hub.port, key, "POST", "/api/tasks", {"id": id, "request": request}).status


def answered_by(hub: Inside, id: str, to: str, key: str = "") -> str:
    """The model that answered the message."""
    found: list[str] = []

    def look() -> bool:
        page = get(hub, f"/api/messages?to={to}&limit=1000", key)
        found[:] = [one["from"] for one in page["messages"] if one.get("reply_to") == id]
        return bool(found)

    wait_until(look)
    return found[0]


def say_by_hook(hub: Inside, id: str) -> int:
    body, at = '{"content": "hi"}', datetime.fromtimestamp(int(time.time()), UTC)
    signed = {
        "webhook-id": id, "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": standardwebhooks.Webhook(SECRET).sign(id, at, body),
    }  # fmt: skip
    return call(hub.port, "", "POST", "/api/hooks/hook", body.encode(), **signed).status


def all_of_hook(hub: Inside) -> list[str]:
    """Which models wrote to the hook's sender."""
    return [one["from"] for one in get(hub, f"/api/messages?to={HOOK}&limit=1000")["messages"]]


@pytest.mark.attack("a forbidden model by way of auto")
def test_auto_leaves_out_what_a_policy_forbids_to_who_asks(ruled: Ruled) -> None:
    """By a task, a message over HTTP, one over a WebSocket, and over /v1 all the same."""
    hub = ruled.hub
    ruled.rule(policy_files(NO_FAST.format('User::"alice"')))
    for key, wanted in ((ALICE, "good"), (BOB, "fast")):
        assert submit(hub, f"t-{key}", key) == 202
        assert get(hub, f"/api/tasks/t-{key}?wait=20", key)["state"] == "done"
        message = {"id": f"m-{key}", "to": "model:auto", "content": "hi"}
        assert call(hub.port, key, "POST", "/api/messages", message).status == 202
        headers = {"Authorization": f"Bearer {key}"}
        with connect(f"ws://127.0.0.1:{hub.port}/api/ws", proxy=None, additional_headers=headers) as ws:
            ws.recv(timeout=20)
            ws.send(f'{{"type": "send", "message": {{"id": "w-{key}", "to": "model:auto", "content": "hi"}}}}')
            ws.recv(timeout=20)
        for id in (f"t-{key}", f"m-{key}", f"w-{key}"):
            assert answered_by(hub, id, f"user:{key[3:]}", key) == f"model:{wanted}"
        body = {"model": "auto", "messages": [{"role": "user", "content": "hi"}]}
        reply = call(hub.port, key, "POST", "/v1/chat/completions", body)
        assert reply.headers["x-autoglm-model"] == wanted
    used = ruled.audit("action=model:use&outcome=allowed&who=user:alice")
    assert {entry["resource"] for entry in used} - {"auto"} == {"good"}  # auto is asked for when it is posted
    assert "t-sk-alice" in {entry["request_id"] for entry in used}


@pytest.mark.attack("a forbidden model by way of auto")
def test_auto_leaves_out_what_a_policy_forbids_to_who_writes_by_a_channel(ruled: Ruled) -> None:
    ruled.rule(policy_files(NO_FAST.format('Channel::"hook/hub"')))
    before = len(all_of_hook(ruled.hub))
    assert say_by_hook(ruled.hub, f"h-{before}") == 200
    wait_until(lambda: len(all_of_hook(ruled.hub)) > before)
    assert all_of_hook(ruled.hub)[before:] == ["model:good"]


def test_who_may_use_none_is_told_so(ruled: Ruled) -> None:
    ruled.rule(forbidding('User::"alice"', "model:use", 'Model::"good"'))
    assert submit(ruled.hub, "named", model="good") == 403
    ruled.rule(policy_files('forbid(principal == User::"alice", action == Action::"model:use", resource) '
                            'when { resource != Model::"auto" };'))  # fmt: skip
    assert submit(ruled.hub, "none") == 202
    task = get(ruled.hub, "/api/tasks/none?wait=20", ALICE)
    assert (task["state"], "model:use" in task["error"]) == ("failed", True)


@pytest.mark.attack("a revoked sender's task runs")
@pytest.mark.parametrize("name", ["user:alice", "key:alice"])
def test_who_is_revoked_gets_nothing_more_of_a_model(ruled: Ruled, model: ScriptedModel, name: str) -> None:
    """Of what a model works on, and of what waits behind that for its only slot."""
    gate = Gate()
    model.behaviour = gate.before(echo)
    ids = [f"{name[:4].rstrip(':')}-{number}" for number in range(2)]
    for id in ids:
        assert submit(ruled.hub, id, model="good") == 202
        wait_until(lambda: gate.waiting == 1)
    asked = len(model.requests)
    ruled.rule(revoked(name))
    for id in ids:
        task = get(ruled.hub, f"/api/tasks/{id}?wait=20")
        assert (task["state"], "revoked" in task["error"]) == ("failed", True)
    gate.open()
    assert len(model.requests) == asked
    denied = {entry["request_id"]: entry for entry in ruled.audit("action=model:use&outcome=denied&who=user:alice")}
    assert {denied[id]["reason"] for id in ids if id in denied} == {"revoked"}


@pytest.mark.attack("a forbidden model by way of auto")
def test_a_model_that_a_policy_forbids_while_it_works_is_left(ruled: Ruled, model: ScriptedModel) -> None:
    gate = Gate()
    model.behaviour = gate.before(echo)
    assert submit(ruled.hub, "cut") == 202
    wait_until(lambda: gate.waiting == 1)
    ruled.rule(policy_files(NO_FAST.format('User::"alice"')))
    task = get(ruled.hub, "/api/tasks/cut?wait=20", ALICE)
    assert (task["state"], "a policy forbids it" in task["error"]) == ("failed", True)
    gate.open()


@pytest.mark.attack("a revoked sender's task runs")
def test_a_task_of_before_a_restart_is_asked_about_after_it(tmp_path: Path) -> None:
    """Of two that no model could take, one sender is revoked before the hub comes up again."""
    authority, policy = new_authority(tmp_path)
    with ScriptedModel() as model:
        wanted = chosen(model).model_copy(update={"policy": policy})
        gate = Gate()
        model.behaviour = gate.before(echo)
        with hub_inside(tmp_path / "data", wanted) as hub:
            ruled = Ruled(hub, authority)
            ruled.rule()
            issued = call(hub.port, hub.key, "POST", "/api/keys", {"name": "carl", "scopes": ["model:use:*"]}).json()
            for key in (ALICE, BOB, issued["key"]):
                assert submit(hub, f"r-{key[:7]}", key) == 202
            wait_until(lambda: gate.waiting == 2)  # each model has one slot
            assert call(hub.port, hub.key, "DELETE", "/api/keys/carl").status == 204
            ruled.rule(revoked("user:alice"))
        model.behaviour = echo
        with hub_inside(tmp_path / "data", wanted) as hub:
            states = {key: get(hub, f"/api/tasks/r-{key[:7]}?wait=20")["state"] for key in (ALICE, BOB, issued["key"])}
            assert states == {ALICE: "failed", BOB: "done", issued["key"]: "failed"}
