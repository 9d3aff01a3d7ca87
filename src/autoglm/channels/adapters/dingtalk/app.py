"""An app's robot at DingTalk (钉钉): to people and groups by the open API, and from them by the stream.

Source: open.dingtalk.com, "enterprise internal robots", "message types of robots".
"""

import json
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, TypeVar
from urllib.parse import urlsplit

import msgspec
import structlog
from pydantic import Field, SecretStr

from autoglm.channels.access_tokens import NoToken
from autoglm.channels.adapters.dingtalk.errcodes import BODY_BYTES, of_answer
from autoglm.channels.adapters.dingtalk.heard import Session, heard
from autoglm.channels.adapters.dingtalk.openapi import USUAL_URL, OpenApi
from autoglm.channels.adapters.dingtalk.press import links_of
from autoglm.channels.adapters.dingtalk.robot import PER_MINUTE, TEXT_BYTES, message_bodies
from autoglm.channels.adapters.dingtalk.stream import Stream
from autoglm.channels.buttons import with_buttons
from autoglm.channels.channel import Cannot, Health, Inbox, Limits, LinkState, Parcel, Resources
from autoglm.channels.delivery import Delivery, Words, permanent
from autoglm.channels.settings import BaseUrl, ChannelSettings
from autoglm.channels.web import NoAnswer
from autoglm.channels.wording import checked_size, own_forms
from autoglm.core.envelope import Envelope

T = TypeVar("T")
log = structlog.get_logger()

_REMEMBERED = 10_000
"""Webhooks and askers in memory; the oldest goes first."""
_GROUP = "cid"
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
    base_url: BaseUrl = USUAL_URL
    """The open API's address; another one for a proxy."""


class Body(NamedTuple):
    form: dict[str, object]
    """Of the webhooks, with a `msgtype`, or of the API, with a `msgKey`."""
    answers: str | None
    """The id of the message that this one answers."""


class DingTalkApp:
    """Satisfies `Channel`. Targets: a person's staff id, or a group's id, which begins with `cid`."""

    Settings = DingTalkAppSettings

    def __init__(self, settings: DingTalkAppSettings, resources: Resources) -> None:
        self._settings = settings
        self._name = resources.name
        self._log = log.bind(channel=resources.name)
        robot_code = settings.robot_code or settings.client_id
        secret = settings.client_secret.get_secret_value()
        self._api = OpenApi(settings.base_url, settings.client_id, secret, robot_code)
        self._stream = Stream(resources.name, self._api.place)
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._askers: OrderedDict[str, str] = OrderedDict()
        """By id of a message from a group, who wrote it: an answer calls that person."""

    def limits(self, target: str) -> Limits:
        count = self._settings.per_minute or PER_MINUTE
        return Limits(windows=((count, 60.0),), per="target", parallel=1, digest_bytes=TEXT_BYTES * 3 // 4)

    def compose(self, envelope: Envelope, target: str) -> Sequence[Parcel]:
        api_forms = own_forms(envelope, ["msgKey", "msgParam"])
        checked_size(api_forms, BODY_BYTES)
        links = ""
        if self._settings.senders:  # else no answer would be heard
            links = links_of(with_buttons(envelope)[1], envelope.id)
            envelope, _ = with_buttons(envelope, most=0)
        try:
            bodies = message_bodies(envelope, self._settings.format, links=links)
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
        forms = [*bodies, *api_forms]
        asked = [envelope.reply_to, *[None] * (len(forms) - 1)]
        return [Parcel(target=target, body=Body(form, to)) for form, to in zip(forms, asked, strict=True)]

    async def send(self, parcel: Parcel, key: str) -> Delivery:
        """By the webhook that came with the last message from there while it holds: it counts in no quota of the API.
        Where it refuses, or there is none, by the API. DingTalk knows no idempotency key.
        """
        assert isinstance(parcel.body, Body)
        form, target = parcel.body.form, parcel.target
        if "msgtype" in form and (session := self._session(target)) is not None:
            found = await self._answer(session, form, self._askers.get(parcel.body.answers or "", ""))
            if found.failure not in ("auth", "permanent"):  # else it may have arrived, or will
                return found
            self._sessions.pop(target, None)
        if target.startswith(_GROUP):
            return await self._api.send_to_group(target, api_form(form))
        return await self._api.send_to_person(target, api_form(form))

    async def check(self) -> Health:
        """Asks for a new token, and says what is wrong with the stream."""
        try:
            await self._api.tokens.renewed()
        except NoToken as error:
            return Health(ok=False, reason=error.delivery.reason, code=error.delivery.code)
        if self._stream.line.trouble is not None:
            code, reason = self._stream.line.trouble
            return Health(ok=False, reason=reason, code=code)
        return Health(ok=True, reason=Words("DingTalk knows the app", "钉钉可达，应用凭证有效"))

    @property
    def link_state(self) -> LinkState:
        return self._stream.line.state

    async def run(self, inbox: Inbox) -> None:
        async def hear(data: str) -> None:
            await self._take(data, inbox)

        await self._stream.run(hear)

    async def aclose(self) -> None:
        await self._api.aclose()

    async def _take(self, data: str, inbox: Inbox) -> None:
        found = heard(data, channel=self._name, incoming_to=self._settings.incoming_to)
        envelope = found.envelope
        self._log.info("message_heard", sender=envelope.from_)  # how an operator learns the names for `senders`
        if found.session is not None and self._is_trusted(found.session.webhook):
            _remember(self._sessions, found.place, found.session)
        if found.place != found.person:
            _remember(self._askers, envelope.id, found.person)
        for ticket in found.quoted:
            if (answered := await inbox.message_of(ticket)) is not None:
                envelope = msgspec.structs.replace(envelope, reply_to=answered)
                break
        await inbox.take(envelope)

    def _is_trusted(self, webhook: str) -> bool:
        """DingTalk's hosts, encrypted; or the host of the settings."""
        try:
            place = urlsplit(webhook)
        except ValueError:
            return False
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
        """person: whom it calls in a group; empty for nobody."""
        called = {"at": {"atUserIds": [person]}} if person and "at" not in body else {}
        try:
            answer = await self._api.to_webhook(session.webhook, {**body, **called})
        except NoAnswer as error:
            return error.delivery
        return of_answer(answer, time.time())


def _remember(known: OrderedDict[str, T], name: str, value: T) -> None:
    known[name] = value
    known.move_to_end(name)
    while len(known) > _REMEMBERED:
        known.popitem(last=False)


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
