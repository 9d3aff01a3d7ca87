"""Settings of the audit: what is summed up, how often it is signed, and where else it goes."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, SecretStr, StringConstraints, model_validator

PlaceName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]


class FilePlaceSettings(BaseModel, frozen=True, extra="forbid"):
    """A folder with files of JSON lines, on another disk at best."""

    kind: Literal["file"] = "file"
    name: PlaceName = Field(default="file", description="Unique name")
    folder: Path = Field(description="Made where it is missing, but not the one that it lies in")
    max_file_bytes: int = Field(default=64 << 20, ge=4096, le=1 << 40, description="A new file begins then")


class SyslogPlaceSettings(BaseModel, frozen=True, extra="forbid"):
    """A syslog server. What is personal goes there only if told to: it cannot be called back."""

    kind: Literal["syslog"] = "syslog"
    name: PlaceName = Field(default="syslog", description="Unique name")
    socket: Path | None = Field(default=None, description="A Unix socket, such as /dev/log")
    host: str | None = Field(default=None, min_length=1, max_length=255, description="Or a server, by TCP")
    port: int = Field(default=6514, ge=1, le=65535, description="Of the server")
    tls: bool = Field(default=True, description="TLS to the server (RFC 5425)")
    ca_file: Path | None = Field(default=None, description="PEM file of authorities to trust, instead of the system's")
    with_personal: bool = Field(default=False, description="Send what can be erased here, but never there")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.socket is None) == (self.host is None):
            raise ValueError("give either socket or host")
        return self


class ElasticsearchPlaceSettings(BaseModel, frozen=True, extra="forbid"):
    """An index of Elasticsearch or OpenSearch."""

    kind: Literal["elasticsearch"] = "elasticsearch"
    name: PlaceName = Field(default="elasticsearch", description="Unique name")
    url: str = Field(pattern=r"^https?://[^\s?#@]+$", description="Its address, without a user")
    index: str = Field(
        default="autoglm-audit", pattern=r"^[a-z0-9.][^\s\\/*?\"<>|,#:A-Z]*$", max_length=255, description="The index"
    )
    api_key: SecretStr | None = Field(default=None, description="The encoded form of an API key")


PlaceSettings = Annotated[
    FilePlaceSettings | SyslogPlaceSettings | ElasticsearchPlaceSettings, Field(discriminator="kind")
]


class AuditSettings(BaseModel, frozen=True, extra="forbid"):
    """`[audit]`."""

    summed_actions: tuple[str, ...] = Field(
        default=("model:use", "read:message", "read:metrics", "read:sensor", "subscribe:topic"),
        description="Equal decisions on these within summed_s become one entry with their count; what was refused "
        "always does",
    )
    summed_s: float = Field(default=1.0, gt=0, le=60, description="And this is how long they may be apart")
    head_every_entries: int = Field(default=1000, ge=1, le=10_000, description="The site signs the chain after so many")
    head_every_s: float = Field(default=60.0, ge=1, le=86_400, description="And after so long, where there is news")
    place: tuple[PlaceSettings, ...] = Field(default=(), description="Where the audit goes beside the store")

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        names = [place.name for place in self.place]
        if len(set(names)) < len(names):
            raise ValueError(f"each place needs a name of its own, not {', '.join(sorted(names))}")
        return self
