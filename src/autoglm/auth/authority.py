"""The site's own certificate authority: one root, bound to the site's names, that issues for hubs and devices.

Source: RFC 5280; the CA/Browser Forum's Baseline Requirements 7.1.2 where browsers check them (names in the subject
alternative name only, 397 days, random serial numbers); section numbers are of RFC 5280.
"""

import fcntl
import ipaddress
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from autoglm.auth.certificate_names import Name, Range, is_within, parse_name
from autoglm.auth.sealing import is_locked, lock, unlock
from autoglm.core.address import check_address
from autoglm.core.errors import AuthorityBroken, InvalidField, NotFound
from autoglm.core.private_file import make_private_folder, write_private

ROOT_FILE, KEY_FILE, INDEX_FILE, CRL_FILE = "root.crt", "root.key", "index.json", "crl.pem"
_ABOUT_KEY = b"the key of the authority"
ROOT_DAYS = 3650
MAX_DAYS = 397
ADDRESS_URN = "urn:autoglm:"
"""In front of a device's address, in the URI of its certificate."""
_MAX_NAMES = 100
_EARLIER = timedelta(hours=1)
"""Certificates begin so long before they are made: clocks without a network differ."""

KeyKind = Literal["p256", "ed25519"]
PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """What the authority remembers of one that it issued."""

    serial: str
    """Hexadecimal."""
    kind: Literal["server", "client"]
    names: tuple[str, ...]
    """Of a server; a client has one, its address."""
    not_before_ms: int
    not_after_ms: int
    revoked_at_ms: int | None = None


class Issued(msgspec.Struct, frozen=True, kw_only=True):
    certificate: Certificate
    certificate_pem: bytes
    key_pem: bytes | None
    """None where whoever asked has made the key."""

    def __repr__(self) -> str:
        return f"Issued({self.certificate!r})"


