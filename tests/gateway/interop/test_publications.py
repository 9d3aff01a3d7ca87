"""Publications as ntfy's clients and its documentation send them: each becomes an event, answered as ntfy answers."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.wire import Reply, call
from hub import HubProcess, running_hub

CONFIG = """
[[route]]
name = "topics"
match = { labels = { topic = "!nowhere" } }
to = ["user:alice"]

[[key]]
name = "reader"
value = "sk-reader"
scopes = ["read:message:*"]
"""
CURL = {"user_agent": "curl/8.5", "accept": "*/*", "content_type": "application/x-www-form-urlencoded"}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    with running_hub(tmp_path_factory.mktemp("ntfy") / "hub", CONFIG) as hub:
        yield hub
        assert "Traceback" not in hub.log()


def basic(user: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


def curl(hub: HubProcess, path: str, data: str | bytes = b"", *, method: str = "POST", **headers: str) -> Reply:
    """`curl -u :KEY -d DATA -H ... HUB/path`. Headers go out in UTF-8."""
    sent = {"authorization": basic("", hub.admin_key), **CURL, **headers}
    raw = {name: value.encode().decode("latin-1") for name, value in sent.items()}
    body = data.encode() if isinstance(data, str) else data
    return call(hub.port, "", method, path, body, **raw)


def event_of(hub: HubProcess, reply: Reply) -> dict[str, Any]:
    assert reply.status == 200, reply.body
    event: dict[str, Any] = call(hub.port, hub.admin_key, "GET", f"/api/events/{reply.json()['id']}").json()["event"]
    return event


@pytest.mark.parametrize("reading", ["json", "json?poll=1", "sse", "raw", "ws"])
def test_nobody_subscribes_here(hub: HubProcess, reading: str) -> None:
    """As docs/interop.md says: an answer that looked like ntfy's would have apps wait for what never comes."""
    assert curl(hub, f"/mytopic/{reading}", method="GET").status == 404


def test_a_text_is_published_and_answered_as_ntfy_does(hub: HubProcess) -> None:
    reply = curl(hub, "/mytopic", "Backup successful 😀\n")
    answer = reply.json()
    assert {"event": "message", "topic": "mytopic", "message": "Backup successful 😀"}.items() <= answer.items()
    assert answer.keys() == {"id", "time", "event", "topic", "message"}
    event = event_of(hub, reply)
    assert (event["content"], event["from"]) == ("Backup successful 😀", "user:admin")
    assert event["labels"] == {"via": "ntfy", "topic": "mytopic"}
    assert answer["time"] == event["timestamp"] // 1000
    letters = call(hub.port, hub.admin_key, "GET", "/api/messages?to=user:alice&wait=20").json()["messages"]
    assert letters, "the route told alice"


@pytest.mark.parametrize("headers", [{"title": "冲床 7"}, {"x_title": "冲床 7"}, {"t": " 冲床 7 "},
                                     {"title": "=?UTF-8?B?5Yay5bqKIDc=?="}])  # fmt: skip
def test_a_title_has_three_names_and_may_be_encoded(hub: HubProcess, headers: dict[str, str]) -> None:
    reply = curl(hub, "/t", "x", **headers)
    assert reply.json()["title"] == event_of(hub, reply)["title"] == "冲床 7"


@pytest.mark.parametrize(
    ("text", "theirs", "ours"),
    [("1", 1, 1), ("min", 1, 1), ("low", 2, 3), ("3", 3, 5), ("default", 3, 5), ("High", 4, 7), ("5", 5, 9),
     ("max", 5, 9), ("urgent", 5, 9)],
)  # fmt: skip
def test_priorities_are_mapped(hub: HubProcess, text: str, theirs: int, ours: int) -> None:
    reply = curl(hub, "/t", "x", priority=text)
    assert (reply.json()["priority"], event_of(hub, reply).get("priority", 5)) == (theirs, ours)


@pytest.mark.parametrize("urgency", ["u=4", "u=1, i", "i", "u=5,i=?0"])
def test_the_priority_of_http_itself_is_no_priority(hub: HubProcess, urgency: str) -> None:
    reply = curl(hub, "/t", "x", priority=urgency)
    assert "priority" not in reply.json()
    assert curl(hub, "/t", "x", priority=urgency, p="4").json()["priority"] == 4


