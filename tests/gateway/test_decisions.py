"""`auto` chooses by what it has learned, says why, and keeps it over a restart."""

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from autoglm.cli.explanation import explanation
from autoglm.gateway.metrics import Metrics
from autoglm.inference.settings import InstanceSettings
from eventually import wait_until
from gateway.inside import hub_inside, settings
from gateway.wire import Reply, call
from hub import HubProcess, instance_config, running_hub
from scripted_model import Behaviour, Gate, Request, ScriptedModel, completion, echo, event, response

KEYS = """
[[key]]
name = "ward"
value = "sk-ward"
scopes = ["model:use:*"]

[[key]]
name = "lab"
value = "sk-lab"
scopes = ["model:use:*"]
prefer = "fast"

[[key]]
name = "kitchen"
value = "sk-kitchen"
tenant = "canteen"
scopes = ["model:use:*"]

[[key]]
name = "gate"
value = "sk-gate"
scopes = ["model:use:*", "tenant:site-*"]
"""


def broken(*_: object, **__: object) -> None:
    raise RuntimeError("a fault")


class Asker:
    """Asks a hub with two models, `small` and `large`."""

    def __init__(self, process: HubProcess) -> None:
        self.process = process
        self.client = process.client()

    def ask(self, text: str = "hi", **fields: Any) -> httpx2.Response:
        headers = fields.pop("headers", {})
        body = {"model": "auto", "messages": [{"role": "user", "content": text}], **fields}
        response = self.client.post("/v1/chat/completions", json=body, headers=headers)
        assert response.status_code == 200, response.text
        return response

    def wait_until_it_learns(self) -> None:
        """And until both models are ready: a busy machine may be slow to probe them."""
        wait_until(lambda: all(entry["state"] == "ready" for entry in self.client.get("/api/pool").json()["instances"]))
        wait_until(lambda: (id := self.ask().headers.get("x-autoglm-decision")) and self.concluded(id))

    def account(self, id: str, key: str | None = None) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return self.client.get(f"/api/decisions/{id}", headers=headers)

    def concluded(self, id: str) -> dict[str, Any]:
        """The account, once its end has been written."""
        wait_until(lambda: self.account(id).json().get("outcome") is not None)
        account: dict[str, Any] = self.account(id).json()
        return account

    def feedback(self, id: str, key: str | None = None, **judgement: Any) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return self.client.post("/api/feedback", json={"decision": id, **judgement}, headers=headers)

    def teach(self, good: str, rounds: int) -> None:
        """Ask and judge: answers of the model `good` are good."""
        for index in range(rounds):
            answer = self.ask(f"question {index}")
            id = answer.headers["x-autoglm-decision"]
            self.concluded(id)
            thumb = "up" if answer.headers["x-autoglm-model"] == good else "down"
            assert self.feedback(id, thumb=thumb).status_code == 200

    def qualities(self) -> dict[str, float]:
        """What is predicted for the same question."""
        account = self.concluded(self.ask("the same question").headers["x-autoglm-decision"])
        return {entry["arm"]["model"]: entry["quality"] for entry in account["decision"]["candidates"]}


@contextmanager
def asking(data: Path, more: str = "", behaviour: Behaviour = echo) -> Iterator[Asker]:
    """behaviour: of `small`."""
    with ScriptedModel(behaviour, models=("small",)) as small, ScriptedModel(models=("large",)) as large:
        config = (
            KEYS
            + '[engine.prefer_by_tenant]\ncanteen = "cheap"\n'
            + more
            + instance_config("a", small.url, models=("small",))
            + instance_config("b", large.url, models=("large",))
        )
        with running_hub(data, config) as process:
            asker = Asker(process)
            try:
                yield asker
            finally:
                asker.client.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asker]:
    with asking(tmp_path_factory.mktemp("decisions") / "data") as asker:
        asker.wait_until_it_learns()
        yield asker


