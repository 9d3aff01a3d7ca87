"""The table of the kinds of channels. An adapter's module is loaded when a setting names its kind.

Strangers add theirs by an entry point in the group `autoglm.channels`: `KIND = "package.module:ClassOfChannel"`.
"""

import importlib
from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from autoglm.channels.channel import Channel, Resources
    from autoglm.channels.settings import ChannelSettings

KINDS: dict[str, str] = {
    "alertmanager": "alertmanager.channel:Alertmanager",
    "apprise": "apprise:Apprise",
    "elasticsearch": "elasticsearch:Elasticsearch",
    "ntfy": "ntfy:Ntfy",
    "telegram": "telegram.channel:Telegram",
    "dingtalk-app": "dingtalk.app:DingTalkApp",
    "dingtalk-robot": "dingtalk.robot:DingTalkRobot",
    "feishu-app": "feishu.app:FeishuApp",
    "feishu-robot": "feishu.robot:FeishuRobot",
    "http-sms": "http_sms.channel:HttpSms",
    "mail": "mail.channel:MailChannel",
    "sms-aliyun": "sms_aliyun.channel:SmsAliyun",
    "sms-tencent": "sms_tencent.channel:SmsTencent",
    "web-push": "web_push.channel:WebPush",
    "webhook": "webhook.channel:Webhook",
    "mqtt": "mqtt:Mqtt",
    "wecom-robot": "wecom_robot:WeComRobot",
    "wecom-app": "wecom_app:WeComApp",
    "wecom-aibot": "wecom_aibot:WeComAiBot",
    "wechat-official": "wechat_official:WeChatOfficial",
}
"""Kind to the class of the channel, as module:Class under `autoglm.channels.adapters`."""
ENTRY_POINTS = "autoglm.channels"


class ChannelClass(Protocol):
    """A class of channels: `Settings` is its `[[channel]]`, and making one does no I/O."""

    Settings: "type[ChannelSettings]"

    def __call__(self, settings: "ChannelSettings", resources: "Resources", /) -> "Channel": ...


@cache
def channel_class(kind: str) -> ChannelClass | None:
    """None where there is no such kind. Raises MissingExtra where a package is not installed."""
    if (place := KINDS.get(kind)) is not None:
        module, name = place.split(":")
        return cast(ChannelClass, getattr(importlib.import_module(f"autoglm.channels.adapters.{module}"), name))
    for entry in entry_points(group=ENTRY_POINTS, name=kind):
        return cast(ChannelClass, entry.load())
    return None


def settings_of(kind: str) -> "type[ChannelSettings] | None":
    """The settings of a kind; None where there is no such kind."""
    found = channel_class(kind)
    return None if found is None else found.Settings
