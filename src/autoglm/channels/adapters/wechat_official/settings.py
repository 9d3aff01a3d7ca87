"""Settings of a `[[channel]]` of the kind wechat-official."""

import re
from typing import Literal, Self

from pydantic import BaseModel, Field, SecretStr, model_validator

from autoglm.channels.adapters.wechat.crypto import AES_KEY_PATTERN
from autoglm.channels.adapters.wechat_official.template import unknown_words
from autoglm.channels.settings import BaseUrl, ChannelSettings, Zone


class Template(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """`[channel.templates.NAME]`: a template of the account."""

    id: str = Field(min_length=1, max_length=128)
    """The template's id."""
    fields: dict[str, str] = Field(min_length=1, max_length=20)
    """What stands in each field, such as thing1 = "{title}"."""
    url: str = Field(default="", max_length=2048, pattern=r"^(https?://\S+)?$")
    """Where a tap on the message leads."""

    @model_validator(mode="after")
    def _is_known(self) -> Self:
        for name, words in self.fields.items():
            if re.fullmatch(r"[A-Za-z_]{1,32}\d{0,4}", name) is None:
                raise ValueError(f"fields: {name!r} is no field such as thing1; leave out the .DATA")
            if unknown := unknown_words(words):
                raise ValueError(f"fields.{name}: there is no {unknown}")
        return self


class WeChatOfficialSettings(ChannelSettings, frozen=True):
    """A `[[channel]]` of the kind wechat-official."""

    kind: Literal["wechat-official"]
    app_id: str = Field(min_length=1, max_length=64)
    """The account's AppID."""
    secret: SecretStr = Field(min_length=1)
    """The account's AppSecret."""
    templates: dict[str, Template] = Field(default={}, max_length=25)
    """Templates by name, each a table; without any, all goes as customer-service messages."""
    template: str = ""
    """The template of messages that name none by their label `template`; may be left out where there is one."""
    token: SecretStr | None = None
    """The Token of the server configuration; needed for what comes in and for receipts."""
    aes_key: SecretStr | None = None
    """The EncodingAESKey; with it nothing is taken in plain text."""
    zone: Zone = "Asia/Shanghai"
    """Time zone of {time} and {date}, by its IANA name."""
    call_window_s: float = Field(default=300.0, ge=10.0, le=3600.0)
    """How far the time of a call by WeChat may be from this hub's."""
    base_url: BaseUrl = "https://api.weixin.qq.com"
    """WeChat's address; another one for a proxy."""

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.aes_key is not None and self.token is None:
            raise ValueError("aes_key needs token")
        if self.aes_key is not None and re.match(AES_KEY_PATTERN, self.aes_key.get_secret_value()) is None:
            raise ValueError("aes_key has 43 letters and digits, as WeChat shows the EncodingAESKey")
        if self.template and self.template not in self.templates:
            raise ValueError(f"template: there is no [channel.templates.{self.template}]")
        if len(self.templates) > 1 and not self.template:
            raise ValueError("template: say which of the templates messages have that name none")
        return self
