"""An app's bot at Feishu or Lark (飞书): to people and groups by the open API, and from them by the long connection.

Source: open.feishu.cn, "send a message" (im/v1/messages), "receive events by a long connection".
"""

import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import msgspec
import structlog
from pydantic import Field, SecretStr

from autoglm.channels.access_tokens import NoToken
from autoglm.channels.adapters.feishu.connection import LongConnection
from autoglm.channels.adapters.feishu.heard import Read, Said, heard
from autoglm.channels.adapters.feishu.openapi import USUAL_URL, OpenApi
from autoglm.channels.adapters.feishu.robot import MENTION_LABEL, message_texts
from autoglm.channels.buttons import with_buttons
from autoglm.channels.channel import Health, Inbox, Limits, LinkState, Parcel, Resources
from autoglm.channels.delivery import Delivery, Words
from autoglm.channels.settings import BaseUrl, ChannelSettings
from autoglm.channels.wording import checked_size, json_bytes, nothing_to_show, own_forms
from autoglm.core.envelope import Envelope, Kind

PER_SECOND = 5
PER_MINUTE = 300
CONTENT_BYTES = 30_000
"""Of cards and posts; texts may have 150 KB, which nobody reads."""
TEXT_BYTES = 26_000
_CHAT = "oc_"
_ACKNOWLEDGE = "收到 / OK"
_REMEMBERED = 10_000


log = structlog.get_logger()


class Body(NamedTuple):
    form: dict[str, object]
    """`msg_type` and `content`."""
    answers: str
    """Feishu's id of the message that it replies to; empty for none."""


class FeishuAppSettings(ChannelSettings, frozen=True):
    """A `[[channel]]` of the kind feishu-app."""

    kind: Literal["feishu-app"]
    app_id: str = Field(min_length=1, max_length=128)
    """The app's App ID (cli_...)."""
    app_secret: SecretStr = Field(min_length=1)
    """The app's App Secret."""
    format: Literal["text", "markdown"] = "text"
    """As what texts are sent; Markdown goes as a card."""
    button_for: tuple[Kind, ...] = ("alert",)
    """Kinds of messages that get a button that acknowledges, where `senders` names somebody."""
    base_url: BaseUrl = USUAL_URL
    """Feishu's address; https://open.larksuite.com for Lark, another one for a proxy."""


