"""Says how to give a local model more room, where llama.cpp only says that it has too little."""

from typing import Any

import msgspec

_TYPE = b'"exceed_context_size_error"'


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
