"""Joins the gateway's TLS and what makes its certificates."""

from collections.abc import Callable
from pathlib import Path
from typing import assert_never

from autoglm.auth.own_certificate import OwnCertificate
from autoglm.gateway.settings import AcmeSettings, GatewaySettings
from autoglm.gateway.tls import CertificateSource, GivenCertificate

CA_FOLDER = "ca"
ACME_FOLDER = "acme"


def certificate_source(
    gateway: GatewaySettings, acme: AcmeSettings, data_dir: Path, now_ms: Callable[[], int]
) -> CertificateSource:
    """By `gateway.tls`, which must want TLS. Raises InvalidField."""
    if gateway.tls == "own-ca":
        own = () if gateway.host in ("0.0.0.0", "::") else (gateway.host,)  # noqa: S104  # compared, not bound
        return OwnCertificate(data_dir / CA_FOLDER, (*own, *gateway.tls_names), now_ms)
    if gateway.tls == "acme":
        from autoglm.auth.acme import AcmeCertificate, AcmeOrder

        order = AcmeOrder(
            directory=acme.directory, names=gateway.tls_names, email=acme.email, ca_file=acme.ca_file, host=acme.host,
            port=acme.port, webroot=acme.webroot,
        )  # fmt: skip
        return AcmeCertificate(data_dir / ACME_FOLDER, order, now_ms)
    assert gateway.tls_certificate_file is not None
    assert gateway.tls_key_file is not None
    return GivenCertificate(gateway.tls_certificate_file, gateway.tls_key_file)


def served_certificate(gateway: GatewaySettings, data_dir: Path) -> Path:
    """The file of the certificate that a hub with these settings, which want TLS, shows."""
    match gateway.tls:
        case "files":
            assert gateway.tls_certificate_file is not None
            return gateway.tls_certificate_file
        case "own-ca":
            return data_dir / CA_FOLDER / "server.crt"
        case "acme":
            return data_dir / ACME_FOLDER / "server.crt"
        case never:
            assert_never(never)


def renewal_failure(gateway: GatewaySettings, data_dir: Path) -> str:
    """Why the hub could not renew its certificate when it last tried; empty when it could."""
    if gateway.tls != "acme":
        return ""
    from autoglm.auth.acme import read_failure

    return read_failure(data_dir / ACME_FOLDER)
