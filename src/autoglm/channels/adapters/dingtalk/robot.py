"""DingTalk's (钉钉) group robots: text, Markdown, links and cards into a group by a signed webhook, without a receipt.

Source: open.dingtalk.com/document/robots/custom-robot-access and .../customize-robot-security-settings.
"""

import base64
import hashlib
import hmac
import json
import re
import time
from collections.abc import Mapping, Sequence
from typing import Literal
from urllib.parse import urlencode

from pydantic import BaseModel, Field, SecretStr

from autoglm.channels.adapters.dingtalk.errcodes import BODY_BYTES, of_answer
from autoglm.channels.channel import Health, Inbox, Limits, Parcel, Resources, no_target
from autoglm.channels.delivery import Delivery, Words
from autoglm.channels.robots import check_robots
from autoglm.channels.settings import BaseUrl, ChannelSettings
from autoglm.channels.web import NoAnswer, Web
from autoglm.channels.wording import checked_size, cut_to_pieces, in_words, json_bytes, nothing_to_show, own_forms
from autoglm.core.envelope import Envelope

PER_MINUTE = 20
TEXT_BYTES = 18_000
"""Of a text inside the body; what is left of BODY_BYTES is for its title and those whom it calls."""
_LEAST_BYTES = 1_000
"""Of a piece that has links below it."""
_TITLE_CHARACTERS = 40
MENTION_LABEL = "at"
"""The label that names who is called: `all`, numbers of mobiles and ids of staff, with commas between."""
_MOST_MENTIONS = 50
_is_mobile = re.compile(r"\+?\d[\d-]{5,19}").fullmatch


