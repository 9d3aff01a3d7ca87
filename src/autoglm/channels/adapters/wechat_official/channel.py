"""A WeChat Official Account (微信公众号) as a channel.

Source: developers.weixin.qq.com/doc/offiaccount: Template_Message_Interface, Service_Center_messages, Access_Overview.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from typing import NamedTuple

import anyio
import msgspec
import structlog

from autoglm.channels.adapters.wechat.answers import Fields, Refused
from autoglm.channels.adapters.wechat.api import Api
from autoglm.channels.adapters.wechat.callback import Callback, refusal
from autoglm.channels.adapters.wechat.cards import Form
from autoglm.channels.adapters.wechat.crypto import BadCall
from autoglm.channels.adapters.wechat.elements import Element
from autoglm.channels.adapters.wechat.incoming import message_of, pressed
from autoglm.channels.adapters.wechat.media import Media, addresses_of, bytes_of, media_of
from autoglm.channels.adapters.wechat_official.codes import DAY_CODE, REASONS, VENDOR, receipt_of
from autoglm.channels.adapters.wechat_official.settings import WeChatOfficialSettings
from autoglm.channels.adapters.wechat_official.template import filled
from autoglm.channels.channel import Cannot, Health, HookCall, HookReply, Inbox, Limits, Parcel, Resources
from autoglm.channels.delivery import Delivery, Words, accepted, permanent
from autoglm.channels.web import Answer, Web
from autoglm.channels.wording import FORM_BYTES, checked_size, cut_to_pieces
from autoglm.core.envelope import Envelope, JsonPart, TextPart, text_of

log = structlog.get_logger()
TEXT_BYTES = 2048
PIECES = 5
"""So many answers WeChat takes to one message of a person."""
A_DAY = 100_000
"""Template messages of one account."""
DAY_RETRY_S = 3600.0
_TEMPLATE_PATH = "/cgi-bin/message/template/send"
_ANSWER_PATH = "/cgi-bin/message/custom/send"
_MSGTYPES = ("text", "image", "voice", "video", "music", "news", "mpnews", "mpnewsarticle", "msgmenu", "wxcard")
_PICTURE_BYTES = 10 * 2**20
_RECEIPT_WAIT_S = 2.0
"""How long a receipt waits for the outbox to note the ticket that the same request brought: WeChat may be quicker."""
_is_openid = re.compile(r"[A-Za-z0-9_-]{20,64}").fullmatch


class Out(NamedTuple):
    """A parcel's body: where it is posted, and what, save whom it goes to."""

    path: str
    form: Form
    note: Words = Words("", "")
    """What a receipt of it says."""


