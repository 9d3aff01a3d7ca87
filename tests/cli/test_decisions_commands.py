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
    assert row.endswith("  0.00 (of 2)")
    told = autoglm("route", "explain", id, data=choosing.data_dir).out.splitlines()
    assert [
        line.startswith("judged: 0.00 by a person, ") and line.endswith(", which counts") for line in told[-2:]
    ] == [
        True,
        False,
    ]
    assert told[-1].startswith("judged: 0.50 by a program, ")


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
    assert "outcomes: how many are known" in told[7]
    unknown = autoglm("route", "replay", "--policy", "always:larg", data=choosing.data_dir).out.splitlines()
    assert unknown[-1].startswith("None of these decisions tells anything of this policy")
    refused = autoglm("route", "replay", "--policy", "dearest", data=choosing.data_dir)
    assert refused.status == 1
    assert "always:MODEL" in refused.err


def test_where_nothing_has_been_decided_that_is_said(tmp_path: Path) -> None:
    with ScriptedModel(models=("small",)) as small:
        config = instance_config("a", small.url, models=("small",))
        with running_hub(tmp_path / "data", config) as hub, hub.client() as client:
            wait_until(lambda: client.get("/api/decisions").status_code == 200)
            said = [
                autoglm("route", *arguments, data=hub.data_dir)
                for arguments in (("decisions",), ("explain",), ("replay", "--policy", "best"))
            ]
    assert [(one.status, "nothing has been decided yet" in one.out + one.err) for one in said] == [
        (0, True),
        (1, True),
        (1, True),
    ]


def test_an_unknown_decision_is_said_to_be_unknown(choosing: HubProcess) -> None:
    refused = autoglm("route", "explain", "nobody", data=choosing.data_dir)
    assert (refused.status, refused.out) == (1, "")
    assert "there is no decision 'nobody'" in refused.err