class Robot(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """`[channel.robots.NAME]`: a group's robot; its address is channel:CHANNEL/NAME."""

    access_token: SecretStr = Field(min_length=1)
    """The access_token at the end of the robot's webhook address."""
    secret: SecretStr | None = Field(default=None, min_length=1)
    """The secret (SEC...) of a robot that wants signatures."""
    keyword: str = Field(default="", max_length=64)
    """A keyword of the robot's security settings: put before texts that do not have it."""


class DingTalkRobotSettings(ChannelSettings, frozen=True):
    """A `[[channel]]` of the kind dingtalk-robot."""

    kind: Literal["dingtalk-robot"]
    robots: dict[str, Robot] = Field(min_length=1)
    """Robots by the name that their addresses have."""
    format: Literal["text", "markdown"] = "text"
    """As what texts are sent."""
    base_url: BaseUrl = "https://oapi.dingtalk.com"
    """DingTalk's address; another one for a proxy."""


class DingTalkRobot:
    """Satisfies `Channel`."""

    Settings = DingTalkRobotSettings

    def __init__(self, settings: DingTalkRobotSettings, resources: Resources) -> None:
        self._settings = settings
        self._name = resources.name
        self._web = Web()

    def limits(self, target: str) -> Limits:
        count = self._settings.per_minute or PER_MINUTE
        return Limits(windows=((count, 60.0),), per="target", parallel=1, digest_bytes=TEXT_BYTES * 3 // 4)

    def compose(self, envelope: Envelope, target: str) -> Sequence[Parcel]:
        if target not in self._settings.robots:
            raise no_target(self._name, target, list(self._settings.robots))
        bodies = message_bodies(envelope, self._settings.format, self._settings.robots[target].keyword)
        return [Parcel(target=target, body=body) for body in bodies]

    async def send(self, parcel: Parcel, key: str) -> Delivery:
        """DingTalk's robots know no idempotency key."""
        url = f"{self._settings.base_url}/robot/send?{self._query(parcel.target)}"
        body = json.dumps(parcel.body, ensure_ascii=False).encode("utf-8", "replace")
        try:
            answer = await self._web.request("POST", url, body=body, headers={"Content-Type": "application/json"})
        except NoAnswer as error:
            return error.delivery
        return of_answer(answer, time.time())

    async def check(self) -> Health:
        """A body without a message shows whether DingTalk answers, and knows token, signature and clock."""
        good = Words("DingTalk knows the robots", "钉钉可达，机器人有效")
        return await check_robots(self, self._settings.robots, {}, good)

    async def run(self, inbox: Inbox) -> None:
        """Robots hear nothing; an app's robot does, by the kind dingtalk-app."""

    async def aclose(self) -> None:
        await self._web.aclose()

    def _query(self, target: str) -> str:
        robot = self._settings.robots[target]
        query = {"access_token": robot.access_token.get_secret_value()}
        if robot.secret is not None:
            timestamp_ms = time.time_ns() // 1_000_000
            query |= {"timestamp": str(timestamp_ms), "sign": sign(timestamp_ms, robot.secret.get_secret_value())}
        return urlencode(query)


def sign(timestamp_ms: int, secret: str) -> str:
    """Base64, not yet encoded for the query."""
    text = f"{timestamp_ms}\n{secret}".encode()
    return base64.b64encode(hmac.digest(secret.encode(), text, hashlib.sha256)).decode()


def message_bodies(
    envelope: Envelope, form: Literal["text", "markdown"], keyword: str = "", links: str = ""
) -> list[dict[str, object]]:
    """A message in the form of DingTalk's webhooks, its text in pieces. Raises Cannot.

    links: in Markdown, below the last piece of a text; all of it goes as Markdown then. Where they leave no room for a
    text, they are left out.
    """
    text = in_words(envelope)
    mentions = _mentions(envelope.labels)
    room_bytes = TEXT_BYTES - 2 * json_bytes(",".join(_names(mentions)))  # in `at`, and in the text of Markdown
    if json_bytes(links) > room_bytes - _LEAST_BYTES:
        links = ""
    if links and form == "text":
        text, form = _plain_in_markdown(text), "markdown"
    pieces = cut_to_pieces(text, room_bytes - json_bytes(links), measure=json_bytes)
    if links and pieces:
        pieces[-1] = f"{pieces[-1]}\n\n{links}"
    bodied = _text if form == "text" else _markdown
    texts = [
        bodied(piece if keyword in piece else f"{keyword} {piece}", mentions if index == 0 else {})
        for index, piece in enumerate(pieces)
    ]
    forms = own_forms(envelope, ["msgtype"])
    checked_size(forms, BODY_BYTES)
    if not texts and not forms:
        raise nothing_to_show("DingTalk", "钉钉")
    return [*texts, *forms]


def _plain_in_markdown(text: str) -> str:
    """Lines stay lines, where a single line break is none, and nothing becomes a link, picture or tag: a link in a text
    of somebody else's could answer another question in the reader's name.
    """
    text = re.sub(r"\](?=[(\[:])", "］", re.sub(r"\n+", "\n\n", text))
    return re.sub(r"<(?=[A-Za-z/!])", "＜", text)


def _text(piece: str, at: Mapping[str, object]) -> dict[str, object]:
    body: dict[str, object] = {"msgtype": "text", "text": {"content": piece}}
    return {**body, "at": at} if at else body


def _markdown(piece: str, at: Mapping[str, object]) -> dict[str, object]:
    """The title shows in the phone's notice. A Markdown message calls only those whom its text names."""
    first = next((line for line in piece.splitlines() if line.strip()), "")
    title = first.strip("#*> \t")[:_TITLE_CHARACTERS] or "…"
    body: dict[str, object] = {"msgtype": "markdown", "markdown": {"title": title, "text": piece + _called(at)}}
    return {**body, "at": at} if at else body


def _called(at: Mapping[str, object]) -> str:
    return "".join(f"\n\n@{name}" if index == 0 else f" @{name}" for index, name in enumerate(_names(at)))


def _names(at: Mapping[str, object]) -> list[str]:
    return [name for value in at.values() if isinstance(value, list) for name in value]


def _mentions(labels: Mapping[str, str]) -> dict[str, object]:
    """What DingTalk's field `at` says."""
    names = [name.strip() for name in labels.get(MENTION_LABEL, "").split(",") if name.strip()][:_MOST_MENTIONS]
    people = [name for name in names if name != "all"]
    found: dict[str, object] = {
        "atMobiles": [name for name in people if _is_mobile(name)],
        "atUserIds": [name for name in people if not _is_mobile(name)],
        "isAtAll": "all" in names,
    }
    return {field: value for field, value in found.items() if value}