class WeChatOfficial:
    """Satisfies `Channel` and `Hooked`."""

    Settings = WeChatOfficialSettings

    def __init__(self, settings: WeChatOfficialSettings, resources: Resources) -> None:
        self._settings = settings
        self._name = resources.name
        self._read_blob = resources.read_blob
        self._web = Web()
        self._api = Api(self._web, settings.base_url, vendor=VENDOR, reasons=REASONS, ask=self._ask_for_token)
        self._callback: Callback | None = None

    def limits(self, target: str) -> Limits:
        windows: tuple[tuple[int, float], ...] = ((A_DAY, 86_400.0),)
        if self._settings.per_minute is not None:
            windows = ((self._settings.per_minute, 60.0), *windows)
        return Limits(windows=windows, per="channel", parallel=4)

    def compose(self, envelope: Envelope, target: str) -> Sequence[Parcel]:
        """An answer goes as customer-service messages, everything else by a template where there is one."""
        if _is_openid(target) is None:
            raise Cannot(permanent("unknown_target", _no_follower(target)))
        own = _own_forms(envelope)
        if self._settings.templates and envelope.reply_to is None and not own:
            return [Parcel(target=target, body=self._templated(envelope))]
        bodies = [*_answers(envelope), *own]
        if not bodies:
            words = Words("the message holds nothing that WeChat can show", "消息中没有微信可显示的内容")
            raise Cannot(permanent("empty", words))
        return [Parcel(target=target, body=body) for body in bodies]

    async def send(self, parcel: Parcel, key: str) -> Delivery:
        whom, note = {"touser": parcel.target}, Words("", "")
        try:
            match parcel.body:
                case Media() as media:
                    fields = await self._send_picture(whom, media)
                case Out(path=path, form=form, note=note):
                    if path == _TEMPLATE_PATH:  # WeChat shows one message of a client_msg_id, for 10 minutes
                        whom["client_msg_id"] = hashlib.sha256(key.encode()).hexdigest()[:32]
                    fields = await self._api.post(path, {**whom, **form})
                case _:
                    raise TypeError("a parcel of another channel")
        except Refused as error:
            if error.code == DAY_CODE:
                return msgspec.structs.replace(error.delivery, retry_after_s=DAY_RETRY_S)
            return error.delivery
        except Cannot as error:
            return error.delivery
        return msgspec.structs.replace(accepted(str(fields.get("msgid", ""))), reason=note)

    async def check(self) -> Health:
        """Asks which templates the account has."""
        try:
            fields = await self._api.get("/cgi-bin/template/get_all_private_template")
        except Refused as error:
            return Health(ok=False, reason=error.delivery.reason, code=error.delivery.code)
        if lacking := self._lacking(fields):
            names = ", ".join(lacking)
            words = Words(f"the account has no template of these ids: {names}", f"公众号没有以下模板：{names}")
            return Health(ok=False, reason=words, code="40037")
        return Health(ok=True, reason=Words("WeChat knows the account", "微信可达，公众号有效"))

    async def run(self, inbox: Inbox) -> None:
        """Followers are heard by `hook`."""

    async def aclose(self) -> None:
        await self._web.aclose()

    async def hook(self, call: HookCall, inbox: Inbox) -> HookReply:
        """WeChat waits 5 s, and calls again, three times, where nothing good came back."""
        try:
            callback = self._callback_of_settings()
            if call.method == "GET":
                return HookReply(body=callback.echo(call).encode())
            body = callback.message(call)
        except BadCall as error:
            return refusal(error)
        if body.get("MsgType") != "event":
            await inbox.take(message_of(self._name, self._settings.incoming_to, body))
        else:
            await self._take_event(body, inbox)
        return HookReply(body=b"success")

    async def _take_event(self, body: Element, inbox: Inbox) -> None:
        key = body.get("EventKey")
        match body.get("Event"):
            case "TEMPLATESENDJOBFINISH":
                ticket = body.get("MsgID") or body.get("MsgId")
                await _noted(ticket, inbox)
                await inbox.report(ticket, receipt_of(body.get("Status")))
            case "CLICK" if key:
                to = self._settings.incoming_to
                await inbox.take(pressed(self._name, to, body, action=key, words=key, reply_to=None))
            case event:
                log.debug("callback_event_left", channel=self._name, wechat_event=event[:64])

    def _callback_of_settings(self) -> Callback:
        settings = self._settings
        if settings.token is None:
            raise BadCall("settings", "this channel has no token, so that it hears nothing")
        if self._callback is None:
            aes_key = settings.aes_key.get_secret_value() if settings.aes_key is not None else None
            token = settings.token.get_secret_value()
            self._callback = Callback(token, aes_key, settings.app_id, window_s=settings.call_window_s)
        return self._callback

    def _templated(self, envelope: Envelope) -> Out:
        settings = self._settings
        name = envelope.labels.get("template") or settings.template or next(iter(settings.templates))
        template = settings.templates.get(name)
        if template is None:
            known = ", ".join(settings.templates)
            words = Words(
                f"the settings have no template {name[:80]!r}; they name: {known}",
                f"配置中没有模板 {name[:80]!r}；配置中有：{known}",
            )
            raise Cannot(permanent("unknown_template", words))
        data, cut = filled(template.fields, envelope, settings.zone)
        form: Form = {"template_id": template.id, "data": data}
        return Out(_TEMPLATE_PATH, {**form, "url": template.url} if template.url else form, _not_shown(envelope, cut))

    def _lacking(self, fields: Fields) -> list[str]:
        found = fields.get("template_list")
        known = {one.get("template_id") for one in found if isinstance(one, dict)} if isinstance(found, list) else set()
        return [name for name, template in self._settings.templates.items() if template.id not in known]

    async def _send_picture(self, whom: Form, media: Media) -> Fields:
        data = await bytes_of(media, self._read_blob, _PICTURE_BYTES)

        def body(media_id: str) -> Form:
            return {**whom, "msgtype": "image", "image": {"media_id": media_id}}

        return await self._api.post_with_media(_ANSWER_PATH, body, kind="image", name=media.name, data=data)

    async def _ask_for_token(self) -> Answer:
        """The stable one, not renewed by force: other programs of the account keep theirs."""
        body = {
            "grant_type": "client_credential", "appid": self._settings.app_id,
            "secret": self._settings.secret.get_secret_value(),
        }  # fmt: skip
        url = f"{self._settings.base_url}/cgi-bin/stable_token"
        headers = {"Content-Type": "application/json"}
        return await self._web.request("POST", url, headers=headers, body=json.dumps(body).encode())