class Authority:
    """Made by `create` or `open_authority`."""

    def __init__(self, folder: Path, root: x509.Certificate, key: PrivateKey, now_ms: Callable[[], int]) -> None:
        self._folder, self._root, self._key, self._now_ms = folder, root, key, now_ms

    def issue_server(self, names: Sequence[str], *, days: int = MAX_DAYS, kind: KeyKind = "p256") -> Issued:
        """For a hub. names: DNS names and IP addresses. Raises InvalidField, also for what the root may not name."""
        parsed = _parsed(names)
        permitted = permitted_ranges(self._root)
        for name in parsed:
            if permitted is not None and not is_within(name, permitted):
                raise InvalidField("name", f"{name} is beyond what this authority may name; 'ca show' lists that")
        key = _new_key(kind)
        alternative = x509.SubjectAlternativeName(
            [x509.DNSName(name) if isinstance(name, str) else x509.IPAddress(name) for name in parsed]
        )
        made = self._made(_subject(str(parsed[0])), key.public_key(), alternative, days, is_server=True)
        return self._kept("server", tuple(map(str, parsed)), made, _pem(key))

    def issue_client(
        self, address: str, *, days: int = MAX_DAYS, kind: KeyKind = "p256", csr_pem: bytes | None = None
    ) -> Issued:
        """For a device or a person, by address. csr_pem: of a device that made its key itself; nothing but the public
        key is taken from it. Raises InvalidField."""
        check_address(address, field="address")
        key = None if csr_pem is not None else _new_key(kind)
        public = key.public_key() if key is not None else _public_key_of(csr_pem or b"")
        alternative = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(_urn(address))])
        made = self._made(_subject(address), public, alternative, days, is_server=False)
        return self._kept("client", (address,), made, None if key is None else _pem(key))

    def renew(self, serial: str, *, days: int = MAX_DAYS) -> Issued:
        """A new certificate with a new key for the same names; the old one goes on until its end. Raises NotFound."""
        old = self.find(serial)
        if old.revoked_at_ms is not None:
            raise InvalidField("serial", f"{serial} is revoked; issue a new one")
        if old.kind == "server":
            return self.issue_server(old.names, days=days)
        return self.issue_client(old.names[0], days=days)

    def revoke(self, serial: str) -> Certificate:
        """It is on the list of the revoked when this returns. Raises NotFound."""
        with _locked(self._folder):
            index = read_index(self._folder)
            found = _find(index, serial)
            revoked = found
            if found.revoked_at_ms is None:
                revoked = msgspec.structs.replace(found, revoked_at_ms=self._now_ms())
            index = [revoked if one.serial == revoked.serial else one for one in index]
            write_private(self._folder / INDEX_FILE, msgspec.json.encode(index))
            self._write_crl(index)
        return revoked

    def find(self, serial: str) -> Certificate:
        """By the serial number or its beginning, if that is one's only. Raises NotFound."""
        return _find(read_index(self._folder), serial)

    def _made(
        self, subject: x509.Name, public: PublicKey, alternative: x509.SubjectAlternativeName, days: int, *,
        is_server: bool,
    ) -> x509.Certificate:  # fmt: skip
        if not 1 <= days <= MAX_DAYS:
            raise InvalidField("days", f"must be 1 to {MAX_DAYS}: browsers take no more")
        now = _time(self._now_ms())
        end = min(now + timedelta(days=days) - _EARLIER, self._root.not_valid_after_utc)
        usage = ExtendedKeyUsageOID.SERVER_AUTH if is_server else ExtendedKeyUsageOID.CLIENT_AUTH
        identifier = self._root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        builder = (
            _builder(subject, self._root.subject, public, now - _EARLIER, end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(alternative, critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        )
        return builder.sign(self._key, _hash(self._key))

    def _kept(
        self, kind: Literal["server", "client"], names: tuple[str, ...], made: x509.Certificate, key_pem: bytes | None
    ) -> Issued:
        certificate = Certificate(
            serial=f"{made.serial_number:040x}", kind=kind, names=names,
            not_before_ms=_ms(made.not_valid_before_utc), not_after_ms=_ms(made.not_valid_after_utc),
        )  # fmt: skip
        with _locked(self._folder):
            index = [*read_index(self._folder), certificate]
            write_private(self._folder / INDEX_FILE, msgspec.json.encode(index))
            self._write_crl(index)
        pem = made.public_bytes(serialization.Encoding.PEM)
        return Issued(certificate=certificate, certificate_pem=pem, key_pem=key_pem)

    def _write_crl(self, index: Sequence[Certificate]) -> None:
        """The list lasts as long as a certificate: it is read from this disk, never fetched, so it is never stale."""
        now = _time(self._now_ms())
        builder = x509.CertificateRevocationListBuilder().issuer_name(self._root.subject)
        builder = builder.last_update(now - _EARLIER).next_update(now + timedelta(days=MAX_DAYS))
        for one in index:
            if one.revoked_at_ms is not None:
                revoked = x509.RevokedCertificateBuilder().serial_number(int(one.serial, 16))
                builder = builder.add_revoked_certificate(revoked.revocation_date(_time(one.revoked_at_ms)).build())
        identifier = self._root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        builder = builder.add_extension(x509.CRLNumber(_ms(now)), critical=False)  # 5.2.3: it only rises
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False
        )
        crl = builder.sign(self._key, _hash(self._key))
        write_private(self._folder / CRL_FILE, crl.public_bytes(serialization.Encoding.PEM), mode=0o644)


def create(
    folder: Path, *, name: str, permitted: Sequence[Range] | None, now_ms: Callable[[], int], kind: KeyKind = "p256",
    passphrase: str | None = None, days: int = ROOT_DAYS,
) -> Authority:  # fmt: skip
    """A new root. folder: DATA/ca, made with mode 0700. permitted: what it may name; None: everything.

    passphrase: what its key is encrypted under; without one the file's mode guards it. Raises InvalidField,
    AuthorityBroken where there is one already.
    """
    make_private_folder(folder)
    with _locked(folder):
        if (folder / ROOT_FILE).exists() or (folder / KEY_FILE).exists():
            raise AuthorityBroken(f"there is one in {folder} already; devices that trust it would trust no other")
        if not 1 <= len(name) <= 64 or not name.isprintable():
            raise InvalidField("name", "must have 1 to 64 printable characters")
        key = _new_key(kind)
        now = _time(now_ms())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = (
            _builder(subject, subject, key.public_key(), now - _EARLIER, now + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)  # no authority below it
            .add_extension(_key_usage(signs_certificates=True), critical=True)
        )
        if permitted is not None:
            subtrees = [x509.DNSName(one) if isinstance(one, str) else x509.IPAddress(one) for one in permitted]
            builder = builder.add_extension(x509.NameConstraints(subtrees, None), critical=True)  # 4.2.1.10
        root = builder.sign(key, _hash(key))
        write_private(folder / KEY_FILE, _guarded(key, passphrase))
        write_private(folder / INDEX_FILE, b"[]")
        authority = Authority(folder, root, key, now_ms)
        authority._write_crl([])
        write_private(folder / ROOT_FILE, root.public_bytes(serialization.Encoding.PEM), mode=0o644)  # last: it is one
        return authority


def open_authority(
    folder: Path, *, now_ms: Callable[[], int], passphrase: Callable[[], str] | None = None
) -> Authority:
    """passphrase: asked for only when the key is encrypted. Raises NotFound, AuthorityBroken, WrongPassphrase."""
    root = read_root(folder)
    try:
        content = (folder / KEY_FILE).read_bytes()
        if is_locked(content):
            if passphrase is None:
                raise AuthorityBroken("its key is encrypted, and no passphrase was given")
            content = unlock(passphrase(), content, _ABOUT_KEY)
        key = serialization.load_pem_private_key(content, password=None)
    except OSError as error:
        raise AuthorityBroken(f"its key in {folder} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, msgspec.DecodeError):
        raise AuthorityBroken(f"{folder / KEY_FILE} is no key") from None
    if not isinstance(key, PrivateKey) or key.public_key() != root.public_key():
        raise AuthorityBroken(f"{folder / KEY_FILE} is not the key of {ROOT_FILE}")
    return Authority(folder, root, key, now_ms)


def read_root(folder: Path) -> x509.Certificate:
    """Raises NotFound where no authority was made, AuthorityBroken."""
    try:
        return x509.load_pem_x509_certificate((folder / ROOT_FILE).read_bytes())
    except FileNotFoundError:
        raise NotFound("certificate authority", str(folder)) from None
    except (OSError, ValueError) as error:
        raise AuthorityBroken(f"{folder / ROOT_FILE} cannot be read: {error}") from None


def read_index(folder: Path) -> list[Certificate]:
    """What was issued, the oldest first. Raises AuthorityBroken."""
    try:
        return msgspec.json.decode((folder / INDEX_FILE).read_bytes(), type=list[Certificate])
    except (OSError, msgspec.DecodeError) as error:
        raise AuthorityBroken(f"{folder / INDEX_FILE} cannot be read: {error}") from None


def permitted_ranges(root: x509.Certificate) -> list[Range] | None:
    """What the root may name; None: everything."""
    try:
        subtrees = root.extensions.get_extension_for_class(x509.NameConstraints).value.permitted_subtrees or []
    except x509.ExtensionNotFound:
        return None
    values = [subtree.value for subtree in subtrees]
    return [value for value in values if isinstance(value, str | ipaddress.IPv4Network | ipaddress.IPv6Network)]


def fingerprint(root: x509.Certificate) -> str:
    """SHA-256 in pairs with colons, as phones show it, to compare by eye."""
    return root.fingerprint(hashes.SHA256()).hex(":").upper()


# --- the parts of a certificate -----------------------------------------------------------------------


def _builder(
    subject: x509.Name, issuer: x509.Name, public: PublicKey, begin: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates, key_cert_sign=signs_certificates, crl_sign=signs_certificates,
        content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _subject(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])  # RFC 5280's upper bound


def _parsed(names: Sequence[str]) -> list[Name]:
    if not 1 <= len(names) <= _MAX_NAMES:
        raise InvalidField("name", f"1 to {_MAX_NAMES} names are needed")
    return list(dict.fromkeys(map(parse_name, names)))


def _urn(address: str) -> str:
    from urllib.parse import quote

    return ADDRESS_URN + quote(address, safe=":@/")


def _public_key_of(csr_pem: bytes) -> PublicKey:
    try:
        csr = x509.load_pem_x509_csr(csr_pem)
        public = csr.public_key()
    except ValueError as error:
        raise InvalidField("csr", f"is no certificate signing request: {error}") from None
    if not csr.is_signature_valid:
        raise InvalidField("csr", "is not signed by the key that it names")
    is_p256 = isinstance(public, ec.EllipticCurvePublicKey) and isinstance(public.curve, ec.SECP256R1)
    if isinstance(public, ec.EllipticCurvePublicKey) and is_p256:
        return public
    if isinstance(public, ed25519.Ed25519PublicKey):
        return public
    raise InvalidField("csr", "its key must be EC P-256 or Ed25519")


def _new_key(kind: KeyKind) -> PrivateKey:
    return ec.generate_private_key(ec.SECP256R1()) if kind == "p256" else ed25519.Ed25519PrivateKey.generate()


def _hash(key: PrivateKey) -> hashes.SHA256 | None:
    return None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()


def _pem(key: PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )  # fmt: skip


def _guarded(key: PrivateKey, passphrase: str | None) -> bytes:
    return _pem(key) if passphrase is None else lock(passphrase, _pem(key), _ABOUT_KEY)


def _find(index: Sequence[Certificate], serial: str) -> Certificate:
    wanted = serial.lower().replace(":", "")
    found = [one for one in index if len(wanted) >= 4 and one.serial.startswith(wanted)]
    if len(found) != 1:
        raise NotFound("certificate", serial)
    return found[0]


def _time(time_ms: int) -> datetime:
    return datetime.fromtimestamp(time_ms // 1000, UTC)


def _ms(time: datetime) -> int:
    return int(time.timestamp() * 1000)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / "ca.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
