"""`/api/keys`: a key is shown once, does what its scopes say, ends, and is revoked at once."""

from collections.abc import Iterator

import pytest

from autoglm.auth.settings import KeySettings
from gateway.inside import Inside, hub_inside, settings
from gateway.wire import call


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    clerk = {"name": "clerk", "value": "sk-clerk", "scopes": ["admin:keys", "model:use:glm-*"]}
    chosen = settings().model_copy(update={"key": (KeySettings.model_validate(clerk),)})
    with hub_inside(tmp_path_factory.mktemp("keys") / "data", chosen) as inside:
        yield inside


def test_a_key_is_shown_once_and_works_until_it_is_revoked(hub: Inside) -> None:
    made = call(hub.port, hub.key, "POST", "/api/keys", {"name": "robot", "scopes": ["read:message"], "ttl_s": 60})
    assert (made.status, made.headers["cache-control"]) == (201, "no-store")
    key = made.json()["key"]
    me = call(hub.port, key, "GET", "/api/me").json()
    assert (me["principal"], me["address"], me["scopes"]) == ("robot", "device:robot", ["read:message"])
    listed = call(hub.port, hub.key, "GET", "/api/keys")
    (robot,) = [entry for entry in listed.json()["keys"] if entry["name"] == "robot"]
    assert robot["ends_at"] - robot["created_at"] == 60_000
    assert robot["created_by"] == "user:admin"
    assert key.encode() not in listed.body
    assert call(hub.port, hub.key, "DELETE", "/api/keys/robot").status == 204
    assert call(hub.port, key, "GET", "/api/me").status == 401
    assert call(hub.port, hub.key, "DELETE", "/api/keys/robot").json()["code"] == "not_found"


@pytest.mark.attack("a right that grows by being passed on")
def test_nobody_issues_a_key_that_may_do_more_than_he(hub: Inside) -> None:
    for scope in ("admin:*", "admin:people", "model:use:*", "send:message"):
        refused = call(hub.port, "sk-clerk", "POST", "/api/keys", {"name": "more", "scopes": [scope]})
        assert (refused.status, refused.json()["scope"]) == (403, scope)
    made = call(hub.port, "sk-clerk", "POST", "/api/keys", {"name": "less", "scopes": ["model:use:glm-4*"]})
    assert made.status == 201


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": "x", "scopes": ["fly"]}, "scopes"), ({"name": "x", "scopes": []}, "scopes"),
        ({"name": "a b", "scopes": ["send:message"]}, "name"),
        ({"name": "x", "scopes": ["send:message"], "ttl_s": 0}, "ttl_s"),
        ({"name": "x", "scopes": ["send:message"], "address": "nobody"}, "address"),
        ({"name": "clerk", "scopes": ["send:message"]}, "name"),
        ({"name": "x", "scopes": ["send:message"], "key": "sk-mine"}, "key"),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_wrong_with_a_wish_for_a_key_is_named(hub: Inside, body: dict[str, object], field: str) -> None:
    refused = call(hub.port, hub.key, "POST", "/api/keys", body)
    assert (refused.status, refused.json()["code"]) == (400, "invalid_field")
    assert refused.json()["field"].startswith(field)
