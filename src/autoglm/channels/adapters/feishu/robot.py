"""Feishu's and Lark's (飞书) custom bots: text, Markdown, posts and cards into a group by a signed webhook.

Source: open.feishu.cn/document/client-docs/bot-v3/add-custom-bot (limits, signature, codes).
"""

import base64
import hashlib
import hmac
import json
import re
import time
from collections.abc import Mapping, Sequence
from typing import Literal
from urllib.parse import quote

from pydantic import BaseModel, Field, SecretStr

from autoglm.channels.channel import Health, Inbox, Limits, Parcel, Resources, no_target
from autoglm.channels.delivery import (
    Delivery,
    Reasons,
    Words,
    accepted,
    failed_by_code,
    throttled,
    transient,
    unauthorized,
)
from autoglm.channels.pieces import Measure
from autoglm.channels.robots import check_robots
from autoglm.channels.settings import BaseUrl, ChannelSettings
from autoglm.channels.skew import clock_words
from autoglm.channels.vendor_json import text_in, vendor_map
from autoglm.channels.web import Answer, NoAnswer, Web, of_status
from autoglm.channels.wording import checked_size, cut_to_pieces, in_words, json_bytes, nothing_to_show, own_forms
from autoglm.core.envelope import Envelope

PER_MINUTE = 100
PER_SECOND = 5
BODY_BYTES = 20_000
"""Feishu says 20 KB; this is right by either reading."""
_SIGNED_BYTES = 200
"""What the timestamp and the signature take of it."""
TEXT_BYTES = 18_000
CLOCK_SKEW_S = 3600.0
_OVERLOAD_S = 60.0
"""Feishu throttles at full and half hours, when everybody sends."""
MENTION_LABEL = "at"
"""The label that names who is called: `all` and open ids (ou_...), with commas between."""
_MOST_MENTIONS = 50
_is_open_id = re.compile(r"all|ou_[0-9A-Za-z]{1,64}").fullmatch
_SIGN_FAILED = 19021
BAD_REQUEST = 9499
_TOO_MANY = Words("too many requests for Feishu", "对飞书的请求过于频繁，已限流")

_REASONS: Reasons = {
    11232: (
        "throttled",
        Words(
            "Feishu has too much to send now, as at full and half hours",
            "飞书当前发送过于频繁（整点、半点附近常见），已限流",
        ),
    ),
    BAD_REQUEST: (
        "permanent",
        Words("Feishu cannot read the message: a field is wrong, or it is over 20 KB", "飞书提示格式有误或超过 20 KB"),
    ),
    2200: ("transient", Words("Feishu has trouble of its own", "飞书内部错误")),
    19001: (
        "auth",
        Words(
            "Feishu does not know the bot's webhook; was the bot removed?", "飞书不认识该 webhook，机器人可能已被移除"
        ),
    ),
    19002: ("permanent", Words("Feishu says that a field of the message is wrong", "飞书提示消息字段有误")),
    19022: (
        "auth",
        Words("this hub's address is not on the bot's list of allowed ones", "本机地址不在机器人的 IP 白名单中"),
    ),
    19024: (
        "permanent",
        Words(
            "the message has none of the bot's keywords; give the bot's `keyword` in the settings",
            "消息不含机器人要求的关键词，可在配置中填写该机器人的 `keyword`",
        ),
    ),
}
"""By code: the class of failure, and the words for it."""


