"""Which certificate the running hub shows: its own authority's, one that was replaced, and whom it lets in by one."""

import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
import trustme

from autoglm.auth.authority import Issued, create, open_authority
from autoglm.auth.own_certificate import DAYS, OwnCertificate
from autoglm.core.clock import now_ms
from autoglm.core.errors import AuthorityBroken
from autoglm.gateway.tls import open_tls
from cli.terminal import autoglm
from eventually import wait_until
from hub import HubProcess, running_hub

DAY_MS = 86_400_000


def trusting(root: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=root)


@contextmanager
def connection(hub: HubProcess, context: ssl.SSLContext) -> Iterator[ssl.SSLSocket]:
    with (
        socket.create_connection(("127.0.0.1", hub.port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
    ):
        yield secure


def shown(hub: HubProcess, context: ssl.SSLContext) -> str:
    """The serial number of the certificate that a new client gets."""
    with connection(hub, context) as secure:
        certificate = secure.getpeercert()
        assert certificate is not None
        return str(certificate["serialNumber"])


def answer(secure: ssl.SSLSocket, host: str = "127.0.0.1") -> bytes:
    secure.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    return secure.recv(65_536)


def write(folder: Path, certificate: trustme.LeafCert) -> None:
    """Key first: between the two writes the pair does not fit."""
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    b = b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
    (folder / "cert.pem").write_bytes(b)


# --- its own authority ---


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    data = tmp_path_factory.mktemp("own") / "d"
    with running_hub(data, '[gateway]\ntls = "own-ca"\ntls_names = ["hub.ward-3.lan"]\n') as hub:
        yield hub


def test_a_hub_makes_its_own_certificate_and_its_commands_trust_it(own: HubProcess) -> None:
    assert own.url.startswith("https://")
    with own.client(verify=trusting(own.data_dir / "ca" / "root.crt")) as client:
        assert client.get("/healthz").status_code == 200
    for command in (("pool", "--json"), ("doctor", "capabilities", "--json")):
        done = autoglm(*command, data=own.data_dir)
        assert (done.status, done.err) == (0, "")
    with pytest.raises(httpx2.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        own.client().get("/healthz")
    assert (own.data_dir / "ca" / "server.key").stat().st_mode & 0o777 == 0o600


@pytest.mark.attack("an old protocol or a weak cipher")
@pytest.mark.parametrize("weak", ["TLSv1.1", "AES256-SHA", "ECDHE-ECDSA-AES256-SHA"])
def test_what_is_old_or_weak_is_refused(own: HubProcess, weak: str) -> None:
    context = trusting(own.data_dir / "ca" / "root.crt")
    if weak == "TLSv1.1":
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
        context.set_ciphers("ALL:@SECLEVEL=0")
    else:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(weak)
    with pytest.raises(ssl.SSLError), connection(own, context):
        pass
    context = trusting(own.data_dir / "ca" / "root.crt")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with connection(own, context) as secure:
        assert secure.version() == "TLSv1.2"
        assert "GCM" in str(secure.cipher())


def test_strict_transport_is_asked_for_by_name_only(own: HubProcess, tmp_path: Path) -> None:
    """RFC 6797: never by an address; a year of https for `localhost` would shut out other programs."""
    for host, is_strict in (
        (f"hub.ward-3.lan:{own.port}", True), ("HUB.ward-3.lan", True), ("127.0.0.1", False), ("localhost", False),
        ("evil.example", False),
    ):  # fmt: skip
        with connection(own, trusting(own.data_dir / "ca" / "root.crt")) as secure:
            assert (b"strict-transport-security: max-age=31536000\r\n" in answer(secure, host)) is is_strict
    with running_hub(tmp_path / "d", '[gateway]\ntls_names = ["hub.ward-3.lan"]\n') as plain:
        got = httpx2.get(f"{plain.url}/", headers={"Host": "hub.ward-3.lan"})
        assert "strict-transport-security" not in got.headers


async def test_it_is_renewed_before_its_end_and_new_clients_get_the_new_one(tmp_path: Path) -> None:
    """With a clock of its own: two thirds of its time, and not a day earlier."""
    time_ms = now_ms()
    source = OwnCertificate(tmp_path / "ca", ("hub.lan",), lambda: time_ms)
    tls = await open_tls(source)
    first, bare = source.certificate_file.read_bytes(), tls.context
    time_ms += (DAYS * 2 // 3 - 1) * DAY_MS
    await source.renew()
    assert (source.certificate_file.read_bytes(), tls.look()) == (first, False)
    time_ms += 2 * DAY_MS
    await source.renew()
    assert source.certificate_file.read_bytes() != first
    assert tls.look()
    assert tls.context is bare  # the listening socket has it


async def test_other_names_make_another_certificate_and_no_other_authority(tmp_path: Path) -> None:
    await OwnCertificate(tmp_path, ("hub.lan",), now_ms).renew()
    before, root = (tmp_path / "server.crt").read_bytes(), (tmp_path / "root.crt").read_bytes()
    await OwnCertificate(tmp_path, ("hub.lan", "10.0.0.7"), now_ms).renew()
    assert (tmp_path / "server.crt").read_bytes() != before
    assert (tmp_path / "root.crt").read_bytes() == root


async def test_with_an_encrypted_authority_the_old_certificate_goes_on(tmp_path: Path) -> None:
    """The hub cannot renew by itself then, and says so; tried again an hour later, not every two seconds."""
    time_ms = now_ms()
    create(tmp_path, name="x", permitted=None, now_ms=now_ms, passphrase="correct horse battery")
    source = OwnCertificate(tmp_path, (), lambda: time_ms)
    for _ in range(2):
        with pytest.raises(AuthorityBroken, match="encrypted"):
            await source.renew()
        await source.renew()
        time_ms += 3_600_001


# --- given files ---


def test_a_certificate_that_was_replaced_is_shown_to_new_clients(tmp_path: Path) -> None:
    """Without a restart; who is connected stays so, and a pair that does not fit changes nothing."""
    authority, data = trustme.CA(), tmp_path / "d"
    data.mkdir()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    write(data, authority.issue_cert("127.0.0.1"))
    context = trusting(tmp_path / "ca.pem")
    with running_hub(data, '[gateway]\ntls_certificate_file = "cert.pem"\ntls_key_file = "key.pem"\n') as hub:
        first = shown(hub, context)
        with connection(hub, context) as secure:
            authority.issue_cert("127.0.0.1").private_key_pem.write_to_path(data / "key.pem")
            wait_until(lambda: "certificate_not_taken" in hub.log())
            assert shown(hub, context) == first
            write(data, authority.issue_cert("127.0.0.1"))
            wait_until(lambda: shown(hub, context) != first)
            assert b"200 OK" in answer(secure)
        (data / "cert.pem").unlink()
        wait_until(lambda: hub.log().count("certificate_not_taken") >= 2)
        assert shown(hub, context) != first


# --- mutual TLS ---


def identity(folder: Path, issued: Issued, root: Path) -> ssl.SSLContext:
    context = trusting(root)
    name = issued.certificate.serial
    (folder / f"{name}.pem").write_bytes(issued.certificate_pem + (issued.key_pem or b""))
    context.load_cert_chain(folder / f"{name}.pem")
    return context


def is_let_in(hub: HubProcess, context: ssl.SSLContext) -> bool:
    """By TLS 1.3 a refusal comes with the first read."""
    try:
        with connection(hub, context) as secure:
            return b"200 OK" in answer(secure)
    except (ssl.SSLError, ConnectionError):
        return False


@pytest.mark.attack("a device whose certificate was revoked")
def test_devices_come_in_by_certificates_until_they_are_revoked(tmp_path: Path) -> None:
    data, files = tmp_path / "d", tmp_path / "files"
    files.mkdir()
    authority = create(data / "ca", name="x", permitted=None, now_ms=now_ms)
    root = data / "ca" / "root.crt"
    config = '[gateway]\ntls = "own-ca"\ntls_client_ca_file = "ca/root.crt"\ntls_client_crl_file = "ca/crl.pem"\n'
    device, other = authority.issue_client("device:press-7"), authority.issue_client("device:press-8")
    stranger = create(tmp_path / "ca", name="x", permitted=None, now_ms=now_ms).issue_client("device:press-7")
    server = authority.issue_server(["127.0.0.1"])
    with running_hub(data, config) as hub:
        press_7, press_8 = identity(files, device, root), identity(files, other, root)
        assert is_let_in(hub, press_7)
        assert not is_let_in(hub, trusting(root))
        assert not is_let_in(hub, identity(files, stranger, root))
        assert not is_let_in(hub, identity(files, server, root))  # of this authority, but not for clients
        open_authority(data / "ca", now_ms=now_ms).revoke(device.certificate.serial)
        wait_until(lambda: not is_let_in(hub, press_7))
        assert is_let_in(hub, press_8)


@pytest.mark.attack("a session that outlives its certificate")
def test_a_revoked_device_resumes_no_session(tmp_path: Path) -> None:
    data = tmp_path / "d"
    authority = create(data / "ca", name="x", permitted=None, now_ms=now_ms)
    config = '[gateway]\ntls = "own-ca"\ntls_client_ca_file = "ca/root.crt"\ntls_client_crl_file = "ca/crl.pem"\n'
    context = identity(tmp_path, authority.issue_client("device:press-7"), data / "ca" / "root.crt")
    with running_hub(data, config) as hub:
        with connection(hub, context) as secure:
            assert b"200 OK" in answer(secure)
            session = secure.session
        with socket.create_connection(("127.0.0.1", hub.port), timeout=10) as plain:
            again = context.wrap_socket(plain, server_hostname="127.0.0.1", session=session)
            with again:
                assert b"200 OK" in answer(again)
                assert not again.session_reused
        context.maximum_version = ssl.TLSVersion.TLSv1_2  # whose sessions could not be kept from being resumed
        with pytest.raises(ssl.SSLError), connection(hub, context):
            pass


def test_the_doctor_tells_when_the_certificate_ends(own: HubProcess) -> None:
    done = autoglm("doctor", "env", "--json", data=own.data_dir)
    [finding] = [finding for finding in json.loads(done.out) if finding["name"] == "certificate"]
    assert (finding["level"], "days" in finding["text"]) == ("ok", True)
