"""Feishu and Lark (飞书): custom bots of groups by webhook, and an app's bot that also hears, by a WebSocket."""