def test_an_answer_names_its_decision_and_the_decision_explains_itself(shared: Asker) -> None:
    answer = shared.ask("How far is the moon?", headers={"x-autoglm-prefer": "best"})
    account = shared.concluded(answer.headers["x-autoglm-decision"])
    decision, outcome = account["decision"], account["outcome"]
    assert {entry["arm"]["model"] for entry in decision["candidates"]} == {"small", "large"}
    assert sum(entry["propensity"] for entry in decision["candidates"]) == pytest.approx(1.0)
    assert decision["candidates"][decision["chosen"]]["arm"]["model"] == answer.headers["x-autoglm-model"]
    assert decision["prefer"] == "best"
    assert outcome["status"] == 200
    assert outcome["instance"] == answer.headers["x-autoglm-instance"]
    assert outcome["took_s"] >= outcome["first_token_s"] > 0
    assert outcome["signals"] == {"not_cut_off": 1.0, "not_refused": 1.0, "not_empty": 1.0}
    assert "moon" not in json.dumps(account)


def test_of_a_stream_that_tells_no_usage_the_tokens_are_guessed_and_said_to_be(shared: Asker) -> None:
    answer = shared.ask(" ".join(["hello"] * 40), stream=True)
    account = shared.concluded(answer.headers["x-autoglm-decision"])
    outcome = account["outcome"]
    assert outcome["is_guess"]
    assert outcome["tokens_in"] == account["decision"]["features"]["prompt_tokens"]
    assert 40 <= outcome["tokens_out"] <= 50
    assert f"; about {outcome['tokens_in']} + {outcome['tokens_out']} tokens, cost about " in explanation(account)
    told = shared.concluded(shared.ask("hello").headers["x-autoglm-decision"])["outcome"]
    assert (told["is_guess"], told["tokens_in"], told["tokens_out"]) == (False, 7, 5)


def test_a_stream_is_judged_by_its_whole(shared: Asker) -> None:
    answer = shared.ask("hello", stream=True)
    account = shared.concluded(answer.headers["x-autoglm-decision"])
    assert account["outcome"]["signals"]["not_empty"] == 1.0
    assert account["outcome"]["took_s"] > 0


def test_json_that_was_asked_for_and_did_not_come_is_noted(shared: Asker) -> None:
    answer = shared.ask("prose", response_format={"type": "json_object"})
    account = shared.concluded(answer.headers["x-autoglm-decision"])
    assert account["outcome"]["signals"]["json_valid"] == 0.0
    assert account["decision"]["features"]["api"] == "/chat/completions"


def test_a_request_that_names_its_model_has_no_decision(shared: Asker) -> None:
    assert "x-autoglm-decision" not in shared.ask(model="small").headers


def test_who_asks_the_same_again_at_once_was_not_content(shared: Asker) -> None:
    first = shared.ask("Say it again").headers["x-autoglm-decision"]
    shared.concluded(first)
    shared.ask("Say it again", temperature=0.9)
    wait_until(lambda: bool(shared.account(first).json()["feedback"]))
    assert [entry["source"] for entry in shared.account(first).json()["feedback"]] == ["retry"]


def test_a_key_sees_and_judges_its_own_decisions_only(shared: Asker) -> None:
    answer = shared.ask("mine", headers={"Authorization": "Bearer sk-ward"})
    id = answer.headers["x-autoglm-decision"]
    shared.concluded(id)
    assert shared.account(id, "sk-ward").status_code == 200
    assert shared.account(id, "sk-lab").status_code == 404
    assert shared.feedback(id, "sk-lab", thumb="down").status_code == 404
    assert shared.feedback(id, "sk-ward", quality=0.5).json() == {"decision": id, "quality": 0.5, "source": "program"}
    listed = shared.client.get("/api/decisions", headers={"Authorization": "Bearer sk-lab"}).json()["decisions"]
    assert id not in [entry["decision"]["id"] for entry in listed]
    newest = shared.client.get("/api/decisions?limit=1").json()["decisions"]
    assert [entry["decision"]["id"] for entry in newest] == [id]
    assert [entry["quality"] for entry in newest[0]["feedback"]] == [0.5]


