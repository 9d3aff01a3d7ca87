"""Fetches model files, checks them, and keeps them in one folder."""

from autoglm.inference.models.catalogue import CATALOGUE, CatalogueModel, Part, pull_words
from autoglm.inference.models.folder import ModelFile, ModelFolder
from autoglm.inference.models.gguf import GgufHeader, read_gguf
from autoglm.inference.models.progress import OnProgress, Progress
from autoglm.inference.models.pull import pull

__all__ = [
    "CATALOGUE",
    "CatalogueModel",
    "GgufHeader",
    "ModelFile",
    "ModelFolder",
    "OnProgress",
    "Part",
    "Progress",
    "pull",
    "pull_words",
    "read_gguf",
]
