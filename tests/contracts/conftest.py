"""The implementations that every contract suite runs against. A new one is one more entry."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

import pytest

from autoglm.core.ports import Blobs, Journal, KeyValue, Log
from autoglm.store import StoreSettings, open_store


class Stores(Protocol):
    """What an implementation offers, open."""

    @property
    def log(self) -> Log: ...
    @property
    def keyvalue(self) -> KeyValue: ...
    @property
    def blobs(self) -> Blobs: ...
    @property
    def journal(self) -> Journal: ...


OpenStores = Callable[[], AbstractAsyncContextManager[Stores]]
"""Opens the same stores again after they were closed."""


def open_sqlite(folder: Path) -> AbstractAsyncContextManager[Stores]:
    return open_store(folder, StoreSettings())


def open_sqlite_without_tail(folder: Path) -> AbstractAsyncContextManager[Stores]:
    """Every read goes to disk."""
    return open_store(folder, StoreSettings(tail_max_bytes=0))


IMPLEMENTATIONS: dict[str, Callable[[Path], AbstractAsyncContextManager[Stores]]] = {
    "sqlite": open_sqlite,
    "sqlite-without-tail": open_sqlite_without_tail,
}


@pytest.fixture(params=IMPLEMENTATIONS)
def open_stores(request: pytest.FixtureRequest, tmp_path: Path) -> OpenStores:
    return lambda: IMPLEMENTATIONS[request.param](tmp_path / "data")


@pytest.fixture
async def stores(open_stores: OpenStores) -> AsyncIterator[Stores]:
    async with open_stores() as opened:
        yield opened


@pytest.fixture
def log(stores: Stores) -> Log:
    return stores.log


@pytest.fixture
def keyvalue(stores: Stores) -> KeyValue:
    return stores.keyvalue


@pytest.fixture
def journal(stores: Stores) -> Journal:
    return stores.journal


@pytest.fixture
def blobs(stores: Stores) -> Blobs:
    return stores.blobs
