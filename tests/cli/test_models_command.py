"""`autoglm models`: the model files of this machine."""

import hashlib
import json
from pathlib import Path

import pytest

from cli.terminal import autoglm, on_terminal
from inference.tiny_models import gguf as tiny_gguf


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    file = tmp_path / "My Model.gguf"
    file.write_bytes(tiny_gguf())
    return file


def test_a_file_is_pulled_listed_and_removed(gguf: Path, tmp_path: Path) -> None:
    data = tmp_path / "d"
    assert "There is no model" in autoglm("models", "list", data=data).out
    pulled = autoglm("models", "pull", gguf, "--name", "mine", "--json", data=data)
    sha256 = hashlib.sha256(gguf.read_bytes()).hexdigest()
    assert (pulled.status, json.loads(pulled.out)["sha256"]) == (0, sha256)
    [listed] = json.loads(autoglm("models", "list", "--json", data=data).out)
    assert (listed["name"], listed["served"], listed["size_bytes"]) == ("mine", None, gguf.stat().st_size)
    headers, row = autoglm("models", "list", data=data).out.splitlines()
    assert headers.split() == ["name", "size", "licence", "served", "origin"]
    assert row.startswith("mine ")
    assert autoglm("models", "remove", "mine", "--yes", data=data) == (0, "mine is removed\n", "")
    assert json.loads(autoglm("models", "list", "--json", data=data).out) == []


def test_pulling_tells_how_to_use_the_model(gguf: Path, tmp_path: Path) -> None:
    (tmp_path / "autoglm.toml").write_text('[[instance]]\nname = "a"\nprovider = "glm"\n')
    finished = autoglm("models", "pull", gguf, data=tmp_path)
    assert 'models = ["my-model"]' in finished.out
    assert "A hub that is started from now on serves it" in autoglm("models", "pull", gguf, data=tmp_path / "d").out


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("qwen2.5-coder-0.5", "Did you mean 'qwen2.5-coder-0.5b'?"),
        ("http://127.0.0.1:9/x.gguf", "needs --sha256"),
        (__file__, "test_models_command.py"),
    ],
)
def test_what_cannot_be_pulled_says_why(tmp_path: Path, source: str, words: str) -> None:
    finished = autoglm("models", "pull", source, data=tmp_path)
    assert (finished.status, finished.out) == (1, "")
    assert words in finished.err
    assert "Traceback" not in finished.err


def test_removing_asks_first(gguf: Path, tmp_path: Path) -> None:
    autoglm("models", "pull", gguf, "--name", "mine", data=tmp_path)
    assert autoglm("models", "remove", "mine", data=tmp_path).status == 2
    with on_terminal("models", "remove", "mine", data=tmp_path) as terminal:
        terminal.until("[y/N]")
        terminal.type("n\n")
        assert terminal.end() == 1
    with on_terminal("models", "remove", "mine", data=tmp_path) as terminal:
        terminal.until("[y/N]")
        terminal.type("y\n")
        assert terminal.end() == 0
    assert "there is no model file 'mine'" in autoglm("models", "remove", "mine", data=tmp_path).err


def test_the_catalogue_is_shown() -> None:
    entries = json.loads(autoglm("models", "catalogue", "--json").out)
    text = autoglm("models", "catalogue").out
    assert "qwen2.5-coder-0.5b" in [entry["name"] for entry in entries]
    assert all(entry["name"] in text and len(entry["sha256"]) == 64 for entry in entries)
