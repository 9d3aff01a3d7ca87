"""Parsers of strangers' bytes take or refuse them, and never fail otherwise. Long runs: `make fuzz`."""

import subprocess
import sys
from pathlib import Path

import pytest

from fuzzing.mutation import MAX_BYTES, mutants
from fuzzing.run import blindly
from fuzzing.table import targets
from fuzzing.target import Target, try_on

ROOT = Path(__file__).resolve().parents[2]
MUTANTS = 150
_TARGETS = targets()


@pytest.mark.parametrize("name", _TARGETS)
def test_seeds_are_read(name: str) -> None:
    """At least one of them is taken: else what lies behind the first check is never reached."""
    target = _TARGETS[name]
    taken = [try_on(target, seed) for seed in target.seeds]
    assert any(taken)


@pytest.mark.parametrize("name", _TARGETS)
def test_what_is_changed_is_taken_or_refused(name: str) -> None:
    for data in mutants(_TARGETS[name], MUTANTS):
        try_on(_TARGETS[name], data)


def test_a_failure_of_a_target_is_not_a_refusal() -> None:
    def run(data: bytes) -> None:
        if b"!" in data:
            raise ZeroDivisionError
        raise ValueError

    target = Target("t", run, (b"a",), (ValueError,), (b"!",))
    assert not try_on(target, b"a")
    with pytest.raises(ZeroDivisionError):
        try_on(target, b"!")


def test_mutation_is_repeatable_and_bounded() -> None:
    target = Target("t", lambda data: None, (b"abc" * 30_000, b""), words=(b"word",))
    first = list(mutants(target, 200))
    assert first == list(mutants(target, 200)) != list(mutants(target, 200, seed=1))
    assert max(map(len, first)) == MAX_BYTES
    assert any(b"word" in data for data in first)


def test_what_was_found_is_kept_and_can_be_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(data: bytes) -> None:
        if len(data) > 3:
            raise ZeroDivisionError

    monkeypatch.chdir(tmp_path)
    assert not blindly(Target("t", run, (b"abc",)), 5.0)
    (found,) = (tmp_path / ".fuzz" / "found" / "t").iterdir()
    assert len(found.read_bytes()) > 3
    assert f"--reproduce t .fuzz/found/t/{found.name}" in capsys.readouterr().out
    assert blindly(Target("t", lambda data: None, (b"abc",)), 0.1)


@pytest.mark.parametrize(
    ("content", "status", "says"),
    [(b"user:alice", 0, "taken"), (b"\xff", 0, "refused"), (None, 1, "FileNotFoundError")],
)
def test_one_input_is_tried_again(content: bytes | None, status: int, says: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "input").write_bytes(content)
    command = [sys.executable, "-m", "fuzzing.run", "--reproduce", "address", str(tmp_path / "input")]
    done = subprocess.run(
        command, cwd=ROOT, env={"PYTHONPATH": "tests:src"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == status
    assert says in done.stdout + done.stderr
