"""What replies with a status of success lack to be answers: told before any of it goes to the client."""

import re

import msgspec

from autoglm.inference.call import Call
from autoglm.inference.sse import TAIL_BYTES, Events, flaw_in, flaw_of_end

HOLD_BYTES = 1 << 20
"""A reply that is no stream is held back up to this size, so that a cut one can be replayed elsewhere."""

# Of a whole answer: what begins otherwise may be an error, or is looked at more closely anyway.
USUAL_STARTS = (b'{"id"', b'{"choices"', b'{"object"', b'{"created"', b'{"model"', b'{"data"')
_FIELDS = {"/chat/completions": b'"choices"', "/completions": b'"choices"', "/embeddings": b'"data"'}
"""What no answer of an API is without. Source: OpenAI's API reference."""
# `{"error": {...}}`, `data: {"error": ...}`, `event: error`, after comments; but not `{"error": null, ...}`.
_ERROR = re.compile(rb'\s*(?::[^\n]*\n\s*)*(?:event:\s*error\b|(?:data:\s*)?\{\s*"error"\s*:(?!\s*null))')
_check_json = msgspec.json.Decoder(msgspec.Raw).decode


def is_error(first: bytes) -> bool:
    """True when a reply begins as an error does."""
    return _ERROR.match(first) is not None


def error_body(first: bytes) -> bytes:
    """The JSON of an error that comes as a body or as the first server-sent event."""
    if first.lstrip()[:1] == b"{":
        return first
    return next(Events().feed(first + b"\n\n"), first)


def flaw_of(call: Call, first: bytes, *, is_whole: bool) -> str:
    """Why this is no answer, although HTTP is satisfied; nothing of it was sent on yet. Empty for a good one."""
    if not is_whole:
        return flaw_in(first[-TAIL_BYTES:]) if call.is_stream else ""
    if call.is_stream and not first.lstrip().startswith(b"{"):
        return flaw_of_end(first[-TAIL_BYTES:])
    if not first.endswith(b"}") and first.rstrip()[-1:] != b"}":
        return "the answer is no complete JSON object"
    if len(first) <= HOLD_BYTES:
        try:
            _check_json(first)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return "the answer is no valid JSON"
        if (field := _FIELDS.get(call.api)) is not None and field not in first:
            return f"the answer has no {field.decode()}"
    return flaw_in(first[-TAIL_BYTES:]) if b'"network_error"' in first else ""
