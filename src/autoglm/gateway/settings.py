"""Where and how the hub listens."""

import ipaddress
import re
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, Field, field_validator, model_validator

from autoglm.gateway.proxies import ProxyHeader

_HOST = re.compile(r"\.?[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?")


class GatewaySettings(BaseModel, frozen=True, extra="forbid"):
    """`[gateway]` in autoglm.toml."""

    host: str = Field(default="127.0.0.1", description="Address to listen on")
    port: int = Field(default=8600, ge=0, le=65535, description="Port to listen on; 0 takes a free one")
    max_body_bytes: int = Field(default=32 * 1024 * 1024, ge=1024, le=1 << 32, description="Largest request body")
    drain_s: float = Field(default=30.0, ge=0, le=600, description="Time for running requests to end at shutdown")
    max_connections: int = Field(default=20_000, ge=1, le=1_000_000, description="More clients than this get 503")
    tls_certificate_file: Path | None = Field(default=None, description="PEM chain; switches TLS on")
    tls_key_file: Path | None = Field(default=None, description="PEM key of the certificate")
    tls: Literal["files", "own-ca", "acme"] = Field(
        default="files",
        description="Whose certificate: files (those two, or no TLS), own-ca (this site's authority), or acme",
    )
    tls_names: tuple[str, ...] = Field(
        default=(), max_length=50, description="DNS names and addresses by which clients call the hub over TLS"
    )
    tls_client_ca_file: Path | None = Field(
        default=None, description="Authorities (PEM): each client must show a certificate of theirs"
    )
    tls_client_crl_file: Path | None = Field(default=None, description="Their list of revoked certificates (PEM)")
    allow_insecure_bind: bool = Field(
        default=False, description="Listen beyond this machine without TLS (keys travel in clear)"
    )

    hosts: tuple[str, ...] = Field(
        default=(), description="Its names with a dot, beside the machine's own; `.x.org` stands for all below"
    )
    trusted_proxies: tuple[str, ...] = Field(
        default=(), description="Proxies that tell a client's address: theirs, or networks"
    )
    proxy_header: ProxyHeader = Field(default="x-forwarded-for", description="Where they tell it")
    failures_per_minute: int = Field(
        default=30, ge=1, le=1_000_000, description="Wrong keys, tokens or logins of an address; of loopback 20 times"
    )

    @field_validator("hosts")
    @classmethod
    def _are_names(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            if _HOST.fullmatch(host) is None:
                raise ValueError(f"{host!r} is no name such as 'hub.factory.example' or '.factory.example'")
        return hosts

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        for entry in proxies:
            try:
                ipaddress.ip_network(entry)
            except ValueError:
                raise ValueError(f"{entry!r} is no address, and no network such as '10.1.0.0/16'") from None
        return proxies

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if (self.tls_certificate_file is None) != (self.tls_key_file is None):
            raise ValueError("tls_certificate_file and tls_key_file go together")
        if self.tls != "files" and self.tls_certificate_file is not None:
            raise ValueError(f'tls = "{self.tls}" makes its own certificate: leave tls_certificate_file out')
        if self.tls_client_ca_file is not None and not self.has_tls:
            raise ValueError("tls_client_ca_file needs TLS")
        if self.tls_client_crl_file is not None and self.tls_client_ca_file is None:
            raise ValueError("tls_client_crl_file goes with tls_client_ca_file")
        if self.tls == "acme" and not self.tls_names:
            raise ValueError('tls = "acme" needs tls_names: the names that the certificate is for')
        return self

    @property
    def has_tls(self) -> bool:
        return self.tls != "files" or self.tls_certificate_file is not None

    @property
    def is_loopback(self) -> bool:
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def is_exposed(self) -> bool:
        """True when others could read the traffic: beyond loopback, and no TLS."""
        return not self.is_loopback and not self.has_tls


class AcmeSettings(BaseModel, frozen=True, extra="forbid"):
    """`[acme]`: where the certificate comes from with `gateway.tls = "acme"`; its names are `gateway.tls_names`."""

    directory: str = Field(
        default="https://acme-v02.api.letsencrypt.org/directory",
        pattern=r"^https?://[^\s]+$",
        description="Directory of the ACME server",
    )
    agrees_to_terms: bool = Field(default=False, description="Its terms of service were read and are agreed to")
    email: str | None = Field(default=None, max_length=254, description="Where the server may write to")
    ca_file: Path | None = Field(default=None, description="Authorities (PEM) of an ACME server of one's own")
    host: str = Field(default="0.0.0.0", description="Address on which the hub answers http-01 during an order")  # noqa: S104
    port: int = Field(default=80, ge=1, le=65535, description="Its port; the server asks on port 80")
    webroot: Path | None = Field(
        default=None, description="Folder that another web server serves on port 80; then the hub listens nowhere"
    )


class TelemetrySettings(BaseModel, frozen=True, extra="forbid"):
    """`[telemetry]`: where spans of requests go, with the extra `otel`."""

    otlp_endpoint: str | None = Field(
        default=None, pattern=r"^https?://[^\s]+$", description="OTLP/HTTP collector: http://127.0.0.1:4318; none: off"
    )
    service_name: str = Field(
        default="autoglm-hub", min_length=1, max_length=128, description="The hub's own name there"
    )
    max_queued_spans: int = Field(
        default=2048, ge=1, le=1_000_000, description="Spans that wait for the collector; more are dropped and counted"
    )
