"""WeCom (企业微信) group robots: text, Markdown, pictures, news and cards into a group, without a receipt.

Source: developer.work.weixin.qq.com/document/path/99110 (group robot), /path/90313 (error codes).
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Sequence
from typing import Any, Literal
from urllib.parse import quote

from pydantic import BaseModel, Field, SecretStr

from autoglm.channels.channel import Cannot, Health, Inbox, Limits, Parcel, Resources, no_target
from autoglm.channels.delivery import (
    Delivery,
    Reasons,
    Words,
    accepted,
    failed_by_code,
    permanent,
    too_large,
    transient,
)
from autoglm.channels.robots import check_robots
from autoglm.channels.settings import ChannelSettings
from autoglm.channels.vendor_json import vendor_map
from autoglm.channels.web import Answer, NoAnswer, Web, of_status
from autoglm.channels.wording import checked_size, cut_to_pieces, in_words, is_inline_picture
from autoglm.core.envelope import Envelope, ImagePart, JsonPart

TEXT_BYTES = 2048
MARKDOWN_BYTES = 4096
IMAGE_BYTES = 2 * 1024 * 1024
PER_MINUTE = 20
_MSGTYPES = ("text", "markdown", "markdown_v2", "image", "news", "template_card", "file", "voice")
_FORM_BYTES = 3_000_000
"""Of a picture of IMAGE_BYTES in base64."""

_REASONS: Reasons = {
    45009: (
        "throttled",
        Words("the robot sent more than WeCom allows in a minute", "机器人发送超过企业微信每分钟上限"),
    ),
    45033: ("throttled", Words("too many requests to WeCom at the same time", "对企业微信的并发请求过多")),
    -1: ("transient", Words("WeCom is busy", "企业微信系统繁忙")),
    93000: (
        "auth",
        Words(
            "WeCom does not know the robot's key; was the robot removed?",
            "企业微信不认识该机器人的 key，机器人可能已被移除",
        ),
    ),
    93008: ("auth", Words("the robot is not in the group any more", "机器人已不在群里")),
    93017: (
        "auth",
        Words("this hub's address is not on the robot's list of allowed ones", "本机地址不在机器人的可信 IP 列表中"),
    ),
    40058: ("permanent", Words("WeCom says that a field of the message is wrong", "企业微信提示消息字段有误")),
    45002: ("too_large", Words("the text is over WeCom's limit", "文本超过企业微信上限")),
    44004: ("permanent", Words("the message is empty", "消息内容为空")),
    40009: ("too_large", Words("the picture is over 2 MB", "图片超过 2 MB")),
}
"""By errcode: the class of failure, and the words for it."""


class Robot(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """`[channel.robots.NAME]`: a group's robot; its address is channel:CHANNEL/NAME."""

    key: SecretStr = Field(min_length=1)
    """The key at the end of the robot's webhook address."""


class WeComRobotSettings(ChannelSettings, frozen=True):
    """A `[[channel]]` of the kind wecom-robot."""

    kind: Literal["wecom-robot"]
    robots: dict[str, Robot] = Field(min_length=1)
    """Robots by the name that their addresses have."""
    format: Literal["text", "markdown", "markdown_v2"] = "text"
    """As what texts are sent."""
    base_url: str = Field(default="https://qyapi.weixin.qq.com", pattern=r"^https?://[^\s]+$")
    """WeCom's address; another one for a proxy."""


