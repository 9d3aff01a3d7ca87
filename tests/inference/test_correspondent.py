"""A model answers messages: once, to the sender, with the thread's memory, over kills and restarts."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import httpx2
import pytest

from autoglm.gateway.settings import GatewaySettings
from autoglm.inference.respondent import THREAD_MESSAGES
from autoglm.inference.settings import InstanceSettings
from autoglm.settings import Settings
from autoglm.store.settings import StoreSettings
from eventually import wait_until
from gateway.inside import hub_inside
from gateway.wire import call
from hub import HubProcess, instance_config, running_hub
from scripted_model import Behaviour, Gate, ScriptedModel, answering, echo, event, in_turn, streaming

KEYS = """
[[key]]
name = "bob"
value = "sk-bob"
address = "user:bob"
scopes = ["send:message:user:bob", "read:message:user:bob", "model:use:*"]

[[key]]
name = "eve"
value = "sk-eve"
address = "user:eve"
scopes = ["send:message:user:eve", "read:message:user:eve", "model:use:*"]

[[key]]
name = "parrot"
value = "sk-parrot"
address = "model:parrot"
scopes = ["send:message:model:parrot", "read:message:model:parrot", "model:use:*"]
"""


class Office:
    """A hub with a model, and its correspondents. `reopen` after each start of the hub."""

    def __init__(self, hub: HubProcess, model: ScriptedModel) -> None:
        self.hub, self.model = hub, model
        self.client: httpx2.Client = hub.client()

    def reopen(self) -> None:
        self.client.close()
        self.client = self.hub.client()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def new_id(self) -> str:
        return f"m-{time.monotonic_ns()}"

    def send(self, content: Any, *, key: str = "sk-bob", to: str = "model:auto", **fields: Any) -> str:
        envelope = {"id": self.new_id(), "to": to, "content": content, **fields}
        reply = self.client.post("/api/messages", json=envelope, headers=bearer(key))
        assert reply.status_code == 202, reply.text
        return str(envelope["id"])

    def answers(self, id: str, *, key: str = "sk-bob", wait_s: float = 10.0) -> list[dict[str, Any]]:
        """All messages that answer this one, once there is one."""
        address, after = f"user:{key[3:]}", 0
        deadline_s = time.monotonic() + wait_s
        found: list[dict[str, Any]] = []
        while True:
            query: dict[str, str | int] = {"to": address, "after": after, "wait": 0 if found else 1}
            page = self.client.get("/api/messages", params=query, headers=bearer(key)).json()
            found += [message for message in page["messages"] if message.get("reply_to") == id]
            after = page["next"]
            if not page["messages"] and (found or time.monotonic() > deadline_s):
                return found

    def answer(self, id: str, **options: Any) -> dict[str, Any]:
        (only,) = self.answers(id, **options)
        return only

    def receipts(self, id: str, key: str = "sk-bob") -> list[dict[str, Any]]:
        receipts: list[dict[str, Any]] = self.client.get(f"/api/messages/{id}/receipts", headers=bearer(key)).json()[
            "receipts"
        ]
        return receipts

    def settled(self, id: str, key: str = "sk-bob") -> dict[str, Any]:
        """The receipt that follows `accepted`."""
        wait_until(lambda: len(self.receipts(id, key)) > 1, 20)
        return self.receipts(id, key)[-1]

    def submit(self, *, key: str = "sk-bob", text: str = "hi", **fields: Any) -> str:
        request = {"model": "echo-model", "messages": [{"role": "user", "content": text}], **fields.pop("request", {})}
        body = {"id": self.new_id(), "request": request, **fields}
        reply = self.client.post("/api/tasks", json=body, headers=bearer(key))
        assert reply.status_code == 202, reply.text
        return str(reply.json()["id"])

    def task(self, id: str, *, key: str = "sk-bob", wait_s: float = 0) -> dict[str, Any]:
        view: dict[str, Any] = self.client.get(f"/api/tasks/{id}", params={"wait": wait_s}, headers=bearer(key)).json()
        return view


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def config(model: ScriptedModel, **fields: Any) -> str:
    return KEYS + instance_config("a", model.url, ("echo-model", "talker"), **fields)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    folder = tmp_path_factory.mktemp("office") / "data"
    with ScriptedModel() as model, running_hub(folder, config(model)) as hub, Office(hub, model) as office:
        wait_until(lambda: office.client.get("/api/pool").json()["instances"][0]["state"] == "ready")
        yield office


@pytest.fixture
def office(running: Office) -> Office:
    running.model.behaviour = echo
    running.model.requests.clear()
    assert running.client.post("/api/pool/a/resume").status_code == 200
    return running


# --- messages ---


def test_a_message_is_answered_to_its_sender_with_its_id(office: Office) -> None:
    id = office.send("good morning")
    answer = office.answer(id)
    assert (answer["content"], answer["from"], answer["to"]) == (
        "You said: good morning",
        "model:echo-model",
        "user:bob",
    )
    assert [receipt["state"] for receipt in office.receipts(id)] == ["accepted", "delivered"]


def test_a_named_model_answers(office: Office) -> None:
    office.answer(office.send("what?", to="model:talker"))
    assert office.model.requests[0].json()["model"] == "talker"


def test_the_words_are_shown_while_they_are_written(office: Office) -> None:
    gate = Gate()
    office.model.behaviour = gate.within(event("one"), event(" two"), event(" three", "stop"))
    address = {"to": "user:bob", "after": office.client.get("/api/messages", params={"to": "user:bob"}).json()["next"]}
    with httpx2.stream(
        "GET", f"{office.hub.url}/api/messages/stream", params=address, headers=bearer("sk-bob"), timeout=20
    ) as stream:
        lines = stream.iter_lines()
        assert next(lines) == ": connected"
        id = office.send("count")
        deltas: list[dict[str, Any]] = []
        for line in lines:
            if line.startswith("data: ") and '"index"' in line:
                deltas.append(json.loads(line[6:]))
                if len(deltas) == 2:
                    gate.open()
                if len(deltas) == 3:
                    break
    assert [(delta["index"], delta["text"], delta["reply_to"]) for delta in deltas] == [
        (0, "one", id),
        (1, " two", id),
        (2, " three", id),
    ]
    assert office.answer(id)["content"] == "one two three"


def test_a_thread_is_remembered_between_its_two_parties_only(office: Office) -> None:
    thread = office.new_id()
    office.answer(office.send("my name is Bob", thread=thread))
    office.send("psst, bob's secret", to="user:eve", thread=thread)
    office.answer(office.send("I am Eve", key="sk-eve", thread=thread), key="sk-eve")
    office.model.requests.clear()
    office.answer(office.send("who am I?", thread=thread))
    turns = [(turn["role"], turn["content"]) for turn in office.model.requests[0].json()["messages"]]
    assert turns == [("user", "my name is Bob"), ("assistant", "You said: my name is Bob"), ("user", "who am I?")]


def test_others_cannot_push_what_was_said_out_of_a_thread(office: Office) -> None:
    thread = office.new_id()
    office.answer(office.send("my name is Bob", thread=thread))
    for _ in range(THREAD_MESSAGES):
        office.send("noise", to="user:bob", key="sk-eve", thread=thread)
    office.model.requests.clear()
    office.answer(office.send("who am I?", thread=thread))
    turns = [turn["content"] for turn in office.model.requests[0].json()["messages"]]
    assert turns == ["my name is Bob", "You said: my name is Bob", "who am I?"]


def test_without_a_thread_nothing_is_remembered(office: Office) -> None:
    office.answer(office.send("one"))
    office.answer(office.send("two"))
    assert len(office.model.requests[-1].json()["messages"]) == 1


def test_a_picture_reaches_the_model(office: Office) -> None:
    parts = [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]
    office.answer(office.send(parts))
    assert office.model.requests[0].json()["messages"][0]["content"] == parts


def test_models_do_not_answer_models(office: Office) -> None:
    id = office.send("polly", key="sk-parrot")
    receipt = office.settled(id, "sk-parrot")
    assert (receipt["state"], "do not answer models" in receipt["detail"]) == ("failed", True)
    assert office.model.requests == []


def test_who_looks_into_a_models_inbox_does_not_silence_it(office: Office) -> None:
    office.model.behaviour = answering(503, {"error": {"message": "later"}})
    id = office.send("hi", to="model:echo-model")
    with office.hub.client() as admin:
        page = {"to": "model:echo-model", "reader": "watcher"}
        seen = admin.get("/api/messages", params=page).json()
        assert id in [message["id"] for message in seen["messages"]]
        assert admin.get("/api/messages", params={**page, "after": seen["next"]}).status_code == 200
        refused = admin.post(f"/api/messages/{id}/ack", json={"state": "read"})
        assert (refused.status_code, refused.json()["field"]) == (400, "id")
    office.model.behaviour = echo
    assert office.answer(id)["content"] == "You said: hi"


def test_a_repeat_of_what_retention_took_does_not_end_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both wait for the model under one id."""
    monkeypatch.setattr("autoglm.app._TRIM_S", 0.05)
    with ScriptedModel(answering(503, {"error": {"message": "later"}})) as model:
        chosen = Settings(
            gateway=GatewaySettings(port=0, drain_s=2.0),
            store=StoreSettings(max_log_bytes=0, dedupe_retention_s=0),
            instance=(InstanceSettings(name="a", provider="openai", base_url=model.url, models=("echo-model",)),),
        )
        with hub_inside(tmp_path / "data", chosen) as hub:
            message = {"id": "again", "to": "model:echo-model", "content": "hello"}
            for _ in range(2):
                wait_until(lambda: call(hub.port, hub.key, "POST", "/api/messages", message).status == 202)
                wait_until(lambda: call(hub.port, hub.key, "GET", "/api/messages/again").status == 404)
            wait_until(lambda: hub.count(lambda: len(hub.hub._correspondent._open)) == 0)
            assert call(hub.port, hub.key, "GET", "/healthz").status == 200


