"""WeCom's group robots on loopback: keys, message types, sizes in bytes, md5 of pictures, uploads, 20 a minute.

It answers 200 for each error, as the vendor does. Source: developer.work.weixin.qq.com/document/path/99110.
"""

import base64
import hashlib
import json
from collections import Counter
from typing import Any
from urllib.parse import parse_qs, urlsplit

from fakes.vendor import Fault, Vendor
from fakes.wecom_app import media_in
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
        self.media: dict[str, tuple[str, str, str, bytes]] = {}
        """What was uploaded, by id: the key of the robot that alone may send it, kind, name, bytes."""
        self._counts: Counter[str] = Counter()

    @property
    def texts(self) -> list[str]:
        return [body[body["msgtype"]]["content"] for body in self.bodies if "content" in body[body["msgtype"]]]

    def take(self, request: Request) -> bytes:
        place = urlsplit(request.path)
        if place.path not in ("/cgi-bin/webhook/send", "/cgi-bin/webhook/upload_media"):
            return response(404, {})
        query = parse_qs(place.query)
        (key,) = query.get("key", [""])
        if key not in self.keys:
            return _error(93000, "invalid webhook url")
        if place.path.endswith("/upload_media"):
            return self._upload(key, query.get("type", [""])[0], request)
        self._counts[key] += 1
        if self._counts[key] > self.per_minute:
            return _error(45009, "api freq out of limit")
        if request.headers.get("content-type", "").split(";")[0] != "application/json":
            return _error(40058, "content-type")
        body = json.loads(request.body)
        refusal = self._fault_of(key, body)
        if refusal is None:
            self.bodies.append(body)
        return refusal or _error(0, "ok")

    def refuse(self, fault: Fault) -> bytes:
        codes = {"throttled": 45009, "transient": -1, "auth": 93000, "permanent": 40058}
        return _error(codes[fault], f"told to: {KEY}")

    def _upload(self, key: str, kind: str, request: Request) -> bytes:
        """Of files; voice has rules of its own."""
        if kind != "file":
            return _error(40004, "invalid media type")
        if (found := media_in(request)) is None:
            return _error(40058, "form")
        name, data = found
        if len(data) > 20 << 20:
            return _error(45001, "media size out of limit")
        media_id = f"media-{len(self.media)}-{hashlib.sha256(data).hexdigest()[:8]}"
        self.media[media_id] = (key, kind, name, data)
        return response(200, {"errcode": 0, "errmsg": "ok", "type": kind, "media_id": media_id, "created_at": "138"})

    def _fault_of(self, key: str, body: dict[str, Any]) -> bytes | None:
        kind = body.get("msgtype")
        match kind:
            case "text" | "markdown" | "markdown_v2":
                content = body[kind]["content"]
                if not content:
                    return _error(44004, "empty content")
                if len(content.encode()) > (2048 if kind == "text" else 4096):
                    return _error(45002, "content size out of limit")
            case "image":
                return _fault_of_picture(body["image"])
            case "file":
                known = self.media.get(body["file"]["media_id"])
                if known is None or known[:2] != (key, "file"):
                    return _error(40007, "invalid media_id")
            case "news":
                articles = body["news"]["articles"]
                if not 1 <= len(articles) <= 8 or not all(one.get("title") and one.get("url") for one in articles):
                    return _error(40058, "articles")
            case "template_card":
                return _fault_of_card(body["template_card"])
            case _:
                return _error(40008, "invalid message type")
        return None


def _fault_of_picture(image: dict[str, Any]) -> bytes | None:
    raw = base64.b64decode(image["base64"], validate=True)
    if hashlib.md5(raw).hexdigest() != image["md5"]:
        return _error(40058, "invalid md5")
    if not raw.startswith((b"\x89PNG", b"\xff\xd8")):
        return _error(40058, "image type")
    return _error(40009, "image size") if len(raw) > 2 << 20 else None


def _fault_of_card(card: dict[str, Any]) -> bytes | None:
    """A robot has two of the cards, neither with a callback."""
    title, action = card.get("main_title", {}).get("title"), card.get("card_action", {})
    match card.get("card_type"):
        case "text_notice":
            is_whole = title or card.get("sub_title_text")
        case "news_notice":
            is_whole = title and card.get("card_image", {}).get("url")
        case _:
            return _error(40058, "card_type")
    has_action = (action.get("type") == 1 and action.get("url")) or (action.get("type") == 2 and action.get("appid"))
    return None if is_whole and has_action else _error(40058, "template_card")


def _error(code: int, message: str) -> bytes:
    return response(200, {"errcode": code, "errmsg": message})
