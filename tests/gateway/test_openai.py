"""/v1 as clients see it: what goes through untouched, who may do what, and how errors look."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from autoglm.inference.settings import InstanceSettings
from autoglm.inference.usage import usage_of
from autoglm.settings import Settings
from eventually import wait_until
from gateway.inside import hub_inside, settings
from gateway.openai_hub import OpenAIHub, Wire, openai_hub
from gateway.wire import call
from scripted_model import Behaviour, Gate, answering, completion, echo, in_turn, response, writing


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenAIHub]:
    with openai_hub(tmp_path_factory.mktemp("openai")) as hub:
        yield hub


@pytest.fixture
def hub(running: OpenAIHub) -> OpenAIHub:
    running.reset()
    return running


ODD = (
    '{ "messages":[ {"role":"user","content":"\\u4e16 世界 \\"x\\""} ],\n\t"thinking":{"type":"disabled"},'
    '"do_sample":true,'
    '"chat_template_kwargs":{"enable_thinking":false,"nested":{"a":[1,{"b":null}]}},"seed":12345678901234567890123,'
    '"temperature":1.10,"x":1,"x":2,  "model"  :  "MODEL" , "":0}'
)


# --- untouched ---


def test_the_body_reaches_the_upstream_byte_for_byte(hub: OpenAIHub) -> None:
    body = ODD.replace("MODEL", "solo").encode()
    assert hub.client.post("/v1/chat/completions", content=body).status_code == 200
    assert hub.a.requests[-1].body == body


def test_auto_changes_the_model_and_nothing_else(hub: OpenAIHub) -> None:
    hub.client.post("/v1/chat/completions", content=ODD.replace("MODEL", "auto").encode())
    sent = (hub.a.requests + hub.b.requests)[-1]
    assert sent.json() == {**json.loads(ODD), "model": "echo-model"}
    assert b'"seed":12345678901234567890123' in sent.body
    assert b'"temperature":1.10' in sent.body


def test_the_answer_comes_back_byte_for_byte_with_who_gave_it(hub: OpenAIHub) -> None:
    body = '{ "choices":[ {"message":{"content":"\\u4e16 世"}} ],"vendor":{"x":1.0} }\n'.encode()
    hub.a.behaviour = answering(200, body)
    reply = hub.ask(model="solo")
    assert reply.content == body
    assert (reply.headers["x-autoglm-instance"], reply.headers["x-autoglm-model"]) == ("a", "solo")
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-request-id"]


@pytest.mark.parametrize("status", [400, 404, 413, 422])
def test_a_clients_error_comes_back_as_the_upstream_put_it(hub: OpenAIHub, status: int) -> None:
    body = b'{"error":{"message":"no such field","vendor_code":17}}'
    hub.a.behaviour = answering(status, body)
    reply = hub.ask(model="solo")
    assert (reply.status_code, reply.content) == (status, body)


@pytest.mark.parametrize("path", ["completions", "embeddings", "responses"])
def test_the_other_apis_pass_too(hub: OpenAIHub, path: str) -> None:
    usage = {"input_tokens": 3, "output_tokens": 4}
    hub.a.behaviour = answering(200, {"object": path, "choices": [], "data": [], "usage": usage})
    before = hub.metric("autoglm_tokens_total", model="solo", direction="out")
    reply = hub.client.post(f"/v1/{path}", json={"model": "solo", "input": "x"})
    assert reply.json()["object"] == path
    assert hub.a.requests[-1].path == f"/v1/{path}"
    assert hub.metric("autoglm_tokens_total", model="solo", direction="out") == before + 4


def test_an_answer_longer_than_what_is_held_back_passes_whole(hub: OpenAIHub) -> None:
    body = json.dumps({"data": "x" * 5_000_000, "usage": {"prompt_tokens": 9}}).encode()
    hub.a.behaviour = answering(200, body)
    assert hub.ask(model="solo").content == body


@pytest.mark.parametrize(
    ("tail", "usage"),
    [
        (b'{"usage":{"prompt_tokens":7,"completion_tokens":5}}', (7, 5)),
        (b'{"usage" : { "input_tokens" : 3, "output_tokens" : 4 }}', (3, 4)),
        (b'{"usage":{"prompt_tokens":7,"completion_tokens":5}}\n\ndata: {"usage":null}\n\ndata: [DONE]', (7, 5)),
        (b'{"content":"\\"usage\\":{\\"prompt_tokens\\":1}"}', (0, 0)),
        (b'{"usage":null}', (0, 0)),
        (b'{"usage":null,"timings":{"cache_n":30,"prompt_n":1,"prompt_ms":28.978,"predicted_n":3}}', (31, 3)),
        (b'{"timings": {"prompt_n": 9, "predicted_n": 1}}\n\ndata: {"timings":{"prompt_n":9,"predicted_n":2}}', (9, 2)),
        (b'{"usage":{"prompt_tokens":7,"completion_tokens":5},"timings":{"prompt_n":1,"predicted_n":1}}', (7, 5)),
        (b'{"content":"\\"timings\\":{\\"prompt_n\\":1}"}', (0, 0)),
        (b'{"timings":null}', (0, 0)),
        (b"", (0, 0)),
    ],
)
def test_the_last_usage_that_is_an_object_counts_or_else_the_timings(tail: bytes, usage: tuple[int, int]) -> None:
    assert usage_of(tail) == usage


# --- replayed ---


@pytest.mark.parametrize(
    "bad",
    [
        writing(b"garbage\r\n\r\n"),
        answering(500, {"error": {"message": "boom"}}),
        answering(200, {"error": {"message": "boom"}}),
        answering(200, b""),
        writing(response(200, completion("cut"))[:-9]),
    ],
    ids=["garbage", "500", "error in a 200", "empty", "cut short"],
)
def test_a_failure_before_the_first_byte_is_not_seen_by_the_client(hub: OpenAIHub, bad: Behaviour) -> None:
    retries = hub.metric("autoglm_retries_total")
    hub.a.behaviour = hub.b.behaviour = in_turn(bad, echo)  # whoever is asked first fails
    assert hub.ask().json()["choices"][0]["message"]["content"] == "You said: hi"
    assert (len(hub.a.requests), len(hub.b.requests)) == (1, 1)
    assert hub.metric("autoglm_retries_total") == retries + 1


def test_a_stale_pooled_connection_is_no_failure(hub: OpenAIHub) -> None:
    hub.a.behaviour = in_turn(echo, writing(b""), echo)
    assert [hub.ask(model="solo").status_code for _ in range(2)] == [200, 200]
    assert hub.instance()["error"] == ""


# --- who may ---


def test_a_missing_or_wrong_key_is_told_in_openais_form(hub: OpenAIHub) -> None:
    for headers in ({"Authorization": ""}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic eDp5"}):
        reply = hub.ask(headers=headers)
        assert reply.status_code == 401
        assert reply.json()["error"]["code"] == "invalid_api_key"
        assert reply.json()["error"]["type"] == "authentication_error"
        assert reply.headers["www-authenticate"].startswith("Bearer")


def test_a_key_uses_the_models_of_its_scope_only(hub: OpenAIHub) -> None:
    robot = {"Authorization": "Bearer sk-robot"}
    assert hub.ask(model="echo-model", headers=robot).status_code == 200
    assert hub.ask(model="auto", headers=robot).headers["x-autoglm-model"] == "echo-model"
    refused = hub.ask(model="solo", headers=robot)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "forbidden")
    assert "model:use:solo" in refused.json()["error"]["message"]
    listed = hub.client.get("/v1/models", headers=robot).json()["data"]
    assert [entry["id"] for entry in listed] == ["auto", "echo-model"]
    assert hub.client.get("/v1/models/echo-model", headers=robot).json() == listed[1]
    hidden = hub.client.get("/v1/models/solo", headers=robot)
    assert (hidden.status_code, hidden.json()["error"]["code"]) == (404, "model_not_found")
    assert hidden.json()["error"]["message"].endswith("Known: auto, echo-model")


def test_a_model_is_found_by_a_name_with_slashes_encoded_or_not(tmp_path: Path) -> None:
    entry = {"name": "a", "provider": "vllm", "base_url": "http://127.0.0.1:9/v1", "models": ["Qwen/Qwen3-8B"]}
    chosen = Settings(gateway=settings().gateway, instance=(InstanceSettings.model_validate(entry),))
    with hub_inside(tmp_path / "data", chosen) as inside:
        for name in ("Qwen/Qwen3-8B", "Qwen%2FQwen3-8B", "%51wen/Qwen3-8B"):
            found = call(inside.port, inside.key, "GET", f"/v1/models/{name}").json()
            assert (found["id"], found["owned_by"]) == ("Qwen/Qwen3-8B", "vllm")
        for name, code in (("Qwen/Qwen3/8B", "model_not_found"), ("", "unknown_path"), ("%zz", "invalid_field")):
            assert call(inside.port, inside.key, "GET", f"/v1/models/{name}").json()["error"]["code"] == code


def test_a_hub_without_models_says_how_to_get_one(tmp_path: Path) -> None:
    with hub_inside(tmp_path / "data") as inside:
        reply = call(inside.port, inside.key, "GET", "/v1/models/auto")
    assert "autoglm models pull" in reply.json()["error"]["message"]


def test_a_key_over_its_rate_is_told_when_to_come_back(hub: OpenAIHub) -> None:
    hasty = {"Authorization": "Bearer sk-hasty"}
    replies = [hub.ask(headers=hasty) for _ in range(15)]
    replies += [hub.client.get(path, headers=hasty) for path in ("/v1/models", "/v1/models/solo") for _ in range(30)]
    refused = next(reply for reply in replies if reply.status_code == 429)
    assert replies[0].status_code == 200
    assert refused.headers["retry-after"] == "1"
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"


# --- errors of the hub ---


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        (b"{", 400, "invalid_json", None),
        (b"{}", 400, "invalid_field", "model"),
        (b'{"model":"sole"}', 404, "model_not_found", "model"),
        (b'{"model":"solo","stream":"yes"}', 400, "invalid_field", "stream"),
    ],
)
def test_errors_have_openais_form(hub: OpenAIHub, body: bytes, status: int, code: str, param: str | None) -> None:
    reply = hub.client.post("/v1/chat/completions", content=body)
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["param"]) == (status, code, param)
    assert error["request_id"] == reply.headers["x-request-id"]


def test_a_near_miss_of_a_models_name_is_answered_with_the_name(hub: OpenAIHub) -> None:
    assert "Did you mean 'solo'?" in hub.ask(model="sollo").json()["error"]["message"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-autoglm-priority", "10"),
        ("x-autoglm-priority", "high"),
        ("x-autoglm-deadline", "0"),
        ("x-autoglm-deadline", "nan"),
        ("x-autoglm-deadline", "1_0"),
        ("x-autoglm-first-token", "-1"),
        ("x-autoglm-first-token", "1_0.5"),
    ],
)
def test_a_header_that_makes_no_sense_is_refused_by_name(hub: OpenAIHub, name: str, value: str) -> None:
    reply = hub.ask(headers={name: value})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, name)


# --- the queue ---


def test_a_full_queue_is_429_and_says_when(hub: OpenAIHub) -> None:
    with Crowd(hub, 3):  # one runs, two wait: that is all there is room for
        reply = hub.ask(model="solo")
        assert reply.status_code == 429
        assert int(reply.headers["retry-after"]) >= 1
        assert reply.json()["error"]["code"] == "rate_limit_exceeded"
        assert hub.instance()["waiting"] == 2
        assert hub.ask("other model").status_code == 200  # waiting for one model does not block another


def test_the_urgent_are_served_first(hub: OpenAIHub) -> None:
    with Crowd(hub, 1) as crowd:
        crowd.add("humble", {"x-autoglm-priority": "1"})
        crowd.add("urgent", {"x-autoglm-priority": "9"})
    assert [json.loads(request.body)["messages"][0]["content"] for request in hub.a.requests[1:]] == [
        "urgent",
        "humble",
    ]


def test_a_deadline_ends_the_wait_for_a_slot_and_for_an_answer(hub: OpenAIHub) -> None:
    with Crowd(hub, 1) as crowd:
        waiting = hub.ask(model="solo", headers={"x-autoglm-deadline": "0.2"})
        assert (waiting.status_code, waiting.json()["error"]["code"]) == (504, "deadline_exceeded")
        hub.b.behaviour = crowd.gate.before(echo)
        hub.client.post("/api/pool/a/resume")
        running = hub.ask(headers={"x-autoglm-deadline": "0.3"})
        assert (running.status_code, running.json()["error"]["code"]) == (504, "deadline_exceeded")
        wait_until(lambda: len(crowd.gate.left_s) == 1)


class Crowd:
    """Requests for `solo` that are held at the upstream or wait for its one slot, until the end of the `with` block."""

    def __init__(self, hub: OpenAIHub, size: int) -> None:
        self.hub, self.size = hub, size
        self.gate = Gate()
        self.wires: list[Wire] = []

    def __enter__(self) -> "Crowd":
        self.hub.a.behaviour = self.gate.before(echo)
        for number in range(self.size):
            self.add(f"number {number}", {})
            if number == 0:
                wait_until(lambda: self.gate.waiting)
        return self

    def add(self, text: str, headers: dict[str, str]) -> None:
        waiting = self.hub.client.get("/api/pool").json()["waiting"]
        is_first = not self.wires
        wire = self.hub.connect()
        self.wires.append(wire)
        body = {"model": "solo", "messages": [{"role": "user", "content": text}]}
        wire.ask(body, **headers)
        if not is_first:
            wait_until(lambda: self.hub.client.get("/api/pool").json()["waiting"] > waiting)

    def __exit__(self, *_: object) -> None:
        self.gate.open()
        for wire in self.wires:
            assert wire.response().status == 200
            wire.close()
