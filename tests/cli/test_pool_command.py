"""`autoglm pool`: how the instances fare."""

import json
from pathlib import Path

from cli.terminal import autoglm
from hub import running_hub
from scripted_model import ScriptedModel, answering


def test_the_instances_are_shown(data: Path) -> None:
    headers, row = autoglm("pool", data=data).out.splitlines()
    assert headers.split() == ["name", "provider", "state", "since", "running", "waiting", "engine", "models", "error"]
    assert row.split()[:3] == ["echo-1", "openai", "ready"]
    [instance] = json.loads(autoglm("pool", "--json", data=data).out)
    assert instance["models"] == ["echo-model"]


def test_a_blocked_instance_is_resumed(model: ScriptedModel, data: Path) -> None:
    model.behaviour = answering(401, {"error": {"message": "key expired", "code": "invalid_api_key"}})
    assert "key expired" in autoglm("ask", "x", data=data).err
    assert "blocked" in autoglm("pool", data=data).out
    assert autoglm("pool", "resume", "echo-1", data=data).out == "echo-1 is ready\n"
    assert "no instance 'none'" in autoglm("pool", "resume", "none", data=data).err


def test_a_local_instance_is_stopped_and_started(tmp_path: Path) -> None:
    """Its model is not here: it is down until it is stopped, and again after it is started."""
    config = '[[instance]]\nname = "small"\nprovider = "local"\nmodels = ["nope"]\nreplicas_min = 0\n'
    with running_hub(tmp_path / "d", config) as hub:
        [row] = json.loads(autoglm("pool", "--json", data=hub.data_dir).out)
        assert (row["state"], row["group"], row["memory_bytes"]) == ("idle", "small", 0)
        assert row["load_s"] > 0
        assert autoglm("pool", "stop", "small", data=hub.data_dir).out == "small is stopped\n"
        assert "pool start small" in autoglm("ask", "x", data=hub.data_dir).err
        assert autoglm("pool", "start", "small", data=hub.data_dir).out == "small starts\n"
        assert json.loads(autoglm("pool", "start", "small", "--json", data=hub.data_dir).out)["name"] == "small"
        assert "there is no model 'nope'" in autoglm("ask", "x", "--model", "nope", data=hub.data_dir).err


def test_only_local_instances_are_stopped(data: Path) -> None:
    finished = autoglm("pool", "stop", "echo-1", data=data)
    assert (finished.status, finished.out) == (1, "")
    assert "'echo-1' is no local instance" in finished.err
