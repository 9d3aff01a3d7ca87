"""Feishu's custom bots on loopback: tokens, signatures, clocks, keywords, 20 KB, 5 in a second and 100 in a minute.

It answers 200 for each refusal, as the vendor does. Source: open.feishu.cn/document/client-docs/bot-v3/add-custom-bot.
"""

import base64
import hashlib
import hmac
import json
import time
from email.utils import formatdate
from typing import Any
from urllib.parse import urlsplit

from fakes.vendor import Fault, Vendor
from scripted_model import Request, response

TOKEN = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9"
SECRET = "kLm9PqRsTuVwXyZ0123456"
BODY_BYTES = 20_000


class FeishuRobots(Vendor):
    """`bodies` has what was taken, in order, without its signature."""

    def __init__(self, *, secret: str | None = SECRET) -> None:
        super().__init__()
        self.secret = secret
        self.keyword = ""
        self.is_address_allowed = True
        self.clock_ahead_s = 0.0
        """Of this machine's."""
        self.is_full_hour = False
        """Everybody sends now: what is more is refused."""
        self.bodies: list[dict[str, Any]] = []

    @property
    def texts(self) -> list[str]:
        kinds = {"text": lambda body: body["content"]["text"], "interactive": _card_text}
        return [kinds[body["msg_type"]](body) for body in self.bodies if body["msg_type"] in kinds]

    def take(self, request: Request) -> bytes:
        if urlsplit(request.path).path != f"/open-apis/bot/v2/hook/{TOKEN}":
            return self.error(19001, "param invalid: incoming webhook access token invalid")
        if not self.is_address_allowed:
            return self.error(19022, "Ip Not Allowed")
        if len(request.body) > BODY_BYTES:
            return self.error(9499, "Bad Request")
        try:
            body = json.loads(request.body)
        except ValueError:
            return self.error(9499, "Bad Request")
        given, timestamp = body.pop("sign", ""), body.pop("timestamp", "")
        if self.secret is not None and not self._is_signed(timestamp, given):
            return self.error(19021, "sign match fail or timestamp is not within one hour from current time")
        return self._of_body(body)

    def _is_signed(self, timestamp: object, given: str) -> bool:
        if not (isinstance(timestamp, str) and timestamp.isdecimal() and len(timestamp) == 10):
            return False
        wanted = hmac.new(f"{timestamp}\n{self.secret}".encode(), digestmod=hashlib.sha256).digest()
        is_fresh = abs(int(timestamp) - self._now_s()) <= 3600
        return is_fresh and hmac.compare_digest(base64.b64encode(wanted).decode(), given)

    def _of_body(self, body: dict[str, Any]) -> bytes:
        if self.is_full_hour:
            return self.error(11232, "frequency limited psm[lark.oapi.app_platform_runtime]")
        if "msg_type" not in body:
            return self.error(19002, "params error, msg_type need")
        if not _is_formed(body):
            return self.error(9499, "Bad Request")
        if self.keyword not in json.dumps(body, ensure_ascii=False):
            return self.error(19024, "Key Words Not Found")
        self.bodies.append(body)
        return self.error(0, "success")

    def refuse(self, fault: Fault) -> bytes:
        codes = {"throttled": 11232, "transient": 2200, "auth": 19001, "permanent": 9499}
        return self.error(codes[fault], f"told to: {TOKEN} {SECRET}")

    def error(self, code: int, message: str) -> bytes:
        redundant = {"StatusCode": 0, "StatusMessage": "success"} if code == 0 else {}
        date = {"Date": formatdate(self._now_s(), usegmt=True)}
        return response(200, {**redundant, "code": code, "data": {}, "msg": message}, date)

    def _now_s(self) -> float:
        return time.time() + self.clock_ahead_s


def _card_text(body: dict[str, Any]) -> str:
    return "".join(element.get("content", "") for element in body["card"]["elements"])


def _is_formed(body: dict[str, Any]) -> bool:
    content = body.get("content", {})
    match body["msg_type"]:
        case "text":
            return isinstance(content.get("text"), str) and bool(content["text"])
        case "post":
            return bool(content.get("post"))
        case "image":
            return str(content.get("image_key", "")).startswith("img_")
        case "share_chat":
            return str(content.get("share_chat_id", "")).startswith("oc_")
        case "interactive":
            return isinstance(body.get("card"), dict) and "content" not in body
        case _:
            return False
