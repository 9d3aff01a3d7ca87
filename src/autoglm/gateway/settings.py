"""Where and how the hub listens."""

import ipaddress
from pathlib import Path
from typing import Self

from pydantic import BaseModel, Field, model_validator


class GatewaySettings(BaseModel, frozen=True, extra="forbid"):
    """`[gateway]` in autoglm.toml."""

    host: str = Field(default="127.0.0.1", description="Address to listen on")
    port: int = Field(default=8600, ge=0, le=65535, description="Port to listen on; 0 takes a free one")
    max_body_bytes: int = Field(default=32 * 1024 * 1024, ge=1024, le=1 << 32, description="Largest request body")
    drain_s: float = Field(default=30.0, ge=0, le=600, description="Time for running requests to end at shutdown")
    max_connections: int = Field(default=20_000, ge=1, le=1_000_000, description="More clients than this get 503")
    tls_certificate_file: Path | None = Field(default=None, description="PEM chain; switches TLS on")
    tls_key_file: Path | None = Field(default=None, description="PEM key of the certificate")
    allow_insecure_bind: bool = Field(
        default=False, description="Listen beyond this machine without TLS (keys travel in clear)"
    )

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if (self.tls_certificate_file is None) != (self.tls_key_file is None):
            raise ValueError("tls_certificate_file and tls_key_file go together")
        return self

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
        return not self.is_loopback and self.tls_certificate_file is None


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