def test_a_refused_message_fails_with_the_models_words(office: Office) -> None:
    office.model.behaviour = answering(400, {"error": {"message": "context is too long"}})
    receipt = office.settled(office.send("hi"))
    assert receipt["state"] == "failed"
    assert "context is too long" in receipt["detail"]


def test_a_picture_for_a_model_without_eyes_fails_at_once_and_the_instance_stays(office: Office) -> None:
    """llama.cpp says 500 to it, which would be tried again for ever and count against the instance."""
    error = {"message": "image input is not supported - hint: provide the mmproj", "code": 500, "type": "server_error"}
    office.model.behaviour = answering(500, {"error": error})
    picture = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]
    receipts = [office.settled(office.send(picture)) for _ in range(8)]
    assert {receipt["state"] for receipt in receipts} == {"failed"}
    assert "image input is not supported" in receipts[0]["detail"]
    office.model.behaviour = echo
    assert office.answer(office.send("hi"))["content"] == "You said: hi"


def test_an_answer_of_reasoning_only_is_a_failure_with_the_way_out(office: Office) -> None:
    office.model.behaviour = streaming(event("", reasoning_content="hm"), event("", "length"))
    receipt = office.settled(office.send("hi"))
    assert receipt["state"] == "failed"
    assert "raise max_tokens" in receipt["detail"]


