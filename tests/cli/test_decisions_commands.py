"""`autoglm route explain | decisions | judge | replay` against a hub that chooses."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.terminal import autoglm
from eventually import wait_until
from hub import HubProcess, instance_config, running_hub
from scripted_model import ScriptedModel


@pytest.fixture(scope="module")
def choosing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    """A hub with two models, which has loaded what it has learned."""
    with ScriptedModel(models=("small",)) as small, ScriptedModel(models=("large",)) as large:
        config = instance_config("a", small.url, models=("small",)) + instance_config("b", large.url, models=("large",))
        with running_hub(tmp_path_factory.mktemp("decisions") / "data", config) as hub, hub.client() as client:
            body = {"model": "auto", "messages": [{"role": "user", "content": "hi"}]}
            ask = "/v1/chat/completions"
            wait_until(lambda: "x-autoglm-decision" in client.post(ask, json=body).headers)
            wait_until(lambda: client.get("/api/decisions").json()["decisions"])
            yield hub


def decide(data: Path) -> str:
    """Ask once; the decision, once its end is written."""
    id: str = json.loads(autoglm("ask", "How far is the moon?", "--prefer", "best", "--json", data=data).out)[
        "decision"
    ]
    wait_until(lambda: json.loads(autoglm("route", "explain", id, "--json", data=data).out)["outcome"] is not None)
    return id


def test_a_decision_is_explained_in_words(choosing: HubProcess) -> None:
    id = decide(choosing.data_dir)
    told = autoglm("route", "explain", id, data=choosing.data_dir)
    assert told.status == 0
    assert told.out.startswith(f"decision {id}, ")
    assert "wanted: best (quality 1, " in told.out
    assert "small" in told.out
    assert "large" in told.out
    assert "outcome: answered by " in told.out
    assert autoglm("route", "explain", data=choosing.data_dir).out == told.out


def test_a_judgement_is_noted_and_listed(choosing: HubProcess) -> None:
    id = decide(choosing.data_dir)
    assert autoglm("route", "judge", id, "down", data=choosing.data_dir).out == "noted: 0, by a person\n"
    assert autoglm("route", "judge", id, "0.5", data=choosing.data_dir).out == "noted: 0.5, by a program\n"
    row = next(line for line in autoglm("route", "decisions", data=choosing.data_dir).out.splitlines() if id in line)
    assert row.endswith("0.00 0.50")
    assert "judged: 0.50 by program" in autoglm("route", "explain", id, data=choosing.data_dir).out


@pytest.mark.parametrize("quality", ["sideways", "1.5", "nan"])
def test_a_judgement_that_is_none_is_wrong_usage(choosing: HubProcess, quality: str) -> None:
    refused = autoglm("route", "judge", "some-id", quality, data=choosing.data_dir)
    assert refused.status == 2
    assert "up, down, or a number from 0 to 1" in refused.err


def test_a_replay_is_a_table_with_intervals(choosing: HubProcess) -> None:
    decide(choosing.data_dir)
    told = autoglm("route", "replay", "--policy", "always:large", data=choosing.data_dir).out.splitlines()
    assert told[0].startswith("policy always:large, by ")
    assert [line.split()[0] for line in told[3:6]] == ["quality", "latency_s", "cost"]
    assert " to " in told[4]
    refused = autoglm("route", "replay", "--policy", "dearest", data=choosing.data_dir)
    assert refused.status == 1
    assert "always:MODEL" in refused.err


def test_an_unknown_decision_is_said_to_be_unknown(choosing: HubProcess) -> None:
    refused = autoglm("route", "explain", "nobody", data=choosing.data_dir)
    assert (refused.status, refused.out) == (1, "")
    assert "there is no decision 'nobody'" in refused.err
