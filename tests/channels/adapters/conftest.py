"""Fixtures of the adapters' tests."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from autoglm.channels import backoff
from autoglm.core.ports import KeyValue
from autoglm.store import StoreSettings, open_store


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """What keeps a connection up tries again soon."""
    monkeypatch.setattr(backoff, "FIRST_S", 0.02)


@pytest.fixture
async def keyvalue(tmp_path: Path) -> AsyncIterator[KeyValue]:
    """On disk, as the hub gives it to each channel."""
    async with open_store(tmp_path / "data", StoreSettings()) as store:
        yield store.keyvalue
