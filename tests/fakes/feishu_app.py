"""Feishu's open API and long connection on loopback: credentials, tokens that end, messages with a uuid, frames.

The long connection is a real WebSocket server, and its frames are Google's protobuf, not the hub's. What is not
answered with 200 is brought again with the next connection. Source: open.feishu.cn; larksuite/oapi-sdk-python (ws).
"""

import asyncio
import base64
import itertools
import json
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qs, urlsplit

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory  # type: ignore[import-untyped]  # no stubs
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # no stubs

from fakes.push_server import PushServer
from fakes.vendor import Fault, Vendor
from scripted_model import Request, response

APP_ID = "cli_a1b2c3d4e5f6"
APP_SECRET = "s3cr3t-of-the-bot-0123456789"
PEOPLE = {"ou_18eac8": "open_id", "on_7f2": "union_id", "wang@example.com": "email", "manager7": "user_id"}
CHATS = {"oc_night"}
SERVICE = 33_554_678


def _frame_class() -> Any:
    """`pbbp2.Frame`, of proto2: what is required is really required."""
    file = descriptor_pb2.FileDescriptorProto(name="pbbp2.proto", package="pbbp2", syntax="proto2")
    kind = descriptor_pb2.FieldDescriptorProto
    header = file.message_type.add(name="Header")
    for number, name in enumerate(("key", "value"), 1):
        header.field.add(name=name, number=number, type=kind.TYPE_STRING, label=kind.LABEL_REQUIRED)
    frame = file.message_type.add(name="Frame")
    required = {"SeqID": kind.TYPE_UINT64, "LogID": kind.TYPE_UINT64, "service": kind.TYPE_INT32}
    for number, (name, type_) in enumerate({**required, "method": kind.TYPE_INT32}.items(), 1):
        frame.field.add(name=name, number=number, type=type_, label=kind.LABEL_REQUIRED)
    frame.field.add(
        name="headers", number=5, type=kind.TYPE_MESSAGE, type_name=".pbbp2.Header", label=kind.LABEL_REPEATED
    )
    texts = {"payload_encoding": kind.TYPE_STRING, "payload_type": kind.TYPE_STRING, "payload": kind.TYPE_BYTES}
    for number, (name, type_) in enumerate({**texts, "LogIDNew": kind.TYPE_STRING}.items(), 6):
        frame.field.add(name=name, number=number, type=type_, label=kind.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("pbbp2.Frame"))


Frame = _frame_class()
"""Google's own."""


