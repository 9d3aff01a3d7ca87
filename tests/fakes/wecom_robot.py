"""WeCom's group robots on loopback: keys, message types, sizes in bytes, md5 of pictures, 20 a minute.

It answers 200 for each error, as the vendor does. Source: developer.work.weixin.qq.com/document/path/99110.
"""

import base64
import hashlib
import json
from collections import Counter
from typing import Any
from urllib.parse import parse_qs, urlsplit

from fakes.vendor import Fault, Vendor
from scripted_model import Request, response

KEY = "693a91f6-7xxx-4bc4-97a0-0ec2sifa5aaa"


class WeComRobots(Vendor):
    """`bodies` has what was taken, in order."""

    def __init__(self, *, per_minute: int = 1_000_000) -> None:
        super().__init__()
        self.keys = {KEY}
        self.bodies: list[dict[str, Any]] = []
        self.per_minute = per_minute
        """Requests of one key that are taken, over all time: a test is shorter than a minute."""
        self._counts: Counter[str] = Counter()

    @property
    def texts(self) -> list[str]:
        return [body[body["msgtype"]]["content"] for body in self.bodies if "content" in body[body["msgtype"]]]

    def take(self, request: Request) -> bytes:
        place = urlsplit(request.path)
        if place.path != "/cgi-bin/webhook/send":
            return response(404, {})
        (key,) = parse_qs(place.query).get("key", [""])
        if key not in self.keys:
            return _error(93000, "invalid webhook url")
        self._counts[key] += 1
        if self._counts[key] > self.per_minute:
            return _error(45009, "api freq out of limit")
        if request.headers.get("content-type", "").split(";")[0] != "application/json":
            return _error(40058, "content-type")
        body = json.loads(request.body)
        refusal = _fault_of(body)
        if refusal is None:
            self.bodies.append(body)
        return refusal or _error(0, "ok")

    def refuse(self, fault: Fault) -> bytes:
        codes = {"throttled": 45009, "transient": -1, "auth": 93000, "permanent": 40058}
        return _error(codes[fault], f"told to: {KEY}")


def _fault_of(body: dict[str, Any]) -> bytes | None:
    kind = body.get("msgtype")
    match kind:
        case "text" | "markdown" | "markdown_v2":
            content = body[kind]["content"]
            if not content:
                return _error(44004, "empty content")
            if len(content.encode()) > (2048 if kind == "text" else 4096):
                return _error(45002, "content size out of limit")
        case "image":
            raw = base64.b64decode(body["image"]["base64"], validate=True)
            if hashlib.md5(raw).hexdigest() != body["image"]["md5"]:
                return _error(40058, "invalid md5")
            if len(raw) > 2 << 20:
                return _error(40009, "image size")
        case "news":
            if not 1 <= len(body["news"]["articles"]) <= 8:
                return _error(40058, "articles")
        case "template_card":
            if body["template_card"].get("card_type") not in ("text_notice", "news_notice"):
                return _error(40058, "card_type")
        case _:
            return _error(40008, "invalid message type")
    return None


def _error(code: int, message: str) -> bytes:
    return response(200, {"errcode": code, "errmsg": message})
