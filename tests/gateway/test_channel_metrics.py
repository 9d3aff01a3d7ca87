"""What `/metrics` says of channels, the outbox, events and questions: each moves, and stands in the docs."""

import os
import re
import shutil
import signal
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from autoglm.channels.outbox import outbox
from autoglm.settings import Settings
from eventually import wait_until
from fakes.wecom_robot import KEY, WeComRobots
from gateway.inside import Inside, hub_inside
from gateway.test_hook_flood import CONFIG as PLANT
from gateway.test_hook_flood import MIB, signed

DOCS = Path(__file__).resolve().parents[2] / "docs"
HOUSE = """
[gateway]
port = 0
drain_s = 5.0
[outbox]
first_retry_s = 0.05
max_retry_s = 0.2
"""
ROBOT = f"""
[[channel]]
name = "wecom"
kind = "wecom-robot"
base_url = "{{url}}"
[channel.robots.ops]
key = "{KEY}"
[channel.robots.night]
key = "{KEY}"
"""
EVERYTHING = """
[[budget]]
name = "all"
per = "day"
tokens = 1000
[cache]
mode = "on"
[telemetry]
otlp_endpoint = "http://127.0.0.1:9"
"""


class Watched:
    """A hub, and a client with its admin's key."""

    def __init__(self, inside: Inside, http: httpx2.Client) -> None:
        self.inside, self.http = inside, http

    def value(self, name: str, **labels: str) -> float | None:
        """Of a sample; None where there is none."""
        for family in text_string_to_metric_families(self.http.get("/metrics").raise_for_status().text):
            for sample in family.samples:
                if (sample.name, sample.labels) == (f"autoglm_{name}", labels):
                    return float(sample.value)
        return None

    def shows(self, wanted: float, name: str, **labels: str) -> None:
        wait_until(lambda: self.value(name, **labels) == wanted, every_s=0.05)

    def send(self, text: str, to: str = "channel:wecom/ops", **fields: Any) -> str:
        reply = self.http.post("/api/messages", json={"to": to, "content": text, **fields})
        return str(reply.raise_for_status().json()["id"])

    def ask(self, to: str, **fields: Any) -> str:
        reply = self.http.post("/api/questions", json={"to": to, "question": "Stop press 7?", **fields})
        return str(reply.raise_for_status().json()["id"])

    def call(self, hook: str, body: bytes, headers: dict[str, str]) -> int:
        """The status of the answer to a vendor's call."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return httpx2.post(f"{self.inside.hub.url}/api/hooks/{hook}", content=body, headers=named).status_code


@contextmanager
def watched(folder: Path, config: str) -> Iterator[Watched]:
    chosen = Settings.model_validate(tomllib.loads(HOUSE + config))
    with (
        hub_inside(folder / "data", chosen) as inside,
        httpx2.Client(base_url=inside.hub.url, headers={"Authorization": f"Bearer {inside.key}"}, timeout=20) as http,
    ):
        yield Watched(inside, http)


@pytest.fixture
def vendor() -> Iterator[WeComRobots]:
    with WeComRobots() as vendor:
        yield vendor


def test_messages_out_are_timed_by_their_first_end(vendor: WeComRobots, tmp_path: Path) -> None:
    """From when the hub took them, with all their attempts."""
    with watched(tmp_path, ROBOT.format(url=vendor.url)) as hub:
        vendor.faults.append("transient")
        hub.send("late")
        hub.shows(1, "outbox_message_seconds_count", channel="wecom", state="sent")
        vendor.faults.append("permanent")
        hub.send("wrong")
        hub.shows(1, "outbox_message_seconds_count", channel="wecom", state="failed")
        took_s = hub.value("outbox_message_seconds_sum", channel="wecom", state="sent")
        assert took_s is not None
        assert 0.025 <= took_s < 20, "a retry waits for half of first_retry_s at least"
        assert hub.value("channel_attempts_total", channel="wecom", result="transient") == 1


def test_dead_letters_are_told_with_their_size_also_after_a_restart(vendor: WeComRobots, tmp_path: Path) -> None:
    config = ROBOT.format(url=vendor.url)
    with watched(tmp_path, config) as hub:
        assert (hub.value("dead_letters"), hub.value("dead_letters_bytes")) == (0, 0)
        vendor.faults.append("permanent")
        id = hub.send("x" * 1000)
        hub.shows(1, "dead_letters")
        size = hub.value("dead_letters_bytes")
        assert size is not None
        assert 1000 < size < 3000
    with watched(tmp_path, config) as hub:
        assert (hub.value("dead_letters"), hub.value("dead_letters_bytes")) == (1, size)
        hub.http.delete(f"/api/outbox/dead/{id}").raise_for_status()
        assert (hub.value("dead_letters"), hub.value("dead_letters_bytes")) == (0, 0)


def test_a_channel_is_up_as_its_newest_attempt_or_check_says(vendor: WeComRobots, tmp_path: Path) -> None:
    with watched(tmp_path, ROBOT.format(url=vendor.url)) as hub:
        assert hub.value("channel_up", channel="wecom") is None, "nobody has tried it"
        hub.send("hello")
        hub.shows(1, "channel_up", channel="wecom")
        vendor.faults.append("permanent")
        hub.send("wrong")
        hub.shows(1, "dead_letters")
        assert hub.value("channel_up", channel="wecom") == 1, "the message was wrong, not the channel"
        vendor.keys.clear()
        hub.send("held up")
        hub.shows(0, "channel_up", channel="wecom")
        assert hub.value("outbox_paused_lanes", channel="wecom") == 1
        assert hub.value("outbox_messages", channel="wecom") == 1
        vendor.keys.add(KEY)
        hub.http.get("/api/channels", params={"check": 1}).raise_for_status()
        assert hub.value("channel_up", channel="wecom") == 1
        hub.http.post("/api/channels/wecom/retry").raise_for_status()
        hub.shows(0, "outbox_paused_lanes", channel="wecom")


def test_a_channel_with_more_targets_than_lanes_is_crowded(
    vendor: WeComRobots, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "MAX_LANES", 1)
    monkeypatch.setattr(outbox, "LEAST_LANES", 1)
    vendor.keys.clear()
    with watched(tmp_path, ROBOT.format(url=vendor.url)) as hub:
        hub.send("first")
        hub.shows(1, "outbox_paused_lanes", channel="wecom")
        assert hub.value("outbox_crowded", channel="wecom") == 0
        hub.send("second", "channel:wecom/night")
        hub.shows(1, "outbox_crowded", channel="wecom")
        vendor.keys.add(KEY)
        hub.http.post("/api/channels/wecom/retry").raise_for_status()
        hub.shows(0, "outbox_crowded", channel="wecom")


def test_what_comes_in_is_counted_by_what_became_of_it(tmp_path: Path) -> None:
    """Of those whose signature is wrong the answer's status alone: they are no messages."""
    strangers = PLANT.replace('senders = ["press"]', 'senders = ["other"]').replace('"plant"', '"strangers"')
    body, headers = signed(1, "hello")
    with watched(tmp_path, PLANT + strangers) as hub:
        assert hub.value("channel_received_total", channel="plant", result="taken") == 0
        assert [hub.call("plant", body, headers), hub.call("plant", body + b" ", headers)] == [200, 401]
        assert hub.value("channel_received_total", channel="plant", result="taken") == 1
        assert hub.value("hook_refusals_total", channel="plant", status="401") == 1
        assert hub.call("plant", bytes(MIB + 1), headers) == 413
        assert hub.value("hook_refusals_total", channel="plant", status="413") == 1
        assert hub.call("strangers", body, headers) == 403
        assert hub.value("channel_received_total", channel="strangers", result="refused") == 1
        assert hub.value("channel_refused_senders_total", channel="strangers") == 1
        assert hub.value("channel_refused_senders_total", channel="plant") == 0
    with watched(tmp_path, PLANT) as hub:  # which remembers no call: the inbox does
        assert hub.call("plant", body, headers) == 200
        assert hub.value("channel_received_total", channel="plant", result="duplicate") == 1
        assert hub.value("channel_received_total", channel="plant", result="taken") == 0


