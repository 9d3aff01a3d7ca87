"""WeCom's interface for apps on loopback: tokens, addressees, sizes in bytes, media, repeated requests, limits.

It answers 200 for each error, as the vendor does. Source: developer.work.weixin.qq.com/document/path/90236 and /91039.
"""

import hashlib
import json
import re
from collections import Counter
from typing import Any
from urllib.parse import parse_qs, urlsplit

from fakes.vendor import Fault, Vendor
from scripted_model import Request, response

CORP_ID, AGENT_ID, SECRET = "ww5823bf96d3bd56c7", 1000002, "hBgV7-secret-of-the-app"
MEMBERS = {"alice", "bob"}


class WeComApps(Vendor):
    """`shown` has, by member, what members see."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[tuple[str, dict[str, Any]]] = []
        self.token_requests = 0
        self.tokens: list[str] = []
        """That hold. A test revokes them by clearing the list."""
        self.token_code = 0
        """What asking for a token is answered with."""
        self.media: dict[str, tuple[str, str, bytes]] = {}
        """By id: type, name, bytes."""
        self.per_minute = 30
        """To one member; the excess is taken, and shown to nobody."""
        self.unlicensed: set[str] = set()
        self._counts: Counter[str] = Counter()
        self._seen: set[str] = set()
        self._tasks: set[str] = set()

    @property
    def texts(self) -> list[str]:
        return [body[body["msgtype"]]["content"] for _, body in self.shown if "content" in body[body["msgtype"]]]

    def _get(self, request: Request) -> bytes:
        place = urlsplit(request.path)
        query = {name: values[0] for name, values in parse_qs(place.query).items()}
        if place.path == "/cgi-bin/gettoken":
            return self._give_token(query)
        if self.faults and self.faults[0] in ("throttled", "transient", "auth", "permanent"):
            return self.refuse(self.faults.popleft())
        if (bad := self._check_token(query)) is not None:
            return bad
        if place.path == "/cgi-bin/agent/get":
            wrong = query.get("agentid") != str(AGENT_ID)
            return error(40056, "invalid agentid") if wrong else response(200, {"errcode": 0, "agentid": AGENT_ID})
        return response(404, {})

    def take(self, request: Request) -> bytes:
        place = urlsplit(request.path)
        query = {name: values[0] for name, values in parse_qs(place.query).items()}
        if (bad := self._check_token(query)) is not None:
            return bad
        if place.path == "/cgi-bin/media/upload":
            return self._upload(query, request)
        if place.path != "/cgi-bin/message/send":
            return response(404, {})
        if request.headers.get("content-type", "").split(";")[0] != "application/json":
            return error(40058, "content-type")
        return self._send(json.loads(request.body))

    def refuse(self, fault: Fault) -> bytes:
        codes = {"throttled": 45009, "transient": -1, "auth": 60020, "permanent": 40058}
        return error(codes[fault], f"told to: {SECRET}")

    def _give_token(self, query: dict[str, str]) -> bytes:
        self.token_requests += 1
        if self.token_code:
            return error(self.token_code, "told to")
        if query.get("corpid") != CORP_ID:
            return error(40013, "invalid corpid")
        if query.get("corpsecret") != SECRET:
            return error(40001, "invalid credential")
        if not self.tokens:  # while one holds, the same one is given again
            self.tokens.append(f"token-{self.token_requests}")
        return response(200, {"errcode": 0, "errmsg": "ok", "access_token": self.tokens[-1], "expires_in": 7200})

    def _check_token(self, query: dict[str, str]) -> bytes | None:
        token = query.get("access_token", "")
        if not token.startswith("token-"):
            return error(40014, "invalid access_token")
        return None if token in self.tokens else error(42001, "access_token expired")

    def _upload(self, query: dict[str, str], request: Request) -> bytes:
        kind = query.get("type", "")
        if kind not in ("image", "voice", "video", "file"):
            return error(40004, "invalid media type")
        if (found := media_in(request)) is None:
            return error(40058, "form")
        name, data = found
        if len(data) > (10 if kind == "image" else 20) << 20:
            return error(45001, "media size out of limit")
        media_id = f"media-{len(self.media)}-{hashlib.sha256(data).hexdigest()[:8]}"
        self.media[media_id] = (kind, name, data)
        return response(200, {"errcode": 0, "type": kind, "media_id": media_id, "created_at": "1380000000"})

    def _send(self, body: dict[str, Any]) -> bytes:
        if body.get("agentid") != AGENT_ID:
            return error(301002, "agentid and secret do not belong together")
        if (bad := self._fault_of(body)) is not None:
            return bad
        users = [user for user in body.get("touser", "").split("|") if user]
        reached = [user for user in users if user in MEMBERS]
        if body.get("toparty") == "2" or body.get("totag") == "7":
            reached += sorted(MEMBERS)
        if not reached and not users:
            return error(81013, "user & party & tag all invalid")
        answer = {
            "errcode": 0, "errmsg": "ok", "msgid": f"msg-{len(self.requests)}",
            "invaliduser": "|".join(user for user in users if user not in MEMBERS),
            "unlicenseduser": "|".join(user for user in reached if user in self.unlicensed),
        }  # fmt: skip
        seen = json.dumps({name: value for name, value in body.items() if "duplicate" not in name}, sort_keys=True)
        is_repeated = seen in self._seen and body.get("enable_duplicate_check") == 1
        self._seen.add(seen)
        for user in reached:
            self._counts[user] += 1
            if not is_repeated and self._counts[user] <= self.per_minute and user not in self.unlicensed:
                self.shown.append((user, body))
        return response(200, answer)

    def _fault_of(self, body: dict[str, Any]) -> bytes | None:
        if not any(body.get(name) for name in ("touser", "toparty", "totag")):
            return error(40063, "some parameters are empty")
        if not 0 <= body.get("duplicate_check_interval", 0) <= 14_400:
            return error(40058, "duplicate_check_interval")
        match body.get("msgtype"):
            case "text" | "markdown" as kind:
                content = body[kind]["content"]
                if not content:
                    return error(44004, "empty content")
                return error(45002, "content size") if len(content.encode()) > 2048 else None
            case "image" | "file" as kind:
                known = self.media.get(body[kind]["media_id"])
                return None if known is not None and known[0] == kind else error(40007, "invalid media_id")
            case "template_card":
                return self._fault_of_card(body["template_card"])
            case _:
                return error(40008, "invalid message type")

    def _fault_of_card(self, card: dict[str, Any]) -> bytes | None:
        if card.get("card_type") == "text_notice":
            return None
        if card.get("card_type") != "button_interaction":
            return error(40058, "card_type")
        buttons, task_id = card.get("button_list", []), card.get("task_id", "")
        if not 1 <= len(buttons) <= 6 or not all(one.get("text", "").strip() and one.get("key") for one in buttons):
            return error(40058, "button_list")
        if not (card.get("main_title", {}).get("title") or card.get("sub_title_text")):
            return error(40058, "title")
        if re.fullmatch(r"[0-9A-Za-z_@-]{1,128}", task_id) is None:
            return error(40058, "task_id")
        self._tasks.add(task_id)
        return None


def media_in(request: Request) -> tuple[str, bytes] | None:
    """(name, bytes) of an upload; None where the form is none, or its file has not more than 5 bytes."""
    boundary = re.fullmatch(r"multipart/form-data; boundary=(\w+)", request.headers["content-type"])
    if boundary is None:
        return None
    first, rest = request.body.split(b"\r\n\r\n", 1)
    data, end = rest.split(f"\r\n--{boundary[1]}--".encode())
    head = re.search(rb'name="media"; filename="([^"]+)"; filelength=(\d+)', first)
    if head is None or int(head[2]) != len(data) or end != b"\r\n" or len(data) <= 5:
        return None
    return head[1].decode(), data


def error(code: int, message: str) -> bytes:
    return response(200, {"errcode": code, "errmsg": message})
