"""Reads the header of a GGUF file. The file is a stranger's: every length is checked before it is believed.

Source: the GGUF specification in ggml's docs/gguf.md, versions 2 and 3, little-endian.
"""

import struct
from pathlib import Path
from typing import BinaryIO

import msgspec

from autoglm.core.errors import ModelFileError

# Far above what models have: a vocabulary of 256k words with its merges makes 3 arrays of at most 600k elements.
MAX_KEYS = 10_000
MAX_KEY_BYTES = 65_535
MAX_ELEMENTS = 10_000_000
MAX_TENSORS = 1_000_000
_MAX_TEXT_BYTES = 4096

_STRING, _ARRAY = 8, 9
_FORMATS = {0: "B", 1: "b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "?", 10: "<Q", 11: "<q", 12: "<d"}
_SIZES = {kind: struct.calcsize(form) for kind, form in _FORMATS.items()}


class GgufHeader(msgspec.Struct, frozen=True, kw_only=True):
    """What a model file says of itself; nothing of it is proven."""

    version: int
    tensors: int
    architecture: str
    name: str | None = None
    licence: str | None = None
    context_tokens: int | None = None
    """The context the model was trained with."""
    kv_bytes_per_token: int | None = None
    """What one token of context takes in memory, keys and values in 16 bits; None when the file does not tell."""
    pieces: int = 1
    """More than 1: the model is split over this many files."""


def read_gguf(path: Path) -> GgufHeader:
    """Raises ModelFileError when the file is no GGUF, cut short, or beyond sane bounds. Takes up to a second."""
    try:
        with path.open("rb") as file:
            return parse_gguf(file, path.stat().st_size)
    except ModelFileError as error:
        raise ModelFileError(f"{path.name} is not a usable model file: {error}") from None
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror}") from error


def parse_gguf(file: BinaryIO, size_bytes: int) -> GgufHeader:
    """Read the header from the start of `file`, which holds `size_bytes`. Raises ModelFileError."""
    reader = _Reader(file, size_bytes)
    magic = reader.take(4, "magic")
    if magic != b"GGUF":
        raise ModelFileError(f"it starts with {magic!r}, not with b'GGUF'")
    version = reader.number("<I")
    if version not in (2, 3):
        raise ModelFileError(f"GGUF version {version} is not supported (2 and 3, little-endian, are)")
    tensors = reader.count(MAX_TENSORS, "tensors")
    values: dict[str, str | int | float | bool] = {}
    for _ in range(reader.count(MAX_KEYS, "keys")):
        key = reader.text(reader.count(MAX_KEY_BYTES, "bytes in a key"), "key")
        value = reader.value(reader.number("<I"))
        if value is not None:
            values[key] = value
    return _header(version, tensors, values)


def _header(version: int, tensors: int, values: dict[str, str | int | float | bool]) -> GgufHeader:
    def text(key: str) -> str | None:
        value = values.get(key)
        return value if isinstance(value, str) and value else None

    def whole(key: str) -> int | None:
        value = values.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None

    architecture = text("general.architecture")
    if architecture is None:
        raise ModelFileError("it names no architecture")
    return GgufHeader(
        version=version,
        tensors=tensors,
        architecture=architecture,
        name=text("general.name"),
        licence=text("general.license"),
        context_tokens=whole(f"{architecture}.context_length"),
        kv_bytes_per_token=_kv_bytes(
            layers=whole(f"{architecture}.block_count"),
            width=whole(f"{architecture}.embedding_length"),
            heads=whole(f"{architecture}.attention.head_count"),
            kv_heads=whole(f"{architecture}.attention.head_count_kv"),
            key_width=whole(f"{architecture}.attention.key_length"),
            value_width=whole(f"{architecture}.attention.value_length"),
        ),
        pieces=whole("split.count") or 1,
    )


def _kv_bytes(
    *, layers: int | None, width: int | None, heads: int | None, kv_heads: int | None, key_width: int | None,
    value_width: int | None,
) -> int | None:  # fmt: skip
    """Keys and values of all layers for one token, 2 bytes a number. An upper bound where layers share or compress."""
    if layers is None or heads is None or (width is None and (key_width is None or value_width is None)):
        return None
    head_width = (width or 0) // heads
    return 2 * layers * (kv_heads or heads) * ((key_width or head_width) + (value_width or head_width))


class _Reader:
    """Takes numbers and texts from a file, and never more than the file holds."""

    def __init__(self, file: BinaryIO, size_bytes: int) -> None:
        self._file = file
        self._left = size_bytes
        self._elements = 0

    def take(self, size_bytes: int, what: str) -> bytes:
        if size_bytes > self._left:
            raise ModelFileError(f"it ends within a {what}")
        data = self._file.read(size_bytes)
        if len(data) != size_bytes:
            raise ModelFileError(f"it ends within a {what}")
        self._left -= size_bytes
        return data

    def skip(self, size_bytes: int, what: str) -> None:
        if size_bytes > self._left:
            raise ModelFileError(f"it ends within a {what}")
        self._file.seek(size_bytes, 1)
        self._left -= size_bytes

    def number(self, form: str) -> int:
        return int(struct.unpack(form, self.take(struct.calcsize(form), "number"))[0])

    def count(self, limit: int, what: str) -> int:
        count = self.number("<Q")
        if count > limit:
            raise ModelFileError(f"it claims {count} {what}; at most {limit} are believed")
        return count

    def text(self, size_bytes: int, what: str) -> str:
        return self.take(size_bytes, what).decode("utf-8", "replace")

    def value(self, kind: int) -> str | int | float | bool | None:
        """One value; None for arrays and long texts, which are skipped."""
        if kind == _STRING:
            size_bytes = self.number("<Q")
            if size_bytes <= _MAX_TEXT_BYTES:
                return self.text(size_bytes, "text")
            self.skip(size_bytes, "text")
            return None
        if kind == _ARRAY:
            self._skip_array(depth=0)
            return None
        form = _FORMATS.get(kind)
        if form is None:
            raise ModelFileError(f"it has a value of the unknown type {kind}")
        value: int | float | bool = struct.unpack(form, self.take(_SIZES[kind], "value"))[0]
        return value

    def _skip_array(self, depth: int) -> None:
        if depth > 4:
            raise ModelFileError("it nests arrays more than 4 deep")
        kind = self.number("<I")
        length = self.count(MAX_ELEMENTS, "elements in an array")
        self._elements += length
        if self._elements > MAX_ELEMENTS:
            raise ModelFileError(f"its arrays claim more than {MAX_ELEMENTS} elements")
        if kind in _SIZES:
            self.skip(length * _SIZES[kind], "array")
        elif kind == _STRING:
            for _ in range(length):
                self.skip(self.number("<Q"), "text")
        elif kind == _ARRAY:
            for _ in range(length):
                self._skip_array(depth + 1)
        else:
            raise ModelFileError(f"it has an array of the unknown type {kind}")
