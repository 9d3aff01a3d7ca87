"""The audit of a running hub: what is asked and done is written down, in its order, and whole."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from autoglm.auth.settings import KeySettings
from gateway.inside import Inside, hub_inside, settings
from gateway.wire import call
from hub import HubProcess


def chosen() -> Any:
    keys = (
        {"name": "auditor", "value": "sk-auditor", "scopes": ["read:audit"]},
        {"name": "robot", "value": "sk-robot", "scopes": ["send:message:device:robot", "read:message:device:robot"]},
    )
    return settings().model_copy(update={"key": tuple(KeySettings.model_validate(key) for key in keys)})


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    with hub_inside(tmp_path_factory.mktemp("audit") / "data", chosen()) as inside:
        yield inside


def entries(hub: Inside, query: str = "") -> list[dict[str, Any]]:
    hub.ask(hub.hub._trust.audit.written())
    page = call(hub.port, "sk-auditor", "GET", f"/api/audit?{query}")
    assert page.status == 200, page.body
    found: list[dict[str, Any]] = page.json()["entries"]
    return found


def test_who_was_let_do_what_is_written_down_with_the_request(hub: Inside) -> None:
    sent = call(hub.port, "sk-robot", "POST", "/api/messages", {"to": "user:a", "content": "a secret of the patient"})
    (entry,) = entries(hub, "who=device:robot&action=send:message&limit=1")
    assert (entry["outcome"], entry["resource"]) == ("allowed", "device:robot")
    assert (entry["credential"], entry["request_id"]) == ("key:robot", sent.headers["x-request-id"])


def test_who_was_not_let_is_written_down_as_well(hub: Inside) -> None:
    refused = call(hub.port, "sk-robot", "POST", "/api/messages", {"to": "user:a", "content": "x", "from": "user:boss"})
    assert refused.status == 403
    (entry,) = entries(hub, "who=device:robot&outcome=denied&action=send:message&limit=1")
    assert (entry["resource"], entry["reason"]) == ("user:boss", "no_scope")
    hidden = call(hub.port, hub.key, "POST", "/api/messages", {"to": "user:b", "content": "x"}).json()["id"]
    assert call(hub.port, "sk-robot", "GET", f"/api/messages/{hidden}").status == 404
    (entry,) = entries(hub, "who=device:robot&outcome=denied&action=read:message&limit=1")
    assert entry["resource"] == "user:b"


def test_strangers_are_counted_and_not_listed(hub: Inside) -> None:
    for _ in range(20):
        assert call(hub.port, "sk-guess", "GET", "/api/me").status == 401
    hub.hub._trust.audit.close_sums(older_than_s=0)
    found = entries(hub, "action=authenticate&outcome=denied")
    assert sum(entry["count"] for entry in found if entry["resource"] == "/api/me") == 20
    assert len(found) <= 4


def test_what_administrators_do_is_written_down_with_its_object_and_end(hub: Inside) -> None:
    call(hub.port, hub.key, "POST", "/api/keys", {"name": "short", "scopes": ["send:message"]})
    call(hub.port, hub.key, "DELETE", "/api/keys/short")
    call(hub.port, hub.key, "DELETE", "/api/keys/short")
    found = entries(hub, "kind=act&action=revokeKey")
    assert [(entry["who"], entry["resource"], entry["outcome"]) for entry in found[:2]] == [
        ("user:admin", "key:short", "failed"), ("user:admin", "key:short", "allowed"),
    ]  # fmt: skip
    assert found[0]["reason"] == "not_found"


def test_no_words_of_a_message_are_in_the_audit(hub: Inside) -> None:
    secret = "the-diagnosis-of-bed-9"
    call(hub.port, hub.key, "POST", "/api/messages", {"to": "user:a", "content": secret, "labels": {"note": secret}})
    hub.ask(hub.hub._trust.audit.written())
    database = sqlite3.connect(f"file:{hub.hub.data_dir / 'hub.db'}?mode=ro", uri=True)
    rows = database.execute("SELECT body, personal FROM journal").fetchall()
    database.close()
    assert rows
    assert not [row for row in rows if any(secret.encode() in (part or b"") for part in row)]


def test_a_reader_of_the_audit_changes_nothing(hub: Inside) -> None:
    settling = {"verdict": "accept", "why": "no matter"}
    assert call(hub.port, "sk-auditor", "POST", "/api/audit/conflicts/1", settling).status == 403
    assert call(hub.port, "sk-robot", "GET", "/api/audit").status == 403
    assert call(hub.port, hub.key, "POST", "/api/audit/conflicts/1", settling).json()["code"] == "not_found"


def test_the_record_is_whole_and_a_change_is_found(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with hub_inside(data, chosen()) as hub:
        call(hub.port, "sk-robot", "POST", "/api/messages", {"to": "user:a", "content": "x"})
        report = call(hub.port, "sk-auditor", "GET", "/api/audit/verify").json()
        assert (report["is_whole"], report["findings"]) == (True, [])
        assert report["summary"]["signed_seq"] >= 3
    database = sqlite3.connect(data / "hub.db")
    database.execute("UPDATE journal SET body = replace(body, 'allowed', 'refused') WHERE seq = 3")
    database.commit()
    database.close()
    with hub_inside(data, chosen()) as hub:
        report = call(hub.port, "sk-auditor", "GET", "/api/audit/verify").json()
        assert not report["is_whole"]
        assert report["findings"][0]["seq"] == 3


@pytest.mark.attack("log truncation")
def test_an_older_copy_of_the_whole_database_is_noticed(tmp_path: Path) -> None:
    hub = HubProcess(tmp_path / "data").start()
    try:
        assert hub.stop() == 0
        copy = (tmp_path / "data" / "hub.db").read_bytes()
        hub.start()
        with hub.client() as client:
            client.post("/api/messages", json={"to": "user:a", "content": "x"}).raise_for_status()
        assert hub.stop() == 0
        for wal in (tmp_path / "data").glob("hub.db-*"):
            wal.unlink()
        (tmp_path / "data" / "hub.db").write_bytes(copy)
        hub.start()
        assert "audit_rolled_back" in hub.log()
        with hub.client() as client:
            report = client.get("/api/audit/verify").json()
        assert not report["is_whole"]
        assert {finding["problem"] for finding in report["findings"]} & {"truncated", "rewritten"}
    finally:
        hub.close()


def test_what_was_answered_has_its_decision_on_the_disk_after_a_kill(tmp_path: Path) -> None:
    hub = HubProcess(tmp_path / "data").start()
    try:
        with hub.client() as client:
            for number in range(20):
                client.post("/api/messages", json={"to": "user:a", "content": str(number)}).raise_for_status()
        hub.kill()
        hub.start()
        with hub.client() as client:
            found = client.get("/api/audit", params={"action": "send:message", "limit": 1000}).json()["entries"]
            assert len(found) == 20
            assert client.get("/api/audit/verify").json()["is_whole"]
    finally:
        hub.close()
