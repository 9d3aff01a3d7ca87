"""What the SMS channels share: whose number a target is, pieces of a text, and replies."""

import hashlib
import hmac
import re
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta, timezone
from typing import Annotated

import msgspec
from pydantic import Field, SecretStr

from autoglm.channels.channel import Cannot, HookCall, Inbox, Resources, no_target
from autoglm.channels.delivery import Words, permanent, too_large
from autoglm.channels.kept import Kept
from autoglm.channels.pieces import cut, utf16_units
from autoglm.channels.settings import ChannelSettings
from autoglm.channels.wording import in_words
from autoglm.core.envelope import Envelope
from autoglm.core.errors import DuplicateId

CHINA = timezone(timedelta(hours=8))
"""Vendors write their times and days so."""
NUMBER_PATTERN = r"^\+[1-9][0-9]{6,14}$"
"""E.164: + and the country's code first."""
Number = Annotated[str, Field(pattern=NUMBER_PATTERN)]
NumberName = Annotated[str, Field(pattern=r"^[\w.-]{1,64}$")]
_is_number = re.compile(NUMBER_PATTERN).fullmatch
_NUMBERS = 10_000
"""Of more, replies from those that were written to longest ago name no message."""
FORM_BYTES = 8_000
"""Of a template's own variables: far more than one SMS holds. They go in the query at Aliyun."""
_PIECES = 10
"""A text of more pieces is refused: each is paid for, and 10 reach one number in a day."""


class SmsSettings(ChannelSettings, frozen=True):
    """A `[[channel]]` that sends SMS."""

    numbers: dict[NumberName, Number] = Field(default={}, max_length=100_000)
    """Phone numbers by the name that their addresses have, such as "+8613800138000"."""
    any_number: bool = False
    """Whether an address may have a number itself: whoever may send to the channel may then write to any phone."""

    def number_of(self, target: str) -> str:
        """Raises Cannot."""
        if (number := self.numbers.get(target)) is not None:
            return number
        if self.any_number and _is_number(target) is not None:
            return target
        raise no_target(self.name, target, list(self.numbers)[:20])

    def name_of(self, number: str) -> str:
        """The name that the settings have for a number, else the number."""
        return next((name for name, known in self.numbers.items() if known == number), number)


class PushedSmsSettings(SmsSettings, frozen=True):
    """Of a gateway that calls the hub with its reports, unsigned."""

    hook_token: SecretStr | None = Field(default=None, min_length=16)
    """The gateway calls /api/hooks/NAME?token=TOKEN with its reports; absent: no call is taken."""

    def has_token(self, call: HookCall) -> bool:
        """Whether the caller knows the token: gateways sign nothing."""
        wanted = "" if self.hook_token is None else self.hook_token.get_secret_value()
        given = call.query.get("token", "")
        return wanted != "" and hmac.compare_digest(wanted.encode(), given.encode("utf-8", "replace"))


def pieces_of(envelope: Envelope, limit: int) -> Sequence[str]:
    """The text of the message, at most `limit` UTF-16 units a piece, as SMS counts them; none where there is no text.

    Parts that are no text are named; networks refuse a text with an address in it. Raises Cannot.
    """
    text = in_words(envelope, with_addresses=False)
    if not text.strip():
        return []
    # Cutting a text of megabytes into lines of an SMS would take seconds.
    pieces = cut(text, limit, measure=utf16_units) if utf16_units(text) <= _PIECES * limit else []
    if not 0 < len(pieces) <= _PIECES:
        words = Words(f"the text would take more than {_PIECES} SMS", f"文本需拆成 {_PIECES} 条以上短信，超过上限")
        raise Cannot(too_large("too_many_pieces", words))
    return pieces


def nothing_to_send() -> Cannot:
    """For `compose`: no text, and no form that the vendor has."""
    words = Words("the message holds no text, and an SMS holds nothing else", "消息中没有文本，短信只能发文本")
    return Cannot(permanent("empty", words))


class LastMessage(msgspec.Struct, frozen=True):
    """To one number."""

    target: str
    ticket: str
    version: int = 1


class Replies:
    """SMS that come in. A reply names no message: it is taken for an answer to the last one to its number."""

    def __init__(self, settings: SmsSettings, resources: Resources) -> None:
        assert resources.keyvalue is not None, "the last messages are kept there"
        self._settings = settings
        self._last = Kept(resources.keyvalue, f"sms/last/{settings.name}/", LastMessage, most=_NUMBERS)

    async def remember(self, number: str, target: str, ticket: str) -> None:
        """The last message to the number went to this target, under this ticket."""
        await self._last.put(number, LastMessage(target, ticket))

    async def take(self, inbox: Inbox, *, number: str, text: str, vendor_id: str, time_ms: int) -> None:
        """number: in E.164. vendor_id: what makes it the same SMS when it comes again. Raises HubError."""
        last = await self._last.get(number) or LastMessage(self._settings.name_of(number), "")
        name = self._settings.name
        digest = hashlib.sha256(f"{name}\0{number}\0{vendor_id}".encode("utf-8", "replace")).hexdigest()
        envelope = Envelope(
            id=f"sms-{digest[:48]}",
            from_=f"channel:{name}/{last.target}",
            to=self._settings.incoming_to,
            content=text,
            timestamp=time_ms,
            reply_to=await inbox.message_of(last.ticket) if last.ticket else None,
        )
        with suppress(DuplicateId):  # taken before, as the answer to an earlier message
            await inbox.take(envelope)
