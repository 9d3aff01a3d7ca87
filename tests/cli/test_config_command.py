"""`autoglm config`: settings checked, shown with where they come from, and begun."""

import json
import re
import stat
import tomllib
from pathlib import Path

from autoglm.settings import load_settings, scalar_paths
from cli.terminal import autoglm

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


def test_wrong_settings_are_told(tmp_path: Path) -> None:
    write(tmp_path, "[gateway]\nprot = 1\n")
    finished = autoglm("config", "check", data=tmp_path)
    assert (finished.status, finished.out) == (1, "")
    assert "Did you mean 'port'?" in finished.err
    finished = autoglm("config", "check", "--json", data=tmp_path)
    answer = json.loads(finished.out)
    assert (finished.status, answer["ok"], len(answer["problems"])) == (1, False, 1)


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
    again = autoglm("config", "init", data=data)
    assert (again.status, "stays as it is" in again.err) == (1, True)
    assert autoglm("config", "init", "--print", data=data).out == file.read_text()
