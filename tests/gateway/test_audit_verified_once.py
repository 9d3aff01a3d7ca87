"""`GET /api/audit/verify` reads a million entries: however many ask at a time, it is done for one after the other."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from autoglm.core.ports import JournalEntry, JournalFilter
from eventually import wait_until
from gateway.inside import Inside, hub_inside
from gateway.wire import Reply, Wire, call

VERIFY = "/api/audit/verify"


class HeldJournal:
    """Lets nobody read on until it is opened: a disk that is slow."""

    def __init__(self, hub: Inside, patch: pytest.MonkeyPatch) -> None:
        self.hub, self.reading, self.most = hub, 0, 0
        self._opened = asyncio.Event()
        self._read = hub.hub._trust.journal.read
        patch.setattr(hub.hub._trust.journal, "read", self._held)

    async def _held(self, **options: Any) -> list[JournalEntry]:
        self.reading += 1
        self.most = max(self.most, self.reading)
        try:
            await self._opened.wait()
            return await self._read(**options)
        finally:
            self.reading -= 1

    def open(self) -> None:
        self.hub.loop.call_soon_threadsafe(self._opened.set)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Inside]:
    with hub_inside(tmp_path / "data") as inside:
        yield inside


def heads(hub: Inside) -> int:
    """A run signs the chain once."""
    return len(hub.ask(hub.hub._trust.journal.find(JournalFilter(kinds=("head",)), limit=1000)))


@pytest.mark.attack("many have the whole record verified at once")
def test_those_who_wait_share_the_next_run(hub: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    journal, before = HeldJournal(hub, monkeypatch), heads(hub)

    def verify() -> Reply:
        return call(hub.port, hub.key, "GET", VERIFY)

    routes = hub.hub._front._router.routes
    (gateway,) = [route.handler.__self__ for route in routes if route.template == VERIFY]  # type: ignore[attr-defined]
    with ThreadPoolExecutor(9) as clients:
        asked: list[Future[Reply]] = [clients.submit(verify)]
        wait_until(lambda: journal.reading == 1)
        asked += [clients.submit(verify) for _ in range(8)]
        wait_until(lambda: gateway._verifying.statistics().tasks_waiting == 8)
        journal.open()
        replies = [reply.result(20) for reply in asked]
    assert [reply.json()["is_whole"] for reply in replies] == [True] * 9
    assert journal.most == 1
    assert heads(hub) - before == 2
    assert len({reply.json()["summary"]["last_seq"] for reply in replies[1:]}) == 1


def test_who_comes_later_gets_a_run_of_his_own(hub: Inside) -> None:
    first = call(hub.port, hub.key, "GET", VERIFY).json()["summary"]["last_seq"]
    assert call(hub.port, hub.key, "GET", VERIFY).json()["summary"]["last_seq"] > first


def test_a_client_that_leaves_ends_its_run(hub: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = HeldJournal(hub, monkeypatch)
    wire = Wire(hub.port, hub.key)
    wire.request("GET", VERIFY)
    wait_until(lambda: journal.reading == 1)
    wire.close()
    wait_until(lambda: journal.reading == 0)
    journal.open()
    assert call(hub.port, hub.key, "GET", VERIFY).json()["is_whole"]
