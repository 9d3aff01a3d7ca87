"""What error replies mean: one row for each row of the vendors' tables."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoglm.inference.verdict import judge

NOON_IN_BEIJING_S = 1_767_240_000.0  # 2026-01-01 12:00:00 +08:00


def glm(code: int | str, message: str = "", *, status: int = 429, **headers: str) -> Any:
    body = json.dumps({"error": {"code": str(code), "message": message}}).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return judge("glm", status, named, body, now_s=NOON_IN_BEIJING_S)


def openai(status: int, code: str | None = None, message: str = "", *, api: str = "", **headers: str) -> Any:
    body = json.dumps({"error": {"code": code, "message": message}}).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return judge("openai", status, named, body, api=api, now_s=NOON_IN_BEIJING_S)


@pytest.mark.parametrize(
    ("codes", "kind"),
    [
        ((1000, 1001, 1002, 1003, 1004), "blocked"),
        ((1110, 1111, 1112, 1113, 1120, 1121, 1309), "blocked"),
        ((1210, 1212, 1213, 1214, 1215, 1301, 434, 435), "client"),
        ((1261,), "too_long"),
        ((1211, 1220, 1221, 1222, 1311), "model_refused"),
        ((1302, 1303), "throttled"),
        ((1304, 1308, 1310), "quota"),
        ((1305, 1312), "overloaded"),
        ((1234, 500), "transient"),
    ],
)
@pytest.mark.parametrize("status", [200, 400, 429, 500])
def test_glms_code_decides_whatever_the_status(codes: tuple[int, ...], kind: str, status: int) -> None:
    assert {glm(code, status=status).kind for code in codes} == {kind}


def test_a_code_that_the_vendor_adds_later_is_judged_by_its_status() -> None:
    kinds = [glm(1399, status=status).kind for status in (400, 401, 429, 500)]
    assert kinds == ["client", "blocked", "throttled", "transient"]


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("image input is not supported - hint: you may need to provide the mmproj", "client"),
        ("this model is missing data required for image input", "client"),
        ("registry.ollama.ai/library/x does not support tools", "client"),
        ("Jinja Exception: Conversation roles must alternate user/assistant", "client"),
        ("CUDA out of memory", "transient"),
        ("context shift is disabled", "transient"),
        ("", "transient"),
    ],
)
def test_what_a_model_cannot_take_is_the_requests_fault_although_servers_say_500(message: str, kind: str) -> None:
    assert openai(500, message=message).kind == kind


@pytest.mark.parametrize(
    ("message", "pause_s"),
    [
        ("已达到 5 小时的使用上限。您的限额将在 2026-01-01 13:30:00 重置。", 5400.0),
        ("Usage limit reached. Your limit will reset at 2026-01-01 12:00:30", 30.0),
        ("resets 2026-01-01 12:01", 60.0),
        ("will reset at 2025-12-31 00:00:00, says a clock that is wrong", 1.0),
        ("no time named", 3600.0),
        ("nonsense 2026-13-45 99:99:99", 3600.0),
    ],
)
def test_a_quota_pauses_until_the_moment_that_the_vendor_names(message: str, pause_s: float) -> None:
    assert glm(1308, message).pause_s == pytest.approx(pause_s)


def test_an_overload_backs_off_with_jitter() -> None:
    pauses = {glm(1305).pause_s for _ in range(20)}
    assert len(pauses) > 10
    assert all(1.0 <= pause_s <= 4.0 for pause_s in pauses)


def test_the_vendors_words_and_code_are_the_reason() -> None:
    assert glm(1113, "您的账户已欠费，\n请充值后重试").reason == "HTTP 429, code 1113: 您的账户已欠费， 请充值后重试"


@pytest.mark.parametrize(
    ("status", "code", "message", "kind"),
    [
        (400, None, "", "client"),
        (401, "invalid_api_key", "", "blocked"),
        (401, None, "", "blocked"),
        (402, None, "", "blocked"),
        (403, "account_deactivated", "", "blocked"),
        (403, None, "forbidden", "client"),
        (404, "model_not_found", "", "model_refused"),
        (404, None, "The model `x` does not exist.", "model_refused"),
        (404, None, "Not Found", "client"),
        (408, None, "", "transient"),
        (413, None, "", "client"),
        (422, None, "", "client"),
        (429, None, "", "throttled"),
        (429, "insufficient_quota", "", "quota"),
        (500, None, "", "transient"),
        (502, None, "", "transient"),
        (503, None, "", "transient"),
    ],
)
def test_openais_errors(status: int, code: str | None, message: str, kind: str) -> None:
    assert openai(status, code, message).kind == kind


def test_a_503_that_says_when_is_an_overload() -> None:
    verdict = openai(503, retry_after="7")
    assert (verdict.kind, verdict.pause_s) == ("overloaded", 7.0)


def test_words_that_the_client_chose_remove_no_model() -> None:
    message = "Previous response with id 'model x' not found."
    assert openai(404, None, message, api="/responses").kind == "client"
    assert openai(404, "model_not_found", "", api="/responses").kind == "model_refused"


@pytest.mark.parametrize(
    ("value", "pause_s"),
    [
        ("7", 7.0),
        ("0.5", 0.5),
        ("Thu, 01 Jan 2026 04:00:09 GMT", 9.0),
        ("0", 1.0),
        ("-5", 1.0),
        ("nan", 1.0),
        ("inf", 1.0),
        ("soon", 1.0),
        ("1e9", 600.0),
    ],
)
def test_retry_after_is_read_as_seconds_or_date_and_bounded(value: str, pause_s: float) -> None:
    assert openai(429, retry_after=value).pause_s == pytest.approx(pause_s)


def test_an_error_within_a_success_is_judged_by_its_own_status() -> None:
    assert judge("openai", 200, {}, b'{"error":{"code":429,"message":"slow"}}').kind == "throttled"
    assert judge("openai", 200, {}, b'{"error":{"code":400,"message":"bad"}}').kind == "client"
    assert judge("openai", 200, {}, b'{"error":"boom"}').kind == "transient"


@given(st.sampled_from(["openai", "glm"]), st.integers(400, 599), st.binary(max_size=200), st.text(max_size=30))
def test_no_reply_breaks_the_judge(provider: str, status: int, body: bytes, retry_after: str) -> None:
    verdict = judge(provider, status, {"retry-after": retry_after}, body)
    assert verdict.reason.startswith(f"HTTP {status}")
    assert 0 <= verdict.pause_s < 3e6


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_no_error_object_breaks_the_judge(error: object) -> None:
    assert judge("glm", 400, {}, json.dumps({"error": error}).encode()).kind
    assert judge("glm", 400, {}, json.dumps(error).encode()).kind
