"""Groups over HTTP: members at the moment of sending, acknowledgements of each, and what is wrong with a group."""

import shlex
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import pytest

from autoglm.channels.groups import MAX_MEMBERS
from gateway.inside import Inside, hub_inside
from gateway.wire import Reply, call


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    with hub_inside(tmp_path_factory.mktemp("groups") / "data") as inside:
        yield inside


def put(hub: Inside, name: str, *members: str) -> Reply:
    return call(hub.port, hub.key, "PUT", f"/api/groups/{name}", {"members": list(members)})


def post(hub: Inside, to: str, content: str) -> str:
    reply = call(hub.port, hub.key, "POST", "/api/messages", {"to": to, "content": content})
    assert reply.status == 202, reply
    return str(reply.json()["id"])


def texts(hub: Inside, address: str) -> list[str]:
    reply = call(hub.port, hub.key, "GET", f"/api/messages?to={address}")
    return [message["content"] for message in reply.json()["messages"]]


def test_a_message_reaches_those_who_are_members_when_it_is_sent(hub: Inside) -> None:
    put(hub, "shift", "user:g1", "device:g2")
    post(hub, "group:shift", "to the early shift")
    put(hub, "shift", "device:g2", "user:g3")
    post(hub, "group:shift", "to the late shift")
    assert texts(hub, "user:g1") == ["to the early shift"]
    assert texts(hub, "device:g2") == ["to the early shift", "to the late shift"]
    assert texts(hub, "user:g3") == ["to the late shift"]
    assert texts(hub, "group:shift") == ["to the early shift", "to the late shift"]


def test_each_member_has_one_order_of_its_own_and_the_group_s_messages(hub: Inside) -> None:
    put(hub, "mixed", "user:m1")
    for number, to in enumerate(["user:m1", "group:mixed", "user:m1", "group:mixed"]):
        post(hub, to, str(number))
    assert texts(hub, "user:m1") == ["0", "1", "2", "3"]


def test_each_member_acknowledges_for_itself(hub: Inside) -> None:
    put(hub, "each", "user:e1", "user:e2")
    id = post(hub, "group:each", "hello")
    ack = f"/api/messages/{id}/ack"
    nobody = call(hub.port, hub.key, "POST", ack)
    assert (nobody.status, nobody.json()["field"]) == (400, "by")
    stranger = call(hub.port, hub.key, "POST", ack, {"by": "user:e3"})
    assert (stranger.status, stranger.json()["field"]) == (400, "by")
    put(hub, "each", "user:e3")  # who got it may acknowledge it, whoever is a member by now
    for by in ("user:e1", "user:e2", "user:e1"):
        assert call(hub.port, hub.key, "POST", ack, {"by": by, "state": "read"}).status == 200
    receipts = call(hub.port, hub.key, "GET", f"/api/messages/{id}/receipts").json()["receipts"]
    assert [(receipt["state"], receipt.get("by")) for receipt in receipts] == [
        ("accepted", None), ("read", "user:e1"), ("read", "user:e2"),
    ]  # fmt: skip
    call(hub.port, hub.key, "DELETE", "/api/groups/each")
    assert call(hub.port, hub.key, "POST", ack, {"by": "user:e1"}).status == 200


def test_groups_are_listed_read_replaced_and_deleted(hub: Inside) -> None:
    assert put(hub, "crew", "user:a", "user:b", "user:a").json() == {"name": "crew", "members": ["user:a", "user:b"]}
    assert call(hub.port, hub.key, "GET", "/api/groups/crew").json()["members"] == ["user:a", "user:b"]
    names = [group["name"] for group in call(hub.port, hub.key, "GET", "/api/groups").json()["groups"]]
    assert "crew" in names
    assert names == sorted(names)
    assert call(hub.port, hub.key, "DELETE", "/api/groups/crew").status == 204
    for method in ("GET", "DELETE"):
        gone = call(hub.port, hub.key, method, "/api/groups/crew")
        assert (gone.status, gone.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize("name", ["运维", "-a", "a&b?c#d%e", "夜" * 64, "..."])
def test_a_group_has_a_name_of_any_script(hub: Inside, name: str) -> None:
    path = quote(name, safe="")
    unknown = call(hub.port, hub.key, "POST", "/api/messages", {"to": f"group:{name}", "content": "x"}).json()
    argument = "-- -a" if name == "-a" else shlex.quote(name)
    assert f"'autoglm groups set {argument} MEMBER...' makes it" in unknown["detail"]
    assert f"PUT /api/groups/{path}" in unknown["detail"]
    assert put(hub, path, "user:named").json() == {"name": name, "members": ["user:named"]}
    post(hub, f"group:{name}", name)
    assert texts(hub, "user:named")[-1] == name
    assert call(hub.port, hub.key, "DELETE", f"/api/groups/{path}").status == 204


@pytest.mark.parametrize("name", ["a/b", "a" * 65, ".."])
def test_no_way_is_named_to_a_group_that_cannot_be(hub: Inside, name: str) -> None:
    unknown = call(hub.port, hub.key, "POST", "/api/messages", {"to": f"group:{name}", "content": "x"}).json()
    assert "has 1 to 64 characters" in unknown["detail"]
    assert "makes it" not in unknown["detail"]


def test_deleting_a_group_from_many_sides_at_once_fails_for_none_with_an_error_of_the_hub(hub: Inside) -> None:
    for _ in range(5):
        put(hub, "contested", "user:a")
        with ThreadPoolExecutor(8) as pool:
            replies = list(pool.map(lambda _: call(hub.port, hub.key, "DELETE", "/api/groups/contested"), range(8)))
        assert {reply.status for reply in replies} <= {204, 404}
        assert 204 in {reply.status for reply in replies}


@pytest.mark.parametrize(
    ("name", "body", "field"),
    [
        ("ops", {"members": ["alice"]}, "members[0]"), ("ops", {"members": ["user:a", "group:b"]}, "members[1]"),
        ("ops", {"members": ["model:auto"]}, "members[0]"), ("ops", {"members": "user:a"}, "members"),
        ("ops", {"members": [7]}, "members[0]"), ("ops", {}, "members"), ("ops", {"members": [], "nmae": 1}, "nmae"),
        ("a%20b", {"members": []}, "name"), ("a%2Fb", {"members": []}, "name"), ("%2E%2E", {"members": []}, "name"),
        ("%E2%80%AEa", {"members": []}, "name"), ("a" * 65, {"members": []}, "name"),
        ("ops%0A", {"members": []}, "name"),
        ("ops", {"members": [f"user:{number}" for number in range(MAX_MEMBERS + 1)]}, "members"),
    ],
    ids=lambda value: str(value)[:30],
)  # fmt: skip
def test_what_is_wrong_with_a_group_is_named(hub: Inside, name: str, body: dict[str, Any], field: str) -> None:
    reply = call(hub.port, hub.key, "PUT", f"/api/groups/{name}", body)
    assert (reply.status, reply.json()["code"], reply.json()["field"]) == (400, "invalid_field", field)


def test_a_large_group_is_one_message_to_all(hub: Inside) -> None:
    members = [f"user:crowd-{number}" for number in range(MAX_MEMBERS)]
    assert put(hub, "crowd", *members).status == 200
    id = post(hub, "group:crowd", "to all")
    for member in (members[0], members[-1]):
        reply = call(hub.port, hub.key, "GET", f"/api/messages?to={member}")
        assert [message["id"] for message in reply.json()["messages"]] == [id]
