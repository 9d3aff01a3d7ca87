"""A push service, and a store."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from autoglm.core.ports import KeyValue
from autoglm.store import StoreSettings, open_store
from fakes.push_service import PushService


@pytest.fixture
def service() -> Iterator[PushService]:
    with PushService() as service:
        yield service


@pytest.fixture
async def keyvalue(tmp_path: Path) -> AsyncIterator[KeyValue]:
    async with open_store(tmp_path / "data", StoreSettings()) as store:
        yield store.keyvalue