class FeishuOpenApi(Vendor):
    """`sent` has what was taken, once for each uuid. Faults hit messages, not tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.secret = APP_SECRET
        self.tokens: set[str] = set()
        self.token_requests = 0
        self.sent: list[dict[str, Any]] = []
        self.said: set[str] = set()
        """Ids of people's messages that can be replied to."""
        self.url_of_connection = ""
        self.tickets: set[str] = set()
        self.places = 0
        self.ping_interval_s = 120
        self._by_uuid: dict[str, str] = {}
        self._numbers = itertools.count(1)

    @property
    def texts(self) -> list[str]:
        contents = [json.loads(body["content"]) for body in self.sent]
        return [one["text"] if "text" in one else _text_of_card(one) for one in contents]

    @property
    def tickets_of_messages(self) -> list[str]:
        """Feishu's ids of what was sent."""
        return list(self._by_uuid.values())

    async def _behave(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Credentials that are no good show where tokens are asked for."""
        if "/im/" in request.path:
            await super()._behave(request, reader, writer)
        elif list(self.faults)[:1] == ["auth"]:
            self.faults.popleft()
            writer.write(self.error(10014, "app secret invalid"))
        else:
            writer.write(self.take(request))

    def take(self, request: Request) -> bytes:
        if request.headers.get("content-type") != "application/json; charset=utf-8":
            return self.error(9499, "Bad Request")
        body = json.loads(request.body)
        place = urlsplit(request.path)
        match place.path:
            case "/open-apis/auth/v3/tenant_access_token/internal":
                return self._token(body)
            case "/callback/ws/endpoint":
                return self._place(body)
            case "/open-apis/im/v1/messages":
                (id_type,) = parse_qs(place.query).get("receive_id_type", [""])
                return self._message(request, id_type, body)
        if (found := re.fullmatch(r"/open-apis/im/v1/messages/(om_\w+)/reply", place.path)) is not None:
            return self._reply(request, found[1], body)
        return response(404, b"404 page not found", {"Content-Type": "text/plain"})

    def _token(self, body: dict[str, Any]) -> bytes:
        self.token_requests += 1
        if body != {"app_id": APP_ID, "app_secret": self.secret}:
            return self.error(10014, "app secret invalid")
        token = f"t-{next(self._numbers)}-of-the-tenant"
        self.tokens.add(token)
        return response(200, {"code": 0, "msg": "ok", "tenant_access_token": token, "expire": 7200})

    def _place(self, body: dict[str, Any]) -> bytes:
        self.places += 1
        if body != {"AppID": APP_ID, "AppSecret": self.secret}:
            return self.error(514, "auth failed")
        ticket = f"ticket-{next(self._numbers)}"
        self.tickets.add(ticket)
        url = f"{self.url_of_connection}?device_id=d1&service_id={SERVICE}&ticket={ticket}"
        config = {"ReconnectCount": -1, "ReconnectInterval": 120, "ReconnectNonce": 30, "PingInterval": 120}
        config["PingInterval"] = self.ping_interval_s
        return response(200, {"code": 0, "msg": "", "data": {"URL": url, "ClientConfig": config}})

    def _message(self, request: Request, id_type: str, body: dict[str, Any]) -> bytes:
        if request.headers.get("authorization", "").removeprefix("Bearer ") not in self.tokens:
            return self.error(99991663, "Invalid access token for authorization.", status=400)
        if (fault := self._fault_of(body)) is not None:
            return fault
        receiver = body.get("receive_id", "")
        if id_type == "chat_id" and receiver not in CHATS:
            return self.error(230002, "The bot can not be outside the group.", status=400)
        if id_type != "chat_id" and PEOPLE.get(receiver) != id_type:
            return self.error(230013, "Bot has NO availability to this user.", status=400)
        return self._taken({**body, "id_type": id_type})

    def _reply(self, request: Request, message_id: str, body: dict[str, Any]) -> bytes:
        if request.headers.get("authorization", "").removeprefix("Bearer ") not in self.tokens:
            return self.error(99991663, "Invalid access token for authorization.", status=400)
        if message_id not in self.said:
            return self.error(230011, "The message was withdrawn.", status=400)
        return self._fault_of(body) or self._taken({**body, "replies_to": message_id})

    def _fault_of(self, body: dict[str, Any]) -> bytes | None:
        content, uuid = body.get("content"), body.get("uuid", "")
        if not isinstance(content, str) or len(content.encode()) > (150_000 if body["msg_type"] == "text" else 30_000):
            return self.error(230025, "The length of the message content reaches its limit", status=400)
        card = json.loads(content)
        if body["msg_type"] == "interactive" and not _is_card(card):
            return self.error(230099, "Failed to create card content", status=400)
        if not isinstance(card, dict) or not 1 <= len(uuid) <= 50:
            return self.error(230001, "Your request contains an invalid request parameter", status=400)
        return None

    def _taken(self, body: dict[str, Any]) -> bytes:
        uuid = body["uuid"]
        if uuid not in self._by_uuid:
            self.sent.append(body)
            self._by_uuid[uuid] = f"om_{next(self._numbers)}"
        return response(200, {"code": 0, "msg": "success", "data": {"message_id": self._by_uuid[uuid]}})

    def refuse(self, fault: Fault) -> bytes:
        match fault:
            case "throttled":
                return self.error(99991400, "request trigger frequency limit", status=400, reset="7")
            case "transient":
                return self.error(230049, "The message is being sent.", status=400)
            case "auth":
                return self.error(99991672, f"Access denied, {APP_SECRET}", status=400)
            case _:
                return self.error(230001, "Your request contains an invalid request parameter", status=400)

    def error(self, code: int, message: str, *, status: int = 200, reset: str = "") -> bytes:
        headers = {"x-ogw-ratelimit-reset": reset} if reset else {}
        return response(status, {"code": code, "msg": message}, headers)


class FeishuConnection(PushServer):
    """`push` brings an event; `answered` has those that were taken."""

    def __init__(self, api: FeishuOpenApi) -> None:
        super().__init__("/ws/v2", api.tickets)
        self._api = api
        self.waiting: dict[str, list[bytes]] = {}
        """Frames of events that nobody has taken, by message id."""
        self.answered: list[str] = []
        self.failed: list[str] = []
        """Of events that the client could not take."""
        self.shown: list[dict[str, Any]] = []
        """What the answers to callbacks have people see."""
        self.pings = 0

    async def start(self) -> None:
        await super().start()
        self._api.url_of_connection = self.url

    async def push(self, event: dict[str, Any], *, parts: int = 1) -> str:
        return await self.push_payload(json.dumps(event).encode(), parts=parts)

    async def push_payload(self, payload: bytes, *, parts: int = 1, kind: str = "event") -> str:
        message_id = f"frame-{next(self._numbers)}"
        size = -(-len(payload) // parts)
        self.waiting[message_id] = [
            _frame(
                1, {"type": kind, "message_id": message_id, "sum": str(parts), "seq": str(index), "trace_id": "t"},
                payload[index * size : (index + 1) * size],
            )
            for index in reversed(range(parts))
        ]  # fmt: skip
        if self.connections:
            for frame in self.waiting[message_id]:
                await self.connections[-1].send(frame)
        return message_id

    async def pong(self, payload: bytes) -> None:
        await self.say(_frame(0, {"type": "pong"}, payload))

    def unconfirmed(self) -> Iterable[bytes]:
        return itertools.chain.from_iterable(self.waiting.values())

    def heard(self, raw: bytes | str) -> None:
        try:
            frame = Frame.FromString(raw)
        except (DecodeError, TypeError) as error:
            self.wrong.append(f"no frame: {error}")
            return
        if not frame.IsInitialized():
            self.wrong.append(f"a required field is missing: {frame}")
        headers = {header.key: header.value for header in frame.headers}
        if (frame.method, headers) == (0, {"type": "ping"}) and frame.service == SERVICE:
            self.pings += 1
            return
        message_id = headers.get("message_id", "")
        answer = json.loads(frame.payload)
        if frame.method != 1 or message_id not in self.waiting or set(answer) != {"code", "headers", "data"}:
            self.wrong.append(f"no answer: {frame}")
        elif answer["code"] == 200:
            event = b"".join(Frame.FromString(part).payload for part in reversed(self.waiting.pop(message_id)))
            if b'"card.action.trigger"' in event:
                if answer["data"] is None:
                    self.wrong.append("a callback without an answer: people are told that the service timed out")
                else:
                    self.shown.append(json.loads(base64.b64decode(answer["data"], validate=True)))
            self.answered.append(message_id)
        else:
            self.failed.append(message_id)


def _is_card(card: Any) -> bool:
    """Of the elements that the hub sends, in their version 1."""
    needed = {"markdown": {"content"}, "div": {"text"}, "action": {"actions"}, "hr": set()}
    return isinstance(card, dict) and all(
        one.get("tag") in needed
        and needed[one["tag"]] <= set(one)
        and all(
            button.get("tag") == "button"
            and button.get("text", {}).get("tag") == "plain_text"
            and button["text"]["content"].strip()
            and isinstance(button.get("value"), dict)  # SDKs take no other
            for button in one.get("actions", [])
        )
        for one in card.get("elements", [])
    )


def _text_of_card(card: dict[str, Any]) -> str:
    first = card["elements"][0]
    return str(first.get("content") or first["text"]["content"])


def _frame(method: int, headers: dict[str, str], payload: bytes) -> bytes:
    frame = Frame(SeqID=7, LogID=2**63 + 5, service=SERVICE, method=method, payload=payload)
    for key, value in headers.items():
        frame.headers.add(key=key, value=value)
    found: bytes = frame.SerializeToString()
    return found


def event(kind: str, fields: dict[str, Any], *, event_id: str = "ev-1", create_time: str = "1790000000000") -> Any:
    header = {
        "event_id": event_id, "event_type": kind, "create_time": create_time, "token": "v", "app_id": APP_ID,
        "tenant_key": "736588c9260f175d",
    }  # fmt: skip
    return {"schema": "2.0", "header": header, "event": fields}


def said(words: str = "Is the press up?", /, *, message_id: str = "om_a1", group: bool = False, **message: Any) -> Any:
    """What a person wrote to the bot, with the fields that Feishu has."""
    sender = {"sender_id": {"open_id": "ou_18eac8", "union_id": "on_7f2", "user_id": "manager7"}, "sender_type": "user"}
    fields = {
        "message_id": message_id, "create_time": "1790000000000", "chat_id": "oc_night" if group else "oc_two",
        "chat_type": "group" if group else "p2p", "message_type": "text", "content": json.dumps({"text": words}),
        **message,
    }  # fmt: skip
    return event("im.message.receive_v1", {"sender": sender, "message": fields})
