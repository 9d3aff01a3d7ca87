"""Settings of Web Push."""

from typing import Literal

from pydantic import Field, field_validator

from autoglm.channels.settings import ChannelSettings
from autoglm.core.guard import parse_allowed


class WebPushSettings(ChannelSettings, frozen=True):
    """A `[[channel]]` of the kind web-push."""

    kind: Literal["web-push"]
    contact: str = Field(
        pattern=r"^(mailto:[^\s@]+@[^\s@]+|https://[^\s/]\S*)$", max_length=256, examples=["mailto:it@example.org"]
    )
    """Whom a push service's operator writes to when something is wrong, mailto: or https:; sent with each push."""
    ttl_s: int = Field(default=86_400, ge=0, le=2_419_200)
    """How long a push service keeps a notification for a browser that is off, unless the message expires earlier."""
    allow: tuple[str, ...] = Field(default=(), max_length=1_000)
    """Push services of your own, by host or network, that may be called although they are private or without TLS."""

    @field_validator("allow")
    @classmethod
    def _can_be_allowed(cls, allow: tuple[str, ...]) -> tuple[str, ...]:
        for entry in allow:
            parse_allowed(entry)
        return allow
