"""Tasks: submitted once, worked on in the background, waited for, cancelled, and not taken for another's."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from autoglm.auth.settings import KeySettings
from autoglm.inference.settings import InstanceSettings
from autoglm.settings import Settings
from eventually import wait_until
from gateway.inside import Inside, hub_inside, settings
from gateway.wire import Reply, Wire, call
from scripted_model import Request, ScriptedModel, echo


async def held(request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A prompt that says `hold` gets no answer until the client leaves."""
    if b"hold" in request.body:
        await reader.read(1)
        return
    await echo(request, reader, writer)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    with ScriptedModel(held) as model, hub_inside(tmp_path_factory.mktemp("tasks") / "data", chosen(model)) as inside:
        wait_until(lambda: call(inside.port, inside.key, "GET", "/api/pool").json()["instances"][0]["state"] == "ready")
        yield inside


def chosen(model: ScriptedModel, **fields: Any) -> Settings:
    instance = {"name": "glm-a", "provider": "openai", "base_url": model.url, "models": ["echo-model"], **fields}
    others = [{"name": name, "value": f"sk-{name}", "scopes": ["model:use:*"]} for name in ("other", "lister")]
    return Settings(
        gateway=settings().gateway,
        instance=(InstanceSettings.model_validate(instance),),
        key=tuple(KeySettings.model_validate(other) for other in others),
    )


def submit(hub: Inside, text: str, key: str = "", **fields: Any) -> Reply:
    request = {"model": "auto", "messages": [{"role": "user", "content": text}]}
    return call(hub.port, key or hub.key, "POST", "/api/tasks", {"request": request, **fields})


def get(hub: Inside, path: str, key: str = "") -> Any:
    reply = call(hub.port, key or hub.key, "GET", path)
    assert reply.status == 200, reply
    return reply.json()


def test_a_task_is_done_in_the_background_and_its_result_waited_for(hub: Inside) -> None:
    first = submit(hub, "hello", id="t-1")
    assert (first.status, first.json()["id"], first.json()["state"]) == (202, "t-1", "queued")
    done = get(hub, "/api/tasks/t-1?wait=20")
    assert (done["id"], done["state"]) == ("t-1", "done")
    assert done["result"]["choices"][0]["message"]["content"] == "You said: hello"
    again = submit(hub, "hello", id="t-1")
    assert (again.status, again.json()) == (200, {**first.json(), "state": "done"})
    assert submit(hub, "something else", id="t-1").status == 409


def test_the_answer_to_a_task_or_a_message_can_be_judged(hub: Inside) -> None:
    """Where `auto` chose, it names the decision."""

    def post(path: str, body: dict[str, Any]) -> Reply:
        return call(hub.port, hub.key, "POST", path, body)

    body = {"model": "auto", "messages": [{"role": "user", "content": "hi"}]}
    # Until the engine has loaded what it learned, the order of the settings decides, and there is nothing to judge.
    wait_until(lambda: "x-autoglm-decision" in post("/v1/chat/completions", body).headers)
    submit(hub, "judge me", id="t-judged")
    decision = get(hub, "/api/tasks/t-judged?wait=20")["decision"]
    post("/api/messages", {"id": "m-judged", "to": "model:auto", "content": "hi"})

    def labels() -> list[dict[str, str]]:
        inbox = get(hub, "/api/messages?to=user:admin&after=0&limit=1000")["messages"]
        return [answer["labels"] for answer in inbox if answer.get("reply_to") == "m-judged"]

    wait_until(labels)
    [label] = labels()
    assert decision != label["decision"]
    for id in (decision, label["decision"]):
        wait_until(lambda id=id: call(hub.port, hub.key, "GET", f"/api/decisions/{id}").json().get("outcome"))  # type: ignore[misc]  # id is bound
        judged = post("/api/feedback", {"decision": id, "thumb": "up"})
        assert (judged.status, judged.json()["decision"]) == (200, id)