class FeishuApp:
    """Satisfies `Channel`. Targets: an open id (ou_...), a group's id (oc_...), a union id (on_...), a mail address, or
    else a user id.
    """

    Settings = FeishuAppSettings

    def __init__(self, settings: FeishuAppSettings, resources: Resources) -> None:
        self._settings = settings
        self._name = resources.name
        self._log = log.bind(channel=resources.name)
        self._groups: OrderedDict[str, None] = OrderedDict()
        """Ids of chats to which something was sent by that id."""
        self._api = OpenApi(settings.base_url, settings.app_id, settings.app_secret.get_secret_value())
        self._connection = LongConnection(resources.name, self._api.place)

    def limits(self, target: str) -> Limits:
        windows = ((PER_SECOND, 1.0), (self._settings.per_minute or PER_MINUTE, 60.0))
        return Limits(windows=windows, per="target", parallel=1, digest_bytes=TEXT_BYTES * 3 // 4)

    def compose(self, envelope: Envelope, target: str) -> Sequence[Parcel]:
        form = self._settings.format
        envelope, offered = with_buttons(envelope)
        buttons = [_button(action, words) for action, words in (offered or self._acknowledges(envelope)).items()]
        if buttons and envelope.labels.get(MENTION_LABEL):
            form = "markdown"  # in a card only that calls people
        limit = TEXT_BYTES - json_bytes(_json(buttons))
        texts = message_texts(envelope, form, limit, twice_json_bytes)
        bodies = [_text(text) if form == "text" else _card(text) for text in texts]
        if buttons and texts:
            bodies[-1] = _card(texts[-1], form, buttons)
        forms = [api_form(body) for body in own_forms(envelope, ["msg_type"])]
        checked_size(forms, CONTENT_BYTES)
        if not bodies and not forms:
            raise nothing_to_show("Feishu", "飞书")
        whole = [*bodies, *forms]
        asked = [self._asked(envelope), *[""] * (len(whole) - 1)]
        return [Parcel(target=target, body=Body(body, to)) for body, to in zip(whole, asked, strict=True)]

    async def send(self, parcel: Parcel, key: str) -> Delivery:
        """Feishu sends one message for a key within an hour. An answer that Feishu does not take as a reply, for the
        question was withdrawn, goes out by itself.
        """
        assert isinstance(parcel.body, Body)
        uuid = hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()[:50]
        if parcel.body.answers:
            found = await self._api.reply(parcel.body.answers, parcel.body.form, uuid)
            if found.failure != "permanent":
                return found
        found = await self._api.send(id_type_of(parcel.target), parcel.target, parcel.body.form, uuid)
        if found.outcome == "accepted" and parcel.target.startswith(_CHAT):
            self._groups[parcel.target] = None
            self._groups.move_to_end(parcel.target)
            while len(self._groups) > _REMEMBERED:
                self._groups.popitem(last=False)
        return found

    async def check(self) -> Health:
        """Asks for a new token, and says what is wrong with the long connection."""
        try:
            await self._api.tokens.renewed()
        except NoToken as error:
            return Health(ok=False, reason=error.delivery.reason, code=error.delivery.code)
        if self._connection.line.trouble is not None:
            code, reason = self._connection.line.trouble
            return Health(ok=False, reason=reason, code=code)
        return Health(ok=True, reason=Words("Feishu knows the app", "飞书可达，应用凭证有效"))

    @property
    def link_state(self) -> LinkState:
        return self._connection.line.state

    async def run(self, inbox: Inbox) -> None:
        async def hear(payload: bytes) -> Mapping[str, object] | None:
            return await self._take(payload, inbox)

        await self._connection.run(hear)

    async def aclose(self) -> None:
        await self._api.aclose()

    def _acknowledges(self, envelope: Envelope) -> dict[str, str]:
        """The button that does, where a press would be heard."""
        is_heard = envelope.kind in self._settings.button_for and self._settings.senders
        return {"ack": _ACKNOWLEDGE} if is_heard else {}

    def _of_its_group(self, said: Said) -> Envelope:
        """A press in a group comes from there, as its messages do: the card was sent there."""
        envelope, chat = said.envelope, said.pressed_in
        if chat not in self._groups and (not chat or chat not in self._settings.senders):
            return envelope
        person = envelope.from_.partition("/")[2]
        labels = {**envelope.labels, "sender": person}
        return msgspec.structs.replace(envelope, from_=f"channel:{self._name}/{chat}", labels=labels)

    def _asked(self, envelope: Envelope) -> str:
        """Feishu's id of the message that this one answers: ids of what came in have it. Empty where it is none."""
        asked = (envelope.reply_to or "").removeprefix(f"{self._name}:")
        return asked if asked != envelope.reply_to and asked.startswith("om_") else ""

    async def _take(self, payload: bytes, inbox: Inbox) -> Mapping[str, object] | None:
        """What whoever pressed a button is shown: without it Feishu says that nobody answers."""
        found = heard(payload, channel=self._name, incoming_to=self._settings.incoming_to)
        if found is None:
            return None
        if isinstance(found, Read):
            for ticket in found.tickets:
                await inbox.report(ticket, Delivery(outcome="read", ticket=ticket))
            return None
        envelope = self._of_its_group(found)
        self._log.info("message_heard", sender=envelope.from_)  # how an operator learns the names for `senders`
        for ticket in found.quoted:
            if (answered := await inbox.message_of(ticket)) is not None:
                envelope = msgspec.structs.replace(envelope, reply_to=answered)
                break
        is_heard = await inbox.take(envelope)
        return _shown(is_heard=is_heard) if found.is_press else None


def _shown(*, is_heard: bool) -> Mapping[str, object]:
    """Source: open.feishu.cn, "card callback communication", toast."""
    if is_heard:
        return {"toast": {"type": "success", "content": "✓"}}
    return {"toast": {"type": "error", "content": "未收录：本机未登记该发送者 / Not taken: this hub does not know you"}}


def _button(action: str, words: str) -> dict[str, object]:
    return {
        "tag": "button",
        "text": {"tag": "plain_text", "content": words},
        "value": {"action": action, "text": words},
    }


def id_type_of(target: str) -> str:
    """Feishu's receive_id_type."""
    kinds = {"oc_": "chat_id", "ou_": "open_id", "on_": "union_id"}
    return kinds.get(target[:3]) or ("email" if "@" in target else "user_id")


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


def _card(
    text: str, form: Literal["text", "markdown"] = "markdown", buttons: Sequence[Mapping[str, object]] = ()
) -> dict[str, object]:
    """Source: open.feishu.cn, "card JSON 1.0": markdown, div, action, button."""
    shown: dict[str, object] = {"tag": "markdown", "content": text}
    if form == "text":
        shown = {"tag": "div", "text": {"tag": "plain_text", "content": text}}
    elements = [shown, {"tag": "action", "actions": list(buttons)}] if buttons else [shown]
    return {"msg_type": "interactive", "content": _json({"elements": elements})}


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
