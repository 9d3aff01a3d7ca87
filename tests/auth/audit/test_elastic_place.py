"""An index as a second place: each entry once, whatever the answers say, and never another in its place."""

import http.client
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest

from audited import ALICE, Site, arrived, shipping
from autoglm.auth.audit.elastic_place import ElasticsearchPlace
from autoglm.auth.audit.places import PlaceFailed
from autoglm.auth.audit.settings import ElasticsearchPlaceSettings
from eventually import until
from fakes.audit_index import AuditIndex
from fakes.elasticsearch import API_KEY
from fakes.vendor import Fault


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def index() -> Iterator[AuditIndex]:
    with AuditIndex() as running:
        yield running


@pytest.fixture(autouse=True)
def no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoglm.auth.audit.places._RETRY_S", (0.01, 0.02))


def place(port: int) -> ElasticsearchPlace:
    def ask(method: str, path: str, body: bytes, media_type: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        try:
            headers = {"Content-Type": media_type, "Authorization": f"ApiKey {API_KEY}"}
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except http.client.HTTPException as error:
            raise OSError(str(error)) from error
        finally:
            connection.close()

    async def request(method: str, path: str, body: bytes, media_type: str) -> tuple[int, bytes]:
        return await anyio.to_thread.run_sync(ask, method, path, body, media_type)

    settings = ElasticsearchPlaceSettings(url=f"http://127.0.0.1:{port}")
    return ElasticsearchPlace(settings, "ward-3", request)


def assert_there(site: Site, index: AuditIndex) -> None:
    """Each entry of the store that came there, under its number and with its very bytes."""
    rows = {f"ward-3-{row.seq}": row for row in site.rows()}
    assert len(index.documents) >= len(rows) - 2  # the last stop and head come after the place was closed
    for name, document in index.documents.items():
        own = document["autoglm"]["audit"]
        assert own["entry"].encode() == rows[name].body
        assert own["hash"] == rows[name].digest.hex()


async def run_once(site: Site, port: int, acts: int = 3) -> None:
    async with shipping(site, place(port)) as (_, audit, _):
        for n in range(acts):
            audit.act(f"act-{n}", ALICE, text="x")


async def test_entries_become_documents_of_ecs(site: Site, index: AuditIndex) -> None:
    await run_once(site, index.port)
    await run_once(site, index.port)
    assert_there(site, index)
    document = index.documents["ward-3-2"]
    assert document["event"] == {"kind": "event", "action": "act-0", "outcome": "success", "sequence": 2}
    assert document["@timestamp"] == "2023-11-14T22:13:20.000Z"
    assert document["user"] == {"id": "user:alice"}
    assert json.loads(document["autoglm"]["audit"]["personal"])["text"] == "x"


@pytest.mark.parametrize(
    "fault",
    ["throttled", "transient", "auth", "permanent", "server_error", "bad_gateway", "garbage", "empty_json", "cut"],
)
async def test_whatever_goes_wrong_no_entry_is_lost_or_there_twice(site: Site, index: AuditIndex, fault: Fault) -> None:
    index.faults += [fault, fault]
    await run_once(site, index.port)
    assert not index.faults
    assert_there(site, index)
    assert [entry for entry, _ in site.entries() if entry.action == "audit:place"] == []


async def test_entries_that_fail_alone_come_again(site: Site, index: AuditIndex) -> None:
    index.item_faults += [None, (429, "es_rejected_execution_exception"), None, (503, "unavailable_shards_exception")]
    await run_once(site, index.port)
    assert_there(site, index)


async def test_a_server_that_is_away_holds_up_nothing(site: Site) -> None:
    with AuditIndex() as gone:
        port = gone.port
    async with shipping(site, place(port)) as (store, audit, ship):
        audit.act("act", ALICE)
        await audit.written()
        await until(lambda: ship.failure)
        with AuditIndex(port=port) as back:
            await arrived(store, audit, ship)
            await until(lambda: not ship.failure)
            assert_there(site, back)


@pytest.mark.attack("audit: the database is replaced by an older copy, seen by Elasticsearch")
async def test_an_older_copy_does_not_write_over_what_is_there(site: Site, index: AuditIndex) -> None:
    await run_once(site, index.port)
    shutil.copy(site.folder / "hub.db", site.folder / "older.db")
    await run_once(site, index.port, acts=6)
    before = dict(index.documents)
    shutil.copy(site.folder / "older.db", site.folder / "hub.db")
    site.clock.ms += 1
    await run_once(site, index.port, acts=2)
    assert {name: index.documents[name] for name in before} == before
    added: dict[str, Any] = {name: found for name, found in index.documents.items() if name not in before}
    beside = {f"ward-3-{row.seq}-{row.digest.hex()[:16]}" for row in site.rows()}
    assert set(added) - beside <= {f"ward-3-{row.seq}" for row in site.rows() if f"ward-3-{row.seq}" not in before}
    assert len(beside & set(added)) >= 3
    assert {entry.reason for entry, _ in site.entries() if entry.action == "audit:place"} == {"place_ahead"}


async def test_what_is_erased_is_erased_there_too(site: Site, index: AuditIndex) -> None:
    await run_once(site, index.port)
    async with shipping(site, place(index.port)) as (_, audit, _):
        audit.act("audit:erase", None, kind="erase", erases=((2, 4), (5, 5)))
    assert_there(site, index)
    texts = {name: json.dumps(document) for name, document in index.documents.items()}
    assert not any("user:alice" in text for text in texts.values())
    assert "audit:stop" in texts["ward-3-5"]


async def test_erasing_what_never_came_there_is_done(site: Site, index: AuditIndex) -> None:
    await place(index.port).erase([(900, 1500)])
    assert not index.documents


async def test_an_answer_that_leaves_documents_out_is_no_success(site: Site) -> None:
    async def request(method: str, path: str, body: bytes, media_type: str) -> tuple[int, bytes]:
        return 200, json.dumps({"items": [{"create": {"_id": "ward-3-1", "status": 201}}]}).encode()

    async with site.running() as (store, audit):
        audit.act("act", ALICE)
        await audit.written()
        with pytest.raises(PlaceFailed, match="each document"):
            await ElasticsearchPlace(ElasticsearchPlaceSettings(url="http://127.0.0.1:9"), "ward-3", request).put(
                await store.journal.read()
            )
