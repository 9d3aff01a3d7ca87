"""What an error reply tells of a model's context, and how to give a local model more of it."""

import re
from typing import Any

import msgspec

_TYPE = b'"exceed_context_size_error"'

# `available context size (8192 tokens)`, `"n_ctx": 8192` (llama.cpp); `maximum context length is 8192 tokens` (OpenAI,
# vLLM); `the model's context length (8192 tokens)` (SGLang).
_TOLD = re.compile(rb'(?:"n_ctx":\s*|context (?:length|size)(?: is| of)? ?\(?)(\d{3,8})\b', re.IGNORECASE)


def context_told(body: bytes) -> int | None:
    """The longest context in tokens that an error reply names; None when it names none."""
    found = _TOLD.search(body[:4096])
    return int(found[1]) if found is not None else None


def with_way_out(body: bytes, instance: str) -> bytes:
    """An error reply of a local instance: when the request is too long, its message names the setting as well.

    Every other body comes back as it is. Source: llama.cpp's server, `exceed_context_size_error`.
    """
    if _TYPE not in body:
        return body
    try:
        decoded: Any = msgspec.json.decode(body)
        decoded["error"]["message"] += (
            f": set context_tokens of the [[instance]] {instance!r} in autoglm.toml, "
            "up to what the model was trained with, or send less"
        )
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TypeError, LookupError):
        return body
    return msgspec.json.encode(decoded)
