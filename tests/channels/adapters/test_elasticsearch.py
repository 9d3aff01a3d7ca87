"""Elasticsearch's `_bulk` against a strict fake."""

import http.client
import json
import re
import tomllib
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from pydantic import ValidationError

from autoglm.channels.adapters.elasticsearch import (
    PARALLEL,
    Elasticsearch,
    ElasticsearchSettings,
    document_of,
    of_items,
)
from autoglm.channels.channel import Resources
from autoglm.channels.settings import parse_channel
from autoglm.channels.web import Answer
from channels.outbox.office import Office, office
from contracts.channel_contract import ChannelContract, Rig, message, no_blob
from eventually import until, wait_until
from fakes.elasticsearch import API_KEY, PASSWORD, USER, FakeElasticsearch
from fakes.vendor import HTTP_FAULTS
from hub import running_hub
from toml_text import toml_text

INDEX = "logs-autoglm-default"
PAGES = Path(__file__).resolve().parents[3] / "docs" / "channels"


def channel(vendor: FakeElasticsearch, **fields: Any) -> Elasticsearch:
    known = {"name": "logs", "kind": "elasticsearch", "url": vendor.url, "indexes": {"main": INDEX}}
    settings = parse_channel({**known, **({} if "password" in fields else {"api_key": API_KEY}), **fields})
    assert isinstance(settings, ElasticsearchSettings)
    return Elasticsearch(settings, Resources("logs", no_blob))


@pytest.fixture
def vendor() -> Iterator[FakeElasticsearch]:
    with FakeElasticsearch() as vendor:
        yield vendor


@pytest.fixture
async def rig(vendor: FakeElasticsearch) -> AsyncIterator[Rig]:
    logs = channel(vendor)
    sent = Rig(
        logs, target="main", texts=lambda: vendor.texts, misbehave=vendor.faults.append, stop=vendor.__exit__,
        secrets=(API_KEY,), delivered=True,
        faults=HTTP_FAULTS,
    )  # fmt: skip
    yield sent
    await logs.aclose()


class TestContract(ChannelContract):
    pass


async def send(logs: Elasticsearch, envelope_id: str = "m-1", **fields: Any) -> str:
    envelope = message(id=envelope_id, **fields)
    (parcel,) = logs.compose(envelope, "main")
    delivery = await logs.send(parcel, f"{envelope.id}.0")
    return f"{delivery.outcome} {delivery.failure or ''} {delivery.code}".strip()


async def test_a_retry_after_a_cut_is_no_second_document(vendor: FakeElasticsearch, rig: Rig) -> None:
    """The item's 409 says that the first attempt arrived."""
    vendor.faults.append("cut")
    (first,) = await rig.send(message())
    (second,) = await rig.send(message())
    assert (first.is_in_doubt, second.outcome, list(vendor.documents)) == (True, "delivered", ["m-1.0"])


async def test_some_are_taken_and_some_refused_and_each_is_told_apart(vendor: FakeElasticsearch) -> None:
    """All of it with HTTP 200."""
    logs = channel(vendor)
    cases: list[tuple[tuple[int, str] | None, str]] = [
        (None, "delivered"),
        ((429, "es_rejected_execution_exception"), "retry throttled es_rejected_execution_exception"),
        ((429, "circuit_breaking_exception"), "retry throttled circuit_breaking_exception"),
        ((429, "cluster_block_exception"), "retry transient cluster_block_exception"),
        ((403, "cluster_block_exception"), "retry transient cluster_block_exception"),
        ((503, "unavailable_shards_exception"), "retry transient unavailable_shards_exception"),
        ((500, "engine_exception"), "retry transient engine_exception"),
        ((403, "security_exception"), "retry auth security_exception"),
        ((400, "mapper_parsing_exception"), "permanent permanent mapper_parsing_exception"),
        ((400, "never_heard_of_exception"), "permanent permanent never_heard_of_exception"),
        ((404, "index_not_found_exception"), "permanent permanent index_not_found_exception"),
        (None, "delivered"),
    ]
    vendor.item_faults.extend(fault for fault, _ in cases)
    found = [await send(logs, f"m-{number}") for number in range(len(cases))]
    await logs.aclose()
    assert found == [expected for _, expected in cases]
    assert list(vendor.documents) == ["m-0.0", f"m-{len(cases) - 1}.0"]


async def post_all(hub: Office, count: int) -> list[str]:
    """At once, as from many senders."""
    ids = [f"e-{number}" for number in range(count)]
    async with anyio.create_task_group() as tasks:
        for id in ids:
            tasks.start_soon(partial(hub.post, id, "channel:logs/main", id=id))
    return ids


async def hurried(hub: Office) -> None:
    """Until nothing waits: a lane whose attempts failed in turn would rest for half a minute."""
    with anyio.fail_after(60.0):
        while hub.outbox.states():
            hub.outbox.hurry("logs")
            await anyio.sleep(0.01)


