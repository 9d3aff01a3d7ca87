"""WeCom (企业微信) group robots: text, Markdown, pictures, files, news and cards into a group, without a receipt.

Source: developer.work.weixin.qq.com/document/path/99110 (group robot), /path/90313 (error codes).
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal
from urllib.parse import quote

from pydantic import BaseModel, Field, SecretStr

from autoglm.channels.adapters.wechat.answers import Fields, Refused, fields_of
from autoglm.channels.adapters.wechat.media import Media, bytes_of, check_media_size, is_media, media_of
from autoglm.channels.adapters.wechat.uploads import Uploads
from autoglm.channels.channel import Cannot, Health, Inbox, Limits, Parcel, Resources, no_target
from autoglm.channels.delivery import Delivery, Reasons, Words, accepted
from autoglm.channels.robots import check_robots
from autoglm.channels.settings import BaseUrl, ChannelSettings
from autoglm.channels.web import NoAnswer, Web
from autoglm.channels.wording import checked_size, cut_to_pieces, in_words, nothing_to_show
from autoglm.core.envelope import Envelope, JsonPart

TEXT_BYTES = 2048
MARKDOWN_BYTES = 4096
IMAGE_BYTES = 2 * 1024 * 1024
FILE_BYTES = 20 * 1024 * 1024
PER_MINUTE = 20
_MSGTYPES = ("text", "markdown", "markdown_v2", "image", "news", "template_card", "file", "voice")
_FORM_BYTES = 3_000_000
"""Of a picture of IMAGE_BYTES in base64."""
_PICTURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")
"""How the pictures begin that WeCom shows: PNG and JPEG."""
_VENDOR = Words("WeCom", "企业微信")

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
    40007: ("permanent", Words("WeCom does not have the uploaded file any more", "企业微信已没有所上传的文件")),
    40058: ("permanent", Words("WeCom says that a field of the message is wrong", "企业微信提示消息字段有误")),
    45002: ("too_large", Words("the text is over WeCom's limit", "文本超过企业微信上限")),
    44004: ("permanent", Words("the message is empty", "消息内容为空")),
    40006: ("too_large", Words("the file is over WeCom's limit", "文件超过企业微信上限")),
    40009: ("too_large", Words("the picture is over 2 MB", "图片超过 2 MB")),
    45001: ("too_large", Words("the file is over WeCom's limit", "文件超过企业微信上限")),
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
    base_url: BaseUrl = "https://qyapi.weixin.qq.com"
    """WeCom's address; another one for a proxy."""


class WeComRobot:
    """Satisfies `Channel`."""

    Settings = WeComRobotSettings

    def __init__(self, settings: WeComRobotSettings, resources: Resources) -> None:
        self._settings = settings
        self._name = resources.name
        self._read_blob = resources.read_blob
        self._web = Web()
        # Only the robot that uploaded a file may send it.
        self._uploads = {name: Uploads(partial(self._upload, name)) for name in settings.robots}

    def limits(self, target: str) -> Limits:
        count = self._settings.per_minute or PER_MINUTE
        return Limits(windows=((count, 60.0),), per="target", parallel=1, digest_bytes=self._text_bytes)

    def compose(self, envelope: Envelope, target: str) -> Sequence[Parcel]:
        if target not in self._settings.robots:
            raise no_target(self._name, target, list(self._settings.robots))
        media = [_shown(one) for one in media_of(envelope.content)]
        bodies = [*self._texts(envelope), *media, *_own_forms(envelope)]
        if not bodies:
            raise nothing_to_show(_VENDOR.en, _VENDOR.zh)
        return [Parcel(target=target, body=body) for body in bodies]

    async def send(self, parcel: Parcel, key: str) -> Delivery:
        """WeCom's robots know no idempotency key."""
        try:
            if isinstance(parcel.body, Media):
                await self._send_file(parcel.target, parcel.body)
            else:
                await self._post(parcel.target, parcel.body)
        except (Refused, Cannot) as error:
            return error.delivery
        return accepted()

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
        pieces = cut_to_pieces(in_words(envelope, carries=is_media), self._text_bytes)
        return [{"msgtype": self._settings.format, self._settings.format: {"content": piece}} for piece in pieces]

    async def _send_file(self, target: str, media: Media) -> None:
        async def post(media_id: str) -> Fields:
            return await self._post(target, {"msgtype": "file", "file": {"media_id": media_id}})

        data = await bytes_of(media, self._read_blob, FILE_BYTES)
        await self._uploads[target].post(post, "file", media.name, data)

    async def _post(self, target: str, form: object) -> Fields:
        data = json.dumps(form, ensure_ascii=False).encode()
        return await self._request(target, "send", "", "application/json", data)

    async def _upload(self, target: str, kind: str, content_type: str, form: bytes) -> Fields:
        return await self._request(target, "upload_media", f"&type={kind}", content_type, form)

    async def _request(self, target: str, verb: str, query: str, content_type: str, body: bytes) -> Fields:
        """Raises Refused."""
        robot_key = quote(self._settings.robots[target].key.get_secret_value(), safe="")
        url = f"{self._settings.base_url}/cgi-bin/webhook/{verb}?key={robot_key}{query}"
        try:
            answer = await self._web.request("POST", url, body=body, headers={"Content-Type": content_type})
        except NoAnswer as error:
            raise Refused(error.delivery) from None
        return fields_of(answer, _VENDOR, _REASONS, has_code=True)


def _shown(media: Media) -> dict[str, Any] | Media:
    """A picture that WeCom shows in the group; what it does not show goes as a file. Raises Cannot."""
    if media.blob:
        return media
    if not media.data.startswith(_PICTURES) or media.kind != "image" or len(media.data) > IMAGE_BYTES:
        check_media_size(media.data, FILE_BYTES)
        return media
    digest = hashlib.md5(media.data, usedforsecurity=False).hexdigest()
    return {"msgtype": "image", "image": {"base64": base64.b64encode(media.data).decode(), "md5": digest}}


def _own_forms(envelope: Envelope) -> list[dict[str, Any]]:
    """json parts in WeCom's own form, such as {"msgtype": "template_card", ...}, as they are. Raises Cannot."""
    parts = envelope.content if isinstance(envelope.content, list) else []
    bodies = [part.json for part in parts if isinstance(part, JsonPart)]
    found = [body for body in bodies if isinstance(body, dict) and body.get("msgtype") in _MSGTYPES]
    checked_size(found, _FORM_BYTES)
    return found