@pytest.mark.skipif(
    shutil.which("mosquitto") is None and shutil.which("nats-server") is None, reason="no broker is installed"
)
def test_the_brokers_restarts_and_the_channels_connections_are_counted(tmp_path: Path) -> None:
    with watched(tmp_path, "[mqtt_broker]\nenabled = true\nport = 0\n") as hub:
        hub.shows(1, "channel_connected", channel="mqtt")
        assert hub.value("channel_connections_total", channel="mqtt") == 1
        assert (hub.value("mqtt_broker_up"), hub.value("mqtt_broker_restarts_total")) == (1, 0)
        broker = hub.inside.hub.broker
        assert broker is not None
        assert broker.pid is not None
        os.kill(broker.pid, signal.SIGKILL)
        hub.shows(1, "mqtt_broker_restarts_total")
        hub.shows(2, "channel_connections_total", channel="mqtt")
        assert (hub.value("mqtt_broker_up"), hub.value("channel_connected", channel="mqtt")) == (1, 1)


def test_events_are_open_until_all_is_done_about_them(tmp_path: Path) -> None:
    with watched(tmp_path, '[[route]]\nname = "ops"\nto = ["user:alice"]\nrepeat_s = 3600\n') as hub:
        assert hub.value("events_open") == 0
        hub.http.post("/api/events", json={"content": "The press is down."}).raise_for_status()
        hub.shows(1, "events_total", kind="event", result="told")
        hub.shows(1, "events_open")
        (notice,) = hub.http.get("/api/messages", params={"to": "user:alice", "wait": 20}).json()["messages"]
        hub.http.post(f"/api/messages/{notice['id']}/ack", json={"state": "acknowledged"}).raise_for_status()
        hub.shows(0, "events_open")