async def test_a_thousand_events_are_few_requests(vendor: FakeElasticsearch, tmp_path: Path) -> None:
    """16 by themselves; a slow disk has some go out before the others are there."""
    logs = channel(vendor)
    async with office(tmp_path, (logs, logs._settings)) as hub:
        ends = await hub.ends(*await post_all(hub, 1000))
    await logs.aclose()
    assert {(end.state, end.attempt) for end in ends} == {("delivered", 1)}
    assert len(vendor.documents) == 1000
    assert max(request.body.count(b"\n") // 2 for request in vendor.requests) > PARALLEL // 2
    assert len(vendor.requests) <= 100


async def test_a_document_that_is_refused_delays_no_other(vendor: FakeElasticsearch, tmp_path: Path) -> None:
    """Neither one that does not fit the mapping, nor one for which the whole request is refused."""
    vendor.most_bytes = 2_000_000
    vendor._mapping["labels.a"] = "number"
    logs = channel(vendor)
    async with office(tmp_path, (logs, logs._settings)) as hub:
        wrong = await hub.post("poison", "channel:logs/main", labels={"a": "b"})
        large = await hub.post("x" * 3_000_000, "channel:logs/main")
        ids = await post_all(hub, 100)
        assert [end.code for end in await hub.ends(wrong, large)] == ["document_parsing_exception", "http_413"]
        ends = await hub.ends(*ids)
    await logs.aclose()
    assert {(end.state, end.attempt) for end in ends} == {("delivered", 1)}
    assert len(vendor.documents) == 100


async def test_those_of_a_request_that_was_cut_are_tried_again_and_there_once(
    vendor: FakeElasticsearch, tmp_path: Path
) -> None:
    logs = channel(vendor)
    vendor.faults.extend(["cut", "throttled", "server_error", "garbage"])
    async with office(tmp_path, (logs, logs._settings)) as hub:
        ids = [await hub.post(f"event {number}", "channel:logs/main") for number in range(100)]
        await hub.read(ids[-1])
        await hurried(hub)
        assert {end.state for end in await hub.ends(*ids)} == {"delivered"}
    await logs.aclose()
    assert sorted(vendor.texts) == sorted(f"event {number}" for number in range(100))


async def test_what_comes_while_it_is_down_is_kept_over_a_restart_and_there_once(tmp_path: Path) -> None:
    with FakeElasticsearch() as vendor:
        pass  # it is gone; its address is known
    async with office(tmp_path, (gone := channel(vendor), gone._settings)) as hub:
        ids = await post_all(hub, 100)
        await hub.read(ids[-1])
        await until(lambda: [(lane.waiting, lane.code) for lane in hub.outbox.states()] == [(100, "refused")])
    await gone.aclose()
    async with office(tmp_path, (logs := channel(vendor), logs._settings)) as hub:
        await hub.settled_but(100)
        with FakeElasticsearch(port=vendor.port) as back:
            await hurried(hub)
            ends = await hub.ends(*ids)
    await logs.aclose()
    assert {end.state for end in ends} == {"delivered"}
    assert sorted(back.texts) == sorted(ids)
    assert sum(request.body.count(b'{"create"') for request in back.requests) == 100


async def test_a_document_has_ecs_fields(vendor: FakeElasticsearch, rig: Rig) -> None:
    parts = [{"type": "text", "text": "Druck 7 bar"}, {"type": "json", "json": {"bar": 7}}]
    await rig.send(message(parts, kind="log", labels={"line": "7"}, priority=7, thread="t-1"))
    assert vendor.documents["m-1.0"] == {
        "@timestamp": "2026-09-21T14:13:20.000Z",
        "ecs": {"version": "8.11.0"},
        "message": "Druck 7 bar",
        "labels": {"line": "7"},
        "event": {"kind": "event", "id": "m-1", "severity": 7, "original": '{"bar": 7}'},
        "log": {"level": "error"},
        "service": {"name": "autoglm-hub", "type": "autoglm"},
        "autoglm": {"from": "user:alice", "to": "channel:c/t", "kind": "log", "thread": "t-1"},
    }


def test_pictures_sound_and_files_are_named_beside_what_is_said() -> None:
    """As their page says; their bytes are not written, and no message is made of names alone."""
    parts = [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}},
        {"type": "input_audio", "input_audio": {"data": "QUJD", "format": "wav"}},
        {"type": "file", "file": {"file_id": "a" * 64, "filename": "plan.pdf"}},
    ]
    camera = {"type": "image_url", "image_url": {"url": "https://cam.example/7.jpg"}}
    said = document_of(message([{"type": "text", "text": "See:"}, *parts, camera]))["message"]
    assert said.split("\n") == [
        "See:", "[picture / 图片]", "[audio / 音频]", "[file / 文件: plan.pdf]", "https://cam.example/7.jpg",
    ]  # fmt: skip
    assert document_of(message(parts))["message"] == ""


