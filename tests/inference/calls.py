"""Calls and instances for tests that need no network."""

import json
from typing import Any

from autoglm.inference.call import Api, Call
from autoglm.inference.instance import Instance

CHAT: Api = "/chat/completions"


def call(
    model: str = "m", *, api: Api = CHAT, priority: int = 5, deadline_s: float | None = None, **fields: Any
) -> Call:
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "hi"}], **fields}).encode()
    return Call(api, body, priority=priority, deadline_s=deadline_s)


def ready(name: str, *models: str, slots: int = 1, apis: tuple[str, ...] = (CHAT,), **options: Any) -> Instance:
    """An instance that takes requests. Nothing is behind it: the scheduler only counts."""
    instance = Instance(name, "openai", models=models or ("m",), slots=slots, apis=apis, **options)
    instance.move("ready")
    return instance
