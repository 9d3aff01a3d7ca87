"""What the SMS channels share: whose number a target is, and the token of the addresses that gateways call."""

import hmac
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field, SecretStr

from autoglm.channels.channel import Cannot, HookCall, no_target
from autoglm.channels.delivery import Words, permanent, too_large
from autoglm.channels.pieces import cut, utf16_units
from autoglm.channels.settings import ChannelSettings
from autoglm.core.envelope import Envelope, text_of

Number = Annotated[str, Field(pattern=r"^\+[1-9][0-9]{6,14}$")]
"""E.164: + and the country's code first."""
_PIECES = 10
"""A text of more pieces is refused: each is paid for, and 10 reach one number in a day."""


class SmsSettings(ChannelSettings, frozen=True):
    """A `[[channel]]` that sends SMS."""

    numbers: dict[str, Number] = Field(default={}, max_length=100_000)
    """Phone numbers by the name that their addresses have, such as "+8613800138000"."""
    any_number: bool = False
    """Whether an address may have a number itself: whoever may send to the channel may then write to any phone."""
    hook_token: SecretStr | None = Field(default=None, min_length=16)
    """The gateway calls /api/hooks/NAME?token=TOKEN with its reports; absent: no call is taken."""

    def number_of(self, target: str) -> str:
        """Raises Cannot."""
        if (number := self.numbers.get(target)) is not None:
            return number
        digits = target.removeprefix("+")
        if self.any_number and target[:1] == "+" and digits.isascii() and digits.isdecimal() and 7 <= len(digits) <= 15:
            return target
        raise no_target(self.name, target, list(self.numbers)[:20])

    def has_token(self, call: HookCall) -> bool:
        """Whether the caller knows the token: gateways sign nothing."""
        wanted = "" if self.hook_token is None else self.hook_token.get_secret_value()
        given = call.query.get("token", "")
        return wanted != "" and hmac.compare_digest(wanted.encode(), given.encode("utf-8", "replace"))


def pieces_of(envelope: Envelope, limit: int) -> Sequence[str]:
    """The text of the message, at most `limit` UTF-16 units a piece, as SMS counts them. Raises Cannot."""
    text = text_of(envelope.content)
    if not text.strip():
        raise Cannot(
            permanent(
                "empty",
                Words("the message holds no text, and an SMS holds nothing else", "消息中没有文本，短信只能发文本"),
            )
        )
    pieces = cut(text, limit, measure=utf16_units)
    if len(pieces) > _PIECES:
        raise Cannot(
            too_large(
                "too_many_pieces",
                Words(
                    f"the text would take {len(pieces)} SMS, and {_PIECES} are the limit",
                    f"文本需拆成 {len(pieces)} 条短信，上限为 {_PIECES} 条",
                ),
            )
        )
    return pieces