def test_who_asks_for_a_tenant_sees_and_judges_its_decisions(shared: Asker) -> None:
    def named(tenant: str, key: str = "sk-gate") -> dict[str, str]:
        return {"Authorization": f"Bearer {key}", "x-autoglm-tenant": tenant}

    id = shared.ask("for a site", headers=named("site-1")).headers["x-autoglm-decision"]
    shared.concluded(id)

    def statuses(headers: dict[str, str]) -> tuple[int, int, int | list[str]]:
        judged = shared.client.post("/api/feedback", json={"decision": id, "thumb": "up"}, headers=headers)
        listed = shared.client.get("/api/decisions", headers=headers)
        ids = [entry["decision"]["id"] for entry in listed.json().get("decisions", ())]
        seen = shared.client.get(f"/api/decisions/{id}", headers=headers)
        return seen.status_code, judged.status_code, ids if listed.status_code == 200 else listed.status_code

    assert statuses(named("site-1")) == (200, 200, [id])
    assert statuses(named("site-2")) == (404, 404, [])
    assert statuses({"Authorization": "Bearer sk-gate"}) == (404, 404, [])
    assert statuses(named("ward")) == (403, 403, 403)
    assert statuses(named("site-1", "sk-ward")) == (403, 403, 403)


def test_the_traffic_of_others_pushes_no_decision_out_of_sight(shared: Asker) -> None:
    def ask(key: str, text: str) -> str:
        return shared.ask(text, headers={"Authorization": f"Bearer {key}"}).headers["x-autoglm-decision"]

    own = ask("sk-lab", "mine")
    shared.concluded(own)
    assert shared.feedback(own, "sk-lab", thumb="up").status_code == 200
    last = [ask("sk-ward", f"noise {number}") for number in range(1005)][-1]
    shared.concluded(last)
    listed = shared.client.get("/api/decisions", headers={"Authorization": "Bearer sk-lab"}).json()["decisions"]
    (account,) = [account for account in listed if account["decision"]["id"] == own]
    assert [entry["quality"] for entry in account["feedback"]] == [1.0]
    assert {account["decision"]["tenant"] for account in listed} == {"lab"}


@pytest.mark.parametrize(
    ("judgement", "reason"),
    [
        ({}, "either thumb"),
        ({"thumb": "up", "quality": 1}, "either thumb"),
        ({"quality": 1.5}, "quality"),
        ({"thumb": "sideways"}, "thumb"),
    ],
)
def test_a_judgement_that_says_nothing_clear_is_refused(shared: Asker, judgement: dict[str, Any], reason: str) -> None:
    id = shared.ask().headers["x-autoglm-decision"]
    refused = shared.feedback(id, **judgement)
    assert refused.status_code == 400
    assert reason in refused.json()["detail"]


