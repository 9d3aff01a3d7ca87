"""The header of a model file is untrusted input."""

import io
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoglm.core.errors import ModelFileError
from autoglm.inference.models import read_gguf
from autoglm.inference.models.gguf import GgufHeader, parse_gguf
from inference.tiny_models import METADATA, TINY, gguf, text


def parse(data: bytes) -> GgufHeader:
    return parse_gguf(io.BytesIO(data), len(data))


def with_value(kind: int, body: bytes) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("key") + struct.pack("<I", kind) + body


def test_a_header_tells_name_architecture_licence_and_context() -> None:
    header = parse(TINY)
    assert (header.name, header.architecture, header.licence) == ("Tiny", "llama", "mit")
    assert (header.context_tokens, header.version, header.pieces) == (2048, 3, 1)


@pytest.mark.parametrize("kind", [0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12])
def test_values_and_arrays_of_every_type_are_stepped_over(kind: int) -> None:
    size_bytes = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}[kind]
    body = b"GGUF" + struct.pack("<IQQ", 3, 0, 3)
    body += text("one") + struct.pack("<I", kind) + bytes(size_bytes)
    body += text("many") + struct.pack("<IIQ", 9, kind, 5) + bytes(5 * size_bytes)
    body += text("general.architecture") + struct.pack("<I", 8) + text("qwen2")
    assert parse(body).architecture == "qwen2"


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "ends within a magic"),
        (b"PK\x03\x04" + bytes(100), "starts with b'PK"),
        (gguf(version=1), "version 1 is not supported"),
        (gguf({"general.name": "x"}), "names no architecture"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**63), "claims 9223372036854775808 keys"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**60, 0), "tensors"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 2**40), "bytes in a key"),
        (with_value(8, struct.pack("<Q", 2**62)), "ends within a text"),
        (with_value(9, struct.pack("<IQ", 4, 2**62)), "elements in an array"),
        (with_value(9, struct.pack("<IQ", 10, 1_000_000)), "ends within a array"),
        (with_value(9, struct.pack("<IQ", 9, 1) * 9), "nests arrays"),
        (with_value(9, struct.pack("<IQ", 77, 1)), "array of the unknown type 77"),
        (with_value(13, b""), "unknown type 13"),
    ],
)
def test_a_lying_header_is_refused_with_the_reason(data: bytes, complaint: str) -> None:
    with pytest.raises(ModelFileError, match=complaint):
        parse(data)


@given(st.binary(max_size=400))
def test_garbage_gives_an_answer_or_a_model_file_error(data: bytes) -> None:
    _parse_or_refuse(b"GGUF" + data)


@given(st.data())
def test_a_damaged_header_gives_an_answer_or_a_model_file_error(data: st.DataObject) -> None:
    header = bytearray(gguf())
    for _ in range(data.draw(st.integers(1, 4))):
        header[data.draw(st.integers(0, len(header) - 1))] = data.draw(st.integers(0, 255))
    _parse_or_refuse(bytes(header[: data.draw(st.integers(0, len(header)))]))


def _parse_or_refuse(data: bytes) -> None:
    try:
        header = parse(data)
    except ModelFileError:
        return
    assert header.architecture


def test_reading_stops_where_the_file_is_said_to_end() -> None:
    """The size is what the disk says; a header cut there is refused even if more could be read."""
    data = gguf(METADATA)
    with pytest.raises(ModelFileError, match="ends within"):
        parse_gguf(io.BytesIO(data), len(data) - 1)


def test_a_missing_file_and_a_folder_are_model_file_errors(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="cannot be read"):
        read_gguf(tmp_path / "none.gguf")
    with pytest.raises(ModelFileError, match="cannot be read"):
        read_gguf(tmp_path)
