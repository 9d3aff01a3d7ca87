"""MQTT over TLS with a certificate authority of one's own, and with client certificates."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from eventually import until
from mosquitto import Mosquitto, needs_mosquitto
from mqtt_channels import channel, running, send

pytestmark = needs_mosquitto


class Papers:
    """An authority, the broker's certificate and the hub's, as files."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        self.ca = folder / "ca.pem"
        authority.cert_pem.write_to_path(str(self.ca))
        broker, hub, stranger = (
            authority.issue_cert("127.0.0.1"),
            authority.issue_cert("hub"),
            trustme.CA().issue_cert("x"),
        )
        self.broker, self.hub, self.stranger = (
            _files(folder, name, found) for name, found in (("broker", broker), ("hub", hub), ("stranger", stranger))
        )


def _files(folder: Path, name: str, issued: trustme.LeafCert) -> tuple[Path, Path]:
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    for index, blob in enumerate(issued.cert_chain_pems):
        blob.write_to_path(str(certificate), append=index > 0)
    issued.private_key_pem.write_to_path(str(key))
    return certificate, key


@pytest.fixture
def papers(tmp_path: Path) -> Papers:
    return Papers(tmp_path)


@pytest.fixture(params=[False, True], ids=["server", "mutual"])
def broker(request: pytest.FixtureRequest, tmp_path: Path, papers: Papers) -> Iterator[Mosquitto]:
    lines = [f"cafile {papers.ca}", f"certfile {papers.broker[0]}", f"keyfile {papers.broker[1]}"]
    if request.param:
        lines.append("require_certificate true")
    with Mosquitto(tmp_path, *lines) as broker:
        yield broker


def fields(broker: Mosquitto, papers: Papers, **others: Any) -> dict[str, Any]:
    return {
        "url": f"mqtts://127.0.0.1:{broker.port}", "tls_ca_file": papers.ca, "tls_certificate_file": papers.hub[0],
        "tls_key_file": papers.hub[1], **others,
    }  # fmt: skip


@pytest.mark.parametrize("version", ["5", "3.1.1"])
async def test_messages_go_both_ways(broker: Mosquitto, papers: Papers, version: str) -> None:
    """Large ones and many at once, too: what TLS has read ahead, no socket tells."""
    texts = [str(number) + "x" * (number % 7 * 20_000) for number in range(60)]
    async with running(broker.port, **fields(broker, papers, version=version)) as (_, inbox):
        sender = channel(broker.port, **fields(broker, papers, client_id="other", version=version, topics=[]))
        for number, text in enumerate(texts):
            assert (
                await send(sender, text, "plant/7/alarm", key=f"k-{number}", id=f"m-{number}")
            ).outcome == "accepted"
        await until(lambda: [each.content for each in inbox.taken] == texts)
        await sender.aclose()


async def test_a_broker_of_another_authority_is_not_trusted(broker: Mosquitto, papers: Papers) -> None:
    mqtt = channel(broker.port, **fields(broker, papers, tls_ca_file=papers.stranger[0]))
    found = await send(mqtt, "x", "a")
    assert (found.outcome, found.failure, found.code, found.is_in_doubt) == ("retry", "transient", "tls", False)
    await mqtt.aclose()


async def test_a_broker_of_another_name_is_not_trusted(broker: Mosquitto, papers: Papers) -> None:
    mqtt = channel(broker.port, **fields(broker, papers, url=f"mqtts://localhost:{broker.port}"))
    assert (await send(mqtt, "x", "a")).code == "tls"
    await mqtt.aclose()


@pytest.mark.parametrize("broker", [True], indirect=True, ids=["mutual"])
@pytest.mark.parametrize("own", [None, "stranger"])
async def test_a_hub_without_the_right_certificate_waits_for_the_operator(
    broker: Mosquitto, papers: Papers, own: str | None
) -> None:
    certificate, key = (None, None) if own is None else papers.stranger
    mqtt = channel(broker.port, **fields(broker, papers, tls_certificate_file=certificate, tls_key_file=key))
    found = await send(mqtt, "x", "a")
    assert (found.outcome, found.failure, found.code, found.is_in_doubt) == ("retry", "auth", "tls_certificate", False)
    await mqtt.aclose()


@pytest.mark.parametrize("name", ["absent.pem", "garbage.pem"])
async def test_files_that_cannot_be_read_are_told(broker: Mosquitto, papers: Papers, tmp_path: Path, name: str) -> None:
    (tmp_path / "garbage.pem").write_text("no certificate")
    for wrong in ({"tls_ca_file": tmp_path / name}, {"tls_certificate_file": tmp_path / name}):
        mqtt = channel(broker.port, **fields(broker, papers, **wrong))
        found = await send(mqtt, "x", "a")
        assert (found.failure, found.code) == ("auth", "tls_files")
        await mqtt.aclose()


async def test_a_renewed_certificate_is_used_for_the_next_connection(tmp_path: Path, papers: Papers) -> None:
    lines = (
        f"cafile {papers.ca}",
        f"certfile {papers.broker[0]}",
        f"keyfile {papers.broker[1]}",
        "require_certificate true",
    )
    good = [path.read_bytes() for path in papers.hub]
    for path, stranger in zip(papers.hub, papers.stranger, strict=True):
        path.write_bytes(stranger.read_bytes())
    with Mosquitto(tmp_path, *lines) as broker:
        mqtt = channel(broker.port, **fields(broker, papers))
        assert (await send(mqtt, "x", "a")).code == "tls_certificate"
        for path, content in zip(papers.hub, good, strict=True):
            path.write_bytes(content)
        assert (await send(mqtt, "x", "a")).outcome == "accepted"
        await mqtt.aclose()


async def test_plain_text_at_a_tls_port_is_told(broker: Mosquitto, papers: Papers, tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as plain:
        mqtt = channel(plain.port, **fields(plain, papers))
        found = await send(mqtt, "x", "a")
        assert (found.outcome, found.code) in (("retry", "tls"), ("retry", "unreachable"), ("retry", "connect_timeout"))
        await mqtt.aclose()