class WeComRobot:
    """Satisfies `Channel`."""

    Settings = WeComRobotSettings

    def __init__(self, settings: WeComRobotSettings, resources: Resources) -> None:
        self._settings = settings
        self._name = resources.name
        self._web = Web()

    def limits(self, target: str) -> Limits:
        count = self._settings.per_minute or PER_MINUTE
        return Limits(windows=((count, 60.0),), per="target", parallel=1, digest_bytes=self._text_bytes)

    def compose(self, envelope: Envelope, target: str) -> Sequence[Parcel]:
        if target not in self._settings.robots:
            raise no_target(self._name, target, list(self._settings.robots))
        bodies = [*self._texts(envelope), *_pictures(envelope), *_own_forms(envelope)]
        if not bodies:
            raise Cannot(
                permanent(
                    "empty", Words("the message holds nothing that WeCom can show", "消息中没有企业微信可显示的内容")
                )
            )
        return [Parcel(target=target, body=body) for body in bodies]

    async def send(self, parcel: Parcel, key: str) -> Delivery:
        """WeCom's robots know no idempotency key."""
        robot_key = self._settings.robots[parcel.target].key.get_secret_value()
        url = f"{self._settings.base_url}/cgi-bin/webhook/send?key={quote(robot_key, safe='')}"
        body = json.dumps(parcel.body, ensure_ascii=False).encode()
        try:
            answer = await self._web.request("POST", url, body=body, headers={"Content-Type": "application/json"})
        except NoAnswer as error:
            return error.delivery
        return of_status(answer) or _of_body(answer)

    async def check(self) -> Health:
        """An empty body has no effect but shows whether the host answers and knows the keys."""
        body = {"msgtype": "text", "text": {"content": ""}}
        good = Words("WeCom knows the robots", "企业微信可达，机器人有效")
        return await check_robots(self, self._settings.robots, body, good)

    async def run(self, inbox: Inbox) -> None:
        """Robots hear nothing."""

    async def aclose(self) -> None:
        await self._web.aclose()

    @property
    def _text_bytes(self) -> int:
        return TEXT_BYTES if self._settings.format == "text" else MARKDOWN_BYTES

    def _texts(self, envelope: Envelope) -> list[dict[str, Any]]:
        pieces = cut_to_pieces(in_words(envelope, carries=is_inline_picture), self._text_bytes)
        return [{"msgtype": self._settings.format, self._settings.format: {"content": piece}} for piece in pieces]


def _pictures(envelope: Envelope) -> list[dict[str, Any]]:
    """Pictures in the message as `data:` addresses; those at an http address are named in the text."""
    parts = envelope.content if isinstance(envelope.content, list) else []
    found: list[dict[str, Any]] = []
    for part in parts:
        if not (isinstance(part, ImagePart) and is_inline_picture(part)):
            continue
        try:
            raw = base64.b64decode(part.image_url.url.partition(",")[2], validate=True)
        except binascii.Error:
            raise Cannot(permanent("bad_picture", Words("the picture is no base64", "图片不是有效的 base64"))) from None
        if len(raw) > IMAGE_BYTES:
            raise Cannot(too_large("40009", _REASONS[40009][1]))
        image = {"base64": base64.b64encode(raw).decode(), "md5": hashlib.md5(raw, usedforsecurity=False).hexdigest()}
        found.append({"msgtype": "image", "image": image})
    return found


def _own_forms(envelope: Envelope) -> list[dict[str, Any]]:
    """json parts in WeCom's own form, such as {"msgtype": "template_card", ...}, as they are. Raises Cannot."""
    parts = envelope.content if isinstance(envelope.content, list) else []
    bodies = [part.json for part in parts if isinstance(part, JsonPart)]
    found = [body for body in bodies if isinstance(body, dict) and body.get("msgtype") in _MSGTYPES]
    checked_size(found, _FORM_BYTES)
    return found


def _of_body(answer: Answer) -> Delivery:
    """WeCom answers 200 for errors, too: the errcode decides."""
    try:
        code = int(str(vendor_map(answer.body)["errcode"]))
    except (ValueError, KeyError):
        words = Words(
            "WeCom's answer cannot be read; it may have been delivered", "无法解析企业微信的应答，消息可能已送达"
        )
        return transient("unreadable", words, is_in_doubt=True)
    if code == 0:
        return accepted()
    return failed_by_code(code, _REASONS, Words("WeCom", "企业微信"), rest_s=60.0)
