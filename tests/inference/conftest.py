"""Fixtures of the inference suites."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import anyio
import pytest

from models import small_model


@pytest.fixture(scope="session")
def small_model_path() -> Path:
    """In a thread of its own: a loop may be running in this one for asynchronous fixtures."""
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(anyio.run, small_model).result()
