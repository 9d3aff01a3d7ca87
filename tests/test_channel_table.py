"""The docs' table of channels says what the adapters do: each number of it, who hears, and which receipts come."""

import ast
import importlib
import inspect
import re
import textwrap
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple, cast

import pytest

from autoglm.channels.adapters import ntfy, wecom_robot
from autoglm.channels.adapters.alertmanager import notices
from autoglm.channels.adapters.apprise import Service
from autoglm.channels.adapters.dingtalk import errcodes
from autoglm.channels.adapters.feishu import app as feishu_app
from autoglm.channels.adapters.feishu import robot as feishu_robot
from autoglm.channels.adapters.http_sms.settings import HttpSmsSettings
from autoglm.channels.adapters.sms_aliyun.channel import SmsAliyunSettings
from autoglm.channels.adapters.sms_tencent.channel import SmsTencentSettings
from autoglm.channels.adapters.telegram import outgoing as telegram
from autoglm.channels.adapters.web_push import notice as web_push
from autoglm.channels.adapters.wechat_official import channel as wechat
from autoglm.channels.adapters.wechat_official import template
from autoglm.channels.adapters.wecom_aibot import forms as wecom_aibot
from autoglm.channels.adapters.wecom_app import forms as wecom_app
from autoglm.channels.channel import Channel, Resources
from autoglm.channels.kinds import KINDS, channel_class
from autoglm.core.ports import KeyValue
from autoglm.settings import Settings

PAGES = Path(__file__).resolve().parents[1] / "docs" / "channels"
LANGUAGES = pytest.mark.parametrize("language", ["", ".zh-CN"])
KIND = pytest.mark.parametrize("kind", KINDS)