async def _noted(ticket: str, inbox: Inbox) -> None:
    with anyio.move_on_after(_RECEIPT_WAIT_S):
        while await inbox.message_of(ticket) is None:  # noqa: ASYNC110  # the inbox tells nobody when it learns of one
            await anyio.sleep(0.1)


def _answers(envelope: Envelope) -> list[Out | Media]:
    """Customer-service messages. Raises Cannot."""
    text = "\n".join(filter(None, (text_of(envelope.content), *addresses_of(envelope.content))))
    pieces = cut_to_pieces(text if text.strip() else "", TEXT_BYTES, most=PIECES)
    media = media_of(envelope.content)
    if any(one.kind != "image" for one in media):
        words = Words(
            "Official Accounts carry no files, only text and pictures", "公众号不能发送文件，只能发送文本和图片"
        )
        raise Cannot(permanent("no_files", words))
    return [*(Out(_ANSWER_PATH, {"msgtype": "text", "text": {"content": piece}}) for piece in pieces), *media]


def _own_forms(envelope: Envelope) -> list[Out]:
    """json parts in WeChat's own form: {"template_id": ..., "data": ...} or {"msgtype": "news", ...}. Raises Cannot."""
    parts = envelope.content if isinstance(envelope.content, list) else []
    found = []
    for part in parts:
        body = part.json if isinstance(part, JsonPart) else None
        if not isinstance(body, dict):
            continue
        form = {name: value for name, value in body.items() if name not in ("touser", "client_msg_id")}
        if "template_id" in form:
            found.append(Out(_TEMPLATE_PATH, form))
        elif form.get("msgtype") in _MSGTYPES:
            found.append(Out(_ANSWER_PATH, form))
    checked_size([out.form for out in found], FORM_BYTES)
    return found


def _not_shown(envelope: Envelope, cut: Sequence[str]) -> Words:
    """What a template does not show of a message; empty where it shows all that its fields have."""
    parts = envelope.content if isinstance(envelope.content, list) else []
    en, zh = [], []
    if cut:
        en.append(f"the template shows the beginning only of {', '.join(cut)}")
        zh.append(f"模板字段 {'、'.join(cut)} 只显示开头")
    if any(not isinstance(part, TextPart | JsonPart) for part in parts):
        en.append("pictures and files are not in a template")
        zh.append("模板消息不含图片和文件")
    return Words("; ".join(en), "；".join(zh))


def _no_follower(target: str) -> Words:
    return Words(
        f"{target[:80]!r} is no openid; each follower has one of some 28 letters and digits for this account",
        f"{target[:80]!r} 不是 openid；每位关注者在该公众号下有一个约 28 位的 openid",
    )
