"""A WeCom (企业微信) AI bot as a channel, over a WebSocket that the hub keeps up.

Source: developer.work.weixin.qq.com/document/path/101463.
"""

import base64
import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, cast

import anyio
import structlog

from autoglm.channels.adapters.wechat.answers import of_code
from autoglm.channels.adapters.wechat.cards import Form, task_in, with_card
from autoglm.channels.adapters.wechat.crypto import BadCall, decrypt_file
from autoglm.channels.adapters.wechat.media import Media, bytes_of
from autoglm.channels.adapters.wecom_aibot.forms import TEXT_BYTES, addressee, forms_of
from autoglm.channels.adapters.wecom_aibot.frames import (
    MESSAGE,
    NOT_ANSWERABLE,
    PING,
    REASONS,
    RESPOND,
    SEND,
    UPLOAD_BEGIN,
    UPLOAD_END,
    UPLOAD_PIECE,
    VENDOR,
    Frame,
)
from autoglm.channels.adapters.wecom_aibot.incoming import chat_of, message_of, press_in, pressed
from autoglm.channels.adapters.wecom_aibot.line import Line, without_doubt
from autoglm.channels.adapters.wecom_aibot.session import Lost, Session
from autoglm.channels.adapters.wecom_aibot.settings import USUAL_URL, WeComAiBotSettings
from autoglm.channels.backoff import BackOff
from autoglm.channels.channel import Cannot, Health, Inbox, Limits, LinkState, Parcel, Resources
from autoglm.channels.choices import words_of_action
from autoglm.channels.delivery import Delivery, Words, accepted, permanent
from autoglm.channels.web import NoAnswer, Web, vendor_guard
from autoglm.core.envelope import Envelope
from autoglm.core.errors import HubError
from autoglm.core.tasks import one_task_group

log = structlog.get_logger()
PER_MINUTE, PER_HOUR = 30, 1000
"""To one conversation, answers included."""
_QUEUE = 64
_ANSWERABLE = 1_000
"""Messages whose answer still finds the conversation that they were said in; in memory."""
_MEDIA_BYTES = {"image": 10 * 2**20, "file": 20 * 2**20}
_UPLOAD_PIECE_BYTES = 512 * 1024
_PICTURE_BYTES = 10 * 2**20


class Asked:
    """Where an answer to an incoming message goes."""

    def __init__(self, req_id: str, chat: str, *, is_group: bool) -> None:
        self.req_id, self.chat, self.is_group = req_id, chat, is_group
        self.stream = ""
        """The piece that went out as the answer: further ones follow as messages, it alone may be repeated."""


