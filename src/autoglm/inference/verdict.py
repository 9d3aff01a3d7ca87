"""What an error reply of an instance means for the instance, for the request and for the operator.

The HTTP status alone misleads: GLM services answer 429 for too much concurrency, but also for an account in arrears
or locked. Their body's code decides.
Source: Zhipu BigModel and z.ai, "API error codes" and "rate limits" pages; OpenAI, "error codes" page.
"""

import math
import random
import re
import time
from calendar import timegm
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Literal, NamedTuple

import msgspec

Kind = Literal[
    "client",  # the request is at fault: the answer goes to the client as it is, with a status of 4xx
    "too_long",  # the same, because the model's context is too short for it: a model with a longer one may do
    "transient",  # this instance failed; another may do better; counts for its breaker
    "throttled",  # too many at once: fewer slots, a short pause, the request waits
    "overloaded",  # the platform is overloaded: a pause with jitter, another instance is better
    "quota",  # used up until `pause_s` is over
    "blocked",  # key or account is refused: only the operator can help
    "model_refused",  # the instance does not serve this model (to us)
]


class Verdict(NamedTuple):
    kind: Kind
    reason: str
    """The vendor's words, with code; for logs, the console and the client."""
    pause_s: float = 0.0


_MAX_PAUSE_S = 31 * 86_400.0
_MAX_THROTTLE_S = 600.0
_GLM_CODE = re.compile(r"[1-9]\d{2,3}")
_GLM_RESET = re.compile(r"(\d{4})-(\d\d)-(\d\d)[ T](\d\d):(\d\d)(?::(\d\d))?")
_BEIJING_OFFSET_S = 8 * 3600
_NO_MODEL = re.compile(r"\bmodel\b.*(?:not found|not exist|no access)", re.IGNORECASE)
_NO_MODEL_CODES = ("model_not_found", "model_not_supported")
# llama.cpp and Ollama say 500 to what the model cannot take, and to what its chat template does not like: each such
# request would count against the instance, and be tried again for ever.
_NOT_SUPPORTED = re.compile(
    r"\b(?:image|audio|video|tool)s?\b.*\bnot support|\bnot support\w* (?:image|audio|video|tool|vision)"
    r"|\b(?:image|audio|video) input\b|\bmmproj\b|\bjinja\b|\bchat template\b",
    re.IGNORECASE,
)
# OpenAI and vLLM: "maximum context length is"; llama.cpp: "exceeds the available context size"; SGLang: "is longer
# than the model's context length", "exceeds the maximum allowed length".
_TOO_LONG = re.compile(
    r"\b(?:maximum|available|model's) (?:context|model) (?:length|size|window)\b|\bprompt is too long\b"
    r"|\bexceeds? the (?:context|maximum allowed length)\b",
    re.IGNORECASE,
)
_TOO_LONG_CODES = ("context_length_exceeded", "exceed_context_size_error")
_BLOCKED_CODES = ("invalid_api_key", "account_deactivated", "billing_not_active")


def judge(
    provider: str, status: int, headers: Mapping[str, str], body: bytes, *, api: str = "", now_s: float | None = None
) -> Verdict:
    """Classify a reply with status >= 400, or one that has an error in the clothes of a success.

    api: what was asked, such as `/chat/completions`. now_s: the Unix time that dates are compared with.
    """
    now_s = time.time() if now_s is None else now_s
    error = _error_of(body)
    code = str(error.get("code") or "")
    if status < 400:
        status = int(code) if re.fullmatch(r"[45]\d\d", code) else 500
    reason = _words(status, code, str(error.get("message") or error.get("msg") or error.get("detail") or ""))
    retry_after_s = _retry_after_s(headers.get("retry-after"), now_s)
    if provider == "glm" and _GLM_CODE.fullmatch(code):
        verdict = _judge_glm(int(code), reason, retry_after_s, now_s)
        if verdict is not None:
            return verdict
    if status in (400, 413, 422, 500) and (
        code in _TOO_LONG_CODES or error.get("type") in _TOO_LONG_CODES or _TOO_LONG.search(reason)
    ):
        return Verdict("too_long", reason)
    if status == 404 and api == "/responses" and code not in _NO_MODEL_CODES:
        return Verdict("client", reason)  # its words may be the client's own: "response 'model x' not found"
    if "insufficient_quota" in (code, error.get("type")):
        return Verdict("quota", reason, retry_after_s or 3600.0)
    return _judge_openai(status, code, reason, retry_after_s)


