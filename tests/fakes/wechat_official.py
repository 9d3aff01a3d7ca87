"""WeChat's interface for Official Accounts on loopback: the stable token, templates and their fields, the 48 hours.

It answers 200 for each error, as the vendor does. Source: developers.weixin.qq.com/doc/offiaccount (Template messages,
Customer-service messages, Get stable access token).
"""

import asyncio
import json
import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

from fakes.vendor import Fault, Vendor
from scripted_model import Request, response

APP_ID, SECRET = "wx5823bf96d3bd56c7", "secret-of-the-account"
ALICE, BOB, STRANGER = "oAlice-0123456789_abcdefgh", "oBob-00123456789_abcdefghi", "oGone-0123456789_abcdefgh"
ALARM = "alarm-template-id"
FIELDS = {"thing1": 20, "time2": 40, "character_string3": 32}
"""Of the template, with their characters."""


class WeChatOfficials(Vendor):
    """`shown` has (openid, body) of what followers see."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[tuple[str, dict[str, Any]]] = []
        self.tokens: list[str] = []
        """That hold. A test revokes them by clearing the list."""
        self.token_requests = 0
        self.followers = {ALICE, BOB}
        self.talking = {ALICE, BOB}
        """Who wrote within 48 hours."""
        self.media: dict[str, bytes] = {}
        self._messages: dict[str, int] = {}
        """client_msg_id to msgid."""

    @property
    def texts(self) -> list[str]:
        return [body["text"]["content"] for _, body in self.shown if body.get("msgtype") == "text"]

    async def _behave(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if request.path == "/cgi-bin/stable_token":  # faults are of what follows
            writer.write(self._give_token(request))
        else:
            await super()._behave(request, reader, writer)

    def _get(self, request: Request) -> bytes:
        if self.faults and self.faults[0] in ("throttled", "transient", "auth", "permanent"):
            return self.refuse(self.faults.popleft())
        place = urlsplit(request.path)
        if (bad := self._check_token(place.query)) is not None:
            return bad
        if place.path != "/cgi-bin/template/get_all_private_template":
            return response(404, {})
        return response(200, {"template_list": [{"template_id": ALARM, "title": "告警"}]})

    def take(self, request: Request) -> bytes:
        place = urlsplit(request.path)
        if (bad := self._check_token(place.query)) is not None:
            return bad
        if place.path == "/cgi-bin/media/upload":
            return self._upload(request)
        body = json.loads(request.body)
        if body.get("touser") not in self.followers | {STRANGER}:
            return error(40003, "invalid openid")
        if body["touser"] not in self.followers:
            return error(43004, "require subscribe")
        match place.path:
            case "/cgi-bin/message/template/send":
                return self._template(body)
            case "/cgi-bin/message/custom/send":
                return self._answer(body)
        return response(404, {})

    def refuse(self, fault: Fault) -> bytes:
        codes = {"throttled": 45011, "transient": -1, "auth": 40164, "permanent": 40003}
        return error(codes[fault], f"told to: {SECRET}")

    def _give_token(self, request: Request) -> bytes:
        self.token_requests += 1
        body = request.json()
        if body.get("grant_type") != "client_credential" or body.get("force_refresh"):
            return error(40002, "invalid grant_type")  # by force, other programs would lose theirs
        if body.get("appid") != APP_ID:
            return error(40013, "invalid appid")
        if body.get("secret") != SECRET:
            return error(40125, "invalid appsecret")
        if not self.tokens:
            self.tokens.append(f"token-{self.token_requests}")
        return response(200, {"access_token": self.tokens[-1], "expires_in": 7200})

    def _check_token(self, query: str) -> bytes | None:
        (token,) = parse_qs(query).get("access_token", [""])
        if not token.startswith("token-"):
            return error(40001, "invalid credential")
        return None if token in self.tokens else error(42001, "access_token expired")

    def _template(self, body: dict[str, Any]) -> bytes:
        if body.get("template_id") != ALARM:
            return error(40037, "invalid template_id")
        if body.keys() - {"touser", "template_id", "url", "data", "client_msg_id"} or len(body["client_msg_id"]) > 32:
            return error(47001, "data format error")
        data = body["data"]
        for name, characters in FIELDS.items():
            value = data.get(name, {}).get("value", "")
            if not value or len(value) > characters or "\n" in value:
                return error(47003, f"argument invalid! data.{name}.value invalid")
        if re.fullmatch(r"\d{4}年\d{1,2}月\d{1,2}日 \d{2}:\d{2}", data["time2"]["value"]) is None:
            return error(47003, "argument invalid! data.time2.value invalid")
        if not data["character_string3"]["value"].isascii():
            return error(47003, "argument invalid! data.character_string3.value invalid")
        client_id = body["client_msg_id"]
        if client_id not in self._messages:
            self._messages[client_id] = 200_228_332 + len(self._messages)
            self.shown.append((body["touser"], body))
        return response(200, {"errcode": 0, "errmsg": "ok", "msgid": self._messages[client_id]})

    def _answer(self, body: dict[str, Any]) -> bytes:
        if body["touser"] not in self.talking:
            return error(45015, "response out of time limit or subscription is canceled")
        match body.get("msgtype"):
            case "text":
                if not 0 < len(body["text"]["content"].encode()) <= 2048:
                    return error(45002, "content size out of limit")
            case "image":
                if body["image"]["media_id"] not in self.media:
                    return error(40007, "invalid media_id")
            case "news":
                if len(body["news"]["articles"]) != 1:
                    return error(45008, "articles")
            case _:
                return error(40008, "invalid message type")
        self.shown.append((body["touser"], body))
        return error(0, "ok")

    def _upload(self, request: Request) -> bytes:
        if b'name="media"' not in request.body:
            return error(41005, "media data missing")
        data = request.body.split(b"\r\n\r\n", 1)[1].rsplit(b"\r\n--", 1)[0]
        media_id = f"media-{len(self.media)}"
        self.media[media_id] = data
        return response(200, {"type": "image", "media_id": media_id, "created_at": 1})


def error(code: int, message: str) -> bytes:
    return response(200, {"errcode": code, "errmsg": message})
