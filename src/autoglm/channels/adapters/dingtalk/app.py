"""An app's robot at DingTalk (钉钉): to people and groups by the open API, and from them by the stream.

Source: open.dingtalk.com, "enterprise internal robots", "message types of robots".
"""

import json
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Literal
from urllib.parse import urlsplit

import msgspec
from pydantic import Field, SecretStr

from autoglm.channels.adapters.dingtalk.errcodes import of_answer
from autoglm.channels.adapters.dingtalk.heard import Session, heard, split_target
from autoglm.channels.adapters.dingtalk.openapi import OpenApi
from autoglm.channels.adapters.dingtalk.robot import PER_MINUTE, TEXT_BYTES, message_bodies
from autoglm.channels.adapters.dingtalk.stream import Stream
from autoglm.channels.bearer import NoToken
from autoglm.channels.channel import Cannot, Health, Inbox, Limits, Parcel, Resources
from autoglm.channels.delivery import Delivery, Words, permanent
from autoglm.channels.settings import ChannelSettings
from autoglm.channels.web import NoAnswer
from autoglm.channels.wording import own_forms
from autoglm.core.envelope import Envelope

_SESSIONS = 10_000
"""Whose webhooks are remembered; the oldest goes first."""
_SESSION_HOST = ".dingtalk.com"
_MSG_KEYS = {
    "text": ("sampleText", {"content": "content"}),
    "markdown": ("sampleMarkdown", {"title": "title", "text": "text"}),
    "link": ("sampleLink", {"title": "title", "text": "text", "picUrl": "picUrl", "messageUrl": "messageUrl"}),
    "actionCard": (
        "sampleActionCard",
        {"title": "title", "text": "text", "singleTitle": "singleTitle", "singleURL": "singleURL"},
    ),
}
"""By msgtype of the webhooks: the msgKey of the API, and its fields."""


class DingTalkAppSettings(ChannelSettings, frozen=True):
    """A `[[channel]]` of the kind dingtalk-app."""

    kind: Literal["dingtalk-app"]
    client_id: str = Field(min_length=1, max_length=128)
    """The app's Client ID (formerly AppKey)."""
    client_secret: SecretStr = Field(min_length=1)
    """The app's Client Secret (formerly AppSecret)."""
    robot_code: str = Field(default="", max_length=128)
    """The robot's RobotCode; the Client ID when empty, as it is for most apps."""
    format: Literal["text", "markdown"] = "text"
    """As what texts are sent."""
    base_url: str = Field(default="https://api.dingtalk.com", pattern=r"^https?://[^\s]+$")
    """The open API's address; another one for a proxy."""


