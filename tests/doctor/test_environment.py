"""What the doctor finds on a machine."""

import os
import socket
from pathlib import Path

import pytest

from autoglm.doctor.environment import Finding, available_memory_bytes, examine, file_system, find_spec

MOUNTS = """\
overlay / overlay rw 0 0
/dev/sda1 /home/alice ext4 rw 0 0
server:/home /home nfs4 rw 0 0
//nas/share /mnt/my\\040share cifs rw 0 0
"""


def findings(folder: Path, **facts: object) -> dict[str, Finding]:
    usual = {"host": "127.0.0.1", "port": 0, "page": folder, "hub_url": None, "default_model": "m"}
    models = facts.pop("models", [])
    return {finding.name: finding for finding in examine(folder, models, **(usual | facts))}  # type: ignore[arg-type]


def test_everything_that_is_wrong_comes_with_a_way_out(tmp_path: Path) -> None:
    found = findings(tmp_path)
    assert all(finding.fix for finding in found.values() if finding.level != "ok")
    assert {"hub", "python", "machine", "memory", "disk", "local models", "model files", "port", "console"} <= set(
        found
    )


def test_a_port_in_use_is_a_problem_unless_the_hub_has_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert findings(tmp_path, port=port)["port"].level == "problem"
        assert findings(tmp_path, port=port, hub_url="http://127.0.0.1:1")["port"].level == "ok"
    assert findings(tmp_path, port=port)["port"].level == "ok"


@pytest.mark.parametrize(
    ("models", "default", "level", "words"),
    [
        ([], "m", "note", "none yet"),
        (["m"], "m", "ok", "m"),
        (["other"], "m", "note", "so other is served"),
        ([], None, "ok", "the instances"),
    ],
)
def test_models_are_missed_only_where_they_are_needed(
    tmp_path: Path, models: list[str], default: str | None, level: str, words: str
) -> None:
    finding = findings(tmp_path, models=models, default_model=default)["model files"]
    assert finding.level == level
    assert words in finding.text


def test_a_folder_that_does_not_exist_yet_is_judged_by_its_parent(tmp_path: Path) -> None:
    assert findings(tmp_path / "a" / "b")["disk"].level == "ok"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_to_is_a_problem(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert findings(tmp_path / "d")["disk"].level == "problem"


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/", "overlay"),
        ("/var/lib", "overlay"),
        ("/home/bob/data", "nfs4"),
        ("/home/alice", "ext4"),
        ("/home/alice/data", "ext4"),
        ("/mnt/my share/x", "cifs"),
        ("/home2", "overlay"),
    ],
)
def test_the_deepest_mount_counts(folder: str, kind: str) -> None:
    assert file_system(Path(folder), MOUNTS) == kind


def test_a_misspelt_model_is_told_the_nearest_that_is_here(tmp_path: Path) -> None:
    wrong = {"qwen2.5-coder-05b": "models pull ./FILE.gguf --name qwen2.5-coder-05b", "other": "models pull other"}
    found = findings(tmp_path, models=["smollm2-135m", "qwen2.5-coder-0.5b"], missing=wrong)["model files"]
    assert found.level == "problem"
    assert found.text.endswith("not here: qwen2.5-coder-05b (did you mean 'qwen2.5-coder-0.5b'?), other")


def test_without_a_table_of_mounts_nothing_is_claimed() -> None:
    assert file_system(Path("/x"), "") == file_system(Path("/x"), "garbage\n\n") == ""


def test_memory_is_measured() -> None:
    assert available_memory_bytes() > 1 << 20


def test_packages_are_found_without_importing_them() -> None:
    assert find_spec("json")
    assert not find_spec("no_such_package_4711")
