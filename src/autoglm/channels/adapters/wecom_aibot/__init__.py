"""A WeCom (企业微信) AI bot over a WebSocket that the hub opens: both ways, without a public address."""

from autoglm.channels.adapters.wecom_aibot.channel import WeComAiBot

__all__ = ["WeComAiBot"]
