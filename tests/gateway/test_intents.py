"""What the hub understands can be asked and taught while it runs, and what was taught stays."""

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from autoglm.gateway.intents import MAX_EXAMPLES
from autoglm.inference.intent.taught import MAX_TAUGHT
from eventually import wait_until
from hub import HubProcess, instance_config, running_hub
from scripted_model import ScriptedModel

CONFIG = """
[[key]]
name = "robot"
value = "sk-robot"

[[intent]]
name = "berth"
examples = ["is berth three free", "which ferry lies at berth two", "assign a berth to the ferry"]

[[intent]]
name = "pier"
examples = ["is pier nine free", "which ferry lies at pier two", "assign a pier to the ferry"]

[[intent]]
name = "health"
examples = ["the crew is seasick", "晕船了吃什么", "a sailor has a fever"]
"""
NEW = ["who takes over at six", "note for the night shift", "交接班记录写好了吗"]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    with running_hub(tmp_path_factory.mktemp("intents") / "data", CONFIG) as hub:
        yield hub


@pytest.fixture(scope="module")
def client(hub: HubProcess) -> Iterator[httpx2.Client]:
    with asking(hub) as client:
        yield client


@contextmanager
def asking(hub: HubProcess) -> Iterator[httpx2.Client]:
    """Learning takes a second of a core; a machine that does much else takes longer."""
    with hub.client() as client:
        client.timeout = httpx2.Timeout(120.0)
        yield client


def understood(client: httpx2.Client, text: str) -> dict[str, Any]:
    reply = client.post("/api/intents/try", json={"text": text})
    assert reply.status_code == 200, reply.text
    features: dict[str, Any] = reply.json()
    return features


def teach(client: httpx2.Client, name: str, *examples: str) -> httpx2.Response:
    return client.post("/api/intents", json={"name": name, "examples": examples})


def known(client: httpx2.Client) -> dict[str, tuple[int, int]]:
    intents = client.get("/api/intents").json()["intents"]
    return {intent["name"]: (intent["examples"], intent["taught"]) for intent in intents}


def test_a_text_is_understood(client: httpx2.Client) -> None:
    features = understood(client, "打开办公室的灯")
    assert (features["intent"], features["language"], features["source"]) == ("control", "zh", "classifier")
    assert 0 < features["confidence"] <= 1
    assert understood(client, "")["source"] == "none"


def test_the_settings_add_intents_and_examples(client: httpx2.Client) -> None:
    intents = known(client)
    assert list(intents) == sorted(intents)
    assert intents["berth"] == (3, 0)
    assert intents["health"][0] > 50
    assert understood(client, "is berth seven free for the ferry")["intent"] == "berth"


def test_what_is_taught_is_in_force_at_once_and_after_a_kill(tmp_path: Path) -> None:
    text = "who takes over the night shift"
    with running_hub(tmp_path / "data") as hub:
        with asking(hub) as client:
            assert understood(client, text)["intent"] != "handover"
            taught = teach(client, "handover", *NEW)
            assert (taught.status_code, taught.json()) == (200, {"name": "handover", "examples": 3, "taught": 3})
            assert understood(client, text)["intent"] == "handover"
        hub.kill()
        hub.start()
        with asking(hub) as client:
            assert known(client)["handover"] == (3, 3)
            assert understood(client, text)["intent"] == "handover"


def test_a_request_for_auto_is_understood(tmp_path: Path) -> None:
    """The first has the classifier learned, the ones after it go by what it says; a hint goes before it."""

    def intent_of(client: httpx2.Client, **headers: str) -> tuple[str, str]:
        body = {"model": "auto", "messages": [{"role": "user", "content": "打开办公室的灯"}]}
        reply = client.post("/v1/chat/completions", json=body, headers=headers)
        decision = reply.headers.get("x-autoglm-decision")
        if decision is None:  # the engine has not begun to learn
            return "", ""
        account = client.get(f"/api/decisions/{decision}")
        if account.status_code == 404:  # on its way to the disk
            return "", ""
        features = account.json()["decision"]["features"]
        return features["intent"], features["source"]

    with (
        ScriptedModel() as model,
        running_hub(tmp_path / "data", instance_config("a", model.url)) as hub,
        hub.client() as client,
    ):
        wait_until(lambda: intent_of(client) == ("control", "classifier"), timeout_s=30.0, every_s=0.1)
        hinted = {"x-autoglm-intent": "lamps"}
        wait_until(lambda: intent_of(client, **hinted) == ("lamps", "hint"), timeout_s=30.0, every_s=0.1)


