"""The model folder lists what is sound and survives what is strange."""

import errno
from pathlib import Path

import pytest

from autoglm.core.errors import ModelFileError, NotFound, StorageFull
from autoglm.inference.models import ModelFolder
from autoglm.inference.models.folder import Sidecar, check_name, name_from
from autoglm.inference.models.partial import storage_error


@pytest.fixture
def folder(tmp_path: Path) -> ModelFolder:
    return ModelFolder(tmp_path)


def test_a_folder_that_does_not_exist_has_no_models(tmp_path: Path) -> None:
    assert ModelFolder(tmp_path / "none").list() == []


def test_strange_files_do_not_hide_the_sound_ones(folder: ModelFolder, tmp_path: Path) -> None:
    (tmp_path / "good.gguf").write_bytes(b"1234")
    (tmp_path / "noted.gguf").write_bytes(b"1234")
    folder.write_sidecar("noted", Sidecar(sha256="ab", size_bytes=4, origin="somewhere", licence="mit"))
    (tmp_path / "folder.gguf").mkdir()
    (tmp_path / "dangling.gguf").symlink_to(tmp_path / "nowhere")
    (tmp_path / "Bad Name.gguf").write_bytes(b"x")
    (tmp_path / "good.gguf.partial").write_bytes(b"x")
    (tmp_path / "good.json").write_bytes(b"\xff\x00 no json")
    models = {model.name: model for model in folder.list()}
    assert set(models) == {"good", "noted"}
    assert (models["good"].sha256, models["good"].size_bytes) == (None, 4)
    assert (models["noted"].origin, models["noted"].licence) == ("somewhere", "mit")


def test_a_note_about_a_file_of_another_size_is_not_believed(folder: ModelFolder, tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"other")
    folder.write_sidecar("m", Sidecar(sha256="ab", size_bytes=4, origin="somewhere"))
    assert folder.list()[0].sha256 is None


def test_removing_takes_file_note_and_leftovers_of_a_pull(folder: ModelFolder, tmp_path: Path) -> None:
    for name in ("m.gguf", "m.json", "m.gguf.partial"):
        (tmp_path / name).write_bytes(b"x")
    folder.parts("m").mkdir(parents=True)
    folder.remove("m")
    assert [path.name for path in tmp_path.iterdir()] == [".parts"]
    with pytest.raises(NotFound):
        folder.remove("m")


def test_the_path_of_a_missing_model_comes_with_the_way_out(folder: ModelFolder, tmp_path: Path) -> None:
    (tmp_path / "qwen.gguf").write_bytes(b"x")
    assert folder.path_of("qwen") == tmp_path / "qwen.gguf"
    with pytest.raises(ModelFileError, match=r"'autoglm models pull \./FILE\.gguf --name qwem'\. Did you mean 'qwen'"):
        folder.path_of("qwem")
    with pytest.raises(ModelFileError, match="'autoglm models pull smollm2-135m'"):
        folder.path_of("smollm2-135m")


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", "A", "-a", ".a", "a" * 65, "a\n", "模型"])
def test_names_that_could_leave_the_folder_are_refused(folder: ModelFolder, name: str) -> None:
    with pytest.raises(ModelFileError, match="is no model name"):
        check_name(name)
    with pytest.raises(ModelFileError):
        folder.remove(name)
    assert folder.get(name) is None


@pytest.mark.parametrize(
    ("file_name", "name"),
    [("Qwen2 (Q4).GGUF", "qwen2-q4"), ("a.b_c-1.gguf", "a.b_c-1"), ("..x.gguf", "x"), ("x" * 90, "x" * 64)],
)
def test_a_model_is_named_after_its_file(file_name: str, name: str) -> None:
    assert check_name(name_from(file_name)) == name


def test_a_file_name_without_a_letter_needs_a_name() -> None:
    with pytest.raises(ModelFileError, match="--name"):
        name_from("模型.gguf")


def test_a_full_disk_and_a_full_quota_are_storage_full() -> None:
    for number in (errno.ENOSPC, errno.EDQUOT):
        assert isinstance(storage_error(OSError(number, "x"), Path("m")), StorageFull)
    assert isinstance(storage_error(OSError(errno.EIO, "x"), Path("m")), ModelFileError)
