"""The site's own certificate authority, judged by OpenSSL's own verification."""

import ssl
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from autoglm.auth.authority import Authority, create, open_authority, permitted_ranges, read_index, read_root
from autoglm.auth.certificate_names import PRIVATE_RANGES, parse_range
from autoglm.core.clock import now_ms
from autoglm.core.errors import AuthorityBroken, InvalidField, NotFound, WrongPassphrase

DAY_MS = 86_400_000
RANGES = [parse_range(text) for text in PRIVATE_RANGES]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return create(tmp_path / "ca", name="Ward 3", permitted=RANGES, now_ms=now_ms)


def openssl(folder: Path, certificate_pem: bytes, *options: str) -> str:
    """What `openssl verify` says: 'OK', or its complaint."""
    (folder / "leaf.pem").write_bytes(certificate_pem)
    command = ["openssl", "verify", "-x509_strict", "-CAfile", str(folder / "ca" / "root.crt"), *options]
    done = subprocess.run([*command, str(folder / "leaf.pem")], capture_output=True, text=True, check=False)
    return "OK" if done.returncode == 0 else done.stderr


def forged(authority: Authority, name: str) -> bytes:
    """What a thief of the key signs, who asks nobody."""
    made = authority._made(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]),
        ec.generate_private_key(ec.SECP256R1()).public_key(),
        x509.SubjectAlternativeName([x509.DNSName(name)]),
        30,
        is_server=True,
    )
    return made.public_bytes(serialization.Encoding.PEM)


def test_a_server_is_known_by_its_names_and_addresses(authority: Authority, tmp_path: Path) -> None:
    issued = authority.issue_server(["hub.ward-3.lan", "10.1.2.3", "fd00::1", "*.ward-3.lan"])
    for options in (("-verify_hostname", "hub.ward-3.lan"), ("-verify_ip", "10.1.2.3"), ("-verify_ip", "fd00::1")):
        assert openssl(tmp_path, issued.certificate_pem, "-purpose", "sslserver", *options) == "OK"
    assert "mismatch" in openssl(tmp_path, issued.certificate_pem, "-verify_hostname", "other.lan")
    assert openssl(tmp_path, issued.certificate_pem, "-purpose", "sslclient") != "OK"
    assert "PRIVATE KEY" not in repr(issued)


def test_a_device_is_known_by_its_address(authority: Authority, tmp_path: Path) -> None:
    issued = authority.issue_client("device:press-7")
    assert openssl(tmp_path, issued.certificate_pem, "-purpose", "sslclient") == "OK"
    assert openssl(tmp_path, issued.certificate_pem, "-purpose", "sslserver") != "OK"
    found = x509.load_pem_x509_certificate(issued.certificate_pem)
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["urn:autoglm:device:press-7"]


@pytest.mark.attack("a stolen authority speaks for a bank")
def test_what_a_stolen_key_signs_beyond_the_site_is_refused_by_clients(authority: Authority, tmp_path: Path) -> None:
    assert openssl(tmp_path, forged(authority, "hub.lan")) == "OK"
    assert "permitted subtree violation" in openssl(tmp_path, forged(authority, "www.bank.example"))
    with pytest.raises(InvalidField, match="beyond what this authority may name"):
        authority.issue_server(["www.bank.example"])
    with pytest.raises(InvalidField, match="beyond"):
        authority.issue_server(["8.8.8.8"])


