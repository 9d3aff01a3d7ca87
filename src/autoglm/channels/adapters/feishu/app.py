"""An app's bot at Feishu or Lark (飞书): to people and groups by the open API, and from them by the long connection.

Source: open.feishu.cn, "send a message" (im/v1/messages), "receive events by a long connection".
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Literal

import msgspec
from pydantic import Field, SecretStr

from autoglm.channels.adapters.feishu.connection import LongConnection
from autoglm.channels.adapters.feishu.heard import Read, heard
from autoglm.channels.adapters.feishu.openapi import OpenApi
from autoglm.channels.adapters.feishu.robot import called, message_texts
from autoglm.channels.bearer import NoToken
from autoglm.channels.channel import Health, Inbox, Limits, Parcel, Resources
from autoglm.channels.delivery import Delivery, Words
from autoglm.channels.settings import ChannelSettings
from autoglm.channels.wording import checked_size, json_bytes, nothing_to_show, own_forms
from autoglm.core.envelope import Envelope

PER_SECOND = 5
PER_MINUTE = 300
CONTENT_BYTES = 30_000
"""Of cards and posts; texts may have 150 KB, which nobody reads."""
TEXT_BYTES = 26_000


class FeishuAppSettings(ChannelSettings, frozen=True):
    """A `[[channel]]` of the kind feishu-app."""

    kind: Literal["feishu-app"]
    app_id: str = Field(min_length=1, max_length=128)
    """The app's App ID (cli_...)."""
    app_secret: SecretStr = Field(min_length=1)
    """The app's App Secret."""
    format: Literal["text", "markdown"] = "text"
    """As what texts are sent; Markdown goes as a card."""
    base_url: str = Field(default="https://open.feishu.cn", pattern=r"^https?://[^\s]+$")
    """Feishu's address; https://open.larksuite.com for Lark, another one for a proxy."""


class FeishuApp:
    """Satisfies `Channel`. Targets: an open id (ou_...), a group's id (oc_...), both with @ between, a mail address, a
    union id (on_...), or else a user id.
    """

    Settings = FeishuAppSettings

    def __init__(self, settings: FeishuAppSettings, resources: Resources) -> None:
        self._settings = settings
        self._name = resources.name
        self._api = OpenApi(settings.base_url, settings.app_id, settings.app_secret.get_secret_value())
        self._connection = LongConnection(resources.name, self._api.place)

    def limits(self, target: str) -> Limits:
        windows = ((PER_SECOND, 1.0), (self._settings.per_minute or PER_MINUTE, 60.0))
        return Limits(windows=windows, per="target", parallel=1, digest_bytes=TEXT_BYTES * 3 // 4)

    def compose(self, envelope: Envelope, target: str) -> Sequence[Parcel]:
        _, _, person = receiver_of(target)
        form = self._settings.format
        call = called([person], form) if person else ""
        texts = message_texts(envelope, form, TEXT_BYTES - twice_json_bytes(call), twice_json_bytes)
        if texts and call:
            texts[0] = call + texts[0]
        bodies = [_text(text) if form == "text" else _card(text) for text in texts]
        forms = [api_form(body) for body in own_forms(envelope, ["msg_type"])]
        checked_size(forms, CONTENT_BYTES)
        if not bodies and not forms:
            raise nothing_to_show("Feishu", "飞书")
        return [Parcel(target=target, body=body) for body in [*bodies, *forms]]

    async def send(self, parcel: Parcel, key: str) -> Delivery:
        """Feishu sends one message for a key within an hour."""
        assert isinstance(parcel.body, dict)
        id_type, receiver, _ = receiver_of(parcel.target)
        uuid = hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()[:50]
        return await self._api.send(id_type, receiver, parcel.body, uuid)

    async def check(self) -> Health:
        """Asks for a new token, and says what is wrong with the long connection."""
        try:
            await self._api.bearer.renewed()
        except NoToken as error:
            return Health(ok=False, reason=error.delivery.reason, code=error.delivery.code)
        if self._connection.line.trouble is not None:
            code, reason = self._connection.line.trouble
            return Health(ok=False, reason=reason, code=code)
        return Health(ok=True, reason=Words("Feishu knows the app", "飞书可达，应用凭证有效"))

    async def run(self, inbox: Inbox) -> None:
        async def hear(payload: bytes) -> None:
            await self._take(payload, inbox)

        await self._connection.run(hear)

    async def aclose(self) -> None:
        await self._api.aclose()

    async def _take(self, payload: bytes, inbox: Inbox) -> None:
        found = heard(payload, channel=self._name, incoming_to=self._settings.incoming_to)
        if found is None:
            return
        if isinstance(found, Read):
            for ticket in found.tickets:
                await inbox.report(ticket, Delivery(outcome="read", ticket=ticket))
            return
        envelope = found.envelope
        for ticket in found.quoted:
            if (answered := await inbox.message_of(ticket)) is not None:
                envelope = msgspec.structs.replace(envelope, reply_to=answered)
                break
        await inbox.take(envelope)


def receiver_of(target: str) -> tuple[str, str, str]:
    """(receive_id_type, receive_id, whom to call there)."""
    if target.startswith("oc_"):
        chat, _, person = target.partition("@")
        return "chat_id", chat, person
    for beginning, id_type in (("ou_", "open_id"), ("on_", "union_id")):
        if target.startswith(beginning):
            return id_type, target, ""
    return ("email" if "@" in target else "user_id"), target, ""


def twice_json_bytes(text: str) -> int:
    """A `Measure`: the content is JSON in a string of JSON."""
    return json_bytes(json.dumps(text, ensure_ascii=False))


def api_form(body: dict[str, object]) -> dict[str, object]:
    """A body of the custom bots' webhooks, or of the API, in the API's form."""
    kind = body["msg_type"]
    content = body["card"] if kind == "interactive" and "card" in body else body.get("content", {})
    if kind == "post" and isinstance(content, dict) and isinstance(content.get("post"), dict):
        content = content["post"]
    return {"msg_type": kind, "content": content if isinstance(content, str) else _json(content)}


def _text(text: str) -> dict[str, object]:
    return {"msg_type": "text", "content": _json({"text": text})}


def _card(text: str) -> dict[str, object]:
    return {"msg_type": "interactive", "content": _json({"elements": [{"tag": "markdown", "content": text}]})}


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
