"""`autoglm backup` and `autoglm restore`: all of a hub in one file, and back."""

import json
import os
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest

from cli.terminal import autoglm, on_terminal
from hub import HubProcess, running_hub

CONFIG = """
[[key]]
name = "robot"
value_file = "keys/robot.key"
[[key]]
name = "far"
value_file = "../far.key"
"""


def named(summary: dict[str, Any]) -> list[str]:
    """The files beside the store, without those that every hub has in its own folders."""
    return [name for name in summary["extra_files"] if not name.startswith(("trust/", "policy/", "ca/", "secrets/"))]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a backup `hub.tar` of a hub that ran while it was made."""
    folder = tmp_path_factory.mktemp("saved")
    (folder / "d" / "keys").mkdir(parents=True)
    (folder / "d" / "keys" / "robot.key").write_text("sk-robot")
    (folder / "far.key").write_text("sk-far")
    with running_hub(folder / "d", CONFIG) as hub:
        assert autoglm("send", "user:x", "kept", data=hub.data_dir).status == 0
        finished = autoglm("backup", folder / "hub.tar", "--json", data=hub.data_dir)
    summary = json.loads(finished.out)
    assert named(summary) == ["autoglm.toml", "admin.key", "keys/robot.key"]
    assert [Path(path).name for path in summary["left_out"]] == ["far.key"]
    assert "lies outside" in finished.err
    return folder


def test_only_the_owner_may_read_a_backup(saved: Path) -> None:
    assert stat.S_IMODE((saved / "hub.tar").stat().st_mode) == 0o600


def test_a_restored_hub_is_the_same_hub(saved: Path, tmp_path: Path) -> None:
    """Messages, keys and settings are back: the hub starts with them."""
    data = tmp_path / "r" / "d"
    finished = autoglm("restore", saved / "hub.tar", data=data)
    assert finished.status == 0
    assert f"autoglm up --data {data}" in finished.out
    shutil.copy(saved / "far.key", tmp_path / "r" / "far.key")
    hub = HubProcess(data, (data / "autoglm.toml").read_text()).start()
    try:
        assert json.loads(autoglm("inbox", "user:x", "--json", data=data).out)["content"] == "kept"
        assert autoglm("pool", data=data, environ={"AUTOGLM_KEY": "sk-robot"}).status == 0
        # And its word is: the same key signs, so that tokens that are out count, and the record is under its heads.
        assert (data / "trust" / "site.key").read_bytes() == (saved / "d" / "trust" / "site.key").read_bytes()
        assert autoglm("audit", "verify", data=data).status == 0
    finally:
        hub.kill()


def test_a_folder_that_is_not_there_is_not_made(saved: Path, tmp_path: Path) -> None:
    """A stick that is not mounted: the backup would lie on the disk that it is to save."""
    finished = autoglm("backup", tmp_path / "stick" / "hub.tar", data=saved / "d")
    assert finished.status == 1
    assert "there is no folder" in finished.err
    assert "mounted" in finished.err
    assert not (tmp_path / "stick").exists()


def test_a_file_that_is_there_is_written_over_only_by_force(saved: Path, tmp_path: Path) -> None:
    file = tmp_path / "hub.tar"
    file.write_text("last month's")
    finished = autoglm("backup", file, data=saved / "d")
    assert (finished.status, file.read_text()) == (1, "last month's")
    assert f"{file} is there already; --force writes over it" in finished.err
    assert autoglm("backup", file, "--force", data=saved / "d").status == 0
    assert file.read_bytes() != b"last month's"


def test_a_folder_with_something_in_it_needs_force(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "autoglm.toml").write_text("# mine")
    finished = autoglm("restore", saved / "hub.tar", data=tmp_path)
    assert (finished.status, "--force" in finished.err) == (1, True)
    finished = autoglm("restore", saved / "hub.tar", "--force", "--json", data=tmp_path)
    assert (Path(json.loads(finished.out)["replaced"]) / "autoglm.toml").read_text() == "# mine"


def test_force_leaves_files_that_the_backup_does_not_have(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "later.key").write_text("sk-later")
    assert autoglm("restore", saved / "hub.tar", "--force", data=tmp_path).status == 0
    assert (tmp_path / "keys" / "later.key").read_text() == "sk-later"
    assert (tmp_path / "keys" / "robot.key").read_text() == "sk-robot"


def test_a_damaged_backup_is_told(saved: Path, tmp_path: Path) -> None:
    content = bytearray((saved / "hub.tar").read_bytes())
    assert autoglm("restore", saved / "hub.tar", "--check", data=tmp_path / "d").status == 0
    content[len(content) // 2] ^= 1
    (tmp_path / "bad.tar").write_bytes(content)
    for options in (["--check"], []):
        finished = autoglm("restore", tmp_path / "bad.tar", *options, data=tmp_path / "d")
        assert finished.status == 1
        assert "cannot be used" in finished.err
    assert not (tmp_path / "d").exists()


def test_a_terminal_sees_the_progress(hub: HubProcess, tmp_path: Path) -> None:
    with on_terminal("backup", tmp_path / "b.tar", data=hub.data_dir) as terminal:
        assert terminal.end() == 0
    assert "100 %" in terminal.shown
    assert "keep it where nobody else reads it" in terminal.shown


def test_there_must_be_something_to_save(tmp_path: Path) -> None:
    finished = autoglm("backup", tmp_path / "b.tar", data=tmp_path / "none")
    assert (finished.status, finished.out) == (1, "")
    assert "there is no store" in finished.err


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("~/keys/robot.key", "it lies outside"),
        ("~nobody-of-this-name/robot.key", "there is no home folder of that name"),
        ("../d/admin.key", "its path goes through '..'"),
        ("", "the setting is empty"),
        ("a\0b", "its name holds a NUL"),
        ("hub.db", "that name belongs to the store"),
        (".", "it is no regular file"),
        ("pipe", "it is no regular file"),
        ("missing.key", "there is no such file"),
        ("n" * 300, "it cannot be read: File name too long"),
    ],
)
def test_what_a_backup_cannot_hold_is_said_with_its_reason(
    saved: Path, tmp_path: Path, value: str, reason: str
) -> None:
    """The settings need not be ones that a hub would start with. The rest is saved."""
    data = shutil.copytree(saved / "d", tmp_path / "d")
    os.mkfifo(data / "pipe")
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "robot.key").write_text("sk-robot")
    (data / "autoglm.toml").write_text(f'[[key]]\nname = "robot"\nvalue_file = {json.dumps(value)}\n')
    finished = autoglm("backup", tmp_path / "b.tar", "--json", data=data, environ={"HOME": str(tmp_path)})
    assert finished.status == 0, finished.err
    (line,) = [line for line in finished.err.splitlines() if line.startswith("autoglm: ")]
    assert line.startswith("autoglm: not in the backup: ")
    assert f"(key[0].value_file) because {reason}" in line
    summary = json.loads(finished.out)
    assert named(summary) == ["autoglm.toml", "admin.key"]
    assert len(summary["left_out"]) == 1


def test_a_key_file_of_the_home_folder_is_saved_when_the_data_lie_there(saved: Path, tmp_path: Path) -> None:
    data = shutil.copytree(saved / "d", tmp_path / "d")
    (data / "autoglm.toml").write_text('[[key]]\nname = "robot"\nvalue_file = "~/d/keys/robot.key"\n')
    finished = autoglm("backup", tmp_path / "b.tar", "--json", data=data, environ={"HOME": str(tmp_path)})
    assert named(json.loads(finished.out)) == ["autoglm.toml", "admin.key", "keys/robot.key"]
    assert "not in the backup" not in finished.err


def test_a_data_folder_may_be_named_from_beside_it(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(saved / "d", tmp_path / "d")
    monkeypatch.chdir(tmp_path / "d" / "keys")
    finished = autoglm("backup", tmp_path / "b.tar", "--json", data=Path("../../d"))
    assert "keys/robot.key" in json.loads(finished.out)["extra_files"]


def test_settings_outside_of_the_data_folder_are_said_to_be_left_out(saved: Path, tmp_path: Path) -> None:
    config = tmp_path / "far.toml"
    config.write_text("")
    finished = autoglm("backup", tmp_path / "b.tar", "--config", config, data=saved / "d")
    assert f"not in the backup: {str(config)!r} (--config) because it lies outside" in finished.err


def test_settings_that_nest_beyond_pythons_bounds_keep_nothing_else_from_being_saved(
    saved: Path, tmp_path: Path
) -> None:
    (tmp_path / "deep.toml").write_text(f"[{'.'.join(['a'] * 5000)}]\n")
    finished = autoglm("backup", tmp_path / "b.tar", "--config", tmp_path / "deep.toml", data=saved / "d")
    assert finished.status == 0
    assert "deep.toml cannot be read" in finished.err


def test_settings_that_cannot_be_read_do_not_keep_the_rest_from_being_saved(hub: HubProcess, tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("[[[")
    finished = autoglm("backup", tmp_path / "b.tar", "--config", tmp_path / "bad.toml", data=hub.data_dir)
    assert finished.status == 0
    assert "bad.toml cannot be read" in finished.err
