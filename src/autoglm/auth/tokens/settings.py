"""Who may sign tokens for this hub, and how long what counts."""

from pathlib import Path
from typing import Self

from pydantic import BaseModel, Field, SecretStr, field_validator, model_validator

from autoglm.auth.scopes import MAX_SCOPES, flaw
from autoglm.auth.tokens.limit import flaw_of_addresses
from autoglm.auth.tokens.target import normal_origin
from autoglm.core.errors import InvalidField

SITE_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
_DAY_S = 86_400


class IssuerSettings(BaseModel, frozen=True, extra="forbid"):
    """`[[trust.issuer]]`: another hub whose tokens count here. Its key is pinned, never fetched."""

    name: str = Field(pattern=SITE_PATTERN, description="Its own trust.site, which its tokens name as their issuer")
    public_key: str = Field(
        min_length=43, max_length=1024, description="Its key of Ed25519: base64url of 32 bytes, or PEM"
    )
    addresses: tuple[str, ...] | None = Field(
        default=None,
        max_length=100,
        description="For whom it speaks, such as device:ward3-*; for site:NAME alone when absent",
    )
    scopes: tuple[str, ...] | None = Field(
        default=None,
        max_length=MAX_SCOPES,
        description="What its tokens allow at most; messages of and for its own site:NAME/... when absent",
    )

    @field_validator("addresses")
    @classmethod
    def _are_addresses(cls, addresses: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if (wrong := flaw_of_addresses(addresses or ())) is not None:
            raise ValueError(wrong)
        return addresses

    @field_validator("scopes")
    @classmethod
    def _are_scopes(cls, scopes: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if (wrong := flaw(scopes or ())) is not None:
            raise ValueError(wrong)
        return scopes


class TrustSettings(BaseModel, frozen=True, extra="forbid"):
    """`[trust]`: tokens and the proofs that go with them."""

    site: str = Field(
        default="hub", pattern=SITE_PATTERN, description="This hub's own name, which tokens name as issuer and audience"
    )
    token_ttl_s: int = Field(default=900, ge=60, le=_DAY_S, description="How long a token lives that is made online")
    max_token_ttl_s: int = Field(
        default=_DAY_S,
        ge=60,
        le=90 * _DAY_S,
        description="The longest life of any token, such as a device's that works offline; longer ones are refused",
    )
    skew_s: int = Field(default=60, ge=0, le=600, description="By which clocks of devices and other hubs may differ")
    proof_window_s: int = Field(default=120, ge=10, le=900, description="How old the proof of a request may be")
    origins: tuple[str, ...] = Field(
        default=(),
        max_length=32,
        description="By which clients call this hub, such as https://hub.example, beside the address it listens on",
    )
    issuer: tuple[IssuerSettings, ...] = Field(default=(), max_length=1000, description="Other hubs whose tokens count")
    shared_secret: SecretStr | None = Field(
        default=None,
        min_length=32,
        max_length=1024,
        description="Switches on tokens by HS256, which are weaker: all who verify them can make them, and they can be "
        "copied; at least 256 random bits",
    )
    shared_secret_file: Path | None = Field(default=None, description="File that holds the shared secret")
    shared_secret_issuer: str = Field(
        default="shared", pattern=SITE_PATTERN, description="The issuer that tokens by HS256 name"
    )

    @field_validator("origins")
    @classmethod
    def _are_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        try:
            return tuple(normal_origin(origin) for origin in origins)
        except InvalidField as error:
            raise ValueError(str(error)) from None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.token_ttl_s > self.max_token_ttl_s:
            raise ValueError("token_ttl_s is over max_token_ttl_s")
        if self.shared_secret is not None and self.shared_secret_file is not None:
            raise ValueError("give either shared_secret or shared_secret_file")
        return self
