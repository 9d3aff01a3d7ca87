"""The channel: calls of the Bot API, and long polling for what comes in.

Source: core.telegram.org/bots/api (making requests, getUpdates, ResponseParameters), /bots/faq (limits).
"""

import base64
import json
import re
import time
from collections.abc import Sequence
from typing import Any, Literal, cast

import anyio
import msgspec
import structlog
from pydantic import Field, SecretStr, field_validator

from autoglm.channels.adapters.telegram.answers import failure_of, moved_to, result_of, taken
from autoglm.channels.adapters.telegram.outgoing import DOCUMENT_BYTES, TEXT_UNITS, calls_of, multipart
from autoglm.channels.adapters.telegram.updates import ALLOWED, FILE_BYTES, Incoming, NoUpdate, incoming_of, read_update
from autoglm.channels.backoff import BackOff
from autoglm.channels.channel import Health, Inbox, Limits, Parcel, Resources, no_target
from autoglm.channels.delivery import Delivery, Words, permanent, too_large
from autoglm.channels.settings import BaseUrl, ChannelSettings
from autoglm.channels.vendor_json import text_in, vendor_map
from autoglm.channels.web import Answer, NoAnswer, Web, of_status
from autoglm.core.envelope import (
    Content,
    Envelope,
    File,
    FilePart,
    ImagePart,
    ImageUrl,
    Kind,
    Part,
    TextPart,
    check_texts,
)
from autoglm.core.errors import HubError, InvalidField, UnknownRecipient

POLL_S = 50
UPDATES_BYTES = 16 << 20
GROUP_PER_MINUTE = 20
CHAT_PER_MINUTE = 60
BOT_PER_SECOND = 30
"""To all chats together."""
_FILE_TRIES = 3
"""Nothing else comes in meanwhile."""
_is_file_path = re.compile(r"[\w-][\w./-]{0,255}", re.ASCII).fullmatch
_is_token = re.compile(r"[0-9]{1,20}:[A-Za-z0-9_-]{20,100}").fullmatch
_is_chat_id = re.compile(r"-?[0-9]{1,19}").fullmatch

log = structlog.get_logger(__name__)


class TelegramSettings(ChannelSettings, frozen=True):
    """A `[[channel]]` of the kind telegram."""

    kind: Literal["telegram"]
    token: SecretStr
    """The bot's token, as BotFather gives it."""
    chats: dict[str, int | str] = Field(default={}, max_length=10_000)
    """Chats by the name that their addresses have: a number, or @name of a channel."""
    button_for: tuple[Kind, ...] = ("alert",)
    """Below messages of these kinds is a button that acknowledges."""
    receive: bool = True
    """Take in what is written to the bot; only one program may, for each bot."""
    attachment_bytes: int = Field(default=10 * 1024 * 1024, ge=0, le=FILE_BYTES)
    """Largest picture or file that is taken in; a larger one is named in the text only."""
    base_url: BaseUrl = "https://api.telegram.org"
    """The Bot API's address; another one for a server of one's own."""

    @field_validator("token")
    @classmethod
    def _is_token(cls, token: SecretStr) -> SecretStr:
        if _is_token(token.get_secret_value()) is None:
            raise ValueError("is no bot's token such as 123456789:AAH...")
        return token


