"""Fixtures of the inference suites."""

from pathlib import Path

import anyio
import pytest

from models import small_model


@pytest.fixture(scope="session")
def small_model_path() -> Path:
    return anyio.run(small_model)
