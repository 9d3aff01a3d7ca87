"""Every endpoint of /openapi.json is called by people of each role, by devices, and by whom a policy gives or takes.

The other columns, with no key, a wrong one and each scope alone, are in test_authorisation_matrix.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import httpx2
import pytest

from auth.policy.authority import Authority, policy_files
from autoglm.auth.people.roles import ROLES, scopes_of
from autoglm.auth.scopes import any_covers
from autoglm.auth.settings import KeySettings
from autoglm.client.device import Device
from autoglm.gateway.openapi import openapi
from autoglm.gateway.operations import KNOWN, OPEN, PROOF, SESSION
from gateway.browser import Browser, close_all, join
from gateway.inside import Inside, hub_inside
from gateway.people_inside import admin, people_settings, policy_of, pull_policy
from gateway.test_authorisation_matrix import BODIES, QUERIES, rows, split

CEDAR = """
permit(principal, action, resource);
forbid(principal == Device::"bound", action == Action::"admin", resource);
"""
POLICY = policy_files(
    CEDAR,
    roles={"roles": {"chief": ["admin:*"]}, "grants": {"device:chief": [{"role": "chief"}]}},
    revocations={"device:banned": {"at_ms": 1, "reason": "lost"}},
)
KEYS = {"chief": ("read:metrics",), "banned": ("admin:*",), "bound": ("admin:*",)}
DEVICE_SCOPES = ("admin:devices", "read:metrics")
CARRIED = {"logOut", "changePassword", "confirmTime"}
"""These would end the session, or move the clock, that goes on to the next endpoint."""


class Caller(NamedTuple):
    http: httpx2.Client
    address: str
    may: Callable[[str, str], bool]
    is_person: bool = False
    is_known: bool = True


@pytest.fixture(scope="module")
def callers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Caller]]:
    folder = tmp_path_factory.mktemp("roles")
    keys = tuple(
        KeySettings.model_validate({"name": name, "value": f"sk-{name}", "scopes": list(scopes)})
        for name, scopes in KEYS.items()
    )
    policy = policy_of(Authority(folder / "authority"), POLICY)
    with hub_inside(folder / "data", people_settings(policy=policy, key=keys)) as hub:
        pull_policy(hub)
        yield {**people(hub), **devices(hub, folder), **by_policy(hub)}
        close_all()


def people(hub: Inside) -> dict[str, Caller]:
    found: dict[str, Caller] = {}
    for role in ROLES:
        browser, scopes = join(hub, f"a-{role}", role), scopes_of((role,), f"a-{role}")
        browser.http.headers.update({"origin": browser.origin, "sec-fetch-site": "same-origin"})
        found[role] = Caller(browser.http, f"user:a-{role}", covering(scopes), is_person=True)
    return found


def devices(hub: Inside, folder: Path) -> dict[str, Caller]:
    found: dict[str, Caller] = {}
    for name in ("press", "removed"):
        wish = {"name": name, "scopes": DEVICE_SCOPES}
        code = admin(hub, "POST", "/api/devices/enrolments", wish).json()["code"]
        device = Device.enrol(folder / f"{name}.json", code, url=hub.hub.url)
        browser = Browser(hub, "127.0.0.1")
        browser.http.auth = device
        found[name] = Caller(browser.http, f"device:{name}", covering(DEVICE_SCOPES))
    assert admin(hub, "DELETE", "/api/devices/removed").status == 204
    return {**found, "removed": found["removed"]._replace(is_known=False)}


def by_policy(hub: Inside) -> dict[str, Caller]:
    found: dict[str, Caller] = {}
    for name in KEYS:
        browser = Browser(hub)
        browser.http.headers["authorization"] = f"Bearer sk-{name}"
        found[name] = Caller(browser.http, f"device:{name}", covering(("admin:*",)))
    bound = found["bound"]._replace(may=bound_may)
    return {**found, "banned": found["banned"]._replace(is_known=False), "bound": bound}


GIVING = {"issueKey", "inviteDevice"}
"""Nobody gives by a role of the policy what is not among his own scopes."""
OF_OTHERS = {"getGroup": "group:group-x"}


def bound_may(action: str, resource: str) -> bool:
    """Whoever administers this hub's policy can always bring a newer one: see docs/policy.md."""
    return action != "admin" or resource == "policy"


def covering(scopes: tuple[str, ...]) -> Callable[[str, str], bool]:
    return lambda action, resource: any_covers(scopes, action, resource)


def status_of(caller: Caller, operation: str, method: str, path: str) -> int:
    described = openapi()["paths"][path][method.lower()]
    query = {
        parameter["name"]: caller.address if parameter["name"] == "to" else QUERIES[parameter["name"]]
        for parameter in described.get("parameters", ())
        if parameter["in"] == "query" and parameter["required"]
    }
    target = path.replace("{name}", "group-x" if "groups" in path else "x").replace("{id}", "1")
    body = BODIES.get(operation)
    content, data = (body, None) if isinstance(body, bytes) else (None, body)
    with caller.http.stream(
        method, target.replace("{handle}", "0123456789abcdef"), params=query, json=data, content=content,
        headers={"content-type": "application/json"} if body is not None else {},
    ) as answer:  # fmt: skip
        return answer.status_code


@pytest.mark.parametrize(
    ("operation", "method", "path", "rule"),
    [row for row in rows() if row[0] not in CARRIED and not row[0].startswith(("login", "lookAt"))],
    ids=str,
)
def test_an_endpoint_lets_in_each_role_as_its_rule_says(
    callers: dict[str, Caller], operation: str, method: str, path: str, rule: str
) -> None:
    found = {name: status_of(caller, operation, method, path) for name, caller in callers.items()}
    refused = {name for name, status in found.items() if status in (401, 403)}
    expected = {name for name, caller in callers.items() if not is_let_in(caller, operation, rule)}
    assert refused == expected, {name: found[name] for name in refused ^ expected}


def is_let_in(caller: Caller, operation: str, rule: str) -> bool:
    if rule == OPEN:
        return True
    if not caller.is_known or rule == PROOF:
        return False
    if rule == SESSION:
        return caller.is_person
    if caller.is_person and openapi_tag(operation) == "interop":  # what other programs call knows no cookies
        return False
    if rule == KNOWN:
        return True
    if caller.address == "device:chief" and operation in GIVING:
        return False
    action, resource = split(rule)
    return caller.may(action, OF_OTHERS.get(operation, caller.address) if resource == "anything" else resource)


def openapi_tag(operation: str) -> str:
    return next(
        str(described["tags"][0])
        for methods in openapi()["paths"].values()
        for described in methods.values()
        if described["operationId"] == operation
    )
