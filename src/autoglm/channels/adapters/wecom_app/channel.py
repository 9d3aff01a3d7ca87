"""A WeCom (企业微信) application as a channel.

Source: developer.work.weixin.qq.com/document/path/90236 (sending), /path/90930 (callbacks).
"""

import json
from collections.abc import Mapping, Sequence
from typing import cast
from urllib.parse import quote
from xml.sax.saxutils import escape

import msgspec
import structlog

from autoglm.channels.adapters.wechat.answers import Fields, Refused
from autoglm.channels.adapters.wechat.api import Api
from autoglm.channels.adapters.wechat.callback import Callback, refusal
from autoglm.channels.adapters.wechat.cards import Form, task_in, with_card
from autoglm.channels.adapters.wechat.crypto import BadCall
from autoglm.channels.adapters.wechat.elements import Element
from autoglm.channels.adapters.wechat.incoming import message_of, pressed
from autoglm.channels.adapters.wechat.media import Media, bytes_of
from autoglm.channels.adapters.wecom_app.codes import REASONS, UNREACHED, VENDOR
from autoglm.channels.adapters.wecom_app.forms import TEXT_BYTES, addressee, forms_of
from autoglm.channels.adapters.wecom_app.repeats import Repeats
from autoglm.channels.adapters.wecom_app.settings import WeComAppSettings
from autoglm.channels.channel import Cannot, Health, HookCall, HookReply, Inbox, Limits, Parcel, Resources
from autoglm.channels.choices import words_of_action
from autoglm.channels.delivery import Delivery, Words, accepted, permanent
from autoglm.channels.web import Answer, Web
from autoglm.core.envelope import Envelope

log = structlog.get_logger()
PER_MINUTE, PER_HOUR = 30, 1000
"""To one member; what is over it WeCom drops and says nothing of it."""
BUTTON_SHOWN = 20
_MEDIA_BYTES = {"image": 10 * 2**20, "file": 20 * 2**20}


