"""What an answer tells about its own quality, without a judge: is it complete, valid, no refusal?

Each signal is in [0, 1], 1 is good, and absent where it does not apply or cannot be told. Alone they are weak evidence:
an answer can be valid and wrong. Sources: OpenAI's API reference (`finish_reason`, `response_format`, `tools`).
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from autoglm.inference.engine.schema import fits
from autoglm.inference.kept import KEPT_BYTES
from autoglm.inference.sse import Events

MAX_BYTES = KEPT_BYTES
"""Longer answers and requests are not examined: it would hold up the event loop."""

_MAX_CALLS = 4
"""Calls of tools that are looked at; each may take as long as a schema may."""

# How refusals begin. Only the beginning counts: a story may have somebody say so later on.
_REFUSAL = re.compile(
    r"\s*(?:i(?:'|’)?m (?:very |really |so )?sorry,? (?:but )?i (?:can(?:'|’|no)t|am (?:not able|unable))"
    r"|sorry,? (?:but )?i can(?:'|’|no)t|i can(?:'|’|no)t (?:help|assist|do|provide|comply)"
    r"|i(?:'|’)?m (?:not able|unable) to|as an ai(?: language)? model,? i"
    r"|(?:非常|很)?(?:抱歉|对不起|不好意思)[，,。 ]*(?:但|可)?(?:是)?(?:，|,)?我(?:无法|不能|没办法|没有办法|不会)"
    r"|我(?:无法|不能)(?:回答|提供|帮助|协助|满足)|作为(?:一个|一名)?(?:ai|人工智能)(?:语言)?(?:模型|助手)?[，,]?我(?:无法|不能))",
    re.IGNORECASE,
)


class _Parts:
    """The text, the tool calls and the end of an answer, gathered from a body or from a stream's events."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.calls: dict[int, list[str]] = {}
        """By index: name and arguments."""
        self.finish = ""

    def add(self, choice: Mapping[str, Any]) -> None:
        part = choice.get("message") or choice.get("delta") or {}
        text = part.get("content") or part.get("refusal") or choice.get("text")
        if isinstance(text, str):
            self.text.append(text)
        for place, call in enumerate(part.get("tool_calls") or ()):
            function = call.get("function") or {}
            known = self.calls.setdefault(call.get("index", place), ["", ""])
            known[0] += function.get("name") or ""
            known[1] += function.get("arguments") or ""
        self.finish = choice.get("finish_reason") or self.finish


def signals_of(request: bytes, answer: bytes) -> dict[str, float]:
    """Judge a complete answer (a JSON body or the text of its event stream) to a request of `/chat/completions`.

    {} for what is too long or in no form that is known here. Takes 10 to 50 us for a usual answer, more with a schema.
    """
    if len(answer) > MAX_BYTES or len(request) > MAX_BYTES:
        return {}
    try:
        parts = _parts_of(answer)
        if parts is None:
            return {}
        wanted: dict[str, Any] = msgspec.json.decode(request)
        return _judged(wanted, parts)
    except (ValueError, AttributeError, TypeError, LookupError, RecursionError):
        return {}  # no JSON, or fields of other types than the API has: nothing can be said


def _parts_of(answer: bytes) -> _Parts | None:
    parts = _Parts()
    is_body = answer.lstrip()[:1] == b"{"
    documents: Sequence[bytes] = [answer] if is_body else list(Events().feed(answer + b"\n\n"))
    is_known = False
    for document in documents:
        if document == b"[DONE]":
            continue
        for choice in (msgspec.json.decode(document).get("choices") or ())[:1]:
            parts.add(choice)
            is_known = True
    return parts if is_known else None


def _judged(wanted: Mapping[str, Any], parts: _Parts) -> dict[str, float]:
    text = "".join(parts.text)
    signals = {
        "not_cut_off": float(parts.finish != "length"),
        "not_refused": float(parts.finish not in ("content_filter", "sensitive") and not _REFUSAL.match(text)),
        "not_empty": float(bool(text.strip() or parts.calls)),
    }
    form = wanted.get("response_format") or {}
    if form.get("type") in ("json_object", "json_schema") and not parts.calls:
        schema = (form.get("json_schema") or {}).get("schema") if form["type"] == "json_schema" else {"type": "object"}
        if (is_valid := fits(text, schema)) is not None:
            signals["json_valid"] = float(is_valid)
    tools = {
        tool["function"]["name"]: tool["function"].get("parameters") or {}
        for tool in wanted.get("tools") or ()
        if tool.get("type") == "function"
    }
    if parts.calls:
        verdicts = [
            name in tools and fits(arguments or "{}", tools[name])
            for name, arguments in [*parts.calls.values()][:_MAX_CALLS]
        ]
        known = [verdict for verdict in verdicts if verdict is not None]
        if known:
            signals["tool_call_valid"] = sum(known) / len(known)
    elif tools and wanted.get("tool_choice") == "required":
        signals["tool_call_valid"] = 0.0
    return signals
