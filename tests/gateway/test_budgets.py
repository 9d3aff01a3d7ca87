"""Budgets as clients meet them: what is counted, what is refused, and with which words."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio.to_thread
import openai
import pytest

from autoglm.inference.budget.ledger import BudgetLedger
from autoglm.inference.budget.settings import BudgetSettings
from autoglm.inference.call import Call
from autoglm.inference.settings import InstanceSettings
from eventually import wait_until
from gateway.budget_hub import BudgetHub, budget_hub
from gateway.inside import hub_inside, settings
from gateway.wire import call
from hub import instance_config
from scripted_model import Gate, ScriptedModel, answering, completion, echo, event, in_turn, streaming

SETTINGS = """
[[model]]
name = "echo-model"
price_in = 1000.0
price_out = 2000.0

[[budget]]
name = "wards"
tenant = "*"
tokens = 1000
timezone = "Asia/Shanghai"

[[budget]]
name = "gate"
key = "gate"
requests = 3
money = 1.0

[[budget]]
name = "all"
per = "month"
tokens = 1000000
"""
USAGE = {"prompt_tokens": 30, "completion_tokens": 20, "total_tokens": 50}
USAGE_EVENT = b'data: {"id":"1","object":"chat.completion.chunk","choices":[],"usage":{"prompt_tokens":30,"completion_tokens":20,"total_tokens":50}}\n\n'  # noqa: E501
DONE = b"data: [DONE]\n\n"
REFUSALS = 'autoglm_budget_refusals_total{budget="wards"}'


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BudgetHub]:
    with budget_hub(tmp_path_factory.mktemp("budgets"), SETTINGS) as running:
        yield running


@pytest.fixture
def hub(shared: BudgetHub) -> BudgetHub:
    """Nothing is used of any budget."""
    shared.model.behaviour = echo
    shared.forget_use()
    return shared


def with_usage(**usage: int) -> dict[str, Any]:
    return {**completion("hello"), "usage": usage}


def test_answers_are_counted_as_the_instance_tells(hub: BudgetHub) -> None:
    hub.model.behaviour = answering(200, {**completion("hello"), "usage": USAGE})
    assert hub.ask(key="sk-ward").status_code == 200
    assert hub.ask(key="sk-ward-b").status_code == 200
    assert hub.ask(key="sk-gate", headers={"x-autoglm-tenant": "site-9"}).status_code == 200
    assert hub.used("wards", "ward-3") == 100
    assert hub.used("wards", "site-9") == 50
    assert hub.used("all") == 150
    assert hub.used("gate", "gate", "requests") == 1
    assert hub.used("gate", "gate", "money") == pytest.approx(30 * 0.001 + 20 * 0.002)
    assert hub.metric('autoglm_budget_used{budget="wards",subject="ward-3",unit="tokens"}') == 100
    assert hub.budgets()["wards", "ward-3"]["estimated_tokens"] == 0


def test_over_budget_is_429_in_plain_words_until_the_day_ends(hub: BudgetHub) -> None:
    hub.model.behaviour = answering(200, with_usage(prompt_tokens=900, completion_tokens=100))
    assert hub.ask(key="sk-ward").status_code == 200
    refused = hub.metric(REFUSALS)
    asked = len(hub.model.requests)
    reply = hub.ask(key="sk-ward-b")
    assert reply.status_code == 429
    error = reply.json()["error"]
    assert (error["code"], error["type"]) == ("budget_exceeded", "insufficient_quota")
    assert error["message"].startswith(
        "the budget 'wards' of tenant 'ward-3' has no room: of 1000 tokens a day 0 are left; try again in "
    )
    shanghai = datetime.now(UTC) + timedelta(hours=8)
    left_s = 86_400 - (shanghai.hour * 3600 + shanghai.minute * 60 + shanghai.second)
    assert abs(int(reply.headers["retry-after"]) - left_s) <= 5 or left_s < 10
    assert len(hub.model.requests) == asked
    assert hub.metric(REFUSALS) == refused + 1
    assert hub.ask(key="sk-gate").status_code == 200  # another tenant


@pytest.mark.parametrize("model", ["echo-model", "auto"])
@pytest.mark.parametrize("field", ["max_tokens", "n"])
def test_a_bound_of_thousands_of_digits_is_refused_by_its_name(hub: BudgetHub, model: str, field: str) -> None:
    body = b'{"model":"%b","messages":[],"%b":%b}' % (model.encode(), field.encode(), b"9" * 4_000)
    reply = hub.client.post("/v1/chat/completions", content=body, headers={"Authorization": "Bearer sk-gate"})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, field)
    assert hub.held("gate", "gate", "requests") == 0


@pytest.mark.parametrize("model", ["echo-model", "auto"])
def test_a_field_whose_name_is_no_text_is_no_valid_json(hub: BudgetHub, model: str) -> None:
    body = b'{"model":"%b","stream":true,"messages":[],"\xff":1}' % model.encode()
    reply = hub.client.post("/v1/chat/completions", content=body, headers={"Authorization": "Bearer sk-gate"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "invalid_json")
    assert hub.held("gate", "gate", "requests") == 0


def test_openais_client_does_not_try_again(hub: BudgetHub) -> None:
    hub.model.behaviour = answering(200, with_usage(prompt_tokens=900, completion_tokens=100))
    refused = hub.metric(REFUSALS)
    client = openai.OpenAI(base_url=f"{hub.process.url}/v1", api_key="sk-ward")
    with client:
        client.chat.completions.create(model="echo-model", messages=[{"role": "user", "content": "hi"}])
        with pytest.raises(openai.RateLimitError, match="has no room") as caught:
            client.chat.completions.create(model="echo-model", messages=[{"role": "user", "content": "hi"}])
    assert caught.value.code == "budget_exceeded"
    assert hub.metric(REFUSALS) == refused + 1


def test_requests_that_run_hold_what_they_may_take(hub: BudgetHub) -> None:
    """Forty at once with room for a few: no more are sent than fit, and the limit is not passed."""
    gate = Gate()
    hub.model.behaviour = gate.before(answering(200, with_usage(prompt_tokens=20, completion_tokens=200)))
    with ThreadPoolExecutor(40) as threads:
        replies = [threads.submit(hub.ask, key="sk-ward", max_tokens=200) for _ in range(40)]
        wait_until(lambda: sum(reply.done() for reply in replies) >= 36)
        assert hub.held("wards", "ward-3") <= 1000
        gate.open()
        statuses = [reply.result().status_code for reply in replies]
    assert statuses.count(200) in (3, 4)
    assert statuses.count(429) == 40 - statuses.count(200)
    assert hub.used("wards", "ward-3") == 220 * statuses.count(200) <= 1000
    assert hub.held("wards", "ward-3") == 0


def test_limits_are_told_as_openai_tells_them(hub: BudgetHub) -> None:
    hub.model.behaviour = answering(200, {**completion("hello"), "usage": USAGE})
    headers = hub.ask(key="sk-gate").headers
    assert headers["x-ratelimit-limit-tokens"] == "1000"
    assert headers["x-ratelimit-remaining-tokens"] == "950"
    assert headers["x-ratelimit-reset-tokens"].endswith("s")
    assert headers["x-ratelimit-limit-requests"] == "3"
    assert headers["x-ratelimit-remaining-requests"] == "2"


def test_a_stream_is_asked_for_its_usage_and_the_client_sees_no_more_than_it_asked_for(hub: BudgetHub) -> None:
    hub.model.behaviour = streaming(event("one"), event(" two"), event(None, "stop"), USAGE_EVENT, DONE)
    reply = hub.ask(key="sk-ward", stream=True)
    assert hub.model.requests[-1].json()["stream_options"] == {"include_usage": True}
    assert reply.content == event("one") + event(" two") + event(None, "stop") + DONE
    assert hub.used("wards", "ward-3") == 50
    reply = hub.ask(key="sk-ward", stream=True, stream_options={"include_usage": True})
    assert USAGE_EVENT in reply.content
    assert hub.used("wards", "ward-3") == 100


@pytest.mark.parametrize("options", [None, {"include_usage": False}, {"include_usage": None}, {}])
def test_the_client_does_not_decide_that_its_usage_is_guessed(hub: BudgetHub, options: dict[str, Any] | None) -> None:
    hub.model.behaviour = streaming(event("one"), event(None, "stop"), USAGE_EVENT, DONE)
    reply = hub.ask(key="sk-ward", stream=True, stream_options=options)
    assert hub.model.requests[-1].json()["stream_options"] == {"include_usage": True}
    assert reply.content == event("one") + event(None, "stop") + DONE
    assert hub.used("wards", "ward-3") == 50
    assert hub.budgets()["wards", "ward-3"]["estimated_tokens"] == 0


def test_a_stream_that_comes_at_once_hides_its_usage_as_well(hub: BudgetHub) -> None:
    body = event("one") + event(None, "stop") + USAGE_EVENT + DONE
    hub.model.behaviour = answering(200, body, {"Content-Type": "text/event-stream"})
    assert hub.ask(key="sk-ward", stream=True).content == event("one") + event(None, "stop") + DONE
    assert hub.used("wards", "ward-3") == 50


def test_what_tells_no_usage_is_guessed_and_marked(hub: BudgetHub) -> None:
    guessed = hub.metric("autoglm_usage_estimates_total")
    hub.model.behaviour = streaming(*(event("word") for _ in range(30)), event(None, "stop"), DONE)
    assert hub.ask(key="sk-ward", stream=True).status_code == 200
    silent = {name: value for name, value in completion("hello").items() if name != "usage"}
    hub.model.behaviour = answering(200, silent)
    assert hub.ask(key="sk-ward").status_code == 200
    state = hub.budgets()["wards", "ward-3"]
    assert 60 < state["tokens"]["used"] == state["estimated_tokens"] < 300
    assert hub.metric("autoglm_usage_estimates_total") == guessed + 2


def test_an_error_takes_a_request_and_no_tokens_and_a_failure_takes_nothing(hub: BudgetHub) -> None:
    hub.model.behaviour = answering(400, {"error": {"message": "no such field"}})
    assert hub.ask(key="sk-gate").status_code == 400
    assert (hub.used("wards", "gate"), hub.used("gate", "gate", "requests")) == (0, 1)
    hub.model.behaviour = answering(500, {"error": {"message": "broken"}})
    assert hub.ask(key="sk-gate").status_code == 502
    assert hub.used("gate", "gate", "requests") == 1
    assert hub.held("gate", "gate", "requests") == 0


def test_a_client_does_not_pay_for_answers_that_the_hub_held_back(tmp_path: Path) -> None:
    """The flawed one tells a usage, too; the hub asks another instance."""
    with ScriptedModel() as other, budget_hub(tmp_path, SETTINGS + instance_config("b", other.url)) as hub:
        hub.model.behaviour = other.behaviour = in_turn(
            answering(200, {"id": "no choices", "usage": USAGE}), answering(200, with_usage(**USAGE))
        )
        assert hub.ask(key="sk-gate").status_code == 200
        assert len(hub.model.requests) + len(other.requests) == 2
        assert (hub.used("wards", "gate"), hub.used("gate", "gate", "requests")) == (50, 1)
        assert hub.used("gate", "gate", "money") == pytest.approx(0.07)


def test_a_stream_that_breaks_off_counts_what_was_sent_on(hub: BudgetHub) -> None:
    hub.model.behaviour = streaming(*(event("word") for _ in range(30)), closes=True)
    assert b'"error"' in hub.ask(key="sk-ward", stream=True).content
    state = hub.budgets()["wards", "ward-3"]
    assert 30 < state["tokens"]["used"] == state["estimated_tokens"] < 120
    assert state["tokens"]["held"] == 0


def test_a_client_that_leaves_before_the_answer_frees_what_was_held(hub: BudgetHub) -> None:
    gate = Gate()
    hub.model.behaviour = gate.before(echo)
    with pytest.raises(Exception, match="timed out"):  # noqa: PT012  # the client's own
        client = hub.process.client()
        client.timeout = 0.3
        body = {"model": "echo-model", "messages": [{"role": "user", "content": "hi"}]}
        client.post("/v1/chat/completions", json=body, headers={"Authorization": "Bearer sk-ward"})
    client.close()
    wait_until(lambda: gate.left_s)
    wait_until(lambda: hub.held("wards", "ward-3", "requests") == 0)
    assert hub.used("wards", "ward-3") == 0


@pytest.mark.parametrize("is_first", [True, False])
def test_a_long_answer_is_counted_by_its_usage_wherever_that_is(hub: BudgetHub, *, is_first: bool) -> None:
    rest = {name: value for name, value in completion("word " * 500_000).items() if name != "usage"}
    long = {"usage": USAGE, **rest} if is_first else {**rest, "usage": USAGE}
    hub.model.behaviour = answering(200, long)
    assert hub.ask(key="sk-ward").json()["choices"] == long["choices"]
    assert hub.used("wards", "ward-3") == 50


def test_embeddings_count_their_prompt(hub: BudgetHub) -> None:
    answer = {"object": "list", "data": [], "usage": {"prompt_tokens": 9, "total_tokens": 9}}
    hub.model.behaviour = answering(200, answer)
    headers = {"Authorization": "Bearer sk-ward"}
    body = {"model": "echo-model", "input": "hello"}
    assert hub.client.post("/v1/embeddings", json=body, headers=headers).status_code == 200
    assert hub.used("wards", "ward-3") == 9


# --- whose it is ---


def test_a_tenant_is_named_only_by_a_key_that_may(hub: BudgetHub) -> None:
    hub.model.behaviour = answering(200, {**completion("hello"), "usage": USAGE})
    reply = hub.ask(key="sk-ward", headers={"x-autoglm-tenant": "site-9"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (403, "forbidden")
    assert "tenant:site-9" in reply.json()["error"]["message"]
    assert hub.ask(key="sk-ward", headers={"x-autoglm-tenant": "ward-3"}).status_code == 200
    assert hub.ask(key="sk-gate", headers={"x-autoglm-tenant": "hall-1"}).status_code == 403
    assert hub.ask(key="sk-gate", headers={"x-autoglm-tenant": "site 1"}).status_code == 400
    assert hub.ask(headers={"x-autoglm-tenant": "hall-1"}).status_code == 200  # the admin may


def test_a_key_sees_its_own_budgets_and_the_admin_all(hub: BudgetHub) -> None:
    hub.model.behaviour = answering(200, {**completion("hello"), "usage": USAGE})
    hub.ask(key="sk-ward")
    hub.ask(key="sk-gate")
    assert hub.budgets("sk-ward").keys() == {("wards", "ward-3"), ("all", "")}
    everything = {("wards", "ward-3"), ("wards", "gate"), ("gate", "gate"), ("all", "")}
    assert hub.budgets().keys() >= everything
    state = hub.budgets("sk-gate")["gate", "gate"]
    assert (state["requests"]["limit"], state["tokens"]["limit"], state["currency"]) == (3, None, "CNY")
    assert state["started_at"] <= time.time() * 1000 < state["resets_at"]


def test_the_admin_lets_a_budget_begin_anew(hub: BudgetHub) -> None:
    hub.model.behaviour = answering(200, with_usage(prompt_tokens=900, completion_tokens=100))
    assert [hub.ask(key="sk-ward").status_code for _ in range(2)] == [200, 429]
    key = {"Authorization": "Bearer sk-ward"}
    assert hub.client.post("/api/budgets/wards/reset", headers=key).status_code == 403
    assert hub.client.post("/api/budgets/none/reset").status_code == 404
    assert hub.client.post("/api/budgets/wards/reset?subject=ward-4").status_code == 404
    assert hub.client.post("/api/budgets/wards/reset?subject=ward-3").status_code == 200
    assert hub.used("wards", "ward-3") == 0
    assert hub.ask(key="sk-ward").status_code == 200


# --- messages ---


def test_messages_go_on_the_account_of_whoever_may_send_them(tmp_path: Path) -> None:
    settings = SETTINGS + """