def test_a_key_lists_its_own_tasks_without_their_results(hub: Inside) -> None:
    ids = [submit(hub, f"list {number}", "sk-lister").json()["id"] for number in range(3)]
    first = get(hub, "/api/tasks?limit=2", "sk-lister")
    rest = get(hub, f"/api/tasks?after={first['next']}", "sk-lister")
    assert [task["id"] for task in first["tasks"] + rest["tasks"]] == ids
    assert all("result" not in task for task in first["tasks"])
    assert get(hub, f"/api/tasks?after={rest['next']}", "sk-lister") == {"tasks": [], "next": rest["next"]}


def test_a_task_of_another_key_is_unknown(hub: Inside) -> None:
    id = submit(hub, "mine").json()["id"]
    for method in ("GET", "DELETE"):
        reply = call(hub.port, "sk-other", method, f"/api/tasks/{id}")
        assert (reply.status, reply.json()["what"]) == (404, "task")
    others = submit(hub, "theirs", "sk-other").json()["id"]
    assert get(hub, f"/api/tasks/{others}")["id"] == others  # an administrator sees all


def test_a_message_is_no_task(hub: Inside) -> None:
    call(hub.port, hub.key, "POST", "/api/messages", {"to": "user:a", "content": "x", "id": "plain", "kind": "task"})
    assert call(hub.port, hub.key, "GET", "/api/tasks/plain").status == 404


def test_a_running_task_is_cancelled_once(hub: Inside) -> None:
    id = submit(hub, "hold").json()["id"]
    wait_until(lambda: get(hub, f"/api/tasks/{id}")["state"] == "running")
    for _ in range(2):
        assert call(hub.port, hub.key, "DELETE", f"/api/tasks/{id}").json() == {"id": id, "state": "cancelled"}
    assert get(hub, f"/api/tasks/{id}?wait=20") == {"id": id, "state": "cancelled"}
    wait_until(lambda: get(hub, "/api/pool")["instances"][0]["running"] == 0)


def progress(hub: Inside, id: str) -> Any:
    return get(hub, f"/api/tasks/{id}").get("progress", {})


def test_progress_tells_who_works_on_a_task_and_how_many_are_before_one_that_waits(tmp_path: Path) -> None:
    with ScriptedModel(held) as model, hub_inside(tmp_path / "data", chosen(model, slots=1)) as hub:
        wait_until(lambda: get(hub, "/api/pool")["instances"][0]["state"] == "ready")
        done = submit(hub, "hello").json()["id"]  # so that the pace is known
        assert "progress" not in get(hub, f"/api/tasks/{done}?wait=20")
        started_ms = time.time_ns() // 1_000_000
        first = submit(hub, "hold").json()["id"]
        wait_until(lambda: progress(hub, first).get("phase") == "asking")
        working = progress(hub, first)
        assert (working["attempts"], working["model"], working["instance"]) == (1, "echo-model", "glm-a")
        assert started_ms - 100 <= working["running_since"] <= time.time_ns() // 1_000_000
        waiting = []
        for ahead in (0, 1):
            id = submit(hub, "hold").json()["id"]
            wait_until(lambda id=id: progress(hub, id).get("phase") == "waiting_for_slot")  # type: ignore[misc]
            found = progress(hub, id)
            assert found["ahead"] == ahead
            waiting.append(found["starts_in_s"])
        urgent = submit(hub, "hold", priority=9).json()["id"]
        wait_until(lambda: progress(hub, urgent).get("phase") == "waiting_for_slot")
        assert progress(hub, urgent)["ahead"] == 0
        assert progress(hub, id)["ahead"] == 2
        assert 0 <= waiting[0] <= waiting[1] < 60


