"""Model files of a few kilobytes, and wheels that carry them, as tests want them."""

import hashlib
import struct
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from autoglm.inference.models import CatalogueModel, Part

Value = int | str | Sequence[str]

METADATA: dict[str, Value] = {
    "general.architecture": "llama",
    "general.name": "Tiny",
    "general.license": "mit",
    "tokenizer.ggml.tokens": ["a", "b", "c"],
    "llama.context_length": 2048,
}


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def gguf(metadata: Mapping[str, Value] = METADATA, *, version: int = 3, tail: bytes = b"") -> bytes:
    """A GGUF header by the specification, followed by `tail` in place of tensors."""
    out = b"GGUF" + struct.pack("<IQQ", version, 0, len(metadata))
    for key, value in metadata.items():
        out += text(key)
        if isinstance(value, int):
            out += struct.pack("<II", 4, value)
        elif isinstance(value, str):
            out += struct.pack("<I", 8) + text(value)
        else:
            out += struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(text, value))
    return out + tail


TINY = gguf(tail=bytes(range(256)) * 400)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def catalogue_model(data: bytes = TINY, *, parts: int = 3, wanted: str | None = None) -> CatalogueModel:
    """A model named 'tiny' that lies in `parts` wheels of about the same size."""
    return CatalogueModel(
        name="tiny",
        title="Tiny",
        parts=tuple(
            Part(
                distribution=f"tiny-part{number}",
                version="1.0",
                member=f"tiny_part{number}/data/part.bin",
                size_bytes=len(piece),
            )
            for number, piece in enumerate(pieces(data, parts), start=1)
        ),
        sha256=wanted or sha256(data),
        licence="Apache-2.0",
        origin="made for a test",
        languages=("en",),
        context_tokens=2048,
        about={"en": "tiny", "zh": "小"},
    )


def pieces(data: bytes, count: int) -> list[bytes]:
    step = -(-len(data) // count)
    return [data[start : start + step] for start in range(0, len(data), step)]


def write_wheels(folder: Path, data: bytes = TINY, *, parts: int = 3) -> list[Path]:
    """The wheels that `catalogue_model` names, for pip's --find-links."""
    model = catalogue_model(data, parts=parts)
    return [write_wheel(folder, part, piece) for part, piece in zip(model.parts, pieces(data, parts), strict=True)]


def write_wheel(folder: Path, part: Part, content: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    stem = f"{part.distribution.replace('-', '_')}-{part.version}"
    path = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:  # stored, not packed: a test can find the content to damage it
        archive.writestr(part.member, content)
        archive.writestr(
            f"{stem}.dist-info/METADATA",
            f"Metadata-Version: 2.1\nName: {part.distribution}\nVersion: {part.version}\nRequires-Dist: nowhere\n",
        )
        archive.writestr(f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{stem}.dist-info/RECORD", "")
    return path
