"""Syslog as a second place, against real sockets."""

import asyncio
import json
import os
import re
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme

from audited import ALICE, PRESS, Site, arrived, shipping
from autoglm.auth.audit.settings import SyslogPlaceSettings
from autoglm.auth.audit.syslog_place import SyslogPlace
from eventually import until

MESSAGE = re.compile(
    rb"<(\d+)>1 (\S+) (\S+) autoglm-hub (\d+) (\S+) "
    rb"\[audit@32473 seq=\"(\d+)\" hash=\"([0-9a-f]{64})\"\] \xef\xbb\xbf(.*)",
    re.DOTALL,
)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture(autouse=True)
def no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoglm.auth.audit.places._RETRY_S", (0.01, 0.02))


class Server:
    """Takes octet-counted messages (RFC 6587, section 3.4.1)."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.connections = 0
        self.cut_after: int | None = None
        """Close the connection after so many messages, once."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while count := await reader.readuntil(b" "):
                self.messages.append(await reader.readexactly(int(count)))
                if self.cut_after is not None and len(self.messages) >= self.cut_after:
                    self.cut_after = None
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    @property
    def seqs(self) -> list[int]:
        return [int(matched(message)[6]) for message in self.messages]


def matched(message: bytes) -> re.Match[bytes]:
    found = MESSAGE.fullmatch(message)
    assert found is not None, message
    return found


@asynccontextmanager
async def listening(context: ssl.SSLContext | None = None, port: int = 0) -> AsyncIterator[tuple[Server, int]]:
    fake = Server()
    server = await asyncio.start_server(fake.serve, "127.0.0.1", port, ssl=context)
    try:
        yield fake, server.sockets[0].getsockname()[1]
    finally:
        server.close()


def tcp(port: int) -> SyslogPlaceSettings:
    return SyslogPlaceSettings(host="127.0.0.1", port=port, tls=False)


async def test_messages_have_the_form_of_rfc_5424(site: Site) -> None:
    async with listening() as (server, port):
        async with shipping(site, SyslogPlace(tcp(port))) as (_, audit, _):
            audit.act("keys:issue", ALICE, text="for the ward")
            audit.decision(PRESS, "admin", "keys", is_allowed=False)
        await until(lambda: len(server.messages) == 3)
    start, act, denied = [matched(message) for message in server.messages]
    assert [int(found[1]) for found in (start, act, denied)] == [110, 110, 109]  # facility 13; severities 6 and 5
    assert act[2] == b"2023-11-14T22:13:20.000Z"
    assert [found[5] for found in (start, act, denied)] == [b"start", b"act", b"decision"]
    assert int(act[4]) == os.getpid()
    row = site.rows()[1]
    assert act[7].decode() == row.digest.hex()
    assert json.loads(act[8]) == {"entry": json.loads(row.body), "hash": row.digest.hex()}


async def test_what_is_personal_is_sent_only_if_told_to(site: Site) -> None:
    async with listening() as (server, port):
        settings = tcp(port).model_copy(update={"with_personal": True})
        async with shipping(site, SyslogPlace(settings)) as (_, audit, _):
            audit.act("keys:issue", ALICE)
        await until(lambda: len(server.messages) == 2)
    assert json.loads(matched(server.messages[1])[8])["personal"]["who"] == "user:alice"


async def test_over_tls_the_server_is_verified(site: Site, tmp_path: Path) -> None:
    authority, other = trustme.CA(), trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    other.cert_pem.write_to_path(str(tmp_path / "other.pem"))
    async with listening(context) as (server, port):
        trusting = SyslogPlaceSettings(host="127.0.0.1", port=port, ca_file=tmp_path / "ca.pem")
        async with shipping(site, SyslogPlace(trusting)) as (store, audit, _):
            audit.act("act", ALICE)
        await until(lambda: server.seqs == [1, 2])
        wrong = SyslogPlaceSettings(name="other", host="127.0.0.1", port=port, ca_file=tmp_path / "other.pem")
        async with site.running() as (store, audit):
            place = SyslogPlace(wrong)
            with pytest.raises(Exception, match="CERTIFICATE_VERIFY_FAILED"):
                await place.open(0, store.journal)
            await place.aclose()
    assert server.seqs == [1, 2]


async def test_a_server_that_goes_and_comes_back_gets_all(site: Site) -> None:
    async with listening() as (server, port), shipping(site, SyslogPlace(tcp(port))) as (store, audit, ship):
        await arrived(store, audit, ship)
        server.cut_after = 3
        for n in range(5):
            audit.act(f"act-{n}", ALICE)
            # What its machine has confirmed and it has not read would be lost: syslog has no acknowledgements.
            await until(lambda: len(server.messages) == n + 2)  # noqa: B023  # waited for at once
            await arrived(store, audit, ship)
    assert server.connections == 2
    assert server.seqs == [1, 2, 3, 4, 5, 6]


async def test_a_server_that_is_away_holds_up_nothing(site: Site) -> None:
    async with listening() as (_, port):
        pass
    async with shipping(site, SyslogPlace(tcp(port))) as (store, audit, ship):
        for n in range(3):
            audit.act(f"act-{n}", ALICE)
        await audit.written()
        await until(lambda: ship.failure)
        async with listening(port=port) as (server, _):
            await arrived(store, audit, ship)
            await until(lambda: server.seqs == [1, 2, 3, 4])


@pytest.mark.parametrize(("acts", "reason"), [(5, "confirms nothing for 0 s"), (450, "takes nothing for 0 s")])
async def test_a_server_that_reads_nothing_does_not_count_as_having_got_it(
    site: Site, monkeypatch: pytest.MonkeyPatch, acts: int, reason: str
) -> None:
    """What waits in this machine's buffer, and more than that takes."""
    monkeypatch.setattr("autoglm.auth.audit.syslog_place._CONFIRM_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        async with site.running() as (store, audit):
            for _ in range(acts):
                audit.act("a" * 20_000, ALICE)
            await audit.written()
            place = SyslogPlace(tcp(deaf.getsockname()[1]))
            await place.open(0, store.journal)
            with pytest.raises(Exception, match=reason):
                await place.put(await store.journal.read(limit=450))
            await place.aclose()


async def test_over_a_unix_socket(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "log"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(path))
        server.setblocking(False)
        async with shipping(site, SyslogPlace(SyslogPlaceSettings(socket=path))) as (_, audit, _):
            audit.act("act", ALICE)
        messages = [matched(server.recv(65536)) for _ in range(2)]
    assert [int(found[6]) for found in messages] == [1, 2]


async def test_a_socket_that_is_not_there_is_waited_for(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "log"
    async with shipping(site, SyslogPlace(SyslogPlaceSettings(socket=path))) as (store, audit, ship):
        await until(lambda: ship.failure)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
            server.bind(str(path))
            await arrived(store, audit, ship)
            server.setblocking(False)
            assert matched(server.recv(65536))[6] == b"1"
