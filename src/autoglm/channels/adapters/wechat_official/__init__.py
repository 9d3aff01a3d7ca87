"""A WeChat Official Account (微信公众号): template messages with their receipts, and talk with followers."""

from autoglm.channels.adapters.wechat_official.channel import WeChatOfficial

__all__ = ["WeChatOfficial"]