class WeComAiBot:
    """Satisfies `Channel`. Nothing is sent unless `run` runs."""

    Settings = WeComAiBotSettings

    def __init__(self, settings: WeComAiBotSettings, resources: Resources) -> None:
        self._settings = settings
        self._name = resources.name
        self._read_blob = resources.read_blob
        self._web = Web(guard=vendor_guard(settings.url, USUAL_URL))
        self._line = Line(resources.name, settings)
        self._asked: OrderedDict[str, Asked] = OrderedDict()

    @property
    def is_connected(self) -> bool:
        return self._line.is_up

    @property
    def link_state(self) -> LinkState:
        return LinkState(self._line.is_up, self._line.connections)

    def limits(self, target: str) -> Limits:
        windows = ((self._settings.per_minute or PER_MINUTE, 60.0), (PER_HOUR, 3600.0))
        return Limits(windows=windows, per="target", parallel=1, digest_bytes=TEXT_BYTES)

    def compose(self, envelope: Envelope, target: str) -> Sequence[Parcel]:
        if addressee(target) is None:
            raise Cannot(permanent("unknown_target", _nobody(target)))
        configured = self._settings.buttons if envelope.kind in self._settings.buttons_for else {}
        envelope, buttons = with_card(envelope, configured)
        forms = forms_of(envelope, target, buttons=buttons)
        return [Parcel(target=target, body=(form, envelope.reply_to or "")) for form in forms]

    async def send(self, parcel: Parcel, key: str) -> Delivery:
        session = await self._line.session()
        if session is None:
            return self._line.why_not
        form, reply_to = cast(tuple[Form | Media, str], parcel.body)
        try:
            if isinstance(form, Media):
                form = await self._uploaded(session, form)
            return await self._say(session, parcel.target, form, reply_to, key)
        except (Lost, Cannot) as error:
            return error.delivery

    async def check(self) -> Health:
        session = await self._line.session()
        found = self._line.why_not
        if session is not None:
            try:
                answer = await session.ask(PING)
            except Lost as error:
                found = error.delivery
            else:
                if not answer.errcode:
                    return Health(ok=True, reason=Words("WeCom has the bot's connection", "机器人已连接企业微信"))
                found = of_code(answer.errcode, VENDOR, REASONS)
        return Health(ok=False, reason=found.reason, code=found.code)

    async def run(self, inbox: Inbox) -> None:
        """Keeps one connection up. What came in and is not taken yet is held over a new one; 64 wait at most."""
        send, receive = anyio.create_memory_object_stream[Frame](_QUEUE)
        async with send, receive, one_task_group() as tasks:
            tasks.start_soon(self._line.run, send.send)
            async for frame in receive:
                await self._take(frame, inbox)

    async def aclose(self) -> None:
        await self._web.aclose()

    # --- out ----------------------------------------------------------------------------------------

    async def _say(self, session: Session, target: str, form: Form, reply_to: str, key: str) -> Delivery:
        asked = self._asked.get(reply_to)
        stream_id = hashlib.sha256(key.encode()).hexdigest()[:32]
        if asked is not None and asked.stream in ("", stream_id) and form["msgtype"] == "markdown":
            asked.stream = stream_id
            body = {"msgtype": "stream", "stream": {"id": stream_id, "finish": True, **form["markdown"]}}
            answer = await session.ask(RESPOND, body, req_id=asked.req_id)
            if answer.errcode not in NOT_ANSWERABLE:
                return _outcome(answer, form)
        whom = addressee(target) or {}
        if asked is not None:  # said in a group: answered there
            whom = {"chatid": asked.chat, "chat_type": 2 if asked.is_group else 1}
        return _outcome(await session.ask(SEND, {**whom, **form}), form)

    async def _uploaded(self, session: Session, media: Media) -> Form:
        """Raises Cannot, and Lost: without doubt, as no message is out."""
        data = await bytes_of(media, self._read_blob, _MEDIA_BYTES[media.kind])
        pieces = [data[at : at + _UPLOAD_PIECE_BYTES] for at in range(0, len(data), _UPLOAD_PIECE_BYTES)]
        digest = hashlib.md5(data, usedforsecurity=False).hexdigest()
        head = {
            "type": media.kind, "filename": media.name, "total_size": len(data), "total_chunks": len(pieces),
            "md5": digest,
        }  # fmt: skip
        try:
            upload_id = (await _good(session, UPLOAD_BEGIN, head)).body.get("upload_id")
            for index, piece in enumerate(pieces):
                text = base64.b64encode(piece).decode()
                body = {"upload_id": upload_id, "chunk_index": index, "base64_data": text}
                await _good(session, UPLOAD_PIECE, body)
            media_id = (await _good(session, UPLOAD_END, {"upload_id": upload_id})).body.get("media_id")
        except Lost as error:
            raise Lost(without_doubt(error.delivery)) from None
        return {"msgtype": media.kind, media.kind: {"media_id": media_id}}

    # --- in -----------------------------------------------------------------------------------------

    async def _take(self, frame: Frame, inbox: Inbox) -> None:
        """Until it is taken: WeCom does not say it again."""
        pauses = BackOff()
        while True:
            try:
                await self._take_once(frame, inbox)
                return
            except HubError as error:
                if not error.retryable:
                    log.error("incoming_message_refused", channel=self._name, code=error.code)
                    return
                log.warning("incoming_message_waited", channel=self._name, code=error.code)
            await anyio.sleep(pauses.pause_s())

    async def _take_once(self, frame: Frame, inbox: Inbox) -> None:
        body, to = {"msgid": frame.req_id, **frame.body}, self._settings.incoming_to
        if frame.cmd == MESSAGE:
            envelope = await message_of(self._name, to, body, self._fetch)
            asked = Asked(frame.req_id, chat_of(body), is_group=body.get("chattype") == "group")
            self._note(envelope.id, asked)
            await inbox.take(envelope)
        elif (press := press_in(body)) is not None:
            key, task = press
            answers = await inbox.message_of(task) if task else None
            words = self._settings.buttons.get(key) or words_of_action(key)
            await inbox.take(pressed(self._name, to, body, action=key, words=words, reply_to=answers))
        else:
            log.debug("event_left", channel=self._name, cmd=frame.cmd[:64])

    def _note(self, message_id: str, asked: Asked) -> None:
        self._asked[message_id] = asked
        while len(self._asked) > _ANSWERABLE:
            self._asked.popitem(last=False)

    async def _fetch(self, url: str, key: str) -> bytes | None:
        """A picture, decrypted; None where it is not to be had, or too large: the rest of the message counts more."""
        if not url.startswith(("https://", "http://")):
            return None
        try:
            answer = await self._web.request("GET", url, limit_bytes=_PICTURE_BYTES + 1)
            if answer.status != 200 or len(answer.body) > _PICTURE_BYTES:
                return None
            return decrypt_file(key, answer.body) if key else answer.body
        except (NoAnswer, BadCall) as error:
            log.warning("picture_not_fetched", channel=self._name, reason=str(error))
            return None


async def _good(session: Session, cmd: str, body: dict[str, Any]) -> Frame:
    answer = await session.ask(cmd, body)
    if answer.errcode:
        raise Lost(of_code(answer.errcode, VENDOR, REASONS))
    return answer


def _outcome(answer: Frame, form: Form) -> Delivery:
    if answer.errcode:
        return of_code(answer.errcode, VENDOR, REASONS)
    return accepted(task_in(form) or str(answer.body.get("msgid", "")))


def _nobody(target: str) -> Words:
    return Words(
        f"{target[:80]!r} is no conversation of the bot; write a userid or @group:CHATID",
        f"{target[:80]!r} 不是机器人的会话；请写 userid 或 @group:CHATID",
    )
