"""`autoglm backup` and `autoglm restore`: all of a hub in one file, and back."""

import json
import shutil
import stat
from pathlib import Path

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
    assert summary["extra_files"] == ["autoglm.toml", "admin.key", "keys/robot.key"]
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
    finally:
        hub.kill()


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


def test_settings_that_cannot_be_read_do_not_keep_the_rest_from_being_saved(hub: HubProcess, tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("[[[")
    finished = autoglm("backup", tmp_path / "b.tar", "--config", tmp_path / "bad.toml", data=hub.data_dir)
    assert finished.status == 0
    assert "bad.toml cannot be read" in finished.err