class DingTalkApp:
    """Satisfies `Channel`. Targets: a staff id, a conversation's id (cid...), or both with @ between."""

    Settings = DingTalkAppSettings

    def __init__(self, settings: DingTalkAppSettings, resources: Resources) -> None:
        self._settings = settings
        self._name = resources.name
        robot_code = settings.robot_code or settings.client_id
        secret = settings.client_secret.get_secret_value()
        self._api = OpenApi(settings.base_url, settings.client_id, secret, robot_code)
        self._stream = Stream(resources.name, self._api.place)
        self._sessions: OrderedDict[str, Session] = OrderedDict()

    def limits(self, target: str) -> Limits:
        count = self._settings.per_minute or PER_MINUTE
        return Limits(windows=((count, 60.0),), per="target", parallel=1, digest_bytes=TEXT_BYTES * 3 // 4)

    def compose(self, envelope: Envelope, target: str) -> Sequence[Parcel]:
        """Bodies in the form of the webhooks, or with a msgKey in that of the API."""
        api_forms = own_forms(envelope, ["msgKey", "msgParam"])
        try:
            bodies = message_bodies(envelope, self._settings.format)
        except Cannot as error:
            if error.delivery.code != "empty" or not api_forms:
                raise
            bodies = []
        unknown = [body for body in bodies if body["msgtype"] not in _MSG_KEYS]
        if unknown:
            words = Words(
                f"an app's robot sends {', '.join(_MSG_KEYS)} and forms with a msgKey",
                f"应用机器人可发送 {'、'.join(_MSG_KEYS)}，以及带 msgKey 的格式",
            )
            raise Cannot(permanent("unknown_msgtype", words))
        return [Parcel(target=target, body=body) for body in [*bodies, *api_forms]]

    async def send(self, parcel: Parcel, key: str) -> Delivery:
        """By the webhook that came with the last message from there while it holds: it counts in no quota of the API.
        Where it refuses, or there is none, by the API. DingTalk knows no idempotency key.
        """
        assert isinstance(parcel.body, dict)
        conversation, person = split_target(parcel.target)
        if "msgtype" in parcel.body and (session := self._session(conversation or person)) is not None:
            found = await self._answer(session, parcel.body, person if conversation else "")
            if found.failure not in ("auth", "permanent"):  # else it may have arrived, or will
                return found
            self._sessions.pop(conversation or person, None)
        form = api_form(parcel.body)
        if conversation:
            return await self._api.send_to_group(conversation, form)
        return await self._api.send_to_person(person, form)

    async def check(self) -> Health:
        """Asks for a new token, and says what is wrong with the stream."""
        try:
            await self._api.bearer.renewed()
        except NoToken as error:
            return Health(ok=False, reason=error.delivery.reason, code=error.delivery.code)
        if self._stream.line.trouble is not None:
            code, reason = self._stream.line.trouble
            return Health(ok=False, reason=reason, code=code)
        return Health(ok=True, reason=Words("DingTalk knows the app", "钉钉可达，应用凭证有效"))

    async def run(self, inbox: Inbox) -> None:
        async def hear(data: str) -> None:
            await self._take(data, inbox)

        await self._stream.run(hear)

    async def aclose(self) -> None:
        await self._api.aclose()

    async def _take(self, data: str, inbox: Inbox) -> None:
        found = heard(data, channel=self._name, incoming_to=self._settings.incoming_to)
        if found.session is not None and self._is_trusted(found.session.webhook):
            self._sessions[found.place] = found.session
            self._sessions.move_to_end(found.place)
            while len(self._sessions) > _SESSIONS:
                self._sessions.popitem(last=False)
        envelope = found.envelope
        for ticket in found.quoted:
            if (answered := await inbox.message_of(ticket)) is not None:
                envelope = msgspec.structs.replace(envelope, reply_to=answered)
                break
        await inbox.take(envelope)

    def _is_trusted(self, webhook: str) -> bool:
        """DingTalk's hosts, encrypted; or the host of the settings."""
        place = urlsplit(webhook)
        if place.scheme == "https" and (place.hostname or "").endswith(_SESSION_HOST):
            return True
        return place[:2] == urlsplit(self._settings.base_url)[:2]

    def _session(self, place: str) -> Session | None:
        session = self._sessions.get(place)
        if session is not None and session.ends_ms <= time.time_ns() // 1_000_000:
            del self._sessions[place]
            return None
        return session

    async def _answer(self, session: Session, body: Mapping[str, object], person: str) -> Delivery:
        """person: whom it calls in a group."""
        called = {"at": {"atUserIds": [person]}} if person and "at" not in body else {}
        try:
            answer = await self._api.to_webhook(session.webhook, {**body, **called})
        except NoAnswer as error:
            return error.delivery
        return of_answer(answer, time.time())


def api_form(body: Mapping[str, object]) -> dict[str, object]:
    """A body of the webhooks in the API's form: its parameters are JSON in a string."""
    if "msgKey" in body:
        parameters = body["msgParam"]
        text = parameters if isinstance(parameters, str) else json.dumps(parameters, ensure_ascii=False)
        return {"msgKey": body["msgKey"], "msgParam": text}
    kind = str(body["msgtype"])
    msg_key, fields = _MSG_KEYS[kind]
    inner = body[kind]
    assert isinstance(inner, dict)
    parameters = {ours: inner[theirs] for ours, theirs in fields.items() if theirs in inner}
    return {"msgKey": msg_key, "msgParam": json.dumps(parameters, ensure_ascii=False)}
