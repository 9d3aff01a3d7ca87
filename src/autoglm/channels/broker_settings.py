"""Settings of the MQTT broker that the hub runs itself: `[mqtt_broker]`."""

import ipaddress
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, Field, SecretStr, field_validator, model_validator

from autoglm.channels.adapters.mqtt.topics import filter_flaw

HUB_USER = "autoglm"
BROKER_USER_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.@-]*$"


class BrokerUser(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """`[[mqtt_broker.user]]`: who may connect, and to which topics."""

    name: str = Field(max_length=64, pattern=BROKER_USER_PATTERN)
    """User name; "autoglm" is the hub's own."""
    password: SecretStr = Field(min_length=8, max_length=256)
    """Its password."""
    publish: tuple[str, ...] = Field(default=("#",), max_length=100)
    """Filters of the topics that it may publish under."""
    subscribe: tuple[str, ...] = Field(default=("#",), max_length=100)
    """Filters of the topics that it may read."""

    @field_validator("publish", "subscribe")
    @classmethod
    def _are_filters(cls, filters: tuple[str, ...]) -> tuple[str, ...]:
        for one in filters:
            if (flaw := filter_flaw(one)) is not None:
                raise ValueError(f"the filter {one!r} {flaw}")
        return filters

    @field_validator("password")
    @classmethod
    def _is_one_line(cls, password: SecretStr) -> SecretStr:
        if not password.get_secret_value().isprintable():
            raise ValueError("a password has no control characters")
        if password.get_secret_value().startswith(("$2a$", "$2b$", "$2x$", "$2y$")):  # nats-server would compare hashes
            raise ValueError("a password is given as it is, not as a hash by bcrypt")
        return password

    @field_validator("name")
    @classmethod
    def _is_not_ours(cls, name: str) -> str:
        if name == HUB_USER:
            raise ValueError(f"{HUB_USER!r} is the hub's own user")
        return name


class BrokerSettings(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """`[mqtt_broker]`."""

    enabled: bool = False
    """Whether the hub runs a broker; autoglm up --mqtt is the same."""
    program: Literal["auto", "mosquitto", "nats-server"] = "auto"
    """Which server runs; auto: mosquitto where it is installed, else nats-server."""
    host: str = "127.0.0.1"
    """Address that devices connect to; another than a loopback one needs certificates."""
    port: int = Field(default=1883, ge=0, le=65_535)
    """Its port; 0: a free one."""
    tls_certificate_file: Path | None = None
    """Certificate (PEM) by which devices know the broker; with mosquitto, or with tokens = true."""
    tls_key_file: Path | None = None
    """Its key (PEM), without a password."""
    tls_ca_file: Path | None = None
    """Authority (PEM) of the devices' certificates: when given, each device needs one."""
    user: tuple[BrokerUser, ...] = Field(default=(), max_length=1000)
    """Who may connect beside the hub: tables [[mqtt_broker.user]]."""
    tokens: bool = False
    """Whether devices may log in with tokens of the hub, too: it then stands between them and the broker."""
    max_connections: int = Field(default=1000, ge=1, le=100_000)
    """Devices at a time."""
    max_packet_bytes: int = Field(default=2_097_152, ge=1024, le=67_108_864)
    """Longest packet that is taken."""
    max_queued: int = Field(default=10_000, ge=1, le=10_000_000)
    """Messages kept for each device that is away."""
    start_timeout_s: float = Field(default=15.0, gt=0.0, le=300.0)
    """Until the broker must answer after its start."""

    @property
    def is_loopback(self) -> bool:
        return self.host == "localhost" or (_is_address(self.host) and ipaddress.ip_address(self.host).is_loopback)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.tls_certificate_file is None) is not (self.tls_key_file is None):
            raise ValueError("tls_certificate_file and tls_key_file go together")
        if self.tls_ca_file is not None and self.tls_certificate_file is None:
            raise ValueError("tls_ca_file needs tls_certificate_file")
        if not self.is_loopback and self.tls_certificate_file is None:
            raise ValueError(f"host = {self.host!r} is open to others, and passwords would be in plain text: set "
                             "tls_certificate_file and tls_key_file")  # fmt: skip
        if self.program == "nats-server" and self.tls_certificate_file is not None and not self.tokens:
            raise ValueError('certificates need program = "mosquitto", or tokens = true')
        if len({user.name for user in self.user}) < len(self.user):
            raise ValueError("two users have the same name")
        return self


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