def test_a_broken_stream_is_started_anew_and_answered_once(office: Office) -> None:
    half = streaming(event("You"), event(" said"), closes=True)
    office.model.behaviour = in_turn(half, streaming(event("whole", "stop")))
    assert office.answer(office.send("hi"))["content"] == "whole"


def test_a_message_that_expires_while_it_waits_is_reported_as_expired(office: Office) -> None:
    gate = Gate()
    office.model.behaviour = gate.before(echo)
    id = office.send("too late", expires_at=time.time_ns() // 1_000_000 + 700)
    wait_until(lambda: gate.waiting)
    assert office.settled(id)["state"] == "expired"
    wait_until(lambda: gate.left_s)  # nobody waits for that answer any more
    assert office.answers(id, wait_s=0) == []


# --- tasks ---


def test_a_task_is_done_in_the_background(office: Office) -> None:
    id = office.submit(request={"temperature": 0.5, "stream": True, "stream_options": {"include_usage": True}})
    view = office.task(id, wait_s=10)
    assert view["state"] == "done"
    assert view["result"]["choices"][0]["message"]["content"] == "You said: hi"
    sent = office.model.requests[0].json()
    assert (sent["temperature"], sent["stream"], "stream_options" in sent) == (0.5, False, False)


def test_tasks_are_listed_for_their_owner_and_unknown_to_others(office: Office) -> None:
    id = office.submit()
    office.task(id, wait_s=10)
    mine = office.client.get("/api/tasks?limit=1000", headers=bearer("sk-bob")).json()["tasks"]
    hers = office.client.get("/api/tasks?limit=1000", headers=bearer("sk-eve")).json()["tasks"]
    assert id in [task["id"] for task in mine]
    assert hers == []
    for method in ("GET", "DELETE"):
        assert office.client.request(method, f"/api/tasks/{id}", headers=bearer("sk-eve")).status_code == 404


def test_a_cancelled_task_stops_at_the_model(office: Office) -> None:
    gate = Gate()
    office.model.behaviour = gate.before(echo)
    id = office.submit()
    wait_until(lambda: gate.waiting)
    assert office.task(id)["state"] == "running"
    assert office.client.delete(f"/api/tasks/{id}", headers=bearer("sk-bob")).json()["state"] == "cancelled"
    wait_until(lambda: gate.left_s)
    assert office.task(id, wait_s=1)["state"] == "cancelled"


def test_a_task_uses_the_model_that_its_key_was_checked_for(office: Office) -> None:
    """A message of kind `task` names its model by its recipient, whatever its request says."""
    request = {"model": "talker", "messages": [{"role": "user", "content": "hi"}]}
    content = [{"type": "json", "json": request}]
    office.answer(office.send(content, kind="task", to="model:echo-model"))
    assert office.model.requests[0].json()["model"] == "echo-model"


def test_a_task_that_expires_is_expired(office: Office) -> None:
    gate = Gate()
    office.model.behaviour = gate.before(echo)
    id = office.submit(expires_at=time.time_ns() // 1_000_000 + 500)
    wait_until(lambda: gate.waiting)
    wait_until(lambda: office.task(id)["state"] == "expired")
    wait_until(lambda: gate.left_s)


def test_a_refused_task_fails_with_the_reason(office: Office) -> None:
    office.model.behaviour = answering(400, {"error": {"message": "no such field"}})
    view = office.task(office.submit(), wait_s=10)
    assert view["state"] == "failed"
    assert "no such field" in view["error"]


# --- kill -9 ---


def test_a_message_is_answered_exactly_once_over_two_kills(tmp_path: Path) -> None:
    """Killed between receiving and answering, and again while the model writes."""
    before, within = Gate(), Gate()
    folder = tmp_path / "data"
    with (
        ScriptedModel(before.before(echo)) as model,
        running_hub(folder, config(model)) as hub,
        Office(hub, model) as office,
    ):
        id, task = office.send("are you there?"), office.submit(text="and you?")
        wait_until(lambda: before.waiting == 2)
        restart(office, within.within(event("half an"), event(" answer", "stop")))
        wait_until(lambda: within.waiting == 2, 20)
        restart(office, echo)
        assert office.answer(id, wait_s=20)["content"] == "You said: are you there?"
        assert office.task(task, wait_s=20)["state"] == "done"
        assert [receipt["state"] for receipt in office.receipts(id)] == ["accepted", "delivered"]
        restart(office, echo)
        assert office.answer(office.send("a last one"))["content"] == "You said: a last one"
        assert len(office.answers(id)) == 1
        assert len(model.requests) == 1, "what is settled is not worked on again"


def restart(office: Office, behaviour: Behaviour) -> None:
    """kill -9, and start again with the model behaving so."""
    office.hub.kill()
    office.model.behaviour = behaviour
    office.model.requests.clear()
    office.hub.start()
    office.reopen()


def test_messages_to_a_model_that_is_down_wait_and_those_to_others_do_not(tmp_path: Path) -> None:
    with ScriptedModel() as placeholder:
        port = placeholder.port
    with ScriptedModel() as model:
        settings = "[pool]\nprobe_interval_s = 0.2\n" + config(model)
        settings += instance_config("down", f"http://127.0.0.1:{port}/v1", ("other",))
        with running_hub(tmp_path / "data", settings) as hub, Office(hub, model) as office:
            waiting = [office.send("later", to="model:other") for _ in range(70)]
            assert office.answer(office.send("now", to="model:echo-model"))["content"] == "You said: now"
            assert {len(office.receipts(id)) for id in waiting} == {1}
            with ScriptedModel(port=port):
                wait_until(lambda: all(len(office.receipts(id)) == 2 for id in waiting), 30)


def test_a_message_left_over_waits_for_a_model_that_has_not_told_its_name_yet(tmp_path: Path) -> None:
    gate = Gate()
    with ScriptedModel(gate.before(echo)) as model:
        port = model.port
        settings = "[pool]\nprobe_interval_s = 0.2\n" + KEYS + instance_config("a", model.url, ())
        with running_hub(tmp_path / "data", settings) as hub, Office(hub, model) as office:
            wait_until(lambda: len(office.client.get("/v1/models").json()["data"]) == 2)
            id = office.send("patience")
            wait_until(lambda: gate.waiting)
            hub.kill()
            model.stop()
            hub.start()  # the model is not there yet, so nobody knows its name
            office.reopen()
            with ScriptedModel(port=port):
                assert office.answer(id, wait_s=30)["content"] == "You said: patience"
