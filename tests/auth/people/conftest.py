"""A hub's people, afresh for each test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from people_hub import People, people_hub


@pytest.fixture
async def people(tmp_path: Path) -> AsyncIterator[People]:
    async with people_hub(tmp_path) as people:
        yield people