class WeComApp:
    """Satisfies `Channel` and `Hooked`."""

    Settings = WeComAppSettings

    def __init__(self, settings: WeComAppSettings, resources: Resources) -> None:
        self._settings = settings
        self._name = resources.name
        self._read_blob = resources.read_blob
        self._web = Web()
        self._api = Api(self._web, settings.base_url, vendor=VENDOR, reasons=REASONS, ask=self._ask_for_token)
        self._repeats = Repeats(settings.duplicate_check_s)
        self._callback: Callback | None = None

    def limits(self, target: str) -> Limits:
        count = self._settings.per_minute or PER_MINUTE
        windows = ((count, 60.0), (PER_HOUR, 3600.0))
        return Limits(windows=windows, per="target", parallel=1, digest_bytes=TEXT_BYTES)

    def compose(self, envelope: Envelope, target: str) -> Sequence[Parcel]:
        if addressee(target) is None:
            raise Cannot(permanent("unknown_target", _no_member(target)))
        buttons: Mapping[str, str] = self._settings.buttons if envelope.kind in self._settings.buttons_for else {}
        if self._settings.token is not None:  # else no press would be heard
            envelope, buttons = with_card(envelope, buttons)
        forms = forms_of(envelope, target, format=self._settings.format, buttons=buttons)
        return [Parcel(target=target, body=form) for form in forms]

    async def send(self, parcel: Parcel, key: str) -> Delivery:
        try:
            if isinstance(parcel.body, Media):
                fields = await self._send_media(parcel.target, parcel.body, key)
                return _outcome(fields, parcel.target, "")
            form = cast(Form, parcel.body)
            fields = await self._api.post("/cgi-bin/message/send", self._request(parcel.target, form, key))
            return _outcome(fields, parcel.target, task_in(form))
        except (Refused, Cannot) as error:
            return error.delivery

    async def check(self) -> Health:
        """Asks for the app's own description."""
        try:
            await self._api.get("/cgi-bin/agent/get", agentid=str(self._settings.agent_id))
        except Refused as error:
            return Health(ok=False, reason=error.delivery.reason, code=error.delivery.code)
        return Health(ok=True, reason=Words("WeCom knows the app", "企业微信可达，应用有效"))

    async def run(self, inbox: Inbox) -> None:
        """Members are heard by `hook`."""

    async def aclose(self) -> None:
        await self._web.aclose()

    async def hook(self, call: HookCall, inbox: Inbox) -> HookReply:
        """WeCom waits 5 s, and calls again where nothing good came back."""
        try:
            callback = self._callback_of_settings()
            if call.method == "GET":
                return HookReply(body=callback.echo(call).encode())
            body = callback.message(call)
        except BadCall as error:
            return refusal(error)
        if body.get("MsgType") != "event":
            await inbox.take(message_of(self._name, self._settings.incoming_to, body))
            return HookReply()
        return await self._take_event(body, callback, call.query["nonce"], inbox)

    async def _take_event(self, body: Element, callback: Callback, nonce: str, inbox: Inbox) -> HookReply:
        event, key = body.get("Event"), body.get("EventKey")
        match event:
            case "template_card_event" | "click":
                words = self._settings.buttons.get(key) or words_of_action(key)
                choices = [item.text for item in _options(body)]
                answers = await inbox.message_of(body.get("TaskId")) if body.get("TaskId") else None
                content = "\n".join((words, *choices))
                to = self._settings.incoming_to
                press = pressed(self._name, to, body, action=key, words=content, reply_to=answers)
                is_heard = await inbox.take(press)  # nobody else's button may look as if it had been heard
                if body.get("CardType") == "button_interaction" and is_heard:
                    return HookReply(
                        body=callback.sealed(_replaced(body, words), nonce), content_type="text/xml; charset=utf-8"
                    )
            case _:
                log.debug("callback_event_left", channel=self._name, wecom_event=event[:64])
        return HookReply()

    def _callback_of_settings(self) -> Callback:
        settings = self._settings
        if settings.token is None or settings.aes_key is None:
            raise BadCall("settings", "this channel has no token and aes_key, so that it hears nothing")
        if self._callback is None:
            token, aes_key = settings.token.get_secret_value(), settings.aes_key.get_secret_value()
            self._callback = Callback(token, aes_key, settings.corp_id, window_s=settings.call_window_s)
        return self._callback

    async def _send_media(self, target: str, media: Media, key: str) -> Fields:
        data = await bytes_of(media, self._read_blob, _MEDIA_BYTES[media.kind])

        def body(media_id: str) -> Form:
            return self._request(target, {"msgtype": media.kind, media.kind: {"media_id": media_id}}, key)

        return await self._api.post_with_media("/cgi-bin/message/send", body, media.kind, media.name, data)

    def _request(self, target: str, form: Form, key: str) -> Form:
        whole = {**(addressee(target) or {}), "agentid": self._settings.agent_id, **form}
        interval_s = self._settings.duplicate_check_s
        if not interval_s or self._repeats.is_another(json.dumps(whole, sort_keys=True).encode(), key):
            return whole
        return {**whole, "enable_duplicate_check": 1, "duplicate_check_interval": interval_s}

    async def _ask_for_token(self) -> Answer:
        secret = quote(self._settings.secret.get_secret_value(), safe="")
        path = f"/cgi-bin/gettoken?corpid={quote(self._settings.corp_id, safe='')}&corpsecret={secret}"
        return await self._web.request("GET", f"{self._settings.base_url}{path}")


def _outcome(fields: Fields, target: str, task_id: str) -> Delivery:
    """errcode 0 is no acceptance where the addressee is among those not reached."""
    of_members = ("invaliduser", "unlicenseduser")
    for name in of_members if "touser" in (addressee(target) or {}) else ("invalidparty", "invalidtag"):
        if fields.get(name):
            return permanent(name, UNREACHED[name])
    found = accepted(task_id or str(fields.get("msgid", "")))
    if unlicensed := str(fields.get("unlicenseduser", "")):  # of a department or tag: the others have it
        count = unlicensed.count("|") + 1
        words = Words(f"{count} of its members have no interface licence", f"其中 {count} 名成员没有接口许可，未收到")
        found = msgspec.structs.replace(found, reason=words)
    return found


def _no_member(target: str) -> Words:
    return Words(
        f"{target[:80]!r} is no WeCom member; write a userid, @party:ID or @tag:ID",
        f"{target[:80]!r} 不是企业微信成员；请写 userid、@party:ID 或 @tag:ID",
    )


def _options(body: Element) -> list[Element]:
    """What was chosen in a card with questions."""
    items = body.child("SelectedItems")
    chosen = [item.child("OptionIds") for item in items.children] if items is not None else []
    return [option for options in chosen if options is not None for option in options.children]


def _replaced(body: Element, words: str) -> str:
    """The answer by which the button shows that it was heard. Source: .../path/90241, update_button."""
    member, corp = escape(body.get("FromUserName")), escape(body.get("ToUserName"))
    return (
        f"<xml><ToUserName>{member}</ToUserName><FromUserName>{corp}</FromUserName>"
        f"<CreateTime>{escape(body.get('CreateTime'))}</CreateTime><MsgType>update_button</MsgType>"
        f"<Button><ReplaceName>✓ {escape(words[:BUTTON_SHOWN])}</ReplaceName></Button></xml>"
    )