class Telegram:
    """Satisfies `Channel`."""

    Settings = TelegramSettings

    def __init__(self, settings: TelegramSettings, resources: Resources) -> None:
        self._settings = settings
        self._name = resources.name
        self._read_blob = resources.read_blob
        self._bot = settings.token.get_secret_value().partition(":")[0]
        self._names = {str(chat): name for name, chat in settings.chats.items()}
        self._web = Web()
        self._polling = Web(timeout_s=POLL_S + 15.0)
        self._has_conflict = False
        self._file_tries = 0
        """To get the file of the update that is next."""

    def limits(self, target: str) -> Limits:
        """Groups and channels have their own; a chat bears a message a second, and the bot 30 in all."""
        is_private = not str(self._settings.chats.get(target, target)).startswith(("-", "@"))
        count = self._settings.per_minute or (CHAT_PER_MINUTE if is_private else GROUP_PER_MINUTE)
        shared = ((BOT_PER_SECOND, 1.0),)
        return Limits(windows=((count, 60.0),), per="target", shared=shared, parallel=1, digest_bytes=TEXT_UNITS)

    def compose(self, envelope: Envelope, target: str) -> Sequence[Parcel]:
        """A target is a chat of the settings, or the number of one that has no name there: those who write to the bot
        have it as their address. One address for each chat, or an answer would not be joined to what it answers.
        """
        chat = self._settings.chats.get(target)
        if chat is None and target not in self._names and _is_chat_id(target) is not None:
            chat = int(target)
        if chat is None:
            raise no_target(self._name, target, list(self._settings.chats))
        calls = calls_of(envelope, has_button=envelope.kind in self._settings.button_for)
        for call in calls:
            call["fields"] = {"chat_id": chat, **call["fields"]}
        return [Parcel(target=target, body=call) for call in calls]

    async def send(self, parcel: Parcel, key: str) -> Delivery:
        """Telegram knows no idempotency key."""
        call = cast(dict[str, Any], parcel.body)
        fields = call["fields"]
        data: bytes | None = None
        if "upload" in call:
            data = base64.b64decode(call["data"]) if "data" in call else await self._read_blob(call["blob"])
            if data is None:
                return permanent("no_file", Words("the hub does not have the file any more", "本机已没有该文件"))
            if len(data) > DOCUMENT_BYTES:
                return too_large(
                    "file_too_large", Words("the file is over Telegram's 50 MB", "文件超过 Telegram 上限 50 MB")
                )
        delivery, chat = await self._sent(call, fields, data)
        if chat is not None:
            log.warning("telegram_chat_moved", channel=self._name, target=parcel.target, chat=chat)
            delivery, _ = await self._sent(call, {**fields, "chat_id": chat}, data)
        return delivery

    async def check(self) -> Health:
        try:
            answer = await self._call("getMe", {})
            if (failure := failure_of(answer)) is not None:
                return Health(ok=False, reason=failure.reason, code=failure.code)
            if self._settings.receive and result_of(await self._call("getWebhookInfo", {})).get("url"):
                words = Words("the bot has a webhook: nothing comes in", "该机器人设置了 webhook，无法接收消息")
                return Health(ok=False, reason=words, code="409")
        except NoAnswer as error:
            return Health(ok=False, reason=error.delivery.reason, code=error.delivery.code)
        if self._has_conflict:
            words = Words("another program takes in the bot's messages", "另一个程序正在接收该机器人的消息")
            return Health(ok=False, reason=words, code="409")
        return Health(ok=True, reason=Words("Telegram knows the bot", "Telegram 可达，机器人有效"))

    async def run(self, inbox: Inbox) -> None:
        """An update is confirmed (by the next offset) after the inbox has it; Telegram keeps others for 24 h."""
        offset: int | None = None
        pauses = BackOff()
        while self._settings.receive:
            try:
                for raw in await self._updates(offset):
                    offset = await self._handle(raw, inbox, offset)
                pauses.reset()
                continue
            except NoAnswer as error:
                code, wait_s = error.delivery.code, error.delivery.retry_after_s or 0.0
            except HubError as error:  # the inbox's: the update comes again
                code, wait_s = error.code, 0.0
            pause_s = max(wait_s, pauses.pause_s())
            log.warning("telegram_poll_failed", channel=self._name, code=code, retry_in_s=round(pause_s, 1))
            await anyio.sleep(pause_s)

    async def aclose(self) -> None:
        await self._web.aclose()
        await self._polling.aclose()

    async def _updates(self, offset: int | None) -> list[object]:
        """Raises NoAnswer."""
        fields: dict[str, Any] = {"timeout": POLL_S, "allowed_updates": list(ALLOWED)}
        answer = await self._call(
            "getUpdates", fields if offset is None else {**fields, "offset": offset}, self._polling
        )
        failure = failure_of(answer)
        self._has_conflict = failure is not None and failure.code == "409"
        if failure is not None:
            raise NoAnswer(failure)
        found = vendor_map(answer.body).get("result")
        return found if isinstance(found, list) else []

    async def _handle(self, raw: object, inbox: Inbox, offset: int | None) -> int | None:
        """The offset that confirms it. Raises HubError: it is not confirmed."""
        try:
            update = read_update(raw)
        except NoUpdate as error:
            log.warning("telegram_update_left", channel=self._name, update_id=error.update_id)
            return offset if error.update_id is None else error.update_id + 1
        incoming = incoming_of(update, self._bot, limit_bytes=self._settings.attachment_bytes)
        if incoming is not None:
            await self._take(incoming, inbox)
        return update.update_id + 1

    async def _take(self, incoming: Incoming, inbox: Inbox) -> None:
        """Raises HubError, and NoAnswer for a file that is not to be had now: the update is not confirmed."""
        answered = await inbox.message_of(incoming.answers) if incoming.answers else None
        sender = self._names.get(str(incoming.chat), str(incoming.chat))
        is_heard = self._settings.knows(sender)
        envelope = msgspec.structs.replace(
            incoming.envelope,
            from_=f"channel:{self._name}/{sender}",
            to=self._settings.incoming_to,
            reply_to=answered or incoming.named or None,
            timestamp=incoming.envelope.timestamp or round(time.time() * 1000),
            content=await self._content(incoming) if is_heard else incoming.envelope.content,
        )
        try:
            check_texts(envelope)
            is_heard = await inbox.take(envelope)
        except (InvalidField, UnknownRecipient) as error:  # it would come again for ever, and nothing after it
            log.error("telegram_message_left", channel=self._name, reason=str(error))
            is_heard = False
        if incoming.callback:  # answered in any case, or the button goes on turning; ✓ where it was heard
            try:
                words = {"text": "✓"} if is_heard else {}
                await self._call("answerCallbackQuery", {"callback_query_id": incoming.callback, **words})
            except NoAnswer as error:  # it is taken; only the button turns for a while
                log.info("telegram_press_unanswered", channel=self._name, code=error.delivery.code)

    async def _content(self, incoming: Incoming) -> Content:
        """With the picture or file; with its mark where Telegram does not give it, or three times did not answer."""
        if (file := incoming.file) is None:
            return incoming.envelope.content
        try:
            data = await self._file(file.file_id)
        except NoAnswer as error:
            self._file_tries += 1
            if self._file_tries < _FILE_TRIES:
                raise
            log.warning("telegram_file_left", channel=self._name, code=error.delivery.code)
            data = None
        self._file_tries = 0
        if data is None:
            return incoming.envelope.content
        kind = "image/jpeg" if file.is_photo else file.mime
        url = f"data:{kind};base64,{base64.b64encode(data).decode()}"
        own: Part = ImagePart(image_url=ImageUrl(url=url))
        if not file.is_photo:
            own = FilePart(file=File(filename=file.name, file_data=url))
        return [TextPart(text=incoming.caption), own] if incoming.caption else [own]

    async def _file(self, file_id: str) -> bytes | None:
        """None where it is refused, or too large. Raises NoAnswer."""
        answer = await self._call("getFile", {"file_id": file_id})
        if (failure := failure_of(answer)) is None:
            path = text_in(result_of(answer), "file_path")
            if _is_file_path(path) is None or ".." in path:  # else it could lead to the bot's other methods
                return None
            limit_bytes = self._settings.attachment_bytes
            url = f"{self._settings.base_url.rstrip('/')}/file/bot{self._settings.token.get_secret_value()}/{path}"
            answer = await self._polling.request("GET", url, limit_bytes=limit_bytes + 1)
            if answer.status == 200:
                return answer.body if len(answer.body) <= limit_bytes else None
            failure = of_status(answer)
        if failure is not None and not failure.is_settled:
            raise NoAnswer(failure)
        return None

    async def _sent(
        self, call: dict[str, Any], fields: dict[str, Any], data: bytes | None
    ) -> tuple[Delivery, int | None]:
        """(what came of it, the chat's new number where the group has moved)."""
        try:
            if data is None:
                answer = await self._call(call["method"], fields)
            else:
                kind, body = multipart(fields, call["upload"], call["filename"], data)
                answer = await self._web.request(
                    "POST", self._url(call["method"]), headers={"Content-Type": kind}, body=body
                )
        except NoAnswer as error:
            return error.delivery, None
        failure = failure_of(answer)
        return (taken(answer), None) if failure is None else (failure, moved_to(answer))

    async def _call(self, method: str, fields: dict[str, Any], web: Web | None = None) -> Answer:
        body = json.dumps(fields, ensure_ascii=False).encode("utf-8", "replace")
        headers = {"Content-Type": "application/json"}
        used = web or self._web
        return await used.request("POST", self._url(method), headers=headers, body=body, limit_bytes=UPDATES_BYTES)

    def _url(self, method: str) -> str:
        return f"{self._settings.base_url.rstrip('/')}/bot{self._settings.token.get_secret_value()}/{method}"
