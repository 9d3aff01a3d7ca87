"""Requests to api.dingtalk.com by an app: its access token, a place on the stream, and messages of its robot.

Source: open.dingtalk.com, "obtain the access token of an internal app" (7200 s), "batch send one-to-one messages by a
robot", "robots send group messages", "stream mode protocol".
"""

import json
import re
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from autoglm.channels.access_tokens import AccessTokens, NoToken, Token
from autoglm.channels.delivery import Delivery, Failure, Words, accepted, failed, permanent, throttled, transient
from autoglm.channels.line import NoLine, check_place, is_socket_address
from autoglm.channels.vendor_json import vendor_map
from autoglm.channels.web import Answer, NoAnswer, Web, of_status, vendor_guard
from autoglm.version import __version__

USUAL_URL = "https://api.dingtalk.com"
MESSAGES_TOPIC = "/v1.0/im/bot/messages/get"
_QPS_PAUSE_S = 1.0
_is_code = re.compile(r"[\w.-]{1,100}").fullmatch
_STALE_TOKEN = ("InvalidAuthentication", "invalidParameter.token.invalid", "token.notExisted")
_REASONS: tuple[tuple[tuple[str, ...], Failure, Words], ...] = (
    (
        ("Forbidden.AccessDenied.QpsLimit",),
        "throttled",
        Words("too many requests of this app for DingTalk", "应用对钉钉的请求过于频繁，被限流"),
    ),
    (
        ("invalidClientIdOrSecret", "authFailed"),
        "auth",
        Words(
            "DingTalk does not take the app's client_id and client_secret", "钉钉拒绝应用的 client_id 和 client_secret"
        ),
    ),
    (_STALE_TOKEN, "auth", Words("DingTalk does not take the access token", "钉钉拒绝 access_token")),
    (
        ("Forbidden.",),
        "auth",
        Words(
            "the app lacks a permission at DingTalk, such as to send messages by its robot",
            "应用在钉钉缺少权限，例如机器人发消息权限",
        ),
    ),
    (
        ("invalidParameter.robotCode", "robot."),
        "auth",
        Words("robot_code names no robot of this app", "robot_code 不是该应用的机器人"),
    ),
    (
        ("invalidParameter.userIds", "staffId."),
        "permanent",
        Words("DingTalk does not know this person", "钉钉不认识该接收人"),
    ),
    (
        ("invalidParameter.openConversationId",),
        "permanent",
        Words(
            "DingTalk does not know this conversation, or the robot is not in it", "钉钉不认识该会话，或机器人不在其中"
        ),
    ),
)
"""By the beginnings of the code: the first that fits. Source: the pages of the API named above, their error codes."""


class Place(NamedTuple):
    """Where the stream is."""

    endpoint: str
    ticket: str
    """Good for one connection, for a short time."""


class OpenApi:
    """Of one app. `aclose` it."""

    def __init__(self, base_url: str, client_id: str, client_secret: str, robot_code: str) -> None:
        self._base_url, self._client_id, self._client_secret = base_url, client_id, client_secret
        self._robot_code = robot_code
        self._guard = vendor_guard(base_url, USUAL_URL)
        self._web = Web(guard=self._guard)
        self.tokens = AccessTokens(self._fetch_token)

    def __repr__(self) -> str:
        return f"OpenApi({self._client_id!r})"

    async def send_to_person(self, staff_id: str, form: Mapping[str, object]) -> Delivery:
        """form: `msgKey` and `msgParam`. One attempt, and another one where the token was no good any more."""
        return await self._send("/v1.0/robot/oToMessages/batchSend", {"userIds": [staff_id], **form}, staff_id)

    async def send_to_group(self, conversation_id: str, form: Mapping[str, object]) -> Delivery:
        return await self._send("/v1.0/robot/groupMessages/send", {"openConversationId": conversation_id, **form})

    async def place(self) -> Place:
        """Raises NoLine."""
        body = {
            "clientId": self._client_id,
            "clientSecret": self._client_secret,
            "subscriptions": [{"type": "CALLBACK", "topic": MESSAGES_TOPIC}],
            "ua": f"autoglm-hub/{__version__}",
        }
        try:
            answer = await self._post("/v1.0/gateway/connections/open", body)
        except NoAnswer as error:
            raise NoLine(error.delivery.code, _not_answered(error.delivery).reason) from None
        place = place_of(answer, is_encrypted=self._base_url.startswith("https:"))
        await check_place(self._guard, place.endpoint)
        return place

    async def to_webhook(self, url: str, body: Mapping[str, object]) -> Answer:
        """To a session's webhook. Raises NoAnswer."""
        return await self._web.request("POST", url, body=_encoded(body), headers={"Content-Type": "application/json"})

    async def aclose(self) -> None:
        await self._web.aclose()

    async def _send(self, path: str, body: Mapping[str, object], staff_id: str = "") -> Delivery:
        whole = {"robotCode": self._robot_code, **body}

        async def attempt(token: str) -> Delivery:
            try:
                answer = await self._post(path, whole, {"x-acs-dingtalk-access-token": token})
            except NoAnswer as error:
                return error.delivery
            return of_sent(answer, staff_id)

        try:
            return await self.tokens.use(attempt, lambda found: found.code in _STALE_TOKEN)
        except NoToken as error:
            return error.delivery

    async def _fetch_token(self) -> Token:
        try:
            answer = await self._post(
                "/v1.0/oauth2/accessToken", {"appKey": self._client_id, "appSecret": self._client_secret}
            )
        except NoAnswer as error:
            raise NoToken(_not_answered(error.delivery)) from None
        found = vendor_map(answer.body)
        token, lasts_s = found.get("accessToken"), found.get("expireIn", 7200)
        if not 200 <= answer.status < 300 or not isinstance(token, str) or not isinstance(lasts_s, int):
            raise NoToken(of_refusal(answer))
        return Token(token, lasts_s)

    async def _post(
        self, path: str, body: Mapping[str, object], headers: Mapping[str, str] | None = None
    ) -> Answer:  # fmt: skip
        return await self._web.request(
            "POST", self._base_url + path, body=_encoded(body),
            headers={"Content-Type": "application/json", "Accept": "application/json", **(headers or {})},
        )  # fmt: skip


