"""Every endpoint of /openapi.json is called as everybody: with no key, a wrong one, and with each scope alone.

A new endpoint without a rule fails, since the description cannot be made; one with a rule that its handler does not
keep fails here.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from autoglm.auth.people.settings import PeopleSettings
from autoglm.auth.scopes import AREAS, any_covers
from autoglm.auth.settings import KeySettings
from autoglm.auth.tokens.signing import SigningKey
from autoglm.gateway.openapi import openapi
from autoglm.gateway.operations import KNOWN, OPEN, OPERATIONS, PROOF, RULES, SESSION
from autoglm.settings import Settings
from gateway.inside import Inside, hub_inside, settings
from gateway.wire import Wire, call
from people_hub import CHEAP

# One for each kind of right that there is, so that no right opens what another is for.
SCOPES = (
    "admin:*", *(f"admin:{area}" for area in AREAS), "model:use:*", "send:message", "read:message", "read:metrics",
    "read:audit", "publish:topic", "subscribe:topic", "read:sensor", "tenant:other",
)  # fmt: skip
BODIES: dict[str, Any] = {
    "createChatCompletion": {"model": "m", "messages": [{"role": "user", "content": "hi"}]},
    "createCompletion": {"model": "m", "prompt": "hi"},
    "createEmbedding": {"model": "m", "input": "hi"},
    "createResponse": {"model": "m", "input": "hi"},
    "sendMessage": {"to": "user:nobody", "content": "hi"},
    "acknowledgeMessage": {},
    "putGroup": {"members": []},
    "sendEvent": {"content": "hi"},
    "testRoutes": {"content": "hi"},
    "addSilence": {"labels": {"a": "b"}, "until": 4_000_000_000_000},
    "askPerson": {"to": "user:nobody", "question": "Shall we?"},
    "subscribeToPush": {"endpoint": "https://push.example/x", "keys": {"p256dh": "x", "auth": "x"}},
    "submitTask": {"request": {"model": "m", "messages": [{"role": "user", "content": "hi"}]}},
    "replayDecisions": {"policy": "cheap"},
    "giveFeedback": {"id": "x", "score": 1},
    "teachIntent": {"name": "x", "examples": ["one", "two", "three"]},
    "tryIntent": {"text": "hi"},
    "inviteDevice": {"name": "made", "scopes": ["admin:devices"]},
    "enrolDevice": {"code": "a" * 22, "public_key": SigningKey.generate().public.x},
    "issueToken": {"device": "nobody"},
    "renewToken": {"device": "nobody"},
    "verifyToken": {"token": "x"},
    "revoke": {"id": "device:nobody"},
    "bringPolicy": b"no zip file",
    "explainPolicy": {"address": "user:nobody", "action": "send:message"},
    "confirmTime": {"now": 1},
    "settleConflict": {"verdict": "accept", "why": "tried"},
    "loginByPassword": {"name": "nobody", "password": "wrong"},
    "loginByPasskey": {"answer": {}},
    "lookAtInvitation": {"token": "x"},
    "loginByInvitation": {"token": "x", "password": "wrong"},
    "invitePerson": {"name": "made", "roles": []},
    "changePerson": {"is_disabled": True},
    "issueKey": {"name": "made", "scopes": ["admin:keys"]},
    "publishJson": {"topic": "x", "message": "hi"},
    "publishJsonByPut": {"topic": "x", "message": "hi"},
    **{name: {"body": "hi"} for name in ("notify", "notifyByKey", "notifyAtRoot", "notifyAtRootByKey")},
}
QUERIES = {"to": "device:{key}", "after": "0"}


def name_of(scope: str) -> str:
    return scope.replace(":", "-").replace("*", "all")


def keys() -> tuple[KeySettings, ...]:
    entries: list[dict[str, Any]] = [
        {"name": name_of(scope), "value": f"sk-{scope}", "scopes": [scope]} for scope in SCOPES
    ]
    return tuple(KeySettings.model_validate(entry) for entry in entries)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    guesses = {"free_failures": 100, "free_failures_per_address": 10_000}  # each key asks the same wrong things
    people = PeopleSettings.model_validate({"throttle": guesses, "password": CHEAP})
    chosen: Settings = settings().model_copy(update={"key": keys(), "people": people})
    with hub_inside(tmp_path_factory.mktemp("matrix") / "data", chosen) as inside:
        yield inside


def ask(hub: Inside, operation: str, method: str, path: str, key: str, address: str) -> int:
    described = openapi()["paths"][path][method.lower()]
    query = "&".join(
        f"{parameter['name']}={QUERIES[parameter['name']].format(key=address)}"
        for parameter in described.get("parameters", ())
        if parameter["in"] == "query" and parameter["required"]
    )
    target = path.replace("{name}", "group-x" if "groups" in path else "x").replace("{id}", "1")
    target = f"{target}?{query}" if query else target
    if operation == "streamMessages":  # it has no end
        with Wire(hub.port, key) as wire:
            wire.request(method, target)
            return wire.start().status
    return call(hub.port, key, method, target, BODIES.get(operation), content_type="application/json").status


def rows() -> Iterator[tuple[str, str, str, str]]:
    for path, methods in json.loads(json.dumps(openapi()))["paths"].items():
        for method, described in methods.items():
            needs = described["security"]
            yield described["operationId"], method.upper(), path, rule_in(needs)


def rule_in(needs: list[dict[str, list[str]]]) -> str:
    """The rule that the description shows."""
    if not needs:
        return OPEN
    for scheme, rule in (("proof", PROOF), ("session", SESSION)):
        if scheme in needs[0]:
            return rule
    return (needs[0]["key"] or [KNOWN])[0]


def test_every_endpoint_has_a_rule_and_every_rule_an_endpoint() -> None:
    assert set(RULES) == {operation.name for operation in OPERATIONS}
    words = {OPEN, KNOWN, PROOF, SESSION, "admin", "send", "read", "model"}
    assert {rule.partition(":")[0] for rule in RULES.values()} <= words
    for rule in set(RULES.values()) - {OPEN, KNOWN, PROOF, SESSION}:
        assert any(any_covers([scope], *split(rule)) for scope in SCOPES), rule


def split(rule: str) -> tuple[str, str]:
    """`admin:keys` is an action and a resource, `send:message` an action."""
    return ("admin", rule.removeprefix("admin:")) if rule.startswith("admin:") else (rule, "anything")


@pytest.mark.parametrize(("operation", "method", "path", "rule"), list(rows()), ids=str)
def test_an_endpoint_lets_in_whom_its_rule_names_and_nobody_else(
    hub: Inside, operation: str, method: str, path: str, rule: str
) -> None:
    strangers = [ask(hub, operation, method, path, key, "x") for key in ("", "sk-wrong")]
    if operation.startswith(("login", "lookAt")):  # what it is shown is in the body, and wrong here
        assert rule == OPEN, rule
        assert set(strangers) <= {200, 303, 401}, strangers
        strangers = []
    assert all((status == 401) is (rule != OPEN) for status in strangers), strangers
    found = {scope: ask(hub, operation, method, path, f"sk-{scope}", name_of(scope)) for scope in SCOPES}
    if operation.startswith(("login", "lookAt")):
        assert len(set(found.values())) == 1, found
        return
    refused = {scope for scope, status in found.items() if status in (401, 403)}
    if rule in (PROOF, SESSION):
        assert set(found.values()) == {401 if rule == PROOF else 403}
        return
    expected = set() if rule in (OPEN, KNOWN) else {scope for scope in SCOPES if not any_covers([scope], *split(rule))}
    assert refused == expected, {scope: found[scope] for scope in refused ^ expected}
