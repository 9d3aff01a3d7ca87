"""Messages of a WeCom (企业微信) application to members, departments and tags, and what they answer."""

from autoglm.channels.adapters.wecom_app.channel import WeComApp

__all__ = ["WeComApp"]
