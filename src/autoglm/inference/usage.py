"""Reads the few facts the hub needs out of an answer's bytes, without decoding what it only forwards.

Sources: OpenAI's API reference, `usage`; llama.cpp's server, `timings`.
"""

import re

_USAGE = re.compile(rb'"usage"\s*:\s*\{')
_USUAL = re.compile(rb'"usage":\s?\{"prompt_tokens":\s?(\d{1,12}),\s?"completion_tokens":\s?(\d{1,12})')
_PROMPT = re.compile(rb'"(?:prompt|input)_tokens"\s*:\s*(\d{1,12})')
_COMPLETION = re.compile(rb'"(?:completion|output)_tokens"\s*:\s*(\d{1,12})')
_TIMINGS = re.compile(rb'"timings"\s*:\s*\{[^{}]{0,2000}\}')
_COUNT = re.compile(rb'"(prompt_n|cache_n|predicted_n)"\s*:\s*(\d{1,12})')
_CONTENT = re.compile(rb'"(?:content|text|refusal)"\s*:\s*"[^"]|"tool_calls"\s*:\s*\[\s*\{')
_REASONING = re.compile(rb'"reasoning(?:_content)?"\s*:\s*"[^"]')


def usage_of(tail: bytes) -> tuple[int, int]:
    """(prompt tokens, completion tokens) of the last usage object in the bytes; zeros when nothing tells them.

    tail: the end of an answer; a streamed one has its usage in the last events, a whole one anywhere. `"usage": null`
    is no object. llama.cpp streams no usage unless the client asks for it, but ends with timings, which count as well.
    """
    at = tail.rfind(b'"usage"')
    if (usual := _USUAL.match(tail, at)) is not None:
        return int(usual[1]), int(usual[2])
    while at >= 0 and _USAGE.match(tail, at) is None:
        at = tail.rfind(b'"usage"', 0, at)
    if at < 0:
        return _counted_by_timings(tail)
    prompt = _PROMPT.search(tail, at)
    completion = _COMPLETION.search(tail, at)
    return int(prompt[1]) if prompt else 0, int(completion[1]) if completion else 0


def _counted_by_timings(tail: bytes) -> tuple[int, int]:
    """Of llama.cpp's last `timings`; `cache_n` are the tokens of the prompt that it had in its cache."""
    timings = _TIMINGS.match(tail, tail.rfind(b'"timings"')) if b'"timings"' in tail else None
    if timings is None:
        return 0, 0
    counts = {name: int(count) for name, count in _COUNT.findall(timings[0])}
    return counts.get(b"prompt_n", 0) + counts.get(b"cache_n", 0), counts.get(b"predicted_n", 0)


def has_content(chunk: bytes) -> bool:
    """True when an answer's bytes hold some text or a tool call for the user."""
    return _CONTENT.search(chunk) is not None


def has_reasoning(chunk: bytes) -> bool:
    return _REASONING.search(chunk) is not None
