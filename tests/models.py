"""The small real model that tests marked `model` use."""

import os
from pathlib import Path

from autoglm.inference.models import ModelFolder, pull

SMALL_MODEL = "smollm2-135m"
REPOSITORY = Path(__file__).resolve().parents[1]


async def small_model() -> Path:
    """The file of SmolLM2-135M (98 MB); pulled when it is missing.

    It lies in the folder AUTOGLM_TEST_MODELS, or data/models of the repository, and stays there for the next run.
    """
    folder = os.environ.get("AUTOGLM_TEST_MODELS") or REPOSITORY / "data" / "models"  # noqa: TID251  # tests only
    return (await pull(SMALL_MODEL, ModelFolder(Path(folder)))).path
