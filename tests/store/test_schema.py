"""Migrations: forwards one by one, each whole or not at all, never backwards."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from autoglm.core.errors import StoreBroken
from autoglm.core.ports import Entry
from autoglm.store import StoreSettings, open_store
from autoglm.store.sqlite.schema import MIGRATIONS, SCHEMA_VERSION, migrate, schema_version


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(tmp_path / "hub.db", isolation_level=None)) as opened:
        yield opened


def test_an_empty_database_reaches_the_newest_version_once(db: sqlite3.Connection, tmp_path: Path) -> None:
    assert schema_version(db) == 0
    assert migrate(db, tmp_path) == 0
    assert schema_version(db) == SCHEMA_VERSION
    assert migrate(db, tmp_path) == SCHEMA_VERSION


def test_only_the_missing_steps_run(db: sqlite3.Connection, tmp_path: Path) -> None:
    first = ["CREATE TABLE a (x)", "INSERT INTO a VALUES (1)"]
    migrate(db, tmp_path, [first])
    assert migrate(db, tmp_path, [first, ["INSERT INTO a VALUES (2)"], ["INSERT INTO a VALUES (3)"]]) == 1
    assert db.execute("SELECT x FROM a").fetchall() == [(1,), (2,), (3,)]
    assert schema_version(db) == 3


def test_a_step_that_fails_leaves_the_version_before_it(db: sqlite3.Connection, tmp_path: Path) -> None:
    steps = [["CREATE TABLE a (x)"], ["INSERT INTO a VALUES (1)", "INSERT INTO missing VALUES (1)"]]
    with pytest.raises(sqlite3.OperationalError, match="missing"):
        migrate(db, tmp_path, steps)
    assert schema_version(db) == 1
    assert db.execute("SELECT x FROM a").fetchall() == []
    assert not db.in_transaction


async def test_a_database_of_the_first_version_gets_a_journal_and_keeps_what_it_has(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "hub.db", isolation_level=None)) as first:
        migrate(first, tmp_path, MIGRATIONS[:1])
        first.execute("INSERT INTO kv VALUES ('a', x'01', 7)")
    async with open_store(tmp_path, StoreSettings()) as store:
        assert store.recovered.migrated_from == 1
        assert await store.keyvalue.get("a") == Entry(key="a", value=b"\x01", revision=7)
        assert await store.journal.read() == []


async def test_a_newer_database_is_refused_with_both_versions(tmp_path: Path) -> None:
    async with open_store(tmp_path, StoreSettings()) as store:
        assert store.recovered.migrated_from == 0
    db = sqlite3.connect(tmp_path / "hub.db")
    db.execute("UPDATE schema_version SET version = 99")
    db.commit()
    db.close()
    with pytest.raises(StoreBroken, match=f"version 99, and this autoglm-hub knows versions up to {SCHEMA_VERSION}"):
        async with open_store(tmp_path, StoreSettings()):
            pass
