"""A channel of Web Push on a real store, and the way that browsers subscribe."""

from typing import Any

from autoglm.channels.adapters.web_push.channel import WebPush
from autoglm.channels.adapters.web_push.settings import WebPushSettings
from autoglm.channels.adapters.web_push.subscriptions import Keys, Subscription, Subscriptions
from autoglm.channels.channel import Resources
from autoglm.channels.settings import parse_channel
from autoglm.core.ports import KeyValue
from fakes.push_service import Browser, PushService


async def no_blob(sha256: str) -> bytes | None:
    return None


def settings(**fields: Any) -> WebPushSettings:
    wanted = {"name": "push", "kind": "web-push", "contact": "mailto:it@example.org", "allow": ["127.0.0.1"]}
    parsed = parse_channel({**wanted, **fields})
    assert isinstance(parsed, WebPushSettings)
    return parsed


def channel(keyvalue: KeyValue, **fields: Any) -> WebPush:
    return WebPush(settings(**fields), Resources("push", no_blob, keyvalue))


async def subscribe(keyvalue: KeyValue, browser: Browser, owner: str = "user:alice") -> Subscription:
    """As the page does."""
    json = browser.subscription()
    return await Subscriptions(keyvalue).add(owner, json["endpoint"], Keys(**json["keys"]))


async def subscribed(
    keyvalue: KeyValue, service: PushService, count: int = 1, owner: str = "user:alice"
) -> list[Browser]:
    """New browsers of the owner."""
    browsers = [service.browser() for _ in range(count)]
    for browser in browsers:
        await subscribe(keyvalue, browser, owner)
    return browsers
