"""Hints name the program and the folder so that they work when they are pasted."""

import shlex
import sys
from pathlib import Path

import pytest

from autoglm import invocation


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A virtual environment that is not activated; returns the project's folder, in which it lies."""
    script = tmp_path / "my hub" / ".venv" / "bin" / "autoglm"
    script.parent.mkdir(parents=True)
    script.touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(script.with_name("python")))
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    return tmp_path / "my hub"


def test_a_program_outside_the_path_is_named_by_its_place(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = environment / ".venv" / "bin" / "autoglm"
    monkeypatch.chdir(environment)
    assert invocation.program() == ".venv/bin/autoglm"
    monkeypatch.chdir(script.parent)
    assert invocation.program() == "./autoglm"
    monkeypatch.chdir("/")
    assert [str(script.relative_to("/"))] == shlex.split(invocation.program())
    script.unlink()
    assert shlex.split(invocation.program()) == [sys.executable, "-m", "autoglm"]


def test_a_program_on_the_path_is_named_by_its_name(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(environment / ".venv" / "bin"))
    assert invocation.command("up") == "autoglm up"


def test_only_another_folder_than_the_default_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/srv")
    assert invocation.data_option(Path("/srv/autoglm")) == invocation.data_option(None) == ""
    assert invocation.data_option(Path("/srv/my hub")) == " --data '/srv/my hub'"
