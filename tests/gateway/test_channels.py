"""A hub with a channel, from outside: what goes out, what an operator sees and does, and the hub's restart."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import pytest

from cli.terminal import autoglm
from eventually import wait_until
from fakes.wecom_robot import KEY, WeComRobots
from hub import HubProcess, running_hub


def config(vendor: WeComRobots, *, more: str = "") -> str:
    return f"""
[outbox]
first_retry_s = 0.05
max_retry_s = 0.2
[[channel]]
name = "wecom"
kind = "wecom-robot"
base_url = "{vendor.url}"
per_minute = 10000
{more}
[channel.robots.ops]
key = "{KEY}"
"""


@pytest.fixture
def vendor() -> Iterator[WeComRobots]:
    with WeComRobots() as vendor:
        yield vendor


@pytest.fixture
def hub(vendor: WeComRobots, tmp_path: Path) -> Iterator[HubProcess]:
    with running_hub(tmp_path / "hub", config(vendor)) as hub:
        yield hub


def send(http: httpx2.Client, text: str, to: str = "channel:wecom/ops", **fields: Any) -> str:
    reply = http.post("/api/messages", json={"to": to, "content": text, **fields})
    assert reply.status_code == 202, reply.text
    return str(reply.json()["id"])


def states(http: httpx2.Client, id: str) -> list[str]:
    return [step["state"] for step in http.get(f"/api/messages/{quote(id, safe='')}/receipts").json()["receipts"]]


def dead(http: httpx2.Client) -> list[Any]:
    return list(http.get("/api/outbox/dead").json()["dead_letters"])


def test_a_message_to_a_robot_arrives_and_says_so(hub: HubProcess, vendor: WeComRobots) -> None:
    with hub.client() as http:
        id = send(http, "The press is down. 压机停了。")
        wait_until(lambda: states(http, id) == ["accepted", "sent"])
    assert vendor.texts == ["The press is down. 压机停了。"]


@pytest.mark.parametrize(
    ("to", "code", "words"),
    [
        ("channel:wecom/nobody", "unknown_recipient", "its settings name: ops"),
        ("channel:mail/ops", "unknown_recipient", "no channel 'mail'"),
    ],
)
def test_a_wrong_address_is_told_at_once(hub: HubProcess, to: str, code: str, words: str) -> None:
    with hub.client() as http:
        reply = http.post("/api/messages", json={"to": to, "content": "x"})
    assert (reply.status_code, reply.json()["code"]) == (404, code)
    assert words in reply.json()["detail"]


def test_what_the_channel_cannot_carry_is_told_at_once(hub: HubProcess) -> None:
    with hub.client() as http:
        reply = http.post("/api/messages", json={"to": "channel:wecom/ops", "content": " "})
    assert (reply.status_code, reply.json()["field"]) == (400, "content")


def test_a_dead_letter_is_seen_edited_and_sent_again(hub: HubProcess, vendor: WeComRobots) -> None:
    vendor.faults.append("permanent")
    with hub.client() as http:
        id = send(http, "wrong", id="m/1")
        wait_until(lambda: dead(http))
        (letter,) = dead(http)
        assert (letter["message"]["id"], letter["code"], letter["attempts"]) == ("m/1", "40058", 1)
        assert KEY not in json.dumps(letter)
        shown = autoglm("outbox", "dead", data=hub.data_dir).out
        assert "m/1" in shown
        assert "40058: WeCom says that a field of the message is wrong (1 attempt)" in shown
        assert "1 could not be delivered" in autoglm("outbox", data=hub.data_dir).out
        again = json.loads(autoglm("outbox", "resend", id, "--text", "right", "--json", data=hub.data_dir).out)
        wait_until(lambda: vendor.texts == ["right"])
        wait_until(lambda: states(http, again["id"]) == ["accepted", "sent"])
        assert states(http, "m/1")[-1] == "failed"
        assert dead(http) == []


def test_an_answer_to_a_notice_that_was_sent_again_counts_for_its_event(vendor: WeComRobots, tmp_path: Path) -> None:
    vendor.faults.append("permanent")
    route = '[[route]]\nname = "ops"\nto = ["channel:wecom/ops"]\n'
    with running_hub(tmp_path / "hub", config(vendor) + route) as hub, hub.client() as http:
        event = http.post("/api/events", json={"content": "The press is down."}).json()["id"]
        wait_until(lambda: dead(http))
        (letter,) = dead(http)
        id = quote(letter["message"]["id"], safe="")
        again = http.post(f"/api/outbox/dead/{id}/resend", json={"content": "It is down."}).json()["id"]
        wait_until(lambda: vendor.texts == ["It is down."])
        account = http.get(f"/api/events/{event}").json()
        assert [notice["notice"]["message"] for notice in account["notices"]] == [letter["message"]["id"], again]
        http.post(f"/api/messages/{quote(again, safe='')}/ack", json={"state": "acknowledged"}).raise_for_status()
        assert http.get(f"/api/events/{event}").json()["acknowledged_by"] == "channel:wecom/ops"


def test_a_dead_letter_can_be_dropped_once(hub: HubProcess, vendor: WeComRobots) -> None:
    vendor.faults.append("permanent")
    with hub.client() as http:
        id = send(http, "wrong")
        wait_until(lambda: dead(http))
        assert autoglm("outbox", "drop", id, data=hub.data_dir).out == f"{id} is dropped\n"
        assert http.delete(f"/api/outbox/dead/{id}").status_code == 404
        assert autoglm("outbox", "dead", data=hub.data_dir).out == "Everything could be delivered.\n"


def test_a_resend_to_a_wrong_place_leaves_the_letter(hub: HubProcess, vendor: WeComRobots) -> None:
    vendor.faults.append("permanent")
    with hub.client() as http:
        id = send(http, "wrong")
        wait_until(lambda: dead(http))
        reply = http.post(f"/api/outbox/dead/{id}/resend", json={"to": "channel:wecom/nobody"})
        assert reply.status_code == 404
        assert len(dead(http)) == 1


def test_a_revoked_key_is_seen_and_the_messages_go_when_it_is_right_again(hub: HubProcess, vendor: WeComRobots) -> None:
    vendor.keys.clear()
    with hub.client() as http:
        id = send(http, "hello")
        wait_until(lambda: states(http, id) == ["accepted", "queued"])
        assert "93000: WeCom does not know the robot's key" in autoglm("outbox", data=hub.data_dir).out
        checked = autoglm("doctor", "channels", data=hub.data_dir)
        assert (checked.status, "no  wecom    wecom-robot" in checked.out) == (1, True)
        vendor.keys.add(KEY)
        assert autoglm("outbox", "retry", "wecom", data=hub.data_dir).out == "wecom: 1 lane tried now\n"
        wait_until(lambda: states(http, id)[-1] == "sent")
        assert "ok  wecom    wecom-robot" in autoglm("doctor", "channels", data=hub.data_dir).out
        assert autoglm("outbox", data=hub.data_dir).out == "Nothing waits to go out.\n"


def test_what_was_not_sent_goes_out_after_kill_9(hub: HubProcess, vendor: WeComRobots) -> None:
    with hub.client() as http:
        first = send(http, "first")
        wait_until(lambda: states(http, first)[-1] == "sent")
        vendor.keys.clear()
        ids = [send(http, f"m{number}") for number in range(20)]
        wait_until(lambda: states(http, ids[0])[-1] == "queued")
    hub.kill()
    vendor.keys.add(KEY)
    hub.start()
    with hub.client() as http:
        wait_until(lambda: all(states(http, id)[-1] == "sent" for id in ids))
    assert sorted(vendor.texts) == sorted(["first", *(f"m{number}" for number in range(20))])


def test_an_end_by_sigterm_waits_for_the_vendors_answer(hub: HubProcess, vendor: WeComRobots) -> None:
    with hub.client() as http:
        ids = [send(http, f"m{number}") for number in range(30)]
    assert hub.stop() == 0
    hub.start()
    with hub.client() as http:
        wait_until(lambda: all(states(http, id)[-1] == "sent" for id in ids))
    assert sorted(vendor.texts) == sorted(f"m{number}" for number in range(30))


def test_the_operators_calls_need_an_admins_key(hub: HubProcess) -> None:
    with httpx2.Client(base_url=hub.url) as http:
        for path in ("/api/channels", "/api/outbox", "/api/outbox/dead"):
            assert http.get(path).status_code == 401
        assert http.post("/api/hooks/wecom", json={}).status_code == 404  # robots hear nothing


def test_metrics_tell_of_attempts_and_of_what_waits(hub: HubProcess, vendor: WeComRobots) -> None:
    vendor.faults.extend(["transient"])
    with hub.client() as http:
        id = send(http, "hello")
        wait_until(lambda: states(http, id)[-1] == "sent")
        page = http.get("/metrics").text
    assert 'autoglm_channel_attempts_total{channel="wecom",result="transient"} 1.0' in page
    assert 'autoglm_channel_attempts_total{channel="wecom",result="accepted"} 1.0' in page
    assert 'autoglm_outbox_messages{channel="wecom"} 0.0' in page
