"""Events on a hub from outside: told, explained, silenced, acknowledged by a reply, and kept over kill -9."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.terminal import autoglm
from eventually import wait_until
from fakes.wecom_robot import KEY, WeComRobots
from hub import HubProcess, running_hub

CONFIG = """
[outbox]
first_retry_s = 0.05
[[channel]]
name = "wecom"
kind = "wecom-robot"
base_url = "{url}"
[channel.robots.ops]
key = "{key}"

[[route]]
name = "alarms"
match = {{ kinds = ["alert"], labels = {{ line = "3" }} }}
to = ["channel:wecom/ops", "user:alice"]
template = "{{{{ event.title }}}}: {{{{ event.content }}}} ({{{{ event.labels.line }}}})"

[[route.then]]
after_s = 3600
to = ["user:boss"]

[[route]]
name = "broken"
match = {{ labels = {{ line = "9" }} }}
to = ["user:alice"]
template = "{{{{ event.labels.nothing }}}}"

[[key]]
name = "robot-1"
value = "sk-robot-1"
scopes = ["send:message:*"]

[[route]]
name = "logs"
match = {{ kinds = ["log"] }}
"""
ALARM = ("--title", "Press 7", "--kind", "alert", "--label", "line=3", "-p", "9")


@pytest.fixture(scope="module")
def vendor() -> Iterator[WeComRobots]:
    with WeComRobots() as vendor:
        yield vendor


@pytest.fixture(scope="module")
def shared_hub(vendor: WeComRobots, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    folder: Path = tmp_path_factory.mktemp("events") / "hub"
    with running_hub(folder, CONFIG.format(url=vendor.url, key=KEY)) as hub:
        yield hub


@pytest.fixture
def hub(shared_hub: HubProcess, vendor: WeComRobots) -> HubProcess:
    vendor.bodies.clear()
    return shared_hub


def test_route_test_explains_where_an_event_would_go_and_sends_nothing(hub: HubProcess, vendor: WeComRobots) -> None:
    shown = autoglm("route", "test", "down", *ALARM, data=hub.data_dir).out
    assert shown == (
        "yes  alarms: all that it asks for holds\n"
        "     at once to channel:wecom/ops (the route names it)\n"
        "     at once to user:alice (the route names it)\n"
        "     after 3600 s, unless acknowledged, to user:boss\n"
        "     | Press 7: down (3)\n"
    )
    shown = autoglm("route", "test", "x", "--label", "line=4", data=hub.data_dir).out
    assert "no   alarms: its kind is event, not alert" in shown
    assert "nobody told: no [[route]] matches" in shown
    assert "to nobody" in autoglm("route", "test", "x", "--kind", "log", data=hub.data_dir).out
    assert vendor.bodies == []


def test_a_template_that_fails_is_named_beside_the_decision(hub: HubProcess) -> None:
    """An alarm of line 9 goes out without its template, and so says the test."""
    shown = autoglm("route", "test", "down", "--kind", "alert", "--label", "line=9", data=hub.data_dir).out
    assert "yes  broken: all that it asks for holds" in shown
    assert "at once to user:alice" in shown
    assert "its template does not work, so the text goes out without it: template: the template fails:" in shown
    assert "'dict object' has no attribute 'nothing'" in shown
    assert "| down" in shown


def test_silences_are_for_those_who_may_see_events(hub: HubProcess) -> None:
    with hub.client() as http:
        http.headers["Authorization"] = "Bearer sk-robot-1"
        assert http.post("/api/events", json={"content": "x"}).status_code == 202
        for path in ("/api/events", "/api/silences"):
            reply = http.get(path)
            assert (reply.status_code, reply.json()["code"]) == (403, "forbidden"), path


def test_an_alarm_is_told_and_its_acknowledgement_ends_the_wait(hub: HubProcess, vendor: WeComRobots) -> None:
    sent = json.loads(autoglm("notify", "down", *ALARM, "--json", data=hub.data_dir).out)
    wait_until(lambda: vendor.texts == ["Press 7: down (3)"])
    with hub.client() as http:
        (letter,) = [
            one for one in http.get("/api/messages?to=user:alice&limit=1000").json()["messages"]
            if one["labels"]["event"] == sent["id"]
        ]  # fmt: skip
        assert http.post(f"/api/messages/{letter['id']}/ack", json={}).status_code == 200
        account = http.get(f"/api/events/{sent['id']}?wait=20").json()
    assert account["acknowledged_by"] == "user:alice"
    assert {one["notice"]["to"] for one in account["notices"]} == {"channel:wecom/ops", "user:alice"}


def test_notify_says_who_acknowledged_or_that_nobody_did(hub: HubProcess) -> None:
    late = autoglm("notify", "down", *ALARM, "--label", "n=1", "--wait", "1s", data=hub.data_dir)
    assert late.status == 1
    assert "nobody acknowledged within 1 s (told so far: channel:wecom/ops, user:alice)" in late.err


def test_who_repeats_an_alert_is_shown_by_which_event_people_know_of_it(hub: HubProcess) -> None:
    first, again = (
        json.loads(autoglm("notify", words, *ALARM, "--label", "n=20", "--json", data=hub.data_dir).out)["id"]
        for words in ("61 bar", "62 bar")
    )
    with hub.client() as http:
        wait_until(lambda: http.get(f"/api/events/{again}").json()["repeats"] == first)
    shown = autoglm("events", "show", again, data=hub.data_dir).out
    assert f"the same alert as {first}, of which people are told already" in shown
    assert "told to channel:wecom/ops" in shown


def test_who_tells_of_an_event_learns_at_once_that_nobody_will_hear_of_it(hub: HubProcess) -> None:
    for wait in ((), ("--wait", "1h")):
        told = autoglm("notify", "x", "--kind", "event", *wait, data=hub.data_dir)
        assert (told.status, "nobody is told: no [[route]] takes it" in told.err) == (1 if wait else 0, True)
    sent = json.loads(autoglm("notify", "x", "--json", data=hub.data_dir).out)
    assert sent["warning"] == "no-route"
    shown = autoglm("events", "show", sent["id"], data=hub.data_dir).out
    assert "nobody was told: no [[route]] took it, or something muted it" in shown
    made = autoglm("silences", "add", "--label", "n=9", "--for", "1h", "--json", data=hub.data_dir)
    told = autoglm("notify", "down", *ALARM, "--label", "n=9", data=hub.data_dir)
    assert re.search(r"a silence mutes it; .*autoglm silences", told.err)
    with hub.client() as http:
        for labels, state in (({"line": "3", "n": "10"}, None), ({"line": "4", "n": "9"}, "resolved")):
            event = {"content": "x", "kind": "alert", "labels": labels, "state": state or "firing"}
            assert "warning" not in http.post("/api/events", json=event).json()
    autoglm("silences", "end", json.loads(made.out)["id"], data=hub.data_dir)


def test_an_operator_acknowledges_and_resolves(hub: HubProcess, vendor: WeComRobots) -> None:
    sent = json.loads(autoglm("notify", "down", *ALARM, "--label", "n=2", "--json", data=hub.data_dir).out)
    with hub.client() as http:
        wait_until(lambda: len(http.get(f"/api/events/{sent['id']}").json()["notices"]) == 2)
        account = http.post(f"/api/events/{sent['id']}/ack").json()
        assert account["acknowledged_by"] == "user:admin"
        wait_until(lambda: not http.get(f"/api/events/{sent['id']}").json()["is_open"])
        autoglm("notify", "runs", *ALARM, "--label", "n=2", "--resolved", data=hub.data_dir)
        wait_until(lambda: vendor.texts[-1:] == ["Press 7: runs (3)"])
        assert http.get("/api/events/never").status_code == 404


def test_an_events_timeline_has_each_attempt_and_receipt(hub: HubProcess, vendor: WeComRobots) -> None:
    vendor.faults.append("transient")
    sent = json.loads(autoglm("notify", "down", *ALARM, "--label", "n=5", "--json", data=hub.data_dir).out)
    with hub.client() as http:
        wait_until(lambda: vendor.texts == ["Press 7: down (3)"])
        wait_until(lambda: len(http.get(f"/api/events/{sent['id']}").json()["notices"][0]["steps"]) == 2)
    assert (
        autoglm("events", "ack", sent["id"], data=hub.data_dir).out == f"{sent['id']} is acknowledged by user:admin\n"
    )
    lines = [line[14:] for line in autoglm("events", "show", sent["id"], data=hub.data_dir).out.splitlines()]
    assert lines[0] == "user:admin: alert: Press 7 down"
    assert "told to user:alice" in lines
    robot = [line for line in lines if line.startswith("channel:wecom/ops: ")]
    assert robot == [
        "channel:wecom/ops: queued -1: WeCom is busy",
        "channel:wecom/ops: sent",
        "channel:wecom/ops: acknowledged by user:admin",
    ]
    shown = autoglm("events", "--limit", "1", data=hub.data_dir).out
    assert "by user:admin  channel:wecom/ops user:alice  Press 7 down" in shown


def test_a_silence_is_made_seen_and_ended(hub: HubProcess, vendor: WeComRobots) -> None:
    made = autoglm("silences", "add", "--label", "n=3", "--for", "2h", "--comment", "检修", data=hub.data_dir).out
    id = made.split()[0]
    assert "n=3     检修" in autoglm("silences", data=hub.data_dir).out
    assert f"because of silence {id}" in autoglm("route", "test", "x", *ALARM, "-l", "n=3", data=hub.data_dir).out
    autoglm("notify", "down", *ALARM, "--label", "n=3", data=hub.data_dir)
    assert autoglm("silences", "end", id, data=hub.data_dir).out == f"{id} has ended\n"
    assert autoglm("silences", data=hub.data_dir).out == "Nothing is silenced.\n"
    assert autoglm("silences", "add", "--for", "2h", data=hub.data_dir).status == 2
    autoglm("notify", "loud", *ALARM, "--label", "n=3", data=hub.data_dir)
    wait_until(lambda: vendor.texts == ["Press 7: loud (3)"])


def test_metrics_count_events_by_what_became_of_them(hub: HubProcess) -> None:
    autoglm("notify", "x", "--kind", "log", data=hub.data_dir)
    autoglm("notify", "x", data=hub.data_dir)
    with hub.client() as http:
        wait_until(lambda: 'autoglm_events_total{kind="event",result="unrouted"}' in http.get("/metrics").text)
        assert 'autoglm_events_total{kind="log",result="told"} ' in http.get("/metrics").text


def test_a_repeat_is_one_event_and_a_wrong_one_is_told(hub: HubProcess) -> None:
    with hub.client() as http:
        first = http.post("/api/events", json={"id": "e-1", "content": "x"})
        again = http.post("/api/events", json={"id": "e-1", "content": "x"})
        other = http.post("/api/events", json={"id": "e-1", "content": "y"})
        assert (first.status_code, again.status_code, other.status_code) == (202, 200, 409)
        assert first.json() == again.json()
        wrong = http.post("/api/events", json={"content": "x", "labls": {}})
        assert (wrong.status_code, wrong.json()["field"]) == (400, "labls")
        assert "Did you mean 'labels'?" in wrong.json()["detail"]


def test_events_and_their_steps_outlive_kill_9(vendor: WeComRobots, tmp_path: Path) -> None:
    config = CONFIG.format(url=vendor.url, key=KEY).replace("after_s = 3600", "after_s = 3")
    with running_hub(tmp_path / "hub", config) as hub:
        autoglm("notify", "down", *ALARM, data=hub.data_dir)
        with hub.client() as http:
            inbox = "/api/messages?to=user:alice"
            wait_until(lambda: http.get(inbox).json()["messages"])
        hub.kill()
        hub.start()
        with hub.client() as http:
            boss = "/api/messages?to=user:boss"
            wait_until(lambda: http.get(boss).json()["messages"], 15)
            assert len(http.get(inbox).json()["messages"]) == 1
