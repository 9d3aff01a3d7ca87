"""Apprise, by its JSON service, against a server that answers as told."""

import base64
import importlib.util
import logging
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from autoglm.channels.adapters.apprise import Apprise, AppriseSettings, of_log, type_of
from autoglm.channels.channel import Cannot, Resources
from autoglm.channels.settings import parse_channel
from autoglm.core.errors import MissingExtra
from contracts.channel_contract import ChannelContract, Rig, message
from fakes.apprise_json import PASSWORD, JsonServer

needs_apprise = pytest.mark.skipif(
    importlib.util.find_spec("apprise") is None, reason="Apprise is not installed; pip install 'autoglm-hub[apprise]'"
)
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")  # Apprise imports it
BLOB = "f" * 64


async def blobs(sha256: str) -> bytes | None:
    return b"blob" if sha256 == BLOB else None


def channel(url: str, **fields: Any) -> Apprise:
    settings = parse_channel({"name": "tail", "kind": "apprise", "services": {"desk": {"url": url}}, **fields})
    assert isinstance(settings, AppriseSettings)
    return Apprise(settings, Resources("tail", blobs))


@pytest.fixture
def server() -> Iterator[JsonServer]:
    with JsonServer() as server:
        yield server


@pytest.fixture
def url(server: JsonServer) -> str:
    return server.apprise_url


@pytest.fixture
async def rig(server: JsonServer, url: str) -> AsyncIterator[Rig]:
    tail = channel(url, timeout_s=2.0)
    assert (await tail.check()).ok  # loads all of Apprise's services, which takes its time
    yield Rig(
        tail, target="desk", texts=lambda: server.texts,
        misbehave=server.faults.append, stop=server.__exit__, secrets=(PASSWORD,), limit=2000,
        files=lambda: [request.body for request in server.requests],
    )  # fmt: skip
    await tail.aclose()


@needs_apprise
class TestContract(ChannelContract):
    async def test_a_host_that_is_gone_is_told_without_doubt(self, rig: Rig) -> None:
        """With doubt: Apprise does not tell apart a host that is gone and a connection that was cut. Nor can it ask."""
        rig.stop()
        (found,) = await rig.send(message())
        assert (found.outcome, found.code, found.is_in_doubt) == ("retry", "apprise_failed", True)
        self.check_words(rig, found)
        assert "not known" in (await rig.channel.check()).reason.en

    async def test_a_revoked_credential_shows_in_the_check(self, rig: Rig) -> None:
        """It does not: Apprise can only send. The check says so."""
        rig.misbehave("auth")
        health = await rig.channel.check()
        assert health.ok
        assert "not known" in health.reason.en


@needs_apprise
async def test_success_is_said_to_be_unknown(rig: Rig) -> None:
    (found,) = await rig.send(message())
    assert (found.outcome, found.ticket) == ("accepted", "")
    assert found.reason.en == "Apprise reports success; whether it was delivered is not known"


@needs_apprise
async def test_title_and_type_go_along(server: JsonServer, rig: Rig) -> None:
    await rig.send(message("It is down.", labels={"title": "Press"}, priority=9))
    (body,) = server.bodies
    assert (body["title"], body["message"], body["type"]) == ("Press", "It is down.", "failure")


@needs_apprise
async def test_files_go_from_memory_and_addresses_are_only_named(server: JsonServer, rig: Rig) -> None:
    """Given an address or a path, Apprise would fetch or read it."""
    data = base64.b64encode(b"\x00bytes").decode()
    parts = [
        {"type": "text", "text": "See:"},
        {"type": "image_url", "image_url": {"url": "http://127.0.0.1:9/secret.png"}},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}},
        {"type": "file", "file": {"file_id": BLOB, "filename": "/etc/passwd"}},
    ]
    assert [found.outcome for found in await rig.send(message(parts))] == ["accepted"] * 3
    assert server.bodies[0]["message"] == "See:\nhttp://127.0.0.1:9/secret.png"
    sent = [base64.b64decode(body["attachments"][0]["base64"]) for body in server.bodies[1:]]
    assert sent == [b"\x00bytes", b"blob"]


@needs_apprise
async def test_a_service_that_takes_no_files_is_told(server: JsonServer) -> None:
    """Apprise would send the text without it, and call that a success."""
    tail = channel(f"gotify://{server.url.removeprefix('http://')}/{PASSWORD}")
    (file,) = tail.compose(message([{"type": "file", "file": {"file_id": BLOB}}]), "desk")
    delivery = await tail.send(file, "k")
    assert (delivery.outcome, delivery.code) == ("permanent", "no_files")
    assert server.requests == []


@needs_apprise
async def test_a_url_that_apprise_cannot_read_is_told_without_the_url() -> None:
    tail = channel(f"nonsense://{PASSWORD}")
    (parcel,) = tail.compose(message(), "desk")
    delivery, health = await tail.send(parcel, "k"), await tail.check()
    assert (delivery.code, health.code, health.ok) == ("bad_url", "bad_url", False)
    assert PASSWORD not in f"{delivery}{health}"


class Records(logging.Handler):
    """pytest's own handler is put on loggers that do not propagate, too."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.names.append(record.name)


@needs_apprise
async def test_what_apprise_logs_stays_in_it(
    server: JsonServer, rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """At its level for finding faults, it logs addresses and messages."""
    records = Records()
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(logging.getLogger(), "handlers", [records])
    server.faults.append("permanent")
    await rig.send(message())
    logging.getLogger("other").warning("seen")
    assert "other" in records.names
    assert "apprise" not in records.names


def test_without_the_package_the_way_to_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(MissingExtra, match=r"pip install 'autoglm-hub\[apprise\]'"):
        channel("json://x")


@pytest.mark.parametrize(
    ("lines", "code", "failure"),
    [
        (["Failed to send JSON POST notification: error=429."], "http_429", "throttled"),
        (["Verification Failed., error=401."], "http_401", "auth"),
        (["error=503.", "giving up, error=400."], "http_400", "permanent"),
        (["A Connection error occurred sending JSON notification to 127.0.0.1."], "apprise_failed", "transient"),
        (["error=200."], "apprise_failed", "transient"),
        ([], "apprise_failed", "transient"),
    ],
)
def test_a_failure_is_classed_by_the_status_in_the_log(lines: list[str], code: str, failure: str) -> None:
    found = of_log(lines)
    assert (found.code, found.failure, found.is_in_doubt) == (code, failure, code == "apprise_failed")


def test_types_are_of_state_and_priority() -> None:
    found = [type_of(message(priority=priority)) for priority in (9, 7, 5)]
    assert [*found, type_of(message(priority=9, labels={"state": "resolved"}))] == [
        "failure", "warning", "info", "success",
    ]  # fmt: skip


@needs_apprise
@pytest.mark.parametrize(
    ("content", "code"),
    [
        ("", "empty"),
        ("x" * 1_000_000, "too_many_pieces"),
        ([{"type": "file", "file": {"file_id": BLOB}}] * 6, "too_many_files"),
        ([{"type": "file", "file": {"file_data": "data:,%%%"}}], "bad_file"),
    ],
)
def test_what_cannot_go_is_refused(content: Any, code: str) -> None:
    with pytest.raises(Cannot) as caught:
        channel("json://x").compose(message(content), "desk")
    assert caught.value.delivery.code == code