def test_tags_are_labels_that_routes_can_match(hub: HubProcess) -> None:
    reply = curl(hub, "/t", "x", tags="warning, mailsrv13,,备份")
    assert reply.json()["tags"] == ["warning", "mailsrv13", "备份"]
    labels = event_of(hub, reply)["labels"]
    assert labels["tags"] == "warning,mailsrv13,备份"
    assert {labels[f"tag:{tag}"] for tag in reply.json()["tags"]} == {"yes"}


def test_put_publishes_and_parameters_say_what_headers_do(hub: HubProcess) -> None:
    reply = curl(
        hub, "/t?title=From+the+query&p=4&click=https%3A%2F%2Fx.y%2F&md=yes", "x", method="PUT", title="Header"
    )
    event = event_of(hub, reply)
    assert (event["title"], event["priority"]) == ("Header", 7)
    assert (event["labels"]["click"], event["labels"]["format"]) == ("https://x.y/", "markdown")
    assert reply.json()["content_type"] == "text/markdown"


def test_a_message_may_be_a_parameter_and_an_empty_one_is_triggered(hub: HubProcess) -> None:
    assert curl(hub, "/t?message=one%5Cntwo").json()["message"] == "one\ntwo"
    assert curl(hub, "/t").json()["message"] == "triggered"


@pytest.mark.parametrize("word", ["publish", "send", "trigger"])
def test_get_publishes_and_head_does_not(hub: HubProcess, word: str) -> None:
    reply = curl(hub, f"/hook/{word}?message=Webhook+{word}&priority=high", method="GET")
    assert (event_of(hub, reply)["content"], reply.json()["topic"]) == (f"Webhook {word}", "hook")
    head = curl(hub, f"/hook/{word}?message=never", method="HEAD")
    assert (head.status, head.body) == (200, b"")
    told = call(hub.port, hub.admin_key, "GET", "/api/messages?to=user:alice&limit=1000").json()["messages"]
    assert all(letter["content"] != "never" for letter in told)


def test_json_is_published_at_the_root(hub: HubProcess) -> None:
    body = {
        "topic": "mytopic", "message": "Disk space is low", "title": "Low disk", "tags": ["warning", "cd"],
        "priority": 4, "attach": "https://filesrv.lan/space.jpg?v=1", "click": "https://homecamera.lan/x",
        "actions": [{"action": "view", "label": "Admin panel", "url": "https://filesrv.lan/admin"}],
        "cache": "no", "unknown": None,
    }  # fmt: skip
    reply = curl(hub, "/", json.dumps(body))
    shared = ("topic", "message", "title", "tags", "priority", "click", "actions")
    assert {name: reply.json()[name] for name in shared} == {name: body[name] for name in shared}
    assert reply.json()["attachment"] == {"name": "space.jpg", "url": "https://filesrv.lan/space.jpg?v=1"}
    labels = event_of(hub, reply)["labels"]
    assert (labels["attachment"], labels["click"]) == (body["attach"], body["click"])
    assert json.loads(labels["actions"]) == body["actions"]


def test_headers_say_what_json_leaves_out(hub: HubProcess) -> None:
    """As Apprise's plugin sends it: the text in JSON, the rest in headers."""
    reply = curl(hub, "/", '{"topic": "t", "message": "x", "title": "json"}', x_priority="max", x_title="header",
                 x_tags="fire,skull", content_type="application/json", x_icon="https://x.y/icon.png")  # fmt: skip
    answer = reply.json()
    assert (answer["title"], answer["priority"], answer["tags"]) == ("json", 5, ["fire", "skull"])
    assert answer["icon"] == "https://x.y/icon.png"


def ways_to_say_a_key(key: str) -> dict[str, tuple[str, dict[str, str]]]:
    def in_query(header: str) -> str:
        return base64.urlsafe_b64encode(header.encode()).decode().rstrip("=")

    return {
        "bearer": ("", {"authorization": f"Bearer {key}"}),
        "password": ("", {"authorization": basic("phil", key)}),
        "user": ("", {"authorization": basic(key, "")}),
        "basic in the query": (f"?auth={in_query(basic('', key))}", {}),
        "bearer in the query": (f"?authorization={in_query(f'Bearer {key}')}", {}),
        "the query goes first": (f"?auth={in_query(basic('', key))}", {"authorization": "Bearer wrong"}),
    }


