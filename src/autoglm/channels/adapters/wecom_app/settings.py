"""Settings of a `[[channel]]` of the kind wecom-app."""

import re
from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator

from autoglm.channels.adapters.wechat.crypto import AES_KEY_PATTERN
from autoglm.channels.settings import BaseUrl, ChannelSettings
from autoglm.core.envelope import Kind


class WeComAppSettings(ChannelSettings, frozen=True):
    """A `[[channel]]` of the kind wecom-app."""

    kind: Literal["wecom-app"]
    corp_id: str = Field(min_length=1, max_length=64)
    """The company's id."""
    agent_id: int = Field(ge=0)
    """The app's AgentId."""
    secret: SecretStr = Field(min_length=1)
    """The app's Secret."""
    token: SecretStr | None = None
    """The Token of "receive messages"; needed for what comes in."""
    aes_key: SecretStr | None = None
    """The EncodingAESKey of "receive messages"; needed for what comes in."""
    format: Literal["text", "markdown"] = "text"
    """As what texts are sent."""
    buttons: dict[str, str] = Field(default={}, max_length=6)
    """Buttons on cards, by their action, such as ack = "Got it"; a press comes in as an answer."""
    buttons_for: tuple[Kind, ...] = ("alert", "task")
    """Kinds of messages that have the buttons."""
    duplicate_check_s: int = Field(default=1800, ge=0, le=14_400)
    """How long WeCom takes a repeated attempt for a repetition, and does not show it twice; 0: it shows all."""
    call_window_s: float = Field(default=300.0, ge=10.0, le=3600.0)
    """How far the time of a call by WeCom may be from this hub's."""
    base_url: BaseUrl = "https://qyapi.weixin.qq.com"
    """WeCom's address; another one for a proxy."""

    @model_validator(mode="after")
    def _is_callback_whole(self) -> Self:
        if (self.token is None) != (self.aes_key is None):
            raise ValueError("token and aes_key belong together: give both or none")
        if self.aes_key is not None and re.match(AES_KEY_PATTERN, self.aes_key.get_secret_value()) is None:
            raise ValueError("aes_key has 43 letters and digits, as WeCom shows the EncodingAESKey")
        if any(not 1 <= len(key.encode()) <= 1024 or not words.strip() for key, words in self.buttons.items()):
            raise ValueError("buttons: an action has 1 to 1,024 bytes, and its words are not empty")
        return self
