"""What the hub says of itself: health, metrics, pool, keys, capabilities, and the page's headers."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from autoglm.app import PAGE
from autoglm.auth.settings import KeySettings
from autoglm.core.errors import StorageFull
from autoglm.inference.settings import InstanceSettings
from autoglm.settings import Settings
from eventually import wait_until
from gateway.inside import Inside, hub_inside, settings
from gateway.wire import Reply, call
from scripted_model import ScriptedModel

WECHAT = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 MicroMessenger/8.0.50 NetType/WIFI"
)
KEYS = {"robot": ["model:use:*"], "scraper": ["read:metrics"]}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    with ScriptedModel() as model:
        keys = [{"name": name, "value": f"sk-{name}", "scopes": scopes} for name, scopes in KEYS.items()]
        instance = {"name": "glm-a", "provider": "openai", "base_url": model.url, "models": ["echo-model"]}
        chosen = Settings(
            gateway=settings().gateway,
            key=tuple(KeySettings.model_validate(key) for key in keys),
            instance=(InstanceSettings.model_validate(instance),),
        )
        with hub_inside(tmp_path_factory.mktemp("state") / "data", chosen) as inside:
            yield inside


def get(hub: Inside, path: str, key: str | None = None, **headers: str) -> Reply:
    return call(hub.port, hub.key if key is None else key, "GET", path, **headers)


# --- health ---


def test_a_hub_that_lives_and_is_ready_says_so_without_a_key(hub: Inside) -> None:
    assert get(hub, "/healthz", "").json() == {
        "status": "ok",
        "version": get(hub, "/openapi.json").json()["info"]["version"],
    }
    assert get(hub, "/readyz", "").json() == {"is_ready": True, "reasons": []}


def test_a_hub_that_cannot_write_is_not_ready_and_says_why(hub: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full() -> None:
        raise StorageFull("/data/hub.db")

    state = next(route.handler for route in hub.hub._front._router.routes if route.template == "/readyz").__self__  # type: ignore[attr-defined]
    monkeypatch.setattr(state, "_check_ready", full)
    monkeypatch.setattr(state, "_checked_s", 0.0)  # long ago
    monkeypatch.setattr(state, "_trouble", "")  # and back to that for the tests to come
    reply = get(hub, "/readyz", "")
    assert (reply.status, reply.json()["is_ready"]) == (503, False)
    assert "no space left" in reply.json()["reasons"][0]
    assert get(hub, "/healthz", "").status == 200


@pytest.mark.parametrize("is_full", [False, True])
def test_whoever_asks_whether_it_is_ready_does_not_make_it_write_each_time(
    hub: Inside, monkeypatch: pytest.MonkeyPatch, is_full: bool
) -> None:
    state = next(route.handler for route in hub.hub._front._router.routes if route.template == "/readyz").__self__  # type: ignore[attr-defined]
    checks, check = [], state._check_ready

    async def counted() -> None:
        checks.append(1)
        await check()
        if is_full:
            raise StorageFull("/data/hub.db")

    monkeypatch.setattr(state, "_check_ready", counted)
    monkeypatch.setattr(state, "_checked_s", 0.0)
    monkeypatch.setattr(state, "_trouble", "")
    assert {get(hub, "/readyz", "").status for _ in range(50)} == {503 if is_full else 200}
    assert 1 <= len(checks) < 25  # one a second


def test_a_draining_hub_is_not_ready(tmp_path: Path) -> None:
    with hub_inside(tmp_path / "data") as inside:
        inside.loop.call_soon_threadsafe(inside.hub._drain)
        wait_until(inside.hub._messages._draining.is_set)
        reply = get(inside, "/readyz", "")
    assert (reply.status, reply.json()["reasons"]) == (503, ["the hub is shutting down"])


# --- keys ---


def test_me_tells_whose_key_it_is(hub: Inside) -> None:
    assert get(hub, "/api/me").json() == {
        "principal": "admin", "address": "user:admin", "scopes": ["admin:*"], "inside_wechat": False, "session": None,
    }  # fmt: skip
    robot = get(hub, "/api/me", "sk-robot", user_agent=WECHAT).json()
    assert robot == {
        "principal": "robot", "address": "device:robot", "scopes": ["model:use:*"], "inside_wechat": True,
        "session": None,
    }  # fmt: skip


@pytest.mark.parametrize("path", ["/metrics", "/api/pool", "/api/me", "/api/capabilities"])
def test_what_only_users_may_know_needs_a_key(hub: Inside, path: str) -> None:
    assert get(hub, path, "").json()["code"] == "unauthorized"
    assert get(hub, path, "wrong").status == 401


def test_metrics_need_a_scope(hub: Inside) -> None:
    assert get(hub, "/metrics").status == get(hub, "/metrics", "sk-scraper").status == 200
    refused = get(hub, "/metrics", "sk-robot")
    assert (refused.status, refused.json()["scope"]) == (403, "read:metrics")
    for word in ("start", "stop"):
        assert call(hub.port, "sk-robot", "POST", f"/api/pool/glm-a/{word}").status == 403
    refused = call(hub.port, "sk-robot", "POST", "/api/pool/glm-a/resume")
    assert (refused.status, refused.json()["scope"]) == (403, "admin:pool")


# --- the page ---


def test_without_a_built_page_the_hub_says_so(hub: Inside, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(hub.hub._front._page, "_folder", tmp_path / "none")
    page = get(hub, "/", "")
    assert (page.status, "make console" in page.body.decode()) == (200, True)
    assert page.headers["content-security-policy"].startswith("default-src 'self'")
    for path in ("/assets/index.js", "//evil/", "/no/such"):
        assert get(hub, path, "").json()["code"] == "unknown_path"


# --- metrics ---


def samples(hub: Inside) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    reply = get(hub, "/metrics")
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = list(text_string_to_metric_families(reply.body.decode()))
    assert len({family.name for family in families}) == len(families)
    assert all(family.documentation for family in families)
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def test_metrics_count_requests_by_route_not_by_path(hub: Inside) -> None:
    labels = (("instance", ""), ("model", ""), ("route", "/api/messages/{id}"), ("status", "404"))
    before = samples(hub).get(("autoglm_request_seconds_count", labels), 0)
    for number in range(5):
        get(hub, f"/api/messages/none-{number}")
        get(hub, f"/no/such/path-{number}")
    after = samples(hub)
    assert after["autoglm_request_seconds_count", labels] == before + 5
    assert not any("path-" in str(key) or "none-" in str(key) for key in after)


# --- pool ---


def test_the_pool_shows_each_instance(hub: Inside) -> None:
    def instance() -> dict[str, Any]:
        pool = get(hub, "/api/pool", "sk-robot").json()
        assert pool["waiting"] == 0
        (only,) = pool["instances"]
        assert isinstance(only, dict)
        return only

    wait_until(lambda: instance()["state"] == "ready")
    ready = instance()
    assert (ready["name"], ready["provider"], ready["models"]) == ("glm-a", "openai", ["echo-model"])
    assert (ready["running"], ready["waiting"], ready["error"]) == (0, 0, "")
    assert ready["since"] > 1_700_000_000_000
    assert ready["slots"] >= ready["limit"] >= 1
    assert (ready["group"], ready["load_s"], ready["memory_bytes"]) == ("glm-a", 0.0, 0)


def test_an_operator_resumes_an_instance(hub: Inside) -> None:
    reply = call(hub.port, hub.key, "POST", "/api/pool/glm-a/resume")
    assert (reply.status, reply.json()["name"]) == (200, "glm-a")
    unknown = call(hub.port, hub.key, "POST", "/api/pool/glm-z/resume")
    assert (unknown.status, unknown.json()["what"], unknown.json()["name"]) == (404, "instance", "glm-z")


# --- capabilities ---


def capabilities(hub: Inside, **headers: str) -> dict[str, dict[str, Any]]:
    reply = get(hub, "/api/capabilities", "sk-robot", **headers).json()
    assert reply["inside_wechat"] == ("user_agent" in headers)
    return {capability["name"]: capability for capability in reply["capabilities"]}


def test_what_does_not_work_says_why_and_what_replaces_it_in_two_languages(hub: Inside) -> None:
    found = capabilities(hub)
    assert {name for name, capability in found.items() if capability["available"]} >= {"chat", "messages", "login"}
    for name in ("wechat_login", "wechat_template_message"):
        assert found[name]["available"] is False
    for capability in [*found.values(), *capabilities(hub, user_agent=WECHAT).values()]:
        assert set(capability) == {"name", "available", "why", "why_zh", "instead", "instead_zh", "fix"}
        assert capability["why"]
        assert re.search(r"[\u4e00-\u9fff]", capability["why_zh"])
        assert not re.search(r"[\u4e00-\u9fff]", capability["why"] + capability["instead"] + capability["fix"])
        assert capability["available"] == (not capability["instead"] and not capability["fix"])
        assert bool(capability["instead"]) == bool(capability["instead_zh"])


def test_texts_differ_inside_wechat(hub: Inside) -> None:
    outside, inside = capabilities(hub), capabilities(hub, user_agent=WECHAT)
    changed = {name for name in outside if outside[name] != inside[name]}
    assert changed == {"wechat_login", "wechat_template_message", "file_download", "push"}
    assert (outside["file_download"]["available"], inside["file_download"]["available"]) == (True, False)
    assert not inside["wechat_login"]["available"]


# --- the page ---


def test_the_page_has_headers_that_keep_it_to_itself(hub: Inside) -> None:
    page = get(hub, "/", "")
    assert page.status == 200
    policy = dict(part.strip().split(" ", 1) for part in page.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'self'"
    assert policy["object-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert "unsafe" not in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["referrer-policy"] == "no-referrer"
    assert page.headers["cross-origin-opener-policy"] == "same-origin"
    assert page.headers["cache-control"] == "no-cache"
    assert page.headers["x-request-id"]
    assert "server" not in page.headers


@pytest.mark.skipif(not (PAGE / "assets").exists(), reason="the page is not built; run `make console`")
def test_the_page_s_files_are_served_with_their_types_and_no_list_of_them(hub: Inside) -> None:
    script = next((PAGE / "assets").glob("*.js"))
    reply = get(hub, f"/assets/{script.name}", "")
    assert (reply.status, reply.body) == (200, script.read_bytes())
    assert "javascript" in reply.headers["content-type"]
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert get(hub, f"/assets/{script.name}", "", if_none_match=reply.headers["etag"]).status == 304
    for path in ("/assets", "/assets/", "/assets/nothing.js"):
        refused = get(hub, path, "")
        assert (refused.status, refused.json()["code"]) == (404, "unknown_path"), path