def test_questions_are_counted_by_their_end_and_open_ones_over_a_restart(vendor: WeComRobots, tmp_path: Path) -> None:
    config = ROBOT.format(url=vendor.url)
    with watched(tmp_path, config) as hub:
        answered, still_open = hub.ask("user:alice"), hub.ask("user:bob")
        vendor.faults.append("permanent")
        hub.ask("channel:wecom/ops")
        hub.ask("user:carol", expires_in_s=1)
        hub.send("yes", "user:shift", reply_to=answered, **{"from": "user:alice"})
        for result in ("answered", "failed", "expired"):
            hub.shows(1, "questions_total", result=result)
        assert hub.value("questions_open") == 1
    with watched(tmp_path, config) as hub:
        hub.shows(1, "questions_open")
        assert hub.value("questions_total", result="answered") == 0, "that was before the start"
        hub.send("no", "user:shift", reply_to=still_open, **{"from": "user:bob"})
        hub.shows(1, "questions_total", result="answered")
        assert hub.value("questions_open") == 0


@pytest.mark.parametrize("name", ["api.md", "api.zh-CN.md"])
def test_every_metric_is_documented_and_every_documented_one_is_there(name: str, tmp_path: Path) -> None:
    page = (DOCS / name).read_text()
    (table,) = re.findall(r"^### (?:Metrics|指标)\n(.*?)\n#", page, re.MULTILINE | re.DOTALL)
    rows = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    documented = [metric for row in rows for metric in row.split("`")[1::2]]
    with watched(tmp_path, EVERYTHING) as hub:
        families = list(text_string_to_metric_families(hub.http.get("/metrics").text))
    there = [family.name + ("_total" if family.type == "counter" else "") for family in families]
    assert sorted(f"autoglm_{metric}" for metric in documented) == sorted(there)