[[key]]
name = "press"
value = "sk-press"
tenant = "ward-3"
scopes = ["model:use:*", "send:message:user:*", "read:message:user:*"]
"""  # fmt: skip
    with budget_hub(tmp_path, settings) as hub:
        hub.model.behaviour = streaming(event("hello"), event(None, "stop"), USAGE_EVENT, DONE)
        headers = {"Authorization": "Bearer sk-press"}
        body = {"from": "user:bob", "to": "model:echo-model", "content": "hi"}
        assert hub.client.post("/api/messages", json=body, headers=headers).status_code == 202
        found = hub.client.get("/api/messages?to=user:bob&wait=20", headers=headers).json()["messages"]
        assert [message["content"] for message in found] == ["hello"]
        assert hub.used("wards", "ward-3") == 50
        hub.model.behaviour = answering(200, {**completion("hello"), "usage": USAGE})
        task = {"request": {"model": "echo-model", "messages": [{"role": "user", "content": "hi"}]}}
        id = hub.client.post("/api/tasks", json=task).json()["id"]
        assert hub.client.get(f"/api/tasks/{id}?wait=20").json()["state"] == "done"
        assert hub.used("wards", "admin") == 50


def test_a_message_over_budget_waits_and_is_not_lost(tmp_path: Path) -> None:
    with budget_hub(tmp_path, '[[budget]]\nname = "few"\nrequests = 1\n') as hub:
        assert hub.ask().status_code == 200
        body = {"from": "user:admin", "to": "model:echo-model", "content": "hi"}
        assert hub.client.post("/api/messages", json=body).status_code == 202
        wait_until(lambda: "message_parked" in hub.process.log())
        assert hub.client.post("/api/budgets/few/reset").status_code == 200
        found = hub.client.get("/api/messages?to=user:admin&wait=30").json()["messages"]
        assert [message["content"] for message in found] == ["You said: hi"]


def test_a_task_over_budget_says_which_one_it_waits_for_and_until_when(tmp_path: Path) -> None:
    settings = '[[budget]]\nname = "house"\ntokens = 1000000\n[[budget]]\nname = "few"\nper = "month"\nrequests = 1\n'
    with budget_hub(tmp_path, settings) as hub:
        assert hub.ask().status_code == 200
        request = {"model": "echo-model", "messages": [{"role": "user", "content": "hi"}]}
        id = hub.client.post("/api/tasks", json={"request": request}).json()["id"]

        def task() -> dict[str, Any]:
            found: dict[str, Any] = hub.client.get(f"/api/tasks/{id}").json()
            return found

        wait_until(lambda: task()["progress"]["phase"] == "over_budget")
        found = task()
        assert found["state"] == "queued"
        left_s = found["progress"].pop("starts_in_s")
        resets_at = hub.budgets()["few", ""]["resets_at"]
        assert found["progress"] == {
            "phase": "over_budget", "attempts": found["progress"]["attempts"], "budget": "few", "limit": "requests",
            "resets_at": resets_at,
        }  # fmt: skip
        assert left_s == pytest.approx(resets_at / 1000 - time.time(), abs=5)
        assert hub.client.get("/api/tasks").json()["tasks"][0]["progress"]["budget"] == "few"
        wait_until(lambda: task()["progress"]["attempts"] > 1)
        assert task()["progress"]["phase"] == "over_budget", "also after it was tried in vain"
        assert hub.client.post("/api/budgets/few/reset").status_code == 200
        done = hub.client.get(f"/api/tasks/{id}?wait=30").json()
        assert (done["state"], "progress" in done) == ("done", False)


THOUGHT = event(None, reasoning_content="hmm")


@pytest.mark.parametrize(
    ("stream", "is_told"),
    [
        ([THOUGHT, event(None, "length"), USAGE_EVENT, DONE], True),
        ([*[event("hello " * 200_000)] * 16, USAGE_EVENT], False),
    ],
    ids=["thoughts only", "too long"],
)
def test_an_answer_that_will_not_do_is_counted_all_the_same(
    tmp_path: Path,
    stream: list[bytes],
    is_told: bool,
) -> None:
    with budget_hub(tmp_path, '[[budget]]\nname = "all"\ntokens = 1000000\n') as hub:
        hub.model.behaviour = streaming(*stream)
        body = {"from": "user:admin", "to": "model:echo-model", "content": "hi"}
        assert hub.client.post("/api/messages", json=body).status_code == 202
        wait_until(lambda: hub.used("all") > 0)
        budget = hub.budgets()["all", ""]
        if is_told:
            assert budget["tokens"]["used"] == 50 * budget["requests"]["used"]
        else:
            assert budget["estimated_tokens"] == budget["tokens"]["used"] > 2


def test_a_message_that_no_period_could_pay_fails_at_once_and_says_why(tmp_path: Path) -> None:
    with budget_hub(tmp_path, '[[budget]]\nname = "few"\ntokens = 5\n') as hub:
        body = {"from": "user:admin", "to": "model:echo-model", "content": "hi " * 50}
        id = hub.client.post("/api/messages", json=body).json()["id"]

        def steps() -> list[dict[str, str]]:
            found: list[dict[str, str]] = hub.client.get(f"/api/messages/{id}/receipts").json()["receipts"]
            return found

        wait_until(lambda: len(steps()) > 1)
        assert steps()[-1]["state"] == "failed"
        assert "can never take it: of 5 tokens a day 5 are left, and this request may take" in steps()[-1]["detail"]


# --- settings ---


def test_a_hub_without_budgets_has_none(tmp_path: Path) -> None:
    with budget_hub(tmp_path, "") as hub:
        reply = hub.ask()
        assert reply.status_code == 200
        assert "x-ratelimit-limit-tokens" not in reply.headers
        assert hub.budgets() == {}
        hub.model.behaviour = streaming(event("one"), event(None, "stop"), DONE)
        hub.ask(stream=True)
        assert "stream_options" not in hub.model.requests[-1].json()


def test_the_operator_sees_the_budgets_also_when_there_are_too_many_accounts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autoglm.inference.budget.budgets.MAX_ACCOUNTS", 2)
    budget = BudgetSettings(name="b", tenant="*", tokens=1000)
    with hub_inside(tmp_path / "data", settings().model_copy(update={"budget": (budget,)})) as hub:

        async def fill() -> None:
            assert hub.hub._budgets is not None
            for tenant in ("site-1", "site-2"):
                charge = hub.hub._budgets.charge("gate", tenant, Call("/completions", b'{"model":"m"}'))
                assert charge is not None
                charge.use("m", 1, 1)

        hub.ask(fill())
        reply = call(hub.port, hub.key, "GET", "/api/budgets")
        assert reply.status == 200, reply.body
        assert [entry["tenant"] for entry in reply.json()["budgets"]] == ["site-1", "site-2"]


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_slow_disk_keeps_no_slot_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_stream: bool) -> None:
    """The answer waits until it is counted, the instance does not."""
    is_on_disk = threading.Event()

    async def written(_: BudgetLedger) -> None:
        await anyio.to_thread.run_sync(is_on_disk.wait)

    monkeypatch.setattr(BudgetLedger, "written", written)
    budget = BudgetSettings(name="b", key="*", tokens=100_000)
    body = {"model": "echo-model", "messages": [{"role": "user", "content": "hi"}], "stream": is_stream}
    with ScriptedModel() as model, ThreadPoolExecutor(2) as clients:
        entry = InstanceSettings.model_validate(
            {"name": "a", "provider": "openai", "base_url": model.url, "models": ["echo-model"], "slots": 1}
        )
        chosen = settings().model_copy(update={"budget": (budget,), "instance": (entry,)})
        with hub_inside(tmp_path / "data", chosen) as hub:
            replies = [clients.submit(call, hub.port, hub.key, "POST", "/v1/chat/completions", body) for _ in range(2)]
            try:
                wait_until(lambda: len(model.requests) == 2)
                assert not any(reply.done() for reply in replies)
            finally:
                is_on_disk.set()
            assert [reply.result().status for reply in replies] == [200, 200]