def place_of(answer: Answer, *, is_encrypted: bool) -> Place:
    """is_encrypted: no other stream will do. Raises NoLine."""
    found = vendor_map(answer.body)
    endpoint, ticket = found.get("endpoint"), found.get("ticket")
    if not 200 <= answer.status < 300 or not isinstance(endpoint, str) or not isinstance(ticket, str):
        refusal = of_refusal(answer)
        raise NoLine(refusal.code, refusal.reason)
    if not is_socket_address(endpoint, is_encrypted=is_encrypted):
        raise NoLine(
            "not_encrypted", Words("DingTalk names a stream that is not encrypted", "钉钉给出的 Stream 地址未加密")
        )
    return Place(endpoint, ticket)


def of_sent(answer: Answer, staff_id: str) -> Delivery:
    """HTTP 200 may still mean that nobody gets it: the lists say who does not, or a code that nobody does."""
    found = vendor_map(answer.body)
    if not 200 <= answer.status < 300 or (isinstance(found.get("code"), str) and "processQueryKey" not in found):
        return of_refusal(answer)
    if staff_id in _list(found, "invalidStaffIdList"):
        words = Words("DingTalk does not know this person", "钉钉不认识该接收人")
        return permanent("invalidStaffIdList", words)
    if staff_id in _list(found, "flowControlledStaffIdList"):
        words = Words("too many messages for this person", "发给该接收人的消息过于频繁，被钉钉限流")
        return throttled("flowControlledStaffIdList", words)
    if staff_id in _list(found, "filteredStaffIdList"):
        words = Words("DingTalk filtered the message for this person", "钉钉对该接收人过滤了此消息")
        return permanent("filteredStaffIdList", words)
    ticket = found.get("processQueryKey")
    if not isinstance(ticket, str):
        words = Words(
            "DingTalk's answer cannot be read; it may have been delivered", "无法解析钉钉的应答，消息可能已送达"
        )
        return transient("unreadable", words, is_in_doubt=True)
    return accepted(ticket)


def of_refusal(answer: Answer) -> Delivery:
    """Answers with a `code` in words, and an HTTP status that often says little (403 for too many requests)."""
    said = vendor_map(answer.body).get("code")
    code = said if isinstance(said, str) and _is_code(said) else ""
    for beginnings, failure, words in _REASONS:
        if code.startswith(beginnings):
            return failed(failure, code, words, _QPS_PAUSE_S if failure == "throttled" else None)
    by_status = of_status(answer)
    if by_status is not None and (by_status.failure != "permanent" or not code):
        return msgspec.structs.replace(by_status, code=code or by_status.code)
    if not code:
        return transient("unreadable", Words("DingTalk's answer cannot be read", "无法解析钉钉的应答"))
    return failed("permanent", code, Words(f"DingTalk refuses it ({code})", f"钉钉拒绝（{code}）"))


def _not_answered(delivery: Delivery) -> Delivery:
    """Of a request before the message's own: that one did not go out, so nothing is in doubt."""
    words = Words(
        f"DingTalk cannot be asked ({delivery.code}); nothing was sent", f"无法连接钉钉（{delivery.code}），消息未发出"
    )
    return msgspec.structs.replace(delivery, reason=words, is_in_doubt=False)


def _list(found: Mapping[str, object], name: str) -> list[object]:
    value = found.get(name)
    return value if isinstance(value, list) else []


def _encoded(body: Mapping[str, object]) -> bytes:
    return json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
