"""`autoglm pool`: how the instances fare."""

import json
from pathlib import Path

from cli.terminal import autoglm
from scripted_model import ScriptedModel, answering


def test_the_instances_are_shown(data: Path) -> None:
    headers, row = autoglm("pool", data=data).out.splitlines()
    assert headers.split() == ["name", "provider", "state", "since", "running", "waiting", "models", "error"]
    assert row.split()[:3] == ["echo-1", "openai", "ready"]
    [instance] = json.loads(autoglm("pool", "--json", data=data).out)
    assert instance["models"] == ["echo-model"]


def test_a_blocked_instance_is_resumed(model: ScriptedModel, data: Path) -> None:
    model.behaviour = answering(401, {"error": {"message": "key expired", "code": "invalid_api_key"}})
    assert "key expired" in autoglm("ask", "x", data=data).err
    assert "blocked" in autoglm("pool", data=data).out
    assert autoglm("pool", "resume", "echo-1", data=data).out == "echo-1 is ready\n"
    assert "no instance 'none'" in autoglm("pool", "resume", "none", data=data).err
