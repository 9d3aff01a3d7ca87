"""Parameters that the hub sets where the client left them open, under a name that the engine can choose.

Sources: OpenAI's API reference, "create chat completion"; Zhipu BigModel, "thinking"; vLLM and llama.cpp,
`chat_template_kwargs`.
"""

from collections.abc import Mapping

import msgspec

from autoglm.inference.settings import ProviderName

_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


Setting = str | int | float | bool


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    sets: Mapping[str, Setting] = {}
    """Fields of the body and their values. `thinking` (true or false) is written as the provider has it, and left out
    where the provider has no switch for it."""


PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile(name="plain"),
        Profile(name="precise", sets={"temperature": 0.0}),
        Profile(name="brief", sets={"max_tokens": 512, "thinking": False}),
        Profile(name="direct", sets={"thinking": False}),
        Profile(name="thinking", sets={"thinking": True}),
    )
}

_SAME: dict[str, tuple[str, ...]] = {
    "max_tokens": ("max_tokens", "max_completion_tokens"),
    "temperature": ("temperature", "top_p"),
    "thinking": ("thinking", "enable_thinking", "reasoning_effort", "reasoning", "think", "chat_template_kwargs"),
}
"""Fields by which a client decides the same."""


def apply(body: bytes, profile: Profile, provider: ProviderName) -> bytes:
    """The body with the profile's fields in front; every byte of the client's own stays.

    body: a JSON object of a chat completion. Others (no `messages`) and those that decide all themselves come back
    as they are.
    """
    if not profile.sets:
        return body
    fields = _decode_fields(body)
    if "messages" not in fields:
        return body
    added: dict[str, object] = {}
    for name, value in profile.sets.items():
        if any(same in fields for same in _SAME.get(name, (name,))):
            continue
        added |= _thinking(bool(value), provider) if name == "thinking" else {name: value}
    if not added:
        return body
    at = body.index(b"{") + 1
    return body[:at] + msgspec.json.encode(added)[1:-1] + b"," + body[at:]


def _thinking(is_on: bool, provider: ProviderName) -> dict[str, object]:
    if provider == "glm":
        return {"thinking": {"type": "enabled" if is_on else "disabled"}}
    if provider in ("vllm", "local"):
        return {"chat_template_kwargs": {"enable_thinking": is_on}}
    return {}