class Robot(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """`[channel.robots.NAME]`: a group's bot; its address is channel:CHANNEL/NAME."""

    token: SecretStr = Field(min_length=1)
    """What the bot's webhook address ends with, after /hook/."""
    secret: SecretStr | None = Field(default=None, min_length=1)
    """The secret of a bot that wants signatures."""
    keyword: str = Field(default="", max_length=64)
    """A keyword of the bot's security settings: put before texts that do not have it."""


class FeishuRobotSettings(ChannelSettings, frozen=True):
    """A `[[channel]]` of the kind feishu-robot."""

    kind: Literal["feishu-robot"]
    robots: dict[str, Robot] = Field(min_length=1)
    """Bots by the name that their addresses have."""
    format: Literal["text", "markdown"] = "text"
    """As what texts are sent; Markdown goes as a card."""
    base_url: BaseUrl = "https://open.feishu.cn"
    """Feishu's address; https://open.larksuite.com for Lark, another one for a proxy."""


class FeishuRobot:
    """Satisfies `Channel`."""

    Settings = FeishuRobotSettings

    def __init__(self, settings: FeishuRobotSettings, resources: Resources) -> None:
        self._settings = settings
        self._name = resources.name
        self._web = Web()

    def limits(self, target: str) -> Limits:
        windows = ((PER_SECOND, 1.0), (self._settings.per_minute or PER_MINUTE, 60.0))
        return Limits(windows=windows, per="target", parallel=1, digest_bytes=TEXT_BYTES * 3 // 4)

    def compose(self, envelope: Envelope, target: str) -> Sequence[Parcel]:
        if target not in self._settings.robots:
            raise no_target(self._name, target, list(self._settings.robots))
        bodies = message_bodies(envelope, self._settings.format, self._settings.robots[target].keyword)
        return [Parcel(target=target, body=body) for body in bodies]

    async def send(self, parcel: Parcel, key: str) -> Delivery:
        """Feishu's custom bots know no idempotency key."""
        robot = self._settings.robots[parcel.target]
        url = f"{self._settings.base_url}/open-apis/bot/v2/hook/{quote(robot.token.get_secret_value(), safe='')}"
        assert isinstance(parcel.body, dict)
        body = parcel.body
        if robot.secret is not None:
            timestamp_s = int(time.time())
            body = {"timestamp": str(timestamp_s), "sign": sign(timestamp_s, robot.secret.get_secret_value()), **body}
        raw = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
        try:
            answer = await self._web.request("POST", url, body=raw, headers={"Content-Type": "application/json"})
        except NoAnswer as error:
            return error.delivery
        return of_answer(answer, time.time())

    async def check(self) -> Health:
        """A body without a message shows whether Feishu answers, and knows token, signature and clock."""
        good = Words("Feishu knows the bots", "飞书可达，机器人有效")
        return await check_robots(self, self._settings.robots, {}, good)

    async def run(self, inbox: Inbox) -> None:
        """Custom bots hear nothing; an app's bot does, by the kind feishu-app."""

    async def aclose(self) -> None:
        await self._web.aclose()


def sign(timestamp_s: int, secret: str) -> str:
    """Base64. Time and secret are the key, and the message is empty."""
    return base64.b64encode(hmac.digest(f"{timestamp_s}\n{secret}".encode(), b"", hashlib.sha256)).decode()


def message_bodies(envelope: Envelope, form: Literal["text", "markdown"], keyword: str = "") -> list[dict[str, object]]:
    """A message in the form of Feishu's webhooks, its text in pieces, not yet signed. Raises Cannot."""
    bodied = _text if form == "text" else _markdown
    texts = [bodied(text) for text in message_texts(envelope, form, TEXT_BYTES, json_bytes, keyword)]
    forms = own_forms(envelope, ["msg_type"])
    checked_size(forms, BODY_BYTES - _SIGNED_BYTES)
    if not texts and not forms:
        raise nothing_to_show("Feishu", "飞书")
    return [*texts, *forms]


def message_texts(
    envelope: Envelope, form: Literal["text", "markdown"], limit: int, measure: Measure, keyword: str = ""
) -> list[str]:  # fmt: skip
    """The text in pieces; the first one calls those whom the label names. Raises Cannot."""
    text = in_words(envelope)
    names = [name.strip() for name in envelope.labels.get(MENTION_LABEL, "").split(",")]
    calls = called(names, form) if text else ""
    pieces = cut_to_pieces(text, limit - measure(calls), measure=measure)
    keyed = [piece if keyword in piece else f"{keyword} {piece}" for piece in pieces]
    return [calls + keyed[0], *keyed[1:]] if keyed else []


def _text(piece: str) -> dict[str, object]:
    return {"msg_type": "text", "content": {"text": piece}}


def _markdown(piece: str) -> dict[str, object]:
    return {"msg_type": "interactive", "card": {"elements": [{"tag": "markdown", "content": piece}]}}


def called(names: Sequence[str], form: Literal["text", "markdown"]) -> str:
    """Before the text. Other names than open ids call nobody, and are left out."""
    pattern = '<at user_id="{}"></at>' if form == "text" else "<at id={}></at>"
    known = [name for name in names if _is_open_id(name)][:_MOST_MENTIONS]
    return "".join(f"{pattern.format(name)} " for name in known)


def of_answer(answer: Answer, now_s: float) -> Delivery:
    """Feishu answers 200 for errors, too: the code decides. now_s: of the Unix epoch, when the answer was there."""
    try:
        body = vendor_map(answer.body)
        code = int(str(body["code"] if "code" in body else body["StatusCode"]))
    except (ValueError, KeyError):
        return of_status(answer) or transient(
            "unreadable",
            Words("Feishu's answer cannot be read; it may have been delivered", "无法解析飞书的应答，消息可能已送达"),
            is_in_doubt=True,
        )
    if code == 0:
        return accepted()
    if code == _SIGN_FAILED:
        words = clock_words(answer, now_s, allowed_s=CLOCK_SKEW_S) or Words(
            "Feishu refuses the signature: check the bot's secret, and this machine's clock",
            "飞书拒绝签名，请检查机器人的签名密钥和本机时钟",
        )
        return unauthorized(str(code), words)
    if is_too_many(code, body):
        return throttled(str(code), _TOO_MANY, _OVERLOAD_S)
    return failed_by_code(code, _REASONS, Words("Feishu", "飞书"), name="code", rest_s=_OVERLOAD_S)


def is_too_many(code: int, body: Mapping[str, object]) -> bool:
    """Feishu's gateway has one code for what it cannot read and for too much at a time; its msg tells them apart.

    Source: kubesphere/notification-manager, pull request 126, which waits at 9499; its msg is "too many request".
    """
    return code == BAD_REQUEST and "too many request" in text_in(body, "msg").lower()
