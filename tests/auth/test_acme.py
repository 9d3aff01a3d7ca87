"""Certificates by ACME: from a strict server of our own, and what happens when it cannot be reached."""

import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest

from autoglm.auth.acme import AcmeCertificate, AcmeOrder, read_failure
from autoglm.core.clock import now_ms
from autoglm.core.errors import AcmeFailed
from cli.terminal import autoglm
from fakes.acme_server import AcmeServer, acme_server
from hub import running_hub

pytest.importorskip("acme")
DAY_MS = 86_400_000


@pytest.fixture
def challenge_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def server(challenge_port: int) -> Iterator[AcmeServer]:
    with acme_server(challenge_port) as listening:
        yield listening


class Site:
    """One that wants a certificate, with a clock of its own."""

    def __init__(self, folder: Path, server: AcmeServer, **fields: Any) -> None:
        order = AcmeOrder(
            directory=f"{server.url}/directory", names=("hub.example", "hub.test"), email="it@example.org",
            ca_file=None, host="127.0.0.1", port=server.challenge_port, webroot=None,
        )  # fmt: skip
        self.time_ms = now_ms()
        self.folder = folder
        self.source = AcmeCertificate(folder, order._replace(**fields), lambda: self.time_ms)

    def pair(self) -> tuple[bytes, bytes]:
        return self.source.certificate_file.read_bytes(), self.source.key_file.read_bytes()


async def test_a_certificate_is_ordered_proved_and_renewed(server: AcmeServer, tmp_path: Path) -> None:
    site = Site(tmp_path / "acme", server)
    await site.source.renew()
    first = site.pair()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(site.source.certificate_file, site.source.key_file)
    assert (site.folder / "account.key").stat().st_mode & 0o777 == 0o600
    assert site.source.key_file.stat().st_mode & 0o777 == 0o600
    site.time_ms += 59 * DAY_MS
    await site.source.renew()
    assert (server.issued, site.pair()) == (1, first)
    site.time_ms += 2 * DAY_MS  # two thirds of 90 days; the account is there already
    await site.source.renew()
    assert server.issued == 2
    assert site.pair()[0] != first[0]
    assert site.pair()[1] != first[1]
    assert server.refused == []


async def test_a_nonce_of_a_server_that_was_restarted_is_replaced(server: AcmeServer, tmp_path: Path) -> None:
    site = Site(tmp_path, server)
    server.is_stale = True
    await site.source.renew()
    assert server.issued == 1
    assert server.refused == ["the nonce is not of this server, or was used"]


async def test_offline_the_old_certificate_is_kept_and_it_is_tried_again_later(
    server: AcmeServer, tmp_path: Path
) -> None:
    site = Site(tmp_path, server)
    await site.source.renew()
    kept = site.pair()
    server.is_down = True
    site.time_ms += 61 * DAY_MS
    with pytest.raises(AcmeFailed, match="cannot be reached"):
        await site.source.renew()
    assert "cannot be reached" in read_failure(tmp_path)
    server.is_down = False
    await site.source.renew()
    assert (server.issued, site.pair()) == (1, kept)  # not yet: six hours
    site.time_ms += 6 * 3_600_000
    await site.source.renew()
    assert server.issued == 2
    assert read_failure(tmp_path) == ""


async def test_a_name_that_is_not_proved_gets_none_and_says_why(server: AcmeServer, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        elsewhere = other.getsockname()[1]
    site = Site(tmp_path, server, port=elsewhere)
    with pytest.raises(AcmeFailed, match=r"hub\.example did not show its token"):
        await site.source.renew()
    assert server.issued == 0
    assert not site.source.certificate_file.exists()


async def test_the_port_is_closed_and_the_webroot_empty_after_an_order(server: AcmeServer, tmp_path: Path) -> None:
    await Site(tmp_path / "a", server).source.renew()
    with pytest.raises(ConnectionRefusedError):
        await anyio.to_thread.run_sync(socket.create_connection, ("127.0.0.1", server.challenge_port))
    site = Site(tmp_path / "b", server, webroot=tmp_path / "www")
    with pytest.raises(AcmeFailed, match="did not show"):  # nobody serves the folder
        await site.source.renew()
    left = [path for path in (tmp_path / "www").rglob("*") if path.is_file()]
    assert (tmp_path / "www" / ".well-known" / "acme-challenge").is_dir()
    assert left == []


def test_a_hub_comes_up_with_it_and_the_doctor_knows(server: AcmeServer, tmp_path: Path) -> None:
    config = (
        '[gateway]\ntls = "acme"\ntls_names = ["hub.example"]\n'
        f'[acme]\ndirectory = "{server.url}/d"\nagrees_to_terms = true\n'
        f'host = "127.0.0.1"\nport = {server.challenge_port}\n'
    )
    (tmp_path / "root.pem").write_bytes(server.root_pem)
    with running_hub(tmp_path / "d", config) as hub:
        context = ssl.create_default_context(cafile=tmp_path / "root.pem")
        with (
            socket.create_connection(("127.0.0.1", hub.port), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname="hub.example") as secure,
        ):
            assert secure.getpeercert() is not None
    server.is_down = True
    (tmp_path / "d" / "acme" / "failure.json").write_text('{"at_ms": 1, "reason": "it cannot be reached"}')
    with running_hub(tmp_path / "d", config):  # it starts without the server
        done = autoglm("doctor", "env", "--json", data=tmp_path / "d")
    [finding] = [finding for finding in json.loads(done.out) if finding["name"] == "certificate"]
    assert finding["level"] == "note"
    assert "it was not renewed: it cannot be reached" in finding["text"]


def test_without_agreement_to_the_terms_it_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "autoglm.toml").write_text('[gateway]\ntls = "acme"\ntls_names = ["hub.example"]\n')
    done = autoglm("up", data=tmp_path)
    assert done.status == 1
    assert "acme.agrees_to_terms" in done.err
