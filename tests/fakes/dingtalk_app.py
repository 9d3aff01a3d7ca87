"""DingTalk's open API and stream on loopback: credentials, tokens that end, the robot's messages, tickets, callbacks.

The stream is a real WebSocket server. What is not acknowledged is brought again with the next connection.
Source: open.dingtalk.com, "stream mode protocol", "batch send one-to-one messages by a robot".
"""

import asyncio
import itertools
import json
import re
import time
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from fakes.push_server import PushServer
from fakes.vendor import Fault, Vendor
from scripted_model import Request, response

CLIENT_ID = "dingabcdefghijklmnop"
CLIENT_SECRET = "s3cr3t-of-the-app-0123456789"
MESSAGES_TOPIC = "/v1.0/im/bot/messages/get"
STAFF = {"manager7", "press-operator.3"}
CONVERSATIONS = {"cidAbC/dEf+0==", "cidGroup=="}
_MSG_FIELDS = {
    "sampleText": {"content"},
    "sampleMarkdown": {"title", "text"},
    "sampleLink": {"title", "text", "messageUrl"},
    "sampleActionCard": {"title", "text", "singleTitle", "singleURL"},
}


class DingTalkOpenApi(Vendor):
    """`sent` has what the API took, `answered` what came by sessions' webhooks. Faults hit messages, not tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.secret = CLIENT_SECRET
        self.tokens: set[str] = set()
        self.token_requests = 0
        self.sent: list[dict[str, Any]] = []
        self.answered: list[dict[str, Any]] = []
        self.sessions: set[str] = set()
        self.flow_controlled: set[str] = set()
        self.tickets: set[str] = set()
        self.endpoint = ""
        self.places = 0
        self._numbers = itertools.count(1)

    @property
    def texts(self) -> list[str]:
        sent = [json.loads(body["msgParam"]) for body in self.sent]
        return [one.get("content") or one["text"] for one in sent] + [
            body[body["msgtype"]].get("content") or body[body["msgtype"]]["text"] for body in self.answered
        ]

    async def _behave(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Credentials that are no good show where tokens are asked for."""
        if "/robot/" in request.path:
            await super()._behave(request, reader, writer)
        elif list(self.faults)[:1] == ["auth"]:
            self.faults.popleft()
            writer.write(_refusal(400, "invalidClientIdOrSecret"))
        else:
            writer.write(self.take(request))

    def take(self, request: Request) -> bytes:
        if request.headers.get("content-type", "").split(";")[0] != "application/json":
            return _refusal(415, "UnsupportedMediaType")
        body = json.loads(request.body)
        match urlsplit(request.path).path:
            case "/v1.0/oauth2/accessToken":
                return self._token(body)
            case "/v1.0/gateway/connections/open":
                return self._place(body)
            case "/v1.0/robot/oToMessages/batchSend":
                return self._message(request, body, to_person=True)
            case "/v1.0/robot/groupMessages/send":
                return self._message(request, body, to_person=False)
            case "/robot/sendBySession":
                return self._answer(request, body)
        return _refusal(404, "InvalidAction.NotFound")

    def _token(self, body: dict[str, Any]) -> bytes:
        self.token_requests += 1
        if body != {"appKey": CLIENT_ID, "appSecret": self.secret}:
            return _refusal(400, "invalidClientIdOrSecret")
        token = f"token-{next(self._numbers)}-of-the-app"
        self.tokens.add(token)
        return response(200, {"accessToken": token, "expireIn": 7200})

    def _place(self, body: dict[str, Any]) -> bytes:
        self.places += 1
        if (body.get("clientId"), body.get("clientSecret")) != (CLIENT_ID, self.secret):
            return _refusal(401, "authFailed")
        if body.get("subscriptions") != [{"type": "CALLBACK", "topic": MESSAGES_TOPIC}] or not body.get("ua"):
            return _refusal(400, "paramInvalid")
        ticket = f"ticket+{next(self._numbers)}/="
        self.tickets.add(ticket)
        return response(200, {"endpoint": self.endpoint, "ticket": ticket})

    def _message(self, request: Request, body: dict[str, Any], *, to_person: bool) -> bytes:
        if request.headers.get("x-acs-dingtalk-access-token") not in self.tokens:
            return _refusal(400, "InvalidAuthentication")
        if body.get("robotCode") != CLIENT_ID:
            return _refusal(400, "invalidParameter.robotCode.notExsit")
        fields = _MSG_FIELDS.get(body.get("msgKey", ""))
        if fields is None:
            return _refusal(400, "invalidParameter.msgKey.invalid")
        if not isinstance(body.get("msgParam"), str) or not fields <= set(json.loads(body["msgParam"])):
            return _refusal(400, "invalidParameter.msgParam.invalid")
        if not to_person:
            if body.get("openConversationId") not in CONVERSATIONS:
                return _refusal(400, "invalidParameter.openConversationId.invalid")
            return self._taken(body)
        people = body.get("userIds")
        if not isinstance(people, list) or not 1 <= len(people) <= 20:
            return _refusal(400, "invalidParameter.userIds.overMax")
        slowed = [one for one in people if one in self.flow_controlled]
        unknown = [one for one in people if one not in STAFF]
        return self._taken(body, unknown, slowed)

    def _taken(self, body: dict[str, Any], unknown: list[str] | None = None, slowed: list[str] | None = None) -> bytes:
        if not unknown and not slowed:
            self.sent.append(body)
        key = f"process-{next(self._numbers)}"
        lists = {"invalidStaffIdList": unknown or [], "flowControlledStaffIdList": slowed or []}
        return response(200, {"processQueryKey": key, **lists})

    def _answer(self, request: Request, body: dict[str, Any]) -> bytes:
        (session,) = parse_qs(urlsplit(request.path).query).get("session", [""])
        if session not in self.sessions:
            return response(200, {"errcode": 300001, "errmsg": "session is not exist"})
        self.answered.append(body)
        return response(200, {"errcode": 0, "errmsg": "ok"})

    def refuse(self, fault: Fault) -> bytes:
        match fault:
            case "throttled":
                return _refusal(403, "Forbidden.AccessDenied.QpsLimitForAppkeyAndApi")
            case "transient":
                return _refusal(503, "ServiceUnavailable")
            case "auth":
                return _refusal(403, "Forbidden.AccessDenied.AccessTokenPermissionDenied")
            case _:
                return _refusal(400, "invalidParameter.msgKey.invalid")

    def session(self, *, lasts_s: float = 5400.0) -> dict[str, Any]:
        """The fields of a message that have a fresh webhook for answers to it."""
        name = f"session-{next(self._numbers)}"
        self.sessions.add(name)
        ends_ms = int((time.time() + lasts_s) * 1000)
        webhook = f"{self.url}/robot/sendBySession?session={name}"
        return {"sessionWebhook": webhook, "sessionWebhookExpiredTime": ends_ms}


