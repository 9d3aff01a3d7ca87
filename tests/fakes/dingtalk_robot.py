"""DingTalk's group robots on loopback: tokens, signatures, clocks, keywords, sizes, 20 a minute and then a block.

It answers 200 for each refusal, as the vendor does. Source: open.dingtalk.com/document/robots/custom-robot-access.
"""

import base64
import hashlib
import hmac
import json
import time
from collections import Counter
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qs, urlsplit

from fakes.vendor import Fault, Vendor
from scripted_model import Request, response

TOKEN = "566cc69da782ec33ec2ea8c8ef2cd1e8c3fdf7d4"
SECRET = "SEC0a1b2c3d4e5f60718293a4b5c6d7e8f9"
BODY_BYTES = 20_000


class DingTalkRobots(Vendor):
    """`bodies` has what was taken, in order."""

    def __init__(self, *, secret: str | None = SECRET, per_minute: int = 1_000_000) -> None:
        super().__init__()
        self.secret = secret
        self.keyword = ""
        self.is_address_allowed = True
        self.clock_ahead_s = 0.0
        """Of this machine's."""
        self.per_minute = per_minute
        """Requests of one token that are taken, over all time: a test is shorter than a minute."""
        self.bodies: list[dict[str, Any]] = []
        self._counts: Counter[str] = Counter()

    @property
    def texts(self) -> list[str]:
        return [
            body["text"]["content"] if body["msgtype"] == "text" else body["markdown"]["text"]
            for body in self.bodies
            if body["msgtype"] in ("text", "markdown")
        ]

    def take(self, request: Request) -> bytes:
        place = urlsplit(request.path)
        if place.path != "/robot/send":
            return response(404, {})
        query = {name: values[0] for name, values in parse_qs(place.query, strict_parsing=True).items()}
        if query.get("access_token") != TOKEN:
            return self.error(300005, "token is not exist")
        if not self.is_address_allowed:
            return self.error(310000, "description:来源IP不在白名单内;solution:请检查;")
        if self.secret is not None and (refusal := self._signature_fault(query)) is not None:
            return self.error(310000, refusal)
        if request.headers.get("content-type", "").split(";")[0] != "application/json":
            return self.error(43004, "无效的HTTP HEADER Content-Type")
        return self._of_body(request.body)

    def _signature_fault(self, query: dict[str, str]) -> str | None:
        timestamp, given = query.get("timestamp", ""), query.get("sign", "")
        if not (timestamp.isdecimal() and len(timestamp) == 13):
            return "description:timestamp 无效;solution:请使用毫秒时间戳;"
        if abs(int(timestamp) / 1000 - self._now_s()) > 3600:
            return "description:机器人发送签名过期;solution:签名生成时间和发送时间请保持在timestampms以内;"
        assert self.secret is not None
        wanted = hmac.new(self.secret.encode(), f"{timestamp}\n{self.secret}".encode(), hashlib.sha256).digest()
        if not hmac.compare_digest(base64.b64encode(wanted).decode(), given):
            return "description:机器人发送签名不匹配;solution:请确认签名和生成签名的时间戳必须都放在调用的网址中;"
        return None

    def _of_body(self, raw: bytes) -> bytes:
        if len(raw) > BODY_BYTES:
            return self.error(460101, "message too long, exceed 20000 bytes")
        body = json.loads(raw)
        if self.keyword not in raw.decode():
            return self.error(310000, "description:关键词不匹配;solution:请联系群管理员查看此机器人的关键词;")
        if "msgtype" not in body:
            return self.error(40035, "缺少参数 msgtype")
        if (fault := _fault_of(body)) is not None:
            return self.error(*fault)
        self._counts[TOKEN] += 1
        if self._counts[TOKEN] > self.per_minute:
            return self.error(130101, "send too fast, exceed 20 times per minute")
        self.bodies.append(body)
        return self.error(0, "ok")

    def refuse(self, fault: Fault) -> bytes:
        codes = {"throttled": 130101, "transient": -1, "auth": 300005, "permanent": 430104}
        return self.error(codes[fault], f"told to: {TOKEN} {SECRET}")

    def error(self, code: int, message: str) -> bytes:
        date = {"Date": formatdate(self._now_s(), usegmt=True)}
        return response(200, {"errcode": code, "errmsg": message}, date)

    def _now_s(self) -> float:
        return time.time() + self.clock_ahead_s


def _fault_of(body: dict[str, Any]) -> tuple[int, str] | None:
    kind = body["msgtype"]
    fields = {
        "text": ("content",),
        "markdown": ("title", "text"),
        "link": ("title", "text", "messageUrl"),
        "actionCard": ("title", "text"),
        "feedCard": ("links",),
    }.get(kind)
    if fields is None:
        return 400105, "unsupported msgtype"
    missing = [field for field in fields if not body.get(kind, {}).get(field)]
    if missing:
        return 40035, f"缺少参数 {kind}.{missing[0]}"
    at = body.get("at", {})
    if not set(at) <= {"atMobiles", "atUserIds", "isAtAll"}:
        return 40035, "at"
    if kind == "markdown" and any(f"@{one}" not in body["markdown"]["text"] for one in at.get("atMobiles", ())):
        return 40035, "@ is not in the text: nobody would be called"  # the vendor takes it, and calls nobody
    return None