@pytest.mark.attack("a certificate that makes itself an authority")
def test_what_it_issues_can_issue_nothing(authority: Authority, tmp_path: Path) -> None:
    issued = authority.issue_server(["hub.lan"])
    key = serialization.load_pem_private_key(issued.key_pem or b"", None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    middle = x509.load_pem_x509_certificate(issued.certificate_pem)
    leaf = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x.lan")]))
        .issuer_name(middle.subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(middle.not_valid_before_utc)
        .not_valid_after(middle.not_valid_after_utc)
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "middle.pem").write_bytes(issued.certificate_pem)
    said = openssl(tmp_path, leaf.public_bytes(serialization.Encoding.PEM), "-untrusted", str(tmp_path / "middle.pem"))
    assert "invalid CA certificate" in said
    root = read_root(tmp_path / "ca").extensions.get_extension_for_class(x509.BasicConstraints)
    assert (root.critical, root.value.ca, root.value.path_length) == (True, True, 0)


@pytest.mark.attack("a device whose certificate was revoked")
def test_the_list_of_the_revoked_has_what_was_revoked(authority: Authority, tmp_path: Path) -> None:
    issued = authority.issue_client("device:press-7")
    check = ("-crl_check", "-CRLfile", str(tmp_path / "ca" / "crl.pem"))
    assert openssl(tmp_path, issued.certificate_pem, *check) == "OK"
    authority.revoke(issued.certificate.serial[:12])
    assert "certificate revoked" in openssl(tmp_path, issued.certificate_pem, *check)
    assert read_index(tmp_path / "ca")[0].revoked_at_ms is not None
    with pytest.raises(InvalidField, match="is revoked"):
        authority.renew(issued.certificate.serial)


def test_a_renewed_certificate_has_the_same_names_and_another_key(authority: Authority) -> None:
    old = authority.issue_server(["hub.lan", "10.0.0.1"])
    fresh = authority.renew(old.certificate.serial)
    assert fresh.certificate.names == ("hub.lan", "10.0.0.1")
    assert fresh.certificate.serial != old.certificate.serial
    assert fresh.key_pem != old.key_pem


def test_nothing_lasts_longer_than_browsers_take_or_than_the_root(tmp_path: Path) -> None:
    authority = create(tmp_path / "ca", name="x", permitted=None, now_ms=now_ms, days=30)
    with pytest.raises(InvalidField, match="must be 1 to 397"):
        authority.issue_server(["hub.lan"], days=398)
    issued = authority.issue_server(["hub.lan"])
    assert issued.certificate.not_after_ms - issued.certificate.not_before_ms <= 31 * DAY_MS
    assert permitted_ranges(read_root(tmp_path / "ca")) is None


def test_its_key_is_for_the_owner_alone_and_may_be_encrypted(authority: Authority, tmp_path: Path) -> None:
    assert (tmp_path / "ca" / "root.key").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "ca").stat().st_mode & 0o777 == 0o700
    sealed = tmp_path / "sealed"
    create(sealed, name="x", permitted=None, now_ms=now_ms, passphrase="correct horse battery")
    assert b"PRIVATE KEY" not in (sealed / "root.key").read_bytes()
    with pytest.raises(WrongPassphrase):
        open_authority(sealed, now_ms=now_ms, passphrase=lambda: "another horse battery")
    with pytest.raises(AuthorityBroken, match="no passphrase was given"):
        open_authority(sealed, now_ms=now_ms)
    again = open_authority(sealed, now_ms=now_ms, passphrase=lambda: "correct horse battery")
    assert again.issue_server(["hub.lan"]).certificate.names == ("hub.lan",)


def test_there_is_one_only_and_its_key_must_be_its_own(authority: Authority, tmp_path: Path) -> None:
    with pytest.raises(AuthorityBroken, match="already"):
        create(tmp_path / "ca", name="x", permitted=None, now_ms=now_ms)
    create(tmp_path / "other", name="x", permitted=None, now_ms=now_ms)
    (tmp_path / "ca" / "root.key").write_bytes((tmp_path / "other" / "root.key").read_bytes())
    with pytest.raises(AuthorityBroken, match=r"is not the key of root\.crt"):
        open_authority(tmp_path / "ca", now_ms=now_ms)
    with pytest.raises(NotFound):
        open_authority(tmp_path / "none", now_ms=now_ms)


def test_a_device_makes_its_own_key_and_the_request_gives_nothing_else(authority: Authority, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    wish = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "user:admin")])
    csr = x509.CertificateSigningRequestBuilder().subject_name(wish)
    csr = csr.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    issued = authority.issue_client(
        "device:press-7", csr_pem=csr.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    )
    found = x509.load_pem_x509_certificate(issued.certificate_pem)
    assert issued.key_pem is None
    assert found.public_key() == key.public_key()
    assert found.subject.rfc4514_string() == "CN=device:press-7"
    assert not found.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    with pytest.raises(InvalidField, match="no certificate signing request"):
        authority.issue_client("device:x", csr_pem=b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n")


@pytest.mark.parametrize(
    "name", ["", "a b", "-a.lan", "a..lan", "x" * 64 + ".lan", "ü" * 70, "10.0.0.256/8", "a\n.lan"]
)
def test_what_is_no_name_is_refused(authority: Authority, name: str) -> None:
    with pytest.raises(InvalidField):
        authority.issue_server([name])


def test_ed25519_is_there_for_programs(tmp_path: Path) -> None:
    authority = create(tmp_path / "ca", name="x", permitted=RANGES, now_ms=now_ms, kind="ed25519")
    issued = authority.issue_server(["hub.lan"], kind="ed25519")
    assert openssl(tmp_path, issued.certificate_pem, "-verify_hostname", "hub.lan") == "OK"
    context = ssl.create_default_context(cafile=tmp_path / "ca" / "root.crt")
    assert len(context.get_ca_certs()) == 1