def test_progress_tells_of_failed_attempts_and_when_the_next_one_is(tmp_path: Path) -> None:
    async def broken(request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if request.path.endswith("/models"):
            await echo(request, reader, writer)
        else:
            writer.write(b"HTTP/1.1 500 x\r\nContent-Length: 4\r\n\r\nboom")

    with ScriptedModel(broken) as model, hub_inside(tmp_path / "data", chosen(model)) as hub:
        wait_until(lambda: get(hub, "/api/pool")["instances"][0]["state"] == "ready")
        id = submit(hub, "hello").json()["id"]
        wait_until(lambda: progress(hub, id).get("phase") == "pausing")
        found = progress(hub, id)
        assert found["attempts"] >= 1
        assert 0 <= found["starts_in_s"] <= 1.2 * 2 ** (found["attempts"] - 1)
        assert "glm-a" in found["error"]
        wait_until(lambda: progress(hub, id).get("attempts", 0) > found["attempts"])


def test_nobody_forges_a_result(hub: Inside) -> None:
    from autoglm.inference.respondent import answer_id

    id = submit(hub, "hold").json()["id"]
    forged = {"to": "user:admin", "content": [{"type": "json", "json": {"choices": []}}], "id": answer_id(id)}
    reply = call(hub.port, hub.key, "POST", "/api/messages", forged)
    assert (reply.status, reply.json()["field"]) == (400, "id")
    call(hub.port, hub.key, "DELETE", f"/api/tasks/{id}")


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({}, 400, "request"), ({"request": []}, 400, "request"), ({"request": {}}, 400, "request.model"),
        ({"request": {"model": 5}}, 400, "request.model"),
        ({"request": {"model": "a b", "messages": []}}, 400, "request.model"),
        ({"request": {"model": "auto"}}, 400, "request.messages"),
        ({"request": {"model": "auto", "messages": "x"}}, 400, "request.messages"),
        ({"request": {"model": "auto", "messages": []}, "priority": 10}, 400, "priority"),
        ({"request": {"model": "auto", "messages": []}, "id": "a b"}, 400, "id"),
        ({"request": {"model": "auto", "messages": []}, "expires_at": 5}, 400, "expires_at"),
        ({"request": {"model": "auto", "messages": []}, "requst": 5}, 400, "requst"),
    ],
    ids=lambda value: str(value)[:50],
)  # fmt: skip
def test_what_is_wrong_with_a_task_is_named(hub: Inside, body: dict[str, Any], status: int, field: str) -> None:
    reply = call(hub.port, hub.key, "POST", "/api/tasks", body)
    assert (reply.status, reply.json()["code"], reply.json()["field"]) == (status, "invalid_field", field)


def test_a_task_for_an_unknown_model_says_where_to_look(hub: Inside) -> None:
    body = {"request": {"model": "gpt-99", "messages": []}}
    reply = call(hub.port, hub.key, "POST", "/api/tasks", body)
    assert (reply.status, reply.json()["code"], reply.json()["model"]) == (404, "unknown_model", "gpt-99")
    assert "GET /v1/models" in reply.json()["detail"]


def test_a_shutdown_answers_those_who_wait_for_a_task(tmp_path: Path) -> None:
    with (
        ScriptedModel(held) as model,
        hub_inside(tmp_path / "data", chosen(model)) as hub,
        Wire(hub.port, hub.key) as wire,
    ):
        id = submit(hub, "hold").json()["id"]
        wire.request("GET", f"/api/tasks/{id}?wait=60")
        wait_until(lambda: hub.count(lambda: hub.readers) >= 1)
        hub.stop()
        reply = wire.reply()
    assert (reply.status, reply.json()["state"] in ("queued", "running")) == (200, True)


def test_a_task_without_a_request_is_refused_when_it_is_sent(hub: Inside) -> None:
    """Else its sender would wait for ever: no model could make anything of it."""
    reply = call(hub.port, hub.key, "POST", "/api/messages", {"to": "model:auto", "content": "hi", "kind": "task"})
    assert (reply.status, reply.json()["field"]) == (400, "content")