def test_an_answer_that_has_not_come_to_its_end_is_not_judged(tmp_path: Path) -> None:
    gate = Gate()
    held = gate.within(event("first"), event(None, "stop"))

    async def behave(request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await (held if request.json().get("stream") else echo)(request, reader, writer)

    with asking(tmp_path / "data", behaviour=behave) as asker:
        asker.wait_until_it_learns()
        body = {"model": "auto", "messages": [{"role": "user", "content": "at length"}], "stream": True}
        with asker.client.stream("POST", "/v1/chat/completions", json=body) as answer:
            id = answer.headers["x-autoglm-decision"]
            assert answer.headers["x-autoglm-model"] == "small"
            refused = asker.feedback(id, thumb="up")
            assert (refused.status_code, asker.account(id).json()["outcome"]) == (400, None)
            assert "has not ended yet" in refused.json()["detail"]
            gate.open()
            answer.read()
        asker.concluded(id)
        assert asker.feedback(id, thumb="up").status_code == 200


def test_one_decision_is_judged_ten_times_at_most(shared: Asker) -> None:
    id = shared.ask().headers["x-autoglm-decision"]
    shared.concluded(id)
    statuses = [shared.feedback(id, quality=index / 20).status_code for index in range(11)]
    assert statuses == [200] * 10 + [400]


def test_also_when_all_judge_at_once_ten_words_are_kept(shared: Asker) -> None:
    id = shared.ask().headers["x-autoglm-decision"]
    shared.concluded(id)
    with ThreadPoolExecutor(20) as pool:
        statuses = list(pool.map(lambda index: shared.feedback(id, quality=index / 40).status_code, range(40)))
    assert sorted(statuses) == [200] * 10 + [400] * 30
    assert len(shared.concluded(id)["feedback"]) == 10


@pytest.mark.parametrize(
    ("key", "header", "prefer", "source", "words"),
    [
        ("sk-lab", "best", "best", "header", "wanted: best ("), ("sk-lab", None, "fast", "key", "said its key"),
        ("sk-ward", None, "balanced", "settings", "by engine.prefer"),
        ("sk-kitchen", None, "cheap", "tenant", "by engine.prefer_by_tenant"),
        ("sk-kitchen", "best", "best", "header", "wanted: best ("),
    ],
)  # fmt: skip
def test_the_request_says_what_matters_else_its_key_else_its_tenant_else_the_settings(
    shared: Asker, key: str, header: str | None, prefer: str, source: str, words: str
) -> None:
    headers = {"Authorization": f"Bearer {key}"} | ({"x-autoglm-prefer": header} if header else {})
    account = shared.concluded(shared.ask("How far is it?", headers=headers).headers["x-autoglm-decision"])
    decision = account["decision"]
    assert (decision["prefer"], decision["preferred_by"]) == (prefer, source)
    assert words in explanation(account)


def test_a_task_is_done_as_its_key_prefers(shared: Asker) -> None:
    headers = {"Authorization": "Bearer sk-lab"}
    task = {"request": {"model": "auto", "messages": [{"role": "user", "content": "a task of the lab"}]}}

    def decisions() -> dict[str, Any]:
        found = shared.client.get("/api/decisions", headers=headers).json()["decisions"]
        return {entry["decision"]["id"]: entry["decision"] for entry in found}

    before = decisions()
    id = shared.client.post("/api/tasks", json=task, headers=headers).json()["id"]
    done = shared.client.get(f"/api/tasks/{id}", params={"wait": 20}, headers=headers).json()
    assert done["state"] == "done"
    [decision] = [entry for id, entry in decisions().items() if id not in before]
    assert (decision["prefer"], decision["preferred_by"]) == ("fast", "key")


def test_a_message_is_answered_as_the_key_prefers_that_posted_it(shared: Asker) -> None:
    """Not as that one does whose address it comes from."""
    message = {"from": "device:lab", "to": "model:auto", "content": "sent for the lab by another key"}
    before = {entry["decision"]["id"] for entry in shared.client.get("/api/decisions").json()["decisions"]}
    assert shared.client.post("/api/messages", json=message).status_code == 202
    assert shared.client.get("/api/messages?to=device:lab&wait=20").json()["messages"]

    def made() -> list[dict[str, Any]]:
        found = [entry["decision"] for entry in shared.client.get("/api/decisions").json()["decisions"]]
        return [decision for decision in found if decision["id"] not in before]

    wait_until(made)
    [decision] = made()
    assert (decision["tenant"], decision["prefer"], decision["preferred_by"]) == ("admin", "balanced", "settings")


async def short(request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """As llama.cpp's server with a context of 300 tokens."""
    if len(request.body) < 2000:
        await echo(request, reader, writer)
        return
    message = "request (2500 tokens) exceeds the available context size (300 tokens), try increasing it"
    error = {"code": 400, "message": message, "type": "exceed_context_size_error", "n_ctx": 300}
    body = json.dumps({"error": error}).encode()
    writer.write(b"HTTP/1.1 400 x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


def test_a_prompt_longer_than_the_context_that_a_model_has_told_is_not_offered_to_it(tmp_path: Path) -> None:
    with asking(tmp_path / "data", behaviour=short) as asker:
        asker.wait_until_it_learns()

        def ruled_out(text: str) -> str:
            decision = asker.concluded(asker.ask(text).headers["x-autoglm-decision"])["decision"]
            [small] = [entry for entry in decision["candidates"] if entry["arm"]["model"] == "small"]
            return str(small.get("ruled_out", ""))

        long = "word " * 2000
        assert ruled_out(long) == ""
        body = {"model": "small", "messages": [{"role": "user", "content": long}]}
        assert asker.client.post("/v1/chat/completions", json=body).status_code == 400
        assert ruled_out(long + "again") == "its context of 300 tokens, as it told, is too short"
        assert ruled_out("hi") == ""
        asker.client.post("/api/pool/a/resume").raise_for_status()
        assert ruled_out(long + "once more") == "", "the operator may have given it more"


async def liar(request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    answer = completion("hi")
    answer["usage"] = {"prompt_tokens": 999_999_999_999, "completion_tokens": 999_999_999_999}
    writer.write(response(200, answer))


def test_an_absurd_number_of_tokens_does_not_make_models_look_dear(tmp_path: Path) -> None:
    prices = '[[model]]\nname = "small"\nprice_in = 1\nprice_out = 2\n[[model]]\nname = "large"\nprice_out = 20\n'
    with asking(tmp_path / "data", prices, behaviour=liar) as asker:
        asker.wait_until_it_learns()
        first = asker.concluded(asker.ask().headers["x-autoglm-decision"])
        assert (first["outcome"]["instance"], first["outcome"]["cost"]) == ("a", pytest.approx(0.1, abs=0.1))
        decision = asker.concluded(asker.ask("another question").headers["x-autoglm-decision"])["decision"]
        assert max(entry["output_tokens"] for entry in decision["candidates"]) < 50_000


def test_an_unknown_preference_or_intent_is_refused_by_name(shared: Asker) -> None:
    body = {"model": "auto", "messages": []}
    for header, value in (("x-autoglm-prefer", "dear"), ("x-autoglm-intent", "Not One")):
        refused = shared.client.post("/v1/chat/completions", json=body, headers={header: value})
        assert refused.status_code == 400
        assert header in refused.json()["error"]["message"]


def test_a_hint_becomes_the_intent(shared: Asker) -> None:
    answer = shared.ask("x", headers={"x-autoglm-intent": "translate"})
    features = shared.concluded(answer.headers["x-autoglm-decision"])["decision"]["features"]
    assert features["intent"] == "translate"


def test_thumbs_move_the_choice_and_a_kill_loses_nothing_of_it(tmp_path: Path) -> None:
    with asking(tmp_path / "data") as asker:
        asker.wait_until_it_learns()
        asker.teach(good="large", rounds=60)
        learned = asker.qualities()
        assert learned["large"] > learned["small"] + 0.2
        models = [asker.ask(f"later {index}").headers["x-autoglm-model"] for index in range(30)]
        assert models.count("large") >= 25
        asker.process.kill()
        asker.process.start()
        asker.wait_until_it_learns()
        learned = asker.qualities()
        assert learned["large"] > learned["small"] + 0.2


def test_a_hub_that_shall_not_learn_keeps_to_the_order(tmp_path: Path) -> None:
    with asking(tmp_path / "data", "[engine]\nlearns = false\n") as asker:
        answers = [asker.ask(f"q {index}") for index in range(5)]
        assert all("x-autoglm-decision" not in answer.headers for answer in answers)
        assert {answer.headers["x-autoglm-model"] for answer in answers} == {"small"}


def test_a_message_that_a_chosen_model_answers_is_a_decision_too(shared: Asker) -> None:
    last = shared.ask("before").headers["x-autoglm-decision"]
    shared.concluded(last)
    sent = shared.client.post("/api/messages", json={"to": "model:auto", "content": "by mail"}).json()

    def newest() -> dict[str, Any]:
        account: dict[str, Any] = shared.client.get("/api/decisions?limit=1").json()["decisions"][0]
        return account

    wait_until(lambda: newest()["decision"]["id"] != last)
    answers = shared.client.get("/api/messages", params={"to": "user:admin", "wait": 10, "after": sent["seq"]}).json()
    assert answers["messages"][0]["reply_to"] == sent["id"]
    assert newest()["decision"]["tenant"] == "admin"
    assert newest()["outcome"]["status"] == 200
    assert newest()["outcome"]["signals"]["not_empty"] == 1.0


def test_a_replay_says_what_another_policy_would_have_brought(shared: Asker) -> None:
    shared.teach(good="large", rounds=20)
    replies = {
        policy: shared.client.post("/api/decisions/replay", json={"policy": policy}).json()
        for policy in ("always:large", "always:small")
    }
    values = {}
    for policy, reply in replies.items():
        assert [entry["measure"] for entry in reply["measures"]] == ["quality", "latency_s", "cost"]
        quality = reply["measures"][0]["estimate"]
        assert quality["low"] <= quality["value"] <= quality["high"]
        values[policy] = quality["value"]
    assert values["always:large"] > values["always:small"]


def test_a_replay_is_for_admins_and_knows_its_policies(shared: Asker) -> None:
    ward = {"Authorization": "Bearer sk-ward"}
    assert shared.client.post("/api/decisions/replay", json={"policy": "cheap"}, headers=ward).status_code == 403
    refused = shared.client.post("/api/decisions/replay", json={"policy": "dearest"})
    assert refused.status_code == 400
    assert "always:MODEL" in refused.json()["detail"]


def test_an_answer_that_cannot_be_passed_on_concludes_its_decision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the learner would never hear of it, and the ledger would keep it as one that runs."""
    with ScriptedModel(models=("small",)) as model:
        entry = {"name": "a", "provider": "openai", "base_url": model.url, "models": ["small"]}
        chosen = settings().model_copy(update={"instance": (InstanceSettings.model_validate(entry),)})
        with hub_inside(tmp_path / "data", chosen) as inside:
            question = {"model": "auto", "messages": [{"role": "user", "content": "hi"}]}

            def ask() -> Reply:
                body = json.dumps(question).encode()
                return call(inside.port, inside.key, "POST", "/v1/chat/completions", body)

            def statuses() -> list[int]:
                listed = call(inside.port, inside.key, "GET", "/api/decisions").json()["decisions"]
                return [account["outcome"]["status"] for account in listed]

            wait_until(lambda: "x-autoglm-decision" in ask().headers)
            monkeypatch.setattr(Metrics, "observe_decision", broken)
            assert ask().status == 500
            wait_until(lambda: statuses()[:1] == [503])


async def _refuses_thinking(request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    if "thinking" in request.json():
        writer.write(response(400, {"error": {"message": "Unrecognized request argument supplied: thinking"}}))
    else:
        await echo(request, reader, writer)


def test_parameters_are_written_as_each_instance_has_them(tmp_path: Path) -> None:
    """The same model at two providers, of which one has a switch for thinking and the other refuses it."""
    with ScriptedModel(models=("m",)) as glm, ScriptedModel(_refuses_thinking, models=("m",)) as plain:
        config = (
            KEYS
            + '[[model]]\nname = "m"\nprofiles = ["direct"]\n'
            + instance_config("glm", glm.url, models=("m",), provider="glm", api_key="k.s")
            + instance_config("plain", plain.url, models=("m",))
        )
        with running_hub(tmp_path / "data", config) as process:
            asker = Asker(process)
            asker.wait_until_it_learns()
            for one, other in (("glm", "plain"), ("plain", "glm")):
                asker.client.post(f"/api/pool/{one}/resume")
                asker.client.post(f"/api/pool/{other}/drain")
                answer = asker.ask("a question", max_tokens=3)
                assert answer.headers["x-autoglm-instance"] == one
                assert "x-autoglm-decision" in answer.headers
            asker.client.close()
    last_of_glm, last_of_plain = (model.requests[-1].json() for model in (glm, plain))
    assert last_of_glm["thinking"] == {"type": "disabled"}
    assert "thinking" not in last_of_plain
    assert (last_of_glm["model"], last_of_plain["model"]) == ("m", "m")
