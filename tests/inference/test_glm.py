"""A GLM account in every mood its vendor's documentation knows, behind a real hub: one story for each."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import httpx2
import pytest

from eventually import wait_until
from fakes.glm import KEY, GlmService, refusal
from hub import HubProcess, instance_config, running_hub
from scripted_model import ScriptedModel

BEIJING = timezone(timedelta(hours=8))


class Pool:
    """A hub with one GLM account and one other instance."""

    def __init__(self, hub: HubProcess, glm: GlmService) -> None:
        self.glm = glm
        self.client: httpx2.Client = hub.client()

    def ask(self, model: str = "glm-4.6", **fields: Any) -> httpx2.Response:
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}], **fields}
        return self.client.post("/v1/chat/completions", json=body, headers=fields.pop("headers", {}))

    def instance(self) -> dict[str, Any]:
        found = self.client.get("/api/pool").json()["instances"]
        return next(entry for entry in found if entry["name"] == "glm-a")

    def resume(self) -> None:
        assert self.client.post("/api/pool/glm-a/resume").status_code == 200

    def text(self, reply: httpx2.Response) -> str:
        assert reply.status_code == 200, reply.text
        return str(reply.json()["choices"][0]["message"]["content"])


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    with GlmService() as glm, ScriptedModel(models=("spare",)) as spare:
        config = instance_config("glm-a", glm.url, ("glm-4.6", "glm-4.5-air"), provider="glm", api_key=KEY, slots=8)
        config += instance_config("b", spare.url, ("spare",))
        with running_hub(tmp_path_factory.mktemp("glm") / "data", config) as hub:
            pool = Pool(hub, glm)
            wait_until(lambda: pool.instance()["state"] == "ready")
            yield pool
            pool.client.close()


@pytest.fixture
def pool(running: Pool) -> Pool:
    running.glm.reset()
    running.resume()
    return running


def test_an_answer_comes_with_the_accounts_key_and_every_field(pool: Pool) -> None:
    reply = pool.ask(thinking={"type": "enabled"}, do_sample=True, request_id="r-1")
    assert pool.text(reply) == "You said: hi"
    assert reply.headers["x-autoglm-instance"] == "glm-a"
    sent = pool.glm.requests[-1]
    assert sent.headers["authorization"] == f"Bearer {KEY}"
    assert sent.json()["thinking"] == {"type": "enabled"}
    assert sent.json()["do_sample"] is True


def test_a_stream_carries_the_reasoning_beside_the_content(pool: Pool) -> None:
    text = pool.ask(stream=True, thinking={"type": "enabled"}).text
    assert '"reasoning_content": "让我"' in text
    assert text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (1000, "身份验证失败"),
        (1003, "Token已过期"),
        (1112, "账户已被锁定"),
        (1113, "您的账户已欠费，请充值后重试"),
        (1309, "套餐已到期"),
    ],
)
def test_a_refused_account_is_taken_out_with_the_vendors_words_until_the_operator_resumes_it(
    pool: Pool, code: int, words: str
) -> None:
    pool.glm.refuse(code, words)
    first, second = pool.ask(), pool.ask()
    assert (first.status_code, second.status_code) == (502, 503)
    assert words in first.json()["error"]["message"]
    assert words in second.json()["error"]["message"]
    assert len(pool.glm.requests) == 1, "never tried again"
    assert pool.instance()["state"] == "blocked"
    assert f"code {code}: {words}" in pool.instance()["error"]
    pool.resume()
    assert pool.text(pool.ask()) == "You said: hi"


def test_auto_goes_elsewhere_while_the_account_is_refused(pool: Pool) -> None:
    pool.glm.refuse(1113, "您的账户已欠费，请充值后重试")
    assert [pool.ask("auto").headers["x-autoglm-instance"] for _ in range(2)] == ["b", "b"]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"messages": []}, "1213"),
        ({"temperature": 7}, "1214"),
        ({"messages": [{"role": "nobody", "content": ""}]}, "1214"),
        ({"messages": [{"role": "user", "content": "x" * 100_001}]}, "1261"),
    ],
)
def test_a_wrong_field_is_the_clients_to_mend(pool: Pool, fields: dict[str, Any], code: str) -> None:
    reply = pool.ask(**fields)
    assert reply.status_code == 400
    assert reply.json()["error"]["code"] == code
    assert (len(pool.glm.requests), pool.instance()["state"]) == (1, "ready")


def test_the_content_filter_answers_the_client_and_nobody_else_is_asked(pool: Pool) -> None:
    pool.glm.refuse(1301, "系统检测到输入或生成内容可能包含不安全或敏感内容")
    reply = pool.ask("auto")
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "1301")
    assert reply.headers["x-autoglm-instance"] == "glm-a"
    assert pool.text(pool.ask()) == "You said: hi"


@pytest.mark.parametrize("code", [1211, 1220, 1221, 1222, 1311])
def test_a_model_that_the_plan_lacks_goes_and_the_others_stay(pool: Pool, code: int) -> None:
    pool.glm.refused_models["glm-4.6"] = refusal(code, "当前订阅套餐暂未开放GLM-4.6权限")
    assert pool.ask().status_code == 502
    assert pool.ask().status_code == 503
    assert len(pool.glm.requests) == 1
    assert pool.text(pool.ask("glm-4.5-air")) == "You said: hi"
    listed = [entry["id"] for entry in pool.client.get("/v1/models").json()["data"]]
    assert listed == ["auto", "glm-4.5-air", "spare"]


@pytest.mark.parametrize("code", [1302, 1303])
def test_a_throttled_request_waits_and_is_answered(pool: Pool, code: int) -> None:
    pool.glm.refuse(code, "您当前使用该API的并发数过高")
    assert pool.text(pool.ask()) == "You said: hi"
    assert len(pool.glm.requests) == 2
    assert pool.instance()["limit"] < 8


def test_the_slots_are_learned_from_what_the_account_bears(pool: Pool) -> None:
    pool.glm.concurrency, pool.glm.answer_s = 2, 0.02
    with ThreadPoolExecutor(8) as clients:
        replies = list(clients.map(lambda _: pool.ask(), range(24)))
    assert [pool.text(reply) for reply in replies] == ["You said: hi"] * 24
    assert pool.glm.answered == 24
    assert pool.instance()["limit"] < 8


@pytest.mark.parametrize("code", [1304, 1308, 1310])
def test_a_used_up_quota_rests_until_the_moment_that_the_vendor_names(pool: Pool, code: int) -> None:
    reset = datetime.now(UTC).astimezone(BEIJING) + timedelta(hours=2)
    pool.glm.refuse(code, f"已达到使用上限。您的限额将在 {reset:%Y-%m-%d %H:%M:%S} 重置。")
    first, second = pool.ask(), pool.ask()
    for reply in (first, second):
        assert reply.status_code == 503
        assert "已达到使用上限" in reply.json()["error"]["message"]
        assert 7100 < int(reply.headers["retry-after"]) <= 7200
    assert len(pool.glm.requests) == 1
    assert pool.instance()["state"] == "cooling"
    assert pool.ask("auto").headers["x-autoglm-instance"] == "b"


def test_a_quota_that_is_renewed_soon_is_waited_for(pool: Pool) -> None:
    reset = datetime.now(UTC).astimezone(BEIJING) + timedelta(seconds=1)
    pool.glm.refuse(1308, f"将在 {reset:%Y-%m-%d %H:%M:%S} 重置")
    assert pool.text(pool.ask()) == "You said: hi"


@pytest.mark.parametrize("code", [1305, 1312])
def test_an_overloaded_platform_yields_to_another_provider(pool: Pool, code: int) -> None:
    pool.glm.refuse(code, "该模型当前访问量过大，请您稍后再试")
    started_s = time.monotonic()
    assert pool.ask("auto").headers["x-autoglm-instance"] == "b"
    assert time.monotonic() - started_s < 1.0
    assert pool.instance()["state"] == "cooling"


def test_an_overloaded_platform_is_waited_for_when_it_alone_has_the_model(pool: Pool) -> None:
    pool.glm.refuse(1305, "当前API请求过多，请稍后重试")
    assert pool.text(pool.ask()) == "You said: hi"
    assert len(pool.glm.requests) == 2


@pytest.mark.parametrize("code", [1234, 500])
def test_an_error_of_the_service_is_tried_elsewhere(pool: Pool, code: int) -> None:
    pool.glm.refuse(code, "网络错误，请稍后重试")
    assert pool.ask("auto").headers["x-autoglm-instance"] == "b"
    pool.glm.refuse(code, "网络错误，请稍后重试")
    reply = pool.ask()
    assert (reply.status_code, reply.json()["error"]["code"]) == (502, "upstream_failed")
    assert "网络错误" in reply.json()["error"]["message"]


def test_a_lost_network_in_a_whole_answer_is_a_failure(pool: Pool) -> None:
    pool.glm.finish_reason = "network_error"
    assert pool.ask().status_code == 502
    assert pool.ask("auto").headers["x-autoglm-instance"] == "b"


def test_a_lost_network_at_the_end_of_a_stream_ends_in_an_error_event(pool: Pool) -> None:
    pool.glm.finish_reason = "network_error"
    events = pool.ask(stream=True).text.strip().split("\n\n")
    assert json.loads(events[-1].removeprefix("data: "))["error"]["code"] == "upstream_failed"
    assert "network_error" in pool.instance()["error"]


def test_a_filtered_end_is_an_end(pool: Pool) -> None:
    pool.glm.finish_reason = "sensitive"
    assert pool.ask(stream=True).text.endswith("data: [DONE]\n\n")
    assert pool.instance()["error"] == ""


def test_embeddings_pass_and_what_glm_lacks_is_said_clearly(pool: Pool) -> None:
    reply = pool.client.post("/v1/embeddings", json={"model": "glm-4.6", "input": ["a", "b"]})
    assert len(reply.json()["data"]) == 2
    for path in ("/v1/responses", "/v1/completions"):
        lacking = pool.client.post(path, json={"model": "glm-4.6", "input": "a", "prompt": "a"})
        assert (lacking.status_code, lacking.json()["error"]["code"]) == (400, "not_offered")
        assert path in lacking.json()["error"]["message"]
