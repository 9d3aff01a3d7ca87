"""Calls and instances for tests that need no network."""

import json
from typing import Any

from autoglm.inference.call import Api, Call
from autoglm.inference.instance import Instance
from autoglm.inference.latency import LatencyModel

CHAT: Api = "/chat/completions"


def call(
    model: str = "m", *, api: Api = CHAT, priority: int = 5, deadline_s: float | None = None, tenant: str = "",
    **fields: Any,
) -> Call:  # fmt: skip
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "hi"}], **fields}).encode()
    return Call(api, body, priority=priority, deadline_s=deadline_s, tenant=tenant)


def call_of(
    prompt_tokens: int, *, tenant: str = "t", priority: int = 5, deadline_s: float | None = None, **fields: Any
) -> Call:
    """A call whose prompt is taken for about so many tokens."""
    messages = fields.pop("messages", [{"role": "user", "content": "x" * max(0, 4 * prompt_tokens - 60)}])
    body = json.dumps({"model": "m", "messages": messages, **fields}).encode()
    return Call(CHAT, body, priority=priority, deadline_s=deadline_s, tenant=tenant)


def make_known(instance: Instance, took_s: float, times: int = 1) -> None:
    """Let it have answered, each time in so many seconds, and never otherwise."""
    instance.latency, instance.mean_s = LatencyModel(), took_s
    for _ in range(times):
        instance.latency.answered(0.0, 0.0, took_s, 1.0, 1.0)


def ready(name: str, *models: str, slots: int = 1, apis: tuple[str, ...] = (CHAT,), **options: Any) -> Instance:
    """An instance that takes requests. Nothing is behind it: the scheduler only counts."""
    instance = Instance(name, "openai", models=models or ("m",), slots=slots, apis=apis, **options)
    instance.move("ready")
    return instance
