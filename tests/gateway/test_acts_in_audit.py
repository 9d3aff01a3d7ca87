"""What administrators and devices do names what they did it to: each operation of the list, or a reason why not."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from autoglm import Client
from autoglm.auth.people.settings import PeopleSettings
from autoglm.client.device import Device
from autoglm.gateway.acts import ACTS
from autoglm.gateway.operations import PROOF, SESSION, Operation, rule_of
from gateway.browser import Browser, close_all, join
from gateway.inside import Inside, hub_inside, settings
from gateway.test_authorisation_matrix import BODIES
from gateway.wire import call
from people_hub import CHEAP

NAMES_NONE = {
    "testRoutes": "it changes nothing, and is about no one thing",
    "replayDecisions": "it changes nothing, and is about all decisions",
    "explainPolicy": "it changes nothing; what was asked is personal",
    "verifyToken": "it changes nothing; a token that is none has no name, and one that is good is named",
}
OTHER_BODIES = {"invitePerson": {"name": "invited", "roles": ["member"]}}
"""Where that of the matrix does not come so far."""
BY_ADMIN = [operation for operation in ACTS if rule_of(operation) not in (PROOF, SESSION)]
BY_PERSON = [operation for operation in ACTS if rule_of(operation) == SESSION]
NAMED_WHEN_MADE = {"addSilence"}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    people = PeopleSettings.model_validate({"password": CHEAP})
    chosen = settings().model_copy(update={"people": people})
    with hub_inside(tmp_path_factory.mktemp("acts") / "data", chosen) as inside:
        yield inside


@pytest.fixture(scope="module")
def person(hub: Inside) -> Iterator[Browser]:
    yield join(hub, "acting")
    close_all()


def acts(hub: Inside, action: str) -> list[dict[str, Any]]:
    """The newest first."""
    hub.ask(hub.hub._trust.audit.written())
    found: list[dict[str, Any]] = call(hub.port, hub.key, "GET", f"/api/audit?kind=act&action={action}").json()[
        "entries"
    ]
    return found


@pytest.mark.parametrize("operation", BY_ADMIN, ids=lambda operation: operation.name)
def test_an_act_names_its_object_or_there_is_a_reason_why_not(hub: Inside, operation: Operation) -> None:
    """Also where it fails, as most of these do: that somebody tried it on that very thing is to be seen."""
    path = operation.path.replace("{name}", "thing-x").replace("{id}", "4711")
    body = OTHER_BODIES.get(operation.name, BODIES.get(operation.name))
    reply = call(hub.port, hub.key, operation.method, path, body)
    assert reply.status not in (401, 403, 405), reply.body
    entry = acts(hub, operation.name)[0]
    assert entry["request_id"] == reply.headers["x-request-id"]
    if operation.name in NAMES_NONE:
        assert entry["resource"] == ""
        return
    named = {"thing-x", "4711"} & set(path.split("/")) or {
        str(value) for value in (body if isinstance(body, dict) else {}).values() if not isinstance(value, list | dict)
    }
    assert entry["resource"]
    if operation.name in NAMED_WHEN_MADE:
        assert entry["resource"] == reply.json()["id"]
    elif named:
        assert any(name in entry["resource"] for name in named), entry


@pytest.mark.parametrize("operation", BY_PERSON, ids=lambda operation: operation.name)
def test_what_a_person_does_to_his_own_logins_names_its_object(
    hub: Inside, person: Browser, operation: Operation
) -> None:
    path = operation.path.replace("{handle}", "0123456789abcdef")
    change = {"current": "not it, surely", "new": "something else"}
    answer = person.ask(operation.method, path, change if operation.name == "changePassword" else {"answer": {}})
    assert answer.json().get("code") != "forbidden"
    (entry, *_) = acts(hub, operation.name)
    if operation.name == "changePassword":
        assert (answer.status_code, entry["outcome"], entry["reason"]) == (401, "denied", "login_refused")
    assert entry["who"] == "user:acting"
    assert entry["resource"].endswith("0123456789abcdef" if "{handle}" in operation.path else "user:acting"), entry


def test_whoever_does_it_by_proof_is_named_with_key_and_token(hub: Inside, tmp_path: Path) -> None:
    assert {operation.name for operation in ACTS if rule_of(operation) == PROOF} == {"enrolDevice", "renewToken"}
    wish = {"name": "press-7", "scopes": ["send:message"]}
    code = call(hub.port, hub.key, "POST", "/api/devices/enrolments", wish).json()["code"]
    press = Device.enrol(tmp_path / "press-7.json", code, url=hub.hub.url)
    jti = verified(hub, press.token())["jti"]
    assert acts(hub, "inviteDevice")[0]["resource"] == "device:press-7"
    assert acts(hub, "enrolDevice")[0]["resource"] == f"device:press-7 jkt:{press._key.kid} jti:{jti}"
    issued = call(hub.port, hub.key, "POST", "/api/tokens", {"device": "press-7"}).json()["token"]
    other = verified(hub, issued)["jti"]
    assert other != jti
    assert acts(hub, "issueToken")[0]["resource"] == f"device:press-7 jti:{other}"
    assert acts(hub, "verifyToken")[0]["resource"] == f"device:press-7 jti:{other}"
    press._ends_at_ms = 0  # so that it asks for the next one
    with Client(device=press) as client:
        client.me()
    assert acts(hub, "renewToken")[0]["resource"] == f"device:press-7 jti:{verified(hub, press.token())['jti']}"
    call(hub.port, hub.key, "DELETE", "/api/devices/press-7")
    assert acts(hub, "removeDevice")[0]["resource"] == "device:press-7"


def verified(hub: Inside, token: str) -> dict[str, Any]:
    found: dict[str, Any] = call(hub.port, hub.key, "POST", "/api/tokens/verify", {"token": token}).json()
    return found


def test_the_site_s_own_key_is_named_before_and_after(hub: Inside) -> None:
    before = hub.hub._trust.issuer.key.kid
    after = call(hub.port, hub.key, "POST", "/api/tokens/rotate").json()["kid"]
    assert acts(hub, "rotateSiteKey")[0]["resource"] == f"kid:{before} kid:{after}"


def test_no_key_code_or_token_is_in_the_audit(hub: Inside, tmp_path: Path) -> None:
    key = call(hub.port, hub.key, "POST", "/api/keys", {"name": "robot-9", "scopes": ["send:message"]}).json()["key"]
    wish = {"name": "press-9", "scopes": ["send:message"]}
    code = call(hub.port, hub.key, "POST", "/api/devices/enrolments", wish).json()["code"]
    press = Device.enrol(tmp_path / "press-9.json", code, url=hub.hub.url)
    secrets = (key, code, press.token())
    hub.ask(hub.hub._trust.audit.written())
    written = json.dumps([call(hub.port, hub.key, "GET", "/api/audit?limit=1000").json()])
    assert "robot-9" in written
    assert not [secret for secret in secrets if secret in written]
