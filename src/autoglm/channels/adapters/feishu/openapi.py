"""Requests to open.feishu.cn by an app: its access token, a place on the long connection, and messages.

Source: open.feishu.cn, "tenant_access_token of a custom app" (7200 s), "send a message" (im/v1/messages: uuid, codes),
"rate limits" (99991400, x-ogw-ratelimit-reset); larksuite/oapi-sdk-python for /callback/ws/endpoint.
"""

import json
import math
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import parse_qs, quote, urlsplit

import msgspec

from autoglm.channels.access_tokens import AccessTokens, NoToken, Token
from autoglm.channels.adapters.feishu.robot import is_too_many
from autoglm.channels.delivery import Delivery, Failure, Words, accepted, failed, transient
from autoglm.channels.line import NoLine, check_place, is_socket_address
from autoglm.channels.vendor_json import vendor_map
from autoglm.channels.web import Answer, NoAnswer, Web, of_status, vendor_guard

USUAL_URL = "https://open.feishu.cn"
_MOST_DIGITS = 20
_STALE_TOKEN = ("99991661", "99991663", "99991664", "99991668")
_SCOPE = Words(
    "the app lacks a permission at Feishu, or is not published with it", "应用在飞书缺少权限，或尚未发布该权限"
)
_NOT_THERE = Words(
    "the bot may not write to this recipient, or is not in the group", "机器人无法给该接收人发消息，或不在群中"
)
_CREDENTIALS = Words("Feishu does not take the app's app_id and app_secret", "飞书拒绝应用的 app_id 和 app_secret")
_REASONS: dict[str, tuple[Failure, Words]] = {
    "99991400": ("throttled", Words("too many requests of this app for Feishu", "应用对飞书的请求过于频繁，被限流")),
    "11232": ("throttled", Words("Feishu has too much to send now", "飞书当前发送过于频繁，已限流")),
    "230020": ("throttled", Words("too many messages for this recipient", "发给该接收人的消息过于频繁，被限流")),
    "230049": ("transient", Words("Feishu is still sending this message", "飞书仍在发送该消息")),
    "99991672": ("auth", _SCOPE),
    "230006": ("auth", Words("the app has no bot; switch it on", "应用未启用机器人能力")),
    "10003": ("auth", _CREDENTIALS),
    "10014": ("auth", _CREDENTIALS),
    "514": ("auth", _CREDENTIALS),
    "1000040344": ("auth", _CREDENTIALS),
    "403": ("auth", Words("the app may not use the long connection", "应用不能使用长连接")),
    "1000040350": ("auth", Words("the app has too many long connections", "应用的长连接数已达上限")),
    "1": ("transient", Words("Feishu is busy", "飞书系统繁忙")),
    "2200": ("transient", Words("Feishu has trouble of its own", "飞书内部错误")),
    "1000040343": ("transient", Words("Feishu has trouble of its own", "飞书内部错误")),
    "230001": ("permanent", Words("Feishu says that a field of the message is wrong", "飞书提示消息字段有误")),
    "230002": ("permanent", _NOT_THERE),
    "230013": ("permanent", _NOT_THERE),
    "230034": ("permanent", _NOT_THERE),
    "230025": ("too_large", Words("the message is over Feishu's limit", "消息超过飞书上限")),
    "230028": ("permanent", Words("Feishu refuses the content as unsafe or improper", "飞书审核未通过该内容")),
    **dict.fromkeys(_STALE_TOKEN, ("auth", Words("Feishu does not take the access token", "飞书拒绝 access_token"))),
}
"""By code: the class of failure, and the words for it."""


class Place(NamedTuple):
    """Where the long connection is."""

    url: str
    """A secret: it has the ticket in it."""
    service: int
    ping_s: float