TARGETS = {"telegram": ("42", "-42")}
"""Those that a kind treats differently: a person and a group."""
BY_THE_PAGE = {"web-push"}
"""Its button is pressed in the browser, whose page tells the hub: the channel itself hears nothing."""
SIZES: dict[str, tuple[tuple[int, str, str], ...]] = {
    "alertmanager": ((notices.TEXT_BYTES >> 10, "text {} KiB", "文本 {} KiB"),),
    "apprise": ((Service.model_fields["max_bytes"].default, "{} bytes a text", "文本每条 {} 字节"),),
    "ntfy": ((ntfy.MESSAGE_BYTES, "{} bytes a text", "文本每条 {} 字节"),),
    "telegram": ((telegram.TEXT_UNITS, "{} UTF-16 units a text", "文本每条 {} 个 UTF-16 单元"),),
    "wecom-robot": ((wecom_robot.TEXT_BYTES, "{} bytes a text", "文本每条 {} 字节"),),
    "http-sms": ((HttpSmsSettings.model_fields["text_limit"].default, "{} characters a piece", "每段 {} 个字符"),),
    "sms-aliyun": ((SmsAliyunSettings.model_fields["text_limit"].default, "{} characters a piece", "每段 {} 个字符"),),
    "sms-tencent": (
        (SmsTencentSettings.model_fields["text_limit"].default, "{} characters a piece", "每段 {} 个字符"),
    ),
    "dingtalk-robot": ((errcodes.BODY_BYTES, "{} bytes a message", "每条 {} 字节"),),
    "dingtalk-app": ((errcodes.BODY_BYTES, "{} bytes a message", "每条 {} 字节"),),
    "feishu-robot": ((feishu_robot.BODY_BYTES // 1000, "{} KB a message", "每条 {} KB"),),
    "feishu-app": ((feishu_app.CONTENT_BYTES // 1000, "{} KB a message", "每条 {} KB"),),
    "wecom-app": ((wecom_app.TEXT_BYTES, "{} bytes a text", "文本每条 {} 字节"),),
    "wecom-aibot": ((wecom_aibot.TEXT_BYTES, "{} bytes a text", "文本每条 {} 字节"),),
    "wechat-official": (
        (wechat.TEXT_BYTES, "{} bytes a text", "文本每条 {} 字节"),
        (template._RULES["thing"].characters, "fields of {} characters", "字段 {} 字"),
    ),
    "web-push": ((web_push.MAX_PIECES, "{} pushes a text", "每条文本最多 {} 次推送"),),
}
"""(number, words in English and Chinese); what `limits` does not say."""
PERIODS = {1: ("a second", "每秒"), 60: ("a minute", "每分钟"), 3_600: ("an hour", "每小时"), 86_400: ("a day", "每天")}


class Row(NamedTuple):
    out: str
    heard: str
    receipts: str
    limits: str


@cache
def table(language: str) -> dict[str, Row]:
    page = (PAGES / f"README{language}.md").read_text()
    rows = re.findall(rf"^\| \[`([\w-]+)`\]\(\1{re.escape(language)}\.md\) \| (.*) \|$", page, re.MULTILINE)
    return {kind: Row(*cells.split(" | ")) for kind, cells in rows}


async def no_blob(sha256: str) -> bytes | None:
    return None


@cache
def made(kind: str) -> Channel:
    """As the example of its page has it, which sets no limit of its own."""
    block = re.findall(r"```toml\n(.*?)```", (PAGES / f"{kind}.md").read_text(), re.DOTALL)[0]
    (settings,) = (one for one in Settings.model_validate(tomllib.loads(block)).channel if one.kind == kind)
    found = channel_class(kind)
    assert found is not None
    assert settings.per_minute is None
    return found(settings, Resources(settings.name, no_blob, cast(KeyValue, object())))


def sources(kind: str) -> str:
    """The text of the adapter's modules: of its folder, where it has one of its own."""
    module, _, name = KINDS[kind].partition(":")
    loaded = importlib.import_module(f"autoglm.channels.adapters.{module}")
    file = Path(inspect.getfile(getattr(loaded, name)))
    is_shared = file.parent.name in ("adapters", "dingtalk", "feishu")  # by robot and app
    return "".join(one.read_text() for one in ([file] if is_shared else sorted(file.parent.glob("*.py"))))


def uses_inbox(channel: Channel) -> bool:
    """Whether `run` does anything with what it is given."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(type(channel).run)))
    return any(isinstance(node, ast.Name) and node.id == "inbox" for node in ast.walk(tree))


def windows(channel: Channel, kind: str) -> Iterator[tuple[int, float]]:
    """(count, seconds) of all that bind: 300 a minute say nothing beside 5 a second."""
    found: dict[tuple[int, float], None] = {}
    for target in TARGETS.get(kind, ("x",)):
        limits = channel.limits(target)
        for own in (limits.windows, limits.shared):
            for count, per_s in own:
                if not any(less_s < per_s and less * per_s / less_s <= count for less, less_s in own):
                    found[count, per_s] = None
    yield from found


def number(count: int, language: str) -> str:
    if not language:
        return f"{count:,}"
    return f"{count // 10_000} 万" if count >= 100_000 else str(count)


def words_of_window(count: int, per_s: float, language: str) -> str:
    amount = number(count, language)
    if language:
        amount += "条" if amount.endswith("万") else " 条"
    if per_s in PERIODS:
        english, chinese = PERIODS[round(per_s)]
        return f"{chinese} {amount}" if language else f"{amount} {english}"
    value, unit, chinese_unit = (per_s / 60, "minutes", "分钟") if per_s >= 120 else (per_s, "s", "秒")
    return f"每 {value:g} {chinese_unit} {amount}" if language else f"{amount} in {value:g} {unit}"


@LANGUAGES
def test_each_kind_has_one_row(language: str) -> None:
    assert sorted(table(language)) == sorted(KINDS)


@LANGUAGES
@KIND
def test_the_numbers_are_those_of_the_adapter(kind: str, language: str) -> None:
    """All of them, and no others."""
    left = table(language)[kind].limits
    wanted = [words_of_window(*window, language) for window in windows(made(kind), kind)]
    for size, english, chinese in SIZES.get(kind, ()):
        wanted.append((chinese if language else english).format(number(size, language)))
    for words in wanted:
        assert words in left
        left = left.replace(words, "", 1)
    assert re.findall(r"\d+", left.replace("UTF-16", "")) == []


@LANGUAGES
@KIND
def test_whose_limit_it_is_is_said(kind: str, language: str) -> None:
    """Of each target by itself, or of the account."""
    limits = made(kind).limits("x")
    is_each = bool(re.search("每个|每名|每人" if language else "for each", table(language)[kind].limits))
    assert is_each is (bool(limits.windows) and limits.per == "target")


@LANGUAGES
@KIND
def test_what_comes_in_is_heard(kind: str, language: str) -> None:
    """By a hook or by a connection of its own."""
    hears = hasattr(made(kind), "hook") or uses_inbox(made(kind)) or kind in BY_THE_PAGE
    assert (table(language)[kind].heard == ("否" if language else "no")) is not hears


@LANGUAGES
@KIND
def test_the_receipts_are_those_that_the_adapter_can_make(kind: str, language: str) -> None:
    cell, text = table(language)[kind].receipts, sources(kind)
    can_deliver, can_read = bool(re.search(r"\bdelivered\(", text)), bool(re.search(r"outcome=\"read\"", text))
    assert bool(re.search("已送达|送达报告" if language else r"\bdelivered\b|delivery by", cell)) is can_deliver
    assert bool(re.search("已读" if language else r"\bread\b", cell)) is can_read