@pytest.mark.parametrize("way", ways_to_say_a_key(""))
def test_a_key_is_said_in_each_way_of_ntfy(hub: HubProcess, way: str) -> None:
    query, headers = ways_to_say_a_key(hub.admin_key)[way]
    assert call(hub.port, "", "POST", f"/t{query}", b"x", **headers).status == 200
    query, headers = ways_to_say_a_key("ag-wrong")[way]
    refused = call(hub.port, "", "POST", f"/t{query}", b"x", **headers)
    assert (refused.status, refused.json()["code"]) == (401, "unauthorized")
    assert refused.json()["error"] == refused.json()["detail"]


@pytest.mark.parametrize("auth", ["%25%25%25", "QmFzaWMg", "%E4%B8%AD", "QmFzaWMgLS0t"])
def test_what_is_no_credential_is_refused(hub: HubProcess, auth: str) -> None:
    assert call(hub.port, hub.admin_key, "POST", f"/t?auth={auth}", b"x").status == 401
    assert call(hub.port, "", "POST", "/t", b"x", authorization="Basic !").status == 401
    assert call(hub.port, "", "POST", "/t", b"x", authorization="Digest x").status == 401


def test_a_key_without_the_scope_publishes_nothing(hub: HubProcess) -> None:
    reply = call(hub.port, "sk-reader", "PUT", "/t", b"x")
    assert (reply.status, reply.json()["scope"]) == (403, "send:message:device:reader")


@pytest.mark.parametrize(
    ("headers", "field"),
    [
        ({"priority": "9"}, "priority"), ({"p": "shout"}, "priority"), ({"delay": "30min"}, "delay"),
        ({"at": "tomorrow, 10am"}, "delay"), ({"email": "a@b.c"}, "email"), ({"call": "yes"}, "call"),
        ({"template": "yes"}, "template"), ({"filename": "a.txt"}, "filename"), ({"attach": "file:///x"}, "attach"),
        ({"icon": "x.png"}, "icon"), ({"tags": "autoglm"}, "tags"), ({"actions": "dance, x"}, "actions"),
        ({"title": "x" * 1001}, "title"), ({"click": "x" * 1025}, "labels['click']"),
        ({"tags": ",".join(f"t{number}" for number in range(80))}, "labels"),
    ],
)  # fmt: skip
def test_what_the_hub_cannot_do_is_refused_and_not_dropped(
    hub: HubProcess, headers: dict[str, str], field: str
) -> None:
    reply = curl(hub, "/t", "x", **headers)
    assert (reply.status, reply.json()["field"]) == (400, field)


@pytest.mark.parametrize(
    "body",
    [b"", b"x", b"[]", b'{"message": "x"}', b'{"topic": "a b"}', b'{"topic": "t", "priority": 6}',
     b'{"topic": "t", "tags": "x"}', b'{"topic": "t", "actions": [{"action": "view", "label": "x"}]}',
     b'{"topic": "t", "filename": "x"}', b'{"topic": "t", "delay": "1h"}', b"\xff"],
)  # fmt: skip
def test_wrong_json_is_refused(hub: HubProcess, body: bytes) -> None:
    reply = curl(hub, "/", body)
    assert reply.status == 400
    assert reply.json()["error"]


def test_bytes_that_are_no_text_are_refused(hub: HubProcess) -> None:
    reply = curl(hub, "/t", b"\x7fELF\xff", method="PUT")
    assert (reply.status, reply.json()["field"]) == (400, "message")


def test_a_topic_without_a_route_is_hinted_at(hub: HubProcess) -> None:
    assert curl(hub, "/nowhere", "x").headers["x-autoglm-warning"] == "no-route"
    assert "x-autoglm-warning" not in curl(hub, "/somewhere", "x").headers


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("PUT", "/healthz", 405), ("POST", "/metrics", 405), ("PUT", "/api", 404), ("PUT", "/v1", 404),
        ("PUT", "/notify", 404), ("GET", "/api/publish", 404), ("POST", "/api/send", 404), ("GET", "/v1/send", 404),
        ("POST", "/models", 404), ("PUT", "/a.b", 404), ("PUT", "/a/b", 404), ("PUT", f"/{'a' * 65}", 404),
        ("PUT", "/%61", 404), ("PUT", "/index.html", 405), ("GET", "/t", 404), ("POST", "/t/publish", 404),
        ("DELETE", "/t", 404),
    ],
)  # fmt: skip
def test_topics_shadow_no_other_path(hub: HubProcess, method: str, path: str, status: int) -> None:
    assert curl(hub, path, "x", method=method).status == status


def test_the_page_is_still_at_the_root(hub: HubProcess) -> None:
    page = call(hub.port, "", "GET", "/")
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