@pytest.mark.parametrize("language", ["", ".zh-CN"])
def test_log_events_go_into_the_index_by_the_route_of_the_page(
    vendor: FakeElasticsearch, tmp_path: Path, language: str
) -> None:
    (block,) = re.findall(r"```toml\n(.*?)```", (PAGES / f"elasticsearch{language}.md").read_text(), re.DOTALL)
    tree = tomllib.loads(block)
    tree["channel"][0] |= {"url": vendor.url, "api_key": API_KEY}
    with running_hub(tmp_path / "hub", toml_text(tree)) as hub, hub.client() as http:
        for kind in ("event", "log"):
            http.post("/api/events", json={"kind": kind, "content": f"a {kind}"}).raise_for_status()
        wait_until(lambda: vendor.texts)
    assert [(one["message"], one["autoglm"]["kind"]) for one in vendor.documents.values()] == [("a log", "log")]


async def test_labels_with_dots_do_not_break_the_mapping(vendor: FakeElasticsearch) -> None:
    """`a` and `a.b` cannot both be fields; `a.b` and `a_b` stay two labels."""
    logs = channel(vendor)
    assert await send(logs, "m-1", labels={"a": "1"}) == "delivered"
    assert await send(logs, "m-2", labels={"a.b": "2", "a_b": "3", ".": "4", " ": "5"}) == "delivered"
    await logs.aclose()
    assert vendor.documents["m-2.0"]["labels"] == {"_": "5", "__": "4", "a_b": "2", "a_b_": "3"}


def test_lines_and_surrogates_in_a_text_stay_in_one_line(vendor: FakeElasticsearch) -> None:
    assert "\n" not in json.dumps(document_of(message("a\nb\u2028c\r\n")), ensure_ascii=False)


@pytest.mark.parametrize("clock_ms", [0, 9_007_199_254_740_991])
def test_a_wrong_clock_is_a_date_all_the_same(clock_ms: int) -> None:
    assert document_of(message(timestamp=clock_ms))["@timestamp"].endswith("Z")


async def test_basic_authentication(vendor: FakeElasticsearch) -> None:
    for password, expected in ((PASSWORD, "delivered"), ("wrong", "retry auth http_401")):
        logs = channel(vendor, username=USER, password=password)
        assert await send(logs) == expected
        await logs.aclose()


async def test_a_key_that_may_only_write_is_healthy(vendor: FakeElasticsearch) -> None:
    vendor.may_look_around = False
    logs = channel(vendor)
    assert (await logs.check()).ok
    await logs.aclose()


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b'{"items": []}',
        b'{"items": [{"index": {"status": 201, "_id": "k"}}]}',
        b'{"items": [{"create": {"status": 201, "_id": "another"}}]}',
        b'{"errors": false, "items": [{"create": {"status": "x", "_id": "k"}}]}',
    ],
)
def test_an_answer_that_does_not_name_the_document_is_in_doubt(body: bytes) -> None:
    """`errors: false` alone proves nothing."""
    (delivery,) = of_items(Answer(200, {}, body), ["k"])
    assert (delivery.outcome, delivery.code, delivery.is_in_doubt) == ("retry", "unreadable", True)


@pytest.mark.parametrize("index", ["Logs", "a b", "-a", "_a", "a*", "a/b", "a,b", "a" * 256])
def test_an_index_that_cannot_be_is_refused_in_the_settings(vendor: FakeElasticsearch, index: str) -> None:
    with pytest.raises(ValidationError):
        channel(vendor, indexes={"main": index})


@pytest.mark.parametrize("url", ["http://es:0", "http://es:65536", "http://:9200"])
def test_an_address_that_cannot_be_called_is_refused_in_the_settings(vendor: FakeElasticsearch, url: str) -> None:
    with pytest.raises(ValidationError, match="1 to 65535"):
        channel(vendor, url=url)


def test_the_fake_refuses_what_the_real_one_refuses(vendor: FakeElasticsearch) -> None:
    """Without it, the tests above would prove little."""
    authorized = {"Authorization": f"ApiKey {API_KEY}", "Content-Type": "application/x-ndjson"}
    good = b'{"create":{"_index":"%b","_id":"k"}}\n{"@timestamp":"2026-01-01T00:00:00.000Z"}\n' % INDEX.encode()
    cases = [
        (good, authorized, 200),
        (good[:-1], authorized, 400),
        (good, {**authorized, "Content-Type": "application/json; charset=utf-8"}, 406),
        (good, {**authorized, "Authorization": "ApiKey x"}, 401),
    ]
    for body, headers, status in cases:
        connection = http.client.HTTPConnection(vendor.url.removeprefix("http://"), timeout=10)
        connection.request("POST", "/_bulk", body, headers)
        assert connection.getresponse().status == status
        connection.close()
