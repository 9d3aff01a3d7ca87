"""`autoglm config`: settings checked, shown with where they come from, and begun."""

import json
import re
import shutil
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from autoglm.settings import load_settings, scalar_paths
from cli.terminal import autoglm, environment

INSTANCE = '[gateway]\nport = 9000\n[[instance]]\nname = "a"\nprovider = "glm"\napi_key = "sk-secret"\n'


def write(folder: Path, text: str) -> Path:
    file = folder / "autoglm.toml"
    file.write_text(text)
    return file


def test_good_settings_are_said_to_be_good(tmp_path: Path) -> None:
    file = write(tmp_path, INSTANCE)
    finished = autoglm("config", "check", data=tmp_path)
    assert finished.status == 0
    assert str(file) in finished.out
    assert autoglm("config", "check", data=tmp_path / "none").status == 0


@pytest.mark.skipif(
    shutil.which("mosquitto") is None and shutil.which("nats-server") is None, reason="no broker is installed"
)
def test_settings_for_up_with_mqtt_are_checked_as_such(tmp_path: Path) -> None:
    """The channel `mqtt` is there with the broker only; so is what the broker itself cannot be."""
    route = '[[route]]\nname = "r"\nto = ["channel:mqtt/press/orders"]\n'
    write(tmp_path, route)
    assert autoglm("config", "check", data=tmp_path).status == 1
    finished = autoglm("config", "check", "--mqtt", data=tmp_path)
    assert (finished.status, finished.err) == (0, "")
    write(tmp_path, '[[channel]]\nname = "press"\nkind = "mqtt"\nurl = "mqtt://own"\n')
    finished = autoglm("config", "check", data=tmp_path)
    assert finished.status == 1
    assert "channel[0].url: mqtt://own is the hub's own broker, which does not run" in finished.err
    assert autoglm("config", "check", "--mqtt", data=tmp_path).status == 0
    write(tmp_path, f'{route}[mqtt_broker]\nhost = "0.0.0.0"\n')
    finished = autoglm("config", "check", "--mqtt", data=tmp_path)
    assert finished.status == 1
    assert "mqtt_broker" in finished.err


def test_wrong_settings_are_told(tmp_path: Path) -> None:
    write(tmp_path, "[gateway]\nprot = 1\n")
    finished = autoglm("config", "check", data=tmp_path)
    assert (finished.status, finished.out) == (1, "")
    assert "Did you mean 'port'?" in finished.err
    finished = autoglm("config", "check", "--json", data=tmp_path)
    answer = json.loads(finished.out)
    assert (finished.status, answer["ok"], len(answer["problems"])) == (1, False, 1)


REFUSED = """
[gateway]
host = "0.0.0.0"
[[key]]
name = "robot"
value = "sk-1"
[[key]]
name = "press"
value = "sk-1"
[[instance]]
name = "named"
provider = "openai"
base_url = "https://bob:s3cret@x.example/v1"
proxy = "http://pro xy:1"
api_key = "sk s3cret"
[[instance]]
name = "far"
provider = "vllm"
base_url = "http://h:99999/v1"
"""


def test_whatever_up_would_refuse_is_told_at_once(tmp_path: Path) -> None:
    """`up` says the same, word for word."""
    write(tmp_path, REFUSED)
    finished = autoglm("config", "check", data=tmp_path)
    assert (finished.status, finished.out) == (1, "")
    problems = finished.err.splitlines()
    wanted = [
        "gateway.host '0.0.0.0' reaches beyond this machine without TLS",
        "[[key]] 'robot' and 'press' have the same value",
        "instance 'named': base_url: holds a user name",
        "instance 'named': api_key: is empty or holds a blank",
        "instance 'named': proxy: holds a blank",
        "instance 'far': base_url: has a host or a port that cannot be read",
    ]
    assert len(problems) == len(wanted)
    assert all(f"autoglm: {start}" in problem for problem, start in zip(problems, wanted, strict=True))
    assert "s3cret" not in finished.err
    answer = json.loads(autoglm("config", "check", "--json", data=tmp_path).out)
    assert (answer["ok"], len(answer["problems"])) == (False, len(wanted))
    started = autoglm("up", "--port", "0", data=tmp_path)
    assert (started.status, started.err) == (1, finished.err)


def test_an_open_port_is_in_order_once_it_is_allowed(tmp_path: Path) -> None:
    """Only a start asks for that; other commands take the settings as they are."""
    write(tmp_path, '[gateway]\nhost = "0.0.0.0"\n')
    assert autoglm("config", "check", data=tmp_path).status == 1
    allowed = {"AUTOGLM_GATEWAY__ALLOW_INSECURE_BIND": "true"}
    assert autoglm("config", "check", data=tmp_path, environ=allowed).status == 0
    assert autoglm("config", "show", data=tmp_path).status == 0
    assert autoglm("models", "list", data=tmp_path).status == 0


def test_a_check_loads_no_hub(tmp_path: Path) -> None:
    code = "import sys\nfrom autoglm.cli.main import run\nassert run() == 0\nprint('autoglm.app' in sys.modules)"
    command = [sys.executable, "-c", code, "config", "check", "--data", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment(tmp_path))
    assert done.stdout.splitlines()[-1] == "False"


def test_values_are_shown_with_their_origin_and_without_secrets(tmp_path: Path) -> None:
    file = write(tmp_path, INSTANCE)
    environ = {"AUTOGLM_GATEWAY__HOST": "127.0.0.2"}
    finished = autoglm("config", "show", "--json", data=tmp_path, environ=environ)
    rows = {row["name"]: (row["value"], row["origin"]) for row in json.loads(finished.out)}
    assert rows["gateway.port"] == ("9000", str(file))
    assert rows["gateway.host"] == ('"127.0.0.2"', "AUTOGLM_GATEWAY__HOST")
    assert rows["gateway.drain_s"] == ("30.0", "default")
    assert rows["instance[0].api_key"] == ("********", str(file))
    assert set(scalar_paths()) <= set(rows)
    changed = autoglm("config", "show", "--changed", data=tmp_path, environ=environ).out
    assert len(changed.splitlines()) == 1 + 5
    assert "sk-secret" not in finished.out + changed


def test_the_file_that_init_writes_is_taken_with_every_comment_removed(tmp_path: Path) -> None:
    data = tmp_path / "d"
    assert autoglm("config", "init", data=data).status == 0
    file = data / "autoglm.toml"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert load_settings(file, environ={}).origins == {}
    lines = [line.removeprefix("# ") for line in file.read_text().splitlines()]
    # What has no default has nothing behind its '=', and everything else that is no table is prose.
    settings = [line for line in lines if re.match(r"\[|\w+ = [^ ]", line)]
    tree = tomllib.loads("\n".join(settings))
    assert tree["gateway"]["port"] == 8600
    assert [entry["name"] for entry in tree["instance"]] == ["glm", "workstation", "local"]
    assert [tree[table][0]["to" if table == "route" else "name"] for table in ("channel", "route")] == [
        "wecom", ["channel:wecom/ops"],
    ]  # fmt: skip
    assert list(tree["route"][0]) == ["name", "match", "to", "then"]
    again = autoglm("config", "init", data=data)
    assert (again.status, "stays as it is" in again.err) == (1, True)
    assert autoglm("config", "init", "--print", data=data).out == file.read_text()