class DingTalkStream(PushServer):
    """`push` brings a message; `acknowledged` has those that were taken."""

    refused_with = HTTPStatus.UNAUTHORIZED

    def __init__(self, api: DingTalkOpenApi) -> None:
        super().__init__("/connect", api.tickets)
        self._api = api
        self.waiting: dict[str, str] = {}
        """Frames that nobody has acknowledged, by message id."""
        self.acknowledged: list[str] = []
        self.refused: list[str] = []
        """Of messages that the client says it does not understand."""
        self.pongs: list[dict[str, Any]] = []

    async def start(self) -> None:
        await super().start()
        self._api.endpoint = self.url

    async def push(self, fields: dict[str, Any], *, topic: str = MESSAGES_TOPIC) -> str:
        return await self.push_data(json.dumps(fields), topic=topic)

    async def push_data(self, data: str, *, topic: str = MESSAGES_TOPIC) -> str:
        message_id = f"stream-{next(self._numbers)}"
        self.waiting[message_id] = _frame("CALLBACK", topic, message_id, data)
        if self.connections:
            await self.connections[-1].send(self.waiting[message_id])
        return message_id

    async def ping(self, opaque: str) -> None:
        await self.say(_frame("SYSTEM", "ping", f"ping-{opaque}", json.dumps({"opaque": opaque})))

    async def disconnect(self) -> None:
        await self.say(_frame("SYSTEM", "disconnect", "bye", json.dumps({"reason": "persistent"})))

    def unconfirmed(self) -> Iterable[str]:
        return self.waiting.values()

    def heard(self, raw: bytes | str) -> None:
        answer = json.loads(raw)
        headers = answer.get("headers", {})
        message_id = headers.get("messageId", "")
        if set(answer) != {"code", "headers", "message", "data"} or headers.get("contentType") != "application/json":
            self.wrong.append(f"no acknowledgement: {sorted(answer)}")
        elif not isinstance(answer["data"], str):
            self.wrong.append("data is JSON in a string")
        elif message_id.startswith("ping-"):
            self.pongs.append(answer)
        elif message_id not in self.waiting:
            self.wrong.append(f"acknowledged twice, or unknown: {message_id}")
        else:
            del self.waiting[message_id]
            (self.acknowledged if answer["code"] == 200 else self.refused).append(message_id)


def _frame(kind: str, topic: str, message_id: str, data: str) -> str:
    headers = {
        "appId": "app-1", "connectionId": "c-1", "contentType": "application/json", "messageId": message_id,
        "time": "1790000000000", "topic": topic,
    }  # fmt: skip
    return json.dumps({"specVersion": "1.0", "type": kind, "headers": headers, "data": data})


def _refusal(status: int, code: str) -> bytes:
    said = {"code": code, "requestid": "A1B2-C3D4", "message": f"told to: {CLIENT_SECRET}"}
    return response(status, said)


def tapped(text: str) -> list[tuple[str, str]]:
    """(what it shows, what it has its reader say) of each dtmd link of a Markdown text, as DingTalk's client reads it.

    A link that the client passes over in silence is none: a host with capitals, a content that is not encoded.
    """
    found = re.findall(r"\[([^\[\]\\\n]+)\]\(dtmd://dingtalkclient/sendMessage\?content=([\w.~%-]+)\)", text, re.ASCII)
    return [(label, unquote(content, errors="strict")) for label, content in found]


def said(
    words: str = "Is the press up?", /, *, message_id: str = "msgAbC0==", group: bool = False, **fields: Any
) -> Any:
    """What a person wrote to the robot, with the fields that DingTalk has."""
    return {
        "conversationId": "cidAbC/dEf+0==" if group else "cidTwo==", "conversationType": "2" if group else "1",
        "conversationTitle": "Night shift" if group else "", "msgId": message_id, "senderNick": "Wang",
        "senderStaffId": "manager7", "senderId": "$:LWCP_v1:$deZJ+k1g==", "senderCorpId": "ding1", "isAdmin": False,
        "isInAtList": group, "chatbotUserId": "$:LWCP_v1:$I3c", "chatbotCorpId": "ding1", "robotCode": CLIENT_ID,
        "createAt": 1_790_000_000_000, "msgtype": "text", "text": {"content": f" {words}"}, **fields,
    }  # fmt: skip
