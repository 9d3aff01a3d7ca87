"""What an error reply tells of a model's context, and how to give a local model more of it."""

import re
from typing import Any

import msgspec

_TYPE = b'"exceed_context_size_error"'

# `available context size (8192 tokens)` (llama.cpp); `maximum context length is 8192 tokens` (OpenAI, vLLM); `the
# model's context length (8192 tokens)` (SGLang). Only words of the server itself count, from the first one on: what
# is quoted or in brackets may be the client's, as in "1 validation error: {'input': ...}" (vLLM).
_TOLD = re.compile(r"(?:[^'\"`:\[{<\n]|'s\b){0,200}?context (?:length|size)(?: is| of)? ?\(?(\d{3,8})\b", re.IGNORECASE)
_MAX_BYTES = 1 << 16


def context_told(body: bytes) -> int | None:
    """The longest context in tokens that an error reply names; None when it names none."""
    try:
        decoded: Any = msgspec.json.decode(body) if len(body) <= _MAX_BYTES else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if not isinstance(decoded, dict):
        return None
    error: Any = decoded.get("error", decoded)
    if isinstance(error, dict) and type(error.get("n_ctx")) is int:  # llama.cpp
        return max(0, error["n_ctx"]) or None
    found = _TOLD.match(str((error.get("message") if isinstance(error, dict) else error) or ""))
    return None if found is None else int(found[1])


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
