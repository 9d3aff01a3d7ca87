"""`autoglm doctor`: what works here, and what to do about the rest."""

import json
import re
import socket
from pathlib import Path

from cli.terminal import autoglm
from eventually import wait_until
from hub import HubProcess, running_hub


def test_a_healthy_machine_has_no_problem(hub: HubProcess) -> None:
    finished = autoglm("doctor", "env", "--json", data=hub.data_dir)
    findings = {finding["name"]: finding for finding in json.loads(finished.out)}
    assert finished.status == 0
    assert hub.url in findings["hub"]["text"]
    assert findings["port"]["text"] == "the running hub has it"
    assert autoglm("doctor", "env", data=hub.data_dir).out.splitlines()[1].startswith("ok ")


def test_problems_end_with_1_and_name_the_way_out(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        finished = autoglm("doctor", "env", data=tmp_path, environ={"AUTOGLM_GATEWAY__PORT": str(port)})
    assert finished.status == 1
    assert f"autoglm up --port 0 --data {tmp_path} takes a free one" in finished.out
    assert "not running" in finished.out


def test_wrong_settings_are_a_problem_among_others(tmp_path: Path) -> None:
    (tmp_path / "autoglm.toml").write_text("[gateway]\nprot = 1\n")
    finished = autoglm("doctor", "env", "--json", data=tmp_path)
    [settings, *others] = json.loads(finished.out)
    assert (finished.status, settings["level"]) == (1, "problem")
    assert "'port'" in settings["text"]
    assert len(others) > 5


def test_a_local_instance_without_its_model_is_a_problem_everywhere(tmp_path: Path) -> None:
    data = tmp_path / "d"
    config = "".join(
        f'[[instance]]\nname = "{name}"\nprovider = "local"\nmodels = ["{model}"]\n'
        for name, model in (("a", "nope"), ("b", "smollm2-135m"))
    )
    own_file = f"autoglm models pull ./FILE.gguf --name nope --data {data}"
    by_name = f"autoglm models pull smollm2-135m --data {data}"
    with running_hub(data, config):
        finished = autoglm("doctor", "env", "--json", data=data)
        [finding] = [finding for finding in json.loads(finished.out) if finding["name"] == "model files"]
        assert (finished.status, finding["level"]) == (1, "problem")
        assert "nope, smollm2-135m" in finding["text"]
        assert all(
            words in re.sub(r"\S+/autoglm|\S+ -m autoglm", "autoglm", finding["fix"]) for words in (own_file, by_name)
        )
        found = {
            entry["name"]: entry for entry in json.loads(autoglm("doctor", "capabilities", "--json", data=data).out)
        }
        for name in ("chat", "local_models"):
            assert not found[name]["available"]
            assert found[name]["fix"] == f"{own_file}; {by_name}"
        wait_until(lambda: own_file in autoglm("pool", data=data).out)


def test_capabilities_come_from_the_hub(data: Path) -> None:
    text = autoglm("doctor", "capabilities", data=data).out
    names = [entry["name"] for entry in json.loads(autoglm("doctor", "capabilities", "--json", data=data).out)]
    assert all(name in text for name in names)
    assert "instead: local keys" in text
    assert autoglm("doctor", "capabilities").status == 1
