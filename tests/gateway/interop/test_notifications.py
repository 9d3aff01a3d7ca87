"""Calls as the clients of Apprise's API make them: each becomes an event, and success is never claimed for nothing."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest

from gateway.interop.test_publications import CONFIG, basic
from gateway.wire import Reply, call
from hub import HubProcess, running_hub

FORM = "application/x-www-form-urlencoded"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    with running_hub(tmp_path_factory.mktemp("apprise") / "hub", CONFIG) as hub:
        yield hub
        assert "Traceback" not in hub.log()


def notify(hub: HubProcess, path: str, payload: dict[str, Any], **headers: str) -> Reply:
    """As Apprise's plugin posts JSON."""
    sent = {"authorization": basic("x", hub.admin_key), "content_type": "application/json",
            "accept": "application/json", "user_agent": "Apprise", "x_apprise_recursion_count": "1"}  # fmt: skip
    return call(hub.port, "", "POST", path, payload, **{**sent, **headers})


def curl(hub: HubProcess, path: str, data: bytes, content_type: str = FORM) -> Reply:
    """As `curl -d` or `curl -F` posts a form."""
    headers = {"authorization": basic("", hub.admin_key), "accept": "*/*", "content_type": content_type}
    return call(hub.port, "", "POST", path, data, **headers)


def event_of(hub: HubProcess, id: str) -> dict[str, Any]:
    event: dict[str, Any] = call(hub.port, hub.admin_key, "GET", f"/api/events/{id}").json()["event"]
    return event


@pytest.mark.parametrize(
    ("path", "headers", "topic"),
    [
        ("/api/notify", {}, None), ("/api/notify/ops", {}, "ops"), ("/api/notify/ops/", {}, "ops"),
        ("/notify", {}, None), ("/notify/", {}, None), ("/notify/ops", {}, "ops"), ("/notify/ops/", {}, "ops"),
        ("/api/notify", {"x_apprise_config_id": "ops"}, "ops"),
    ],
)  # fmt: skip
def test_a_call_becomes_an_event(hub: HubProcess, path: str, headers: dict[str, str], topic: str | None) -> None:
    payload = {"title": "Press 7", "body": "冲床停机了。", "type": "warning", "tag": ["devops", "night"]}
    reply = notify(hub, path, payload, **headers)
    assert (reply.status, reply.json()["error"]) == (200, None)
    event = event_of(hub, reply.json()["id"])
    assert (event["title"], event["content"], event["priority"]) == ("Press 7", "冲床停机了。", 7)
    assert event["labels"] == {
        "via": "apprise", "type": "warning", "tags": "devops,night", "tag:devops": "yes", "tag:night": "yes",
        **({"topic": topic} if topic else {}),
    }  # fmt: skip


@pytest.mark.parametrize(("type_", "priority"), [("info", 5), ("success", 5), ("warning", 7), ("failure", 8)])
def test_types_are_priorities(hub: HubProcess, type_: str, priority: int) -> None:
    event = event_of(hub, notify(hub, "/notify/x", {"body": "x", "type": type_}).json()["id"])
    assert (event.get("priority", 5), event["labels"]["type"]) == (priority, type_)


def test_a_form_is_answered_in_text(hub: HubProcess) -> None:
    body = urlencode({"body": "test message", "title": "", "type": "", "tag": "a b, 5:c:2"}).encode()
    reply = curl(hub, "/notify/abc", body)
    assert (reply.status, reply.headers["content-type"]) == (200, "text/plain; charset=utf-8")
    event = event_of(hub, reply.body.decode().split()[-1])
    assert (event["content"], event["labels"]["type"], event["labels"]["tags"]) == ("test message", "info", "a,b,c")


def test_a_form_in_parts_is_read(hub: HubProcess) -> None:
    parts = (
        b'--b1\r\nContent-Disposition: form-data; name="body"\r\n\r\nline 1\r\nline 2\r\n'
        b'--b1\r\nContent-Disposition: form-data; name="title"\r\n\r\nT\r\n--b1--\r\n'
    )
    reply = curl(hub, "/notify/abc", parts, "multipart/form-data; boundary=b1")
    event = event_of(hub, reply.body.decode().split()[-1])
    assert (event["content"], event["title"]) == ("line 1\r\nline 2", "T")


def test_the_query_says_what_the_body_leaves_out(hub: HubProcess) -> None:
    reply = notify(hub, "/notify/x?title=Q&type=failure&tag=q&format=markdown", {"body": "x", "title": "B"})
    event = event_of(hub, reply.json()["id"])
    assert (event["title"], event["priority"]) == ("B", 8)
    assert (event["labels"]["tags"], event["labels"]["format"]) == ("q", "markdown")


def test_urls_are_left_out_of_account_and_that_is_said(hub: HubProcess) -> None:
    reply = notify(hub, "/notify", {"body": "x", "urls": "mailto://user:secret@example.org"})
    assert [level for level, _, _ in reply.json()["details"]] == ["INFO", "WARNING"]
    assert "secret" not in json.dumps([reply.json(), event_of(hub, reply.json()["id"])])


def test_where_no_route_takes_it_nothing_is_claimed(hub: HubProcess) -> None:
    """Apprise's 424: its clients count that as a failure."""
    reply = notify(hub, "/notify/nowhere", {"body": "x"})
    assert reply.status == 424
    assert "no [[route]] takes it" in reply.json()["error"]
    in_text = curl(hub, "/notify/nowhere", b"body=x")
    assert (in_text.status, in_text.body.splitlines()[-1][:6]) == (424, b"ERROR:")


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        ({}, "body"), ({"body": ""}, "body"), ({"body": " \n"}, "body"), ({"body": 5}, "body"),
        ({"body": "x", "type": "loud"}, "type"), ({"body": "x", "type": ""}, "type"),
        ({"body": "x", "format": "pdf"}, "format"), ({"body": "x", "tag": "a!b"}, "tag"),
        ({"body": "x", "tag": {"a": 1}}, "tag"), ({"body": "x", "tag": [5]}, "tag[0]"),
        ({"body": "x", "attach": "https://x.y/z.png"}, "attach"), ({"body": "x", "attachments": [{}]}, "attachments"),
        ({"body": "x" * 1_000_001}, "content"), ({"body": "x", "title": "x" * 1001}, "title"),
    ],
)  # fmt: skip
def test_a_wrong_payload_is_told_where_the_clients_look(hub: HubProcess, payload: dict[str, Any], field: str) -> None:
    reply = notify(hub, "/notify/x", payload)
    assert (reply.status, reply.json()["field"]) == (400, field)
    assert reply.json()["error"] == reply.json()["detail"]


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/notify/x", {"authorization": "Bearer wrong"}, 401), ("/notify/x?:message=body", {}, 400),
        ("/notify/x?type=loud", {}, 400), ("/notify/x", {"x_apprise_recursion_count": "2"}, 400),
        ("/notify/x", {"x_apprise_recursion_count": "-1"}, 400), ("/notify", {"x_apprise_config_id": "a b"}, 400),
        ("/notify/x", {"content_type": "text/csv"}, 415), ("/notify/x", {"content_type": "multipart/form-data"}, 400),
        ("/notify/a.b", {}, 404), ("/notify/x/y", {}, 404), ("/notify//", {}, 404), ("/api/notify/a%20b", {}, 404),
    ],
)  # fmt: skip
def test_wrong_calls_are_refused(hub: HubProcess, path: str, headers: dict[str, str], status: int) -> None:
    assert notify(hub, path, {"body": "x"}, **headers).status == status