class OpenApi:
    """Of one app. `aclose` it."""

    def __init__(self, base_url: str, app_id: str, app_secret: str) -> None:
        self._base_url, self._app_id, self._app_secret = base_url, app_id, app_secret
        self._guard = vendor_guard(base_url, USUAL_URL)
        self._web = Web(guard=self._guard)
        self.tokens = AccessTokens(self._fetch_token)

    def __repr__(self) -> str:
        return f"OpenApi({self._app_id!r})"

    async def send(self, id_type: str, receiver: str, body: Mapping[str, object], uuid: str) -> Delivery:
        """body: `msg_type` and `content`. One attempt, and another one where the token was no good any more.

        uuid: up to 50 characters; Feishu sends one message for it within an hour.
        """
        path = f"/open-apis/im/v1/messages?receive_id_type={id_type}"
        return await self._send(path, {"receive_id": receiver, "uuid": uuid, **body})

    async def reply(self, message_id: str, body: Mapping[str, object], uuid: str) -> Delivery:
        """The same, as a reply that shows what it answers, and calls who wrote that."""
        return await self._send(f"/open-apis/im/v1/messages/{quote(message_id, safe='')}/reply", {"uuid": uuid, **body})

    async def place(self) -> Place:
        """Raises NoLine."""
        try:
            answer = await self._post("/callback/ws/endpoint", {"AppID": self._app_id, "AppSecret": self._app_secret})
        except NoAnswer as error:
            raise NoLine(error.delivery.code, _not_answered(error.delivery).reason) from None
        place = place_of(answer, is_encrypted=self._base_url.startswith("https:"))
        await check_place(self._guard, place.url)
        return place

    async def aclose(self) -> None:
        await self._web.aclose()

    async def _send(self, path: str, body: Mapping[str, object]) -> Delivery:
        async def attempt(token: str) -> Delivery:
            try:
                return of_answer(await self._post(path, body, {"Authorization": f"Bearer {token}"}))
            except NoAnswer as error:
                return error.delivery

        try:
            return await self.tokens.use(attempt, lambda found: found.code in _STALE_TOKEN)
        except NoToken as error:
            return error.delivery

    async def _fetch_token(self) -> Token:
        body = {"app_id": self._app_id, "app_secret": self._app_secret}
        try:
            answer = await self._post("/open-apis/auth/v3/tenant_access_token/internal", body)
        except NoAnswer as error:
            raise NoToken(_not_answered(error.delivery)) from None
        found = vendor_map(answer.body)
        token, lasts_s = found.get("tenant_access_token"), found.get("expire")
        if found.get("code") != 0 or not isinstance(token, str) or not isinstance(lasts_s, int):
            raise NoToken(_of_question(answer))
        return Token(token, lasts_s)

    async def _post(
        self, path: str, body: Mapping[str, object], headers: Mapping[str, str] | None = None
    ) -> Answer:  # fmt: skip
        raw = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
        kind = {"Content-Type": "application/json; charset=utf-8"}
        return await self._web.request("POST", self._base_url + path, body=raw, headers={**kind, **(headers or {})})


def place_of(answer: Answer, *, is_encrypted: bool) -> Place:
    """is_encrypted: no other connection will do. Raises NoLine."""
    found = vendor_map(answer.body)
    data = found.get("data")
    url = data.get("URL") if isinstance(data, dict) else None
    if found.get("code") != 0 or not isinstance(data, dict) or not isinstance(url, str):
        refusal = _of_question(answer)
        raise NoLine(refusal.code, refusal.reason)
    if not is_socket_address(url, is_encrypted=is_encrypted):
        raise NoLine(
            "not_encrypted", Words("Feishu names a connection that is not encrypted", "飞书给出的长连接地址未加密")
        )
    (service, *_) = parse_qs(urlsplit(url).query).get("service_id", ["0"])
    return Place(
        url,
        int(service) if service.isdecimal() and len(service) < _MOST_DIGITS else 0,
        ping_s_of(data.get("ClientConfig")),
    )


def ping_s_of(config: object) -> float:
    """Seconds between two pings, as Feishu wants them, within reason."""
    wanted = config.get("PingInterval") if isinstance(config, dict) else None
    return min(600.0, max(10.0, float(wanted))) if isinstance(wanted, int) else 120.0


def of_answer(answer: Answer) -> Delivery:
    found = vendor_map(answer.body)
    data = found.get("data")
    message_id = data.get("message_id") if isinstance(data, dict) else None
    if found.get("code") == 0 and isinstance(message_id, str):
        return accepted(message_id)
    return of_refusal(answer)


def of_refusal(answer: Answer) -> Delivery:
    """Feishu answers with a code, and sometimes with an HTTP status that fits: the code decides."""
    found = vendor_map(answer.body)
    said = found.get("code")
    if not isinstance(said, int) or said == 0:
        words = Words(
            "Feishu's answer cannot be read; it may have been delivered", "无法解析飞书的应答，消息可能已送达"
        )
        return of_status(answer) or transient("unreadable", words, is_in_doubt=True)
    code = str(said)
    if is_too_many(said, found):
        return failed("throttled", code, _REASONS["99991400"][1], _rest_s(answer))
    if code in _REASONS:
        failure, words = _REASONS[code]
        return failed(failure, code, words, _rest_s(answer) if failure == "throttled" else None)
    by_status = of_status(answer)
    if by_status is not None and by_status.failure in ("throttled", "transient"):
        return msgspec.structs.replace(by_status, code=code)
    return failed("permanent", code, Words(f"Feishu refuses it (code {code})", f"飞书拒绝（code {code}）"))


def _of_question(answer: Answer) -> Delivery:
    """Of a request before the message's own."""
    refusal = of_refusal(answer)
    return _not_answered(refusal) if refusal.is_in_doubt else refusal


def _rest_s(answer: Answer) -> float:
    try:
        wanted_s = float(answer.headers.get("x-ogw-ratelimit-reset", ""))
    except ValueError:
        return 1.0
    return min(max(wanted_s, 1.0), 3600.0) if math.isfinite(wanted_s) else 1.0


def _not_answered(delivery: Delivery) -> Delivery:
    """Of a request before the message's own: that one did not go out, so nothing is in doubt."""
    words = Words(
        f"Feishu cannot be asked ({delivery.code}); nothing was sent", f"无法连接飞书（{delivery.code}），消息未发出"
    )
    return msgspec.structs.replace(delivery, reason=words, is_in_doubt=False)
