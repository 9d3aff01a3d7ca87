"""Guesses how many tokens a request will take, before any tokenizer has seen it."""

import re

import msgspec

from autoglm.core.envelope import invalid_field
from autoglm.core.errors import InvalidField

MOST_TOKENS_OUT = 10**9
"""No answer is that long; with more digits, the arithmetic of prices would leave what a float can hold."""
BYTES_PER_TOKEN = 3
"""English text has about 4 bytes a token, Chinese 3 to 4 (a character has 3 bytes); JSON around it counts as well."""
_ATTACHMENT_TOKENS = 1000
_ATTACHMENT_BYTES = 1024
# Pictures and sound travel as base64: half a megabyte of it is no 170,000 tokens.
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=_-"
_base64 = re.compile(rb"[%b]*+" % re.escape(_BASE64)).match


class _Bounds(msgspec.Struct):
    """The fields by which a client bounds its answer. Sources: OpenAI's API reference."""

    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    max_output_tokens: int | None = None
    n: int | None = None


_decode = msgspec.json.Decoder(_Bounds).decode


def prompt_tokens(body: bytes) -> int:
    """About how many tokens the prompt has; rather too many than too few."""
    attachments, attached_bytes = _attachments(body)
    return (len(body) - attached_bytes) // BYTES_PER_TOKEN + attachments * _ATTACHMENT_TOKENS


def _attachments(body: bytes) -> tuple[int, int]:
    """How many runs of base64 there are of 1,024 bytes or more, and their bytes in all.

    Such a run holds one of any 1,024 places that follow each other, so one of them is enough to look at: 31 MiB of
    text take 45 ms.
    """
    count = size_bytes = 0
    at = _ATTACHMENT_BYTES - 1
    while at < len(body):
        found = _base64(body, at)
        assert found is not None, "it may be empty"
        end = found.end()
        if end > at:
            head = body[at - _ATTACHMENT_BYTES + 1 : at]
            run_bytes = end - at + len(head) - len(head.rstrip(_BASE64))
            if run_bytes >= _ATTACHMENT_BYTES:
                count += 1
                size_bytes += run_bytes
                at = end
        at += _ATTACHMENT_BYTES
    return count, size_bytes


def most_tokens_out(body: bytes) -> int | None:
    """The most tokens that the answer may have by the client's own words; None when it says nothing.

    Raises InvalidField for a bound over MOST_TOKENS_OUT.
    """
    try:
        bounds = _decode(body)
    except msgspec.ValidationError as error:
        if "out of range" in str(error):
            raise invalid_field(error, _Bounds, body) from error
        return None  # the instance will say what is wrong with it
    for name in _Bounds.__struct_fields__:
        if (getattr(bounds, name) or 0) > MOST_TOKENS_OUT:
            raise InvalidField(name, f"must be at most {MOST_TOKENS_OUT}")
    named = [count for count in (bounds.max_completion_tokens, bounds.max_tokens, bounds.max_output_tokens) if count]
    if not named or max(named) < 0:
        return None
    return max(named) * max(1, bounds.n or 1)


def answer_tokens(answer: bytes) -> int:
    """About how many tokens an answer has that does not tell: by its events when it is a stream, else by its size."""
    events = answer.count(b"data:")
    return events if events else len(answer) // BYTES_PER_TOKEN