def test_teaching_twice_adds_and_repeats_nothing(client: httpx2.Client) -> None:
    assert teach(client, "tide", "when is high tide", "潮水几点涨", "  tide table ").json()["taught"] == 3
    again = teach(client, "tide", "tide table", "is the tide coming in").json()
    assert again == {"name": "tide", "examples": 4, "taught": 4}


def test_two_who_teach_one_intent_at_once_both_do(client: httpx2.Client) -> None:
    halves = [("the gangway is up", "lower the gangway", "gangway guard"), ("舷梯放下来", "is the gangway rigged")]
    with ThreadPoolExecutor(2) as pool:
        replies = list(pool.map(lambda half: teach(client, "gangway", *half), halves))
    assert 200 in {reply.status_code for reply in replies}
    taught = sum(len(half) for half, reply in zip(halves, replies, strict=True) if reply.status_code == 200)
    assert known(client)["gangway"] == (taught, taught)  # the one with two alone may have come too early


def test_an_example_moves_to_the_intent_that_claims_it(client: httpx2.Client) -> None:
    before = known(client)["berth"][0]
    assert teach(client, "search", "is pier nine free").status_code == 200
    assert known(client)["pier"] == (before - 1, 0)


def test_what_was_taught_can_be_taken_back(client: httpx2.Client) -> None:
    teach(client, "knots", "tie a bowline", "怎么打结", "which knot for the anchor")
    assert client.delete("/api/intents/knots").status_code == 204
    assert "knots" not in known(client)
    for name in ("knots", "fact"):  # the hub's own cannot be forgotten
        gone = client.delete(f"/api/intents/{name}")
        assert (gone.status_code, gone.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("name", "examples", "field"),
    [
        ("few", ["one", "two"], "examples"), ("few", ["one", " one", "one "], "examples"),
        ("few", ["  "] * 3, "examples"),
        ("Upper", NEW, "name"), ("", NEW, "name"), ("a" * 65, NEW, "name"), ("-a", NEW, "name"), ("a\n", NEW, "name"),
        ("long", ["x" * 501] * 3, "examples[0]"), ("many", [str(n) for n in range(MAX_EXAMPLES + 1)], "examples"),
        ("none", [], "examples"),
    ],
    ids=lambda value: str(value)[:20],
)  # fmt: skip
def test_what_cannot_be_taught_is_named(client: httpx2.Client, name: str, examples: list[str], field: str) -> None:
    reply = teach(client, name, *examples)
    assert (reply.status_code, reply.json()["code"], reply.json()["field"]) == (400, "invalid_field", field)
    assert name not in known(client)


def test_only_an_admin_teaches(client: httpx2.Client) -> None:
    robot = {"Authorization": "Bearer sk-robot"}
    body = {"name": "sly", "examples": NEW}
    assert client.post("/api/intents", json=body, headers=robot).status_code == 403
    assert client.delete("/api/intents/tide", headers=robot).status_code == 403
    assert client.get("/api/intents", headers=robot).status_code == 200
    assert "sly" not in known(client)


def test_a_hub_keeps_a_bounded_number_of_taught_examples(tmp_path: Path) -> None:
    """Written past the limit from outside, as an older hub with a higher one may have; then no more is taken."""
    with running_hub(tmp_path / "data") as hub:
        with asking(hub) as client:
            teach(client, "handover", *NEW)
        hub.stop()
        full = msgspec.json.encode([f"example {number}" for number in range(MAX_TAUGHT)])
        with sqlite3.connect(hub.data_dir / "hub.db") as db:
            assert db.execute("UPDATE kv SET value = ? WHERE key = 'intents/handover'", (full,)).rowcount == 1
        hub.start()
        with asking(hub) as client:
            refused = teach(client, "tide", "when is high tide", "潮水几点涨", "tide table")
            assert (refused.status_code, refused.json()["field"]) == (400, "examples")
            assert "2000 taught examples" in refused.json()["detail"]