def _judge_glm(  # noqa: PLR0911  # a table
    code: int, reason: str, retry_after_s: float | None, now_s: float
) -> Verdict | None:
    """None for a code that the vendor added later: then the status is all there is."""
    match code:
        case 1302:  # too many in flight: the next one fits as soon as one has ended
            return Verdict("throttled", reason, min(retry_after_s or 0.25, _MAX_THROTTLE_S))
        case 1303:  # too many in a time
            return Verdict("throttled", reason, min(retry_after_s or 1.0, _MAX_THROTTLE_S))
        case 1304 | 1308 | 1310:  # the vendor names the moment of reset for the last two only
            return Verdict("quota", reason, _until_reset_s(reason, now_s) or retry_after_s or 3600.0)
        case 1305 | 1312:
            return Verdict("overloaded", reason, retry_after_s or random.uniform(1.0, 4.0))  # noqa: S311  # jitter
        case 1211 | 1220 | 1221 | 1222 | 1311:
            return Verdict("model_refused", reason)
        case _ if 1000 <= code <= 1004 or 1110 <= code <= 1121 or code == 1309:  # 1309: the plan has expired
            return Verdict("blocked", reason)
        case 1261:
            return Verdict("too_long", reason)
        case _ if 1210 <= code <= 1215 or code in (1301, 434, 435):
            return Verdict("client", reason)
        case 1234 | 500:
            return Verdict("transient", reason)
        case _:
            return None


def _judge_openai(  # noqa: PLR0911  # a table
    status: int, code: str, reason: str, retry_after_s: float | None
) -> Verdict:
    if status == 429:
        return Verdict("throttled", reason, min(retry_after_s or 1.0, _MAX_THROTTLE_S))
    # A bare 403 may be about this one request (a filter on the way, a region): one client must not block the instance.
    if status in (401, 402) or (status == 403 and code in _BLOCKED_CODES):
        return Verdict("blocked", reason)
    if status == 404 and (code in _NO_MODEL_CODES or _NO_MODEL.search(reason)):
        return Verdict("model_refused", reason)
    if status == 503 and retry_after_s is not None:
        return Verdict("overloaded", reason, min(max(retry_after_s, 1.0), _MAX_THROTTLE_S))
    if status == 500 and _NOT_SUPPORTED.search(reason):
        return Verdict("client", reason)
    if status >= 500 or status in (408, 425):
        return Verdict("transient", reason)
    return Verdict("client", reason)


def _error_of(body: bytes) -> dict[str, Any]:
    """The error object of OpenAI's and of GLM's bodies: `{"error": {"code", "message"}}`; {} when it is none."""
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {"message": body[:200].decode("utf-8", "replace").strip()}
    error = decoded.get("error", decoded) if isinstance(decoded, dict) else decoded
    return error if isinstance(error, dict) else {"message": str(error)[:200]}


def _words(status: int, code: str, message: str) -> str:
    message = " ".join(message.split())[:300]
    return f"HTTP {status}{f', code {code}' if code and code != str(status) else ''}{f': {message}' if message else ''}"


def _retry_after_s(value: str | None, now_s: float) -> float | None:
    """Seconds from `Retry-After` (RFC 9110, section 10.2.3: seconds or a date); None when absent or not readable."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - now_s
        except ValueError:
            return None
    return min(max(seconds, 0.0), _MAX_PAUSE_S) if math.isfinite(seconds) else None


def _until_reset_s(reason: str, now_s: float) -> float | None:
    """GLM names the moment of reset in its message, in Beijing time."""
    found = _GLM_RESET.search(reason)
    if found is None:
        return None
    year, month, day, hour, minute, second = (int(part or 0) for part in found.groups())
    try:
        reset_s = timegm((year, month, day, hour, minute, second)) - _BEIJING_OFFSET_S
    except ValueError:  # no such day
        return None
    return min(max(reset_s - now_s, 1.0), _MAX_PAUSE_S)
