"""Settings of a `[[channel]]` of the kind wecom-aibot."""

from typing import Literal

from pydantic import Field, SecretStr, field_validator

from autoglm.channels.settings import ChannelSettings, is_url
from autoglm.core.envelope import Kind

USUAL_URL = "wss://openws.work.weixin.qq.com"


class WeComAiBotSettings(ChannelSettings, frozen=True):
    """A `[[channel]]` of the kind wecom-aibot."""

    kind: Literal["wecom-aibot"]
    bot_id: str = Field(min_length=1, max_length=256)
    """The bot's id."""
    secret: SecretStr = Field(min_length=1)
    """The Secret for the long connection."""
    buttons: dict[str, str] = Field(default={}, max_length=6)
    """Buttons on cards, by their action, such as ack = "Got it"; a press comes in as an answer."""
    buttons_for: tuple[Kind, ...] = ("alert", "task")
    """Kinds of messages that have the buttons."""
    ping_s: float = Field(default=30.0, ge=1.0, le=300.0)
    """Pause between two signs of life; one that is not answered within it ends the connection."""
    url: str = USUAL_URL
    """WeCom's address for long connections."""

    @field_validator("url")
    @classmethod
    def _is_socket_url(cls, url: str) -> str:
        if not is_url(url, "ws", "wss"):
            raise ValueError("must be an address such as wss://openws.work.weixin.qq.com, its port at most 65535")
        return url
