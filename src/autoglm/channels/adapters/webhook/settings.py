"""Settings of webhooks: the endpoints that are called, and that call."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, SecretStr, field_validator, model_validator

from autoglm.channels.adapters.webhook.signature import parse_secrets
from autoglm.channels.settings import ChannelSettings, check_url
from autoglm.core.guard import parse_allowed

EndpointName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]


class Endpoint(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """`[channel.endpoints.NAME]`: its address is channel:CHANNEL/NAME, both ways."""

    url: SecretStr | None = None
    """Where messages go; absent for an endpoint that only calls. A secret, as many such addresses hold one."""
    secret: SecretStr
    """whsec_, whsk_ or whpk_ and base64; several with blanks between them while one replaces another."""

    @field_validator("url")
    @classmethod
    def _is_url(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None:
            check_url(url.get_secret_value())
        return url

    @field_validator("secret")
    @classmethod
    def _are_secrets(cls, secret: SecretStr) -> SecretStr:
        parse_secrets(secret.get_secret_value())
        return secret

    @model_validator(mode="after")
    def _can_sign(self) -> Self:
        secrets = parse_secrets(self.secret.get_secret_value())
        if self.url is not None and not any(secret.can_sign for secret in secrets):
            raise ValueError("with a url, one of the secrets must be able to sign: whsec_ or whsk_")
        return self


class WebhookSettings(ChannelSettings, frozen=True):
    """A `[[channel]]` of the kind webhook."""

    kind: Literal["webhook"]
    endpoints: dict[EndpointName, Endpoint] = Field(min_length=1, max_length=1_000)
    """Endpoints by the name that their addresses have."""
    allow: tuple[str, ...] = Field(default=(), max_length=1_000)
    """Hosts and networks that may be called although they are private: "erp.intranet", "10.1.0.0/16"."""
    incoming_bytes: int = Field(default=262_144, ge=1_024, le=1_048_576)
    """Longest body that is taken in."""

    @field_validator("allow")
    @classmethod
    def _can_be_allowed(cls, allow: tuple[str, ...]) -> tuple[str, ...]:
        for entry in allow:
            parse_allowed(entry)
        return allow
