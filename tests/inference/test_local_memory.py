"""What a worker needs is known before it starts, and what there is, within the limits of containers."""

import os
from pathlib import Path

import pytest

from autoglm.inference.local import LocalSpec, run_child
from autoglm.inference.local.memory import _groups, available_bytes, needed_bytes, resident_bytes, total_bytes
from autoglm.inference.models.gguf import read_gguf
from inference.tiny_models import METADATA, gguf

SHAPE = {"llama.block_count": 30, "llama.embedding_length": 576, "llama.attention.head_count": 9}


def spec(path: Path, **fields: object) -> LocalSpec:
    return LocalSpec(name="a", model="a", path=path, **fields)  # type: ignore[arg-type]  # each test knows its fields


def test_a_token_takes_keys_and_values_in_every_layer(tmp_path: Path) -> None:
    """As llama.cpp reports for SmolLM2-135M: 22.5 KiB a token in 16 bits."""
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf({**METADATA, **SHAPE, "llama.attention.head_count_kv": 3}))
    assert read_gguf(path).kv_bytes_per_token == 30 * 3 * (64 + 64) * 2 == 23_040
    path.write_bytes(gguf({**METADATA, **SHAPE}))
    assert read_gguf(path).kv_bytes_per_token == 3 * 23_040, "without shared heads each has its own"
    wide = {"llama.attention.key_length": 128, "llama.attention.value_length": 256}
    path.write_bytes(gguf({**METADATA, **SHAPE, "llama.attention.head_count_kv": 3, **wide}))
    assert read_gguf(path).kv_bytes_per_token == 30 * 3 * (128 + 256) * 2


def test_more_slots_and_more_context_need_more(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf({**METADATA, **SHAPE}))
    header = read_gguf(path)
    small = needed_bytes(spec(path, context_tokens=512, slots=1), header, 1000)
    assert header.kv_bytes_per_token is not None
    assert needed_bytes(spec(path, context_tokens=512, slots=3), header, 1000) - small == (
        2 * 512 * header.kv_bytes_per_token
    )
    trained = needed_bytes(spec(path, context_tokens=2048), header, 1000)
    assert needed_bytes(spec(path, context_tokens=1 << 20), header, 1000) == trained, "no more than it was trained with"


def test_a_file_that_tells_nothing_is_counted_by_its_size(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf())
    header = read_gguf(path)
    assert header.kv_bytes_per_token is None
    assert needed_bytes(spec(path), header, 3000) - needed_bytes(spec(path), header, 1000) == 3000


@pytest.mark.model
async def test_a_real_worker_stays_within_what_was_expected(small_model_path: Path) -> None:
    order = spec(small_model_path, context_tokens=2048, slots=4)
    file_bytes = os.stat(small_model_path).st_size
    expected = needed_bytes(order, read_gguf(small_model_path), file_bytes)
    async with run_child(order) as child:
        taken = resident_bytes(child.pid)
    assert 0.4 * expected <= taken <= expected
    assert resident_bytes(child.pid) == 0


def test_the_limit_of_a_container_holds(tmp_path: Path) -> None:
    (tmp_path / "pod" / "box").mkdir(parents=True)
    (tmp_path / "pod" / "memory.max").write_text("1000\n")
    (tmp_path / "pod" / "memory.current").write_text("700\n")
    (tmp_path / "pod" / "memory.stat").write_text("anon 500\ninactive_file 200\n")
    (tmp_path / "pod" / "box" / "memory.max").write_text("max\n")
    (tmp_path / "pod" / "box" / "memory.current").write_text("700\n")
    assert _groups("0::/pod/box\n", tmp_path) == [(1000, 500)]


def test_the_limit_of_an_old_container_holds(tmp_path: Path) -> None:
    folder = tmp_path / "memory" / "docker"
    folder.mkdir(parents=True)
    (folder / "memory.limit_in_bytes").write_text("1000\n")
    (folder / "memory.usage_in_bytes").write_text("700\n")
    (folder / "memory.stat").write_text("total_inactive_file 100\n")
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text(f"{0x7FFFFFFFFFFFF000}\n")
    (tmp_path / "memory" / "memory.usage_in_bytes").write_text("9\n")
    assert _groups("4:memory:/docker\n3:cpu:/x\n", tmp_path) == [(1000, 600)]


def test_this_process_knows_its_machine() -> None:
    assert 0 < available_bytes() <= total_bytes()
    assert 1 << 20 < resident_bytes(os.getpid()) < total_bytes()
