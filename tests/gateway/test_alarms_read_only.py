"""A hub whose policy nobody has renewed: nothing is changed any more save that alarms go out, by every way alike."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from auth.policy.authority import Authority, policy_files
from autoglm.auth.policy.settings import PolicySettings
from autoglm.core.clock import now_ms
from eventually import wait_until
from gateway.inside import Inside, hub_inside, settings
from gateway.wire import Reply, call

DAY_MS = 86_400_000
NOBODY_TELLS_THE_BOSS = 'forbid(principal, action == Action::"send:message", resource == User::"boss");'


@contextmanager
def with_policy(tmp_path_factory: pytest.TempPathFactory, cedar: str = "") -> Iterator[Inside]:
    folder = tmp_path_factory.mktemp("alarms")
    authority = Authority(folder / "authority")
    authority.clock.now_ms = now_ms()
    authority.publish(policy_files(cedar))
    policy = PolicySettings(
        root_file=folder / "authority" / "metadata" / "1.root.json", source=str(folder / "authority"),
        read_only_after_s=0, deny_after_s=10**9,
    )  # fmt: skip
    with hub_inside(folder / "data", settings().model_copy(update={"policy": policy})) as inside:
        inside.ask(inside.hub._trust.policy.pull())
        made = call(inside.port, inside.key, "POST", "/api/keys", {"name": "nurse", "scopes": ["send:message"]})
        inside.key = made.json()["key"]
        yield inside


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    """Its policy ended weeks ago."""
    with with_policy(tmp_path_factory) as inside:
        trust = inside.hub._trust
        trust.clock._wall_ms = lambda: now_ms() + 40 * DAY_MS
        wait_until(lambda: trust.decider.stage == "read_only")
        yield inside


@pytest.fixture(scope="module")
def ruled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    with with_policy(tmp_path_factory, NOBODY_TELLS_THE_BOSS) as inside:
        yield inside


def says(reply: Reply) -> Any:
    return reply.json()["reason"] if reply.status == 403 else reply.status


@pytest.mark.parametrize(
    ("path", "alarm", "other"),
    [
        (
            "/api/messages",
            {"to": "user:chief", "content": "x", "kind": "alert"},
            {"to": "user:chief", "content": "x"},
        ),
        ("/api/events", {"content": "x", "kind": "alert"}, {"content": "x"}),
        (
            "/api/questions",
            {"to": "user:chief", "question": "Stop?", "labels": {"kind": "alert"}},
            {"to": "user:chief", "question": "Tea?"},
        ),
        ("/", {"topic": "press", "message": "hot", "priority": 5}, {"topic": "press", "message": "hot"}),
        ("/api/notify", {"body": "hot", "type": "failure"}, {"body": "hot", "type": "success"}),
    ],
)
def test_an_alarm_goes_out_by_every_way_and_nothing_else_does(
    hub: Inside, path: str, alarm: dict[str, Any], other: dict[str, Any]
) -> None:
    assert says(call(hub.port, hub.key, "POST", path, alarm, content_type="application/json")) in (200, 202, 424)
    assert says(call(hub.port, hub.key, "POST", path, other, content_type="application/json")) == "stale"


def test_the_header_of_ntfy_makes_an_alarm_as_its_json_does(hub: Inside) -> None:
    assert call(hub.port, hub.key, "POST", "/press", b"hot", x_priority="high").status == 200
    assert says(call(hub.port, hub.key, "POST", "/press", b"hot", x_priority="default")) == "stale"
    assert says(call(hub.port, hub.key, "GET", "/press/publish?message=hot")) == "stale"
    assert call(hub.port, hub.key, "HEAD", "/press/publish?message=hot").status == 403


def test_who_sent_an_alarm_sees_what_came_of_it(hub: Inside) -> None:
    event = call(hub.port, hub.key, "POST", "/api/events", {"content": "x", "kind": "alert"}).json()["id"]
    asked = {"to": "user:chief", "question": "Stop?", "labels": {"kind": "alert"}}
    question = call(hub.port, hub.key, "POST", "/api/questions", asked).json()["id"]
    assert call(hub.port, hub.key, "GET", f"/api/events/{event}").status == 200
    assert call(hub.port, hub.key, "GET", f"/api/questions/{question}").json()["state"] == "open"


@pytest.mark.attack("a policy gone round by another way to send")
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/messages", {"content": "x"}), ("/api/questions", {"question": "Stop?"}),
        ("/api/events", {"content": "x", "kind": "alert"}),
    ],
)  # fmt: skip
def test_whom_nobody_may_write_to_nobody_asks_or_alarms(ruled: Inside, path: str, body: dict[str, Any]) -> None:
    assert says(call(ruled.port, ruled.key, "POST", path, {"to": "user:boss", **body})) == "forbidden"
    assert says(call(ruled.port, ruled.key, "POST", path, {"to": "user:chief", **body})) == 202
