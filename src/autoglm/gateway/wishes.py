"""What a request to /v1 asks for: its body, and the headers `x-autoglm-*` that say how it is to be answered."""

import math
import re
from typing import get_args

from autoglm.auth.principal import Principal
from autoglm.core.clock import monotonic_s
from autoglm.core.errors import InvalidField
from autoglm.core.preference import PreferenceName
from autoglm.gateway.exchange import Exchange
from autoglm.inference.call import AUTO, Api, Call
from autoglm.inference.features import INTENT_PATTERN

PREFERENCE_NAMES: tuple[PreferenceName, ...] = get_args(PreferenceName)
_is_intent = re.compile(INTENT_PATTERN).fullmatch


def read_call(exchange: Exchange, principal: Principal, api: Api, body: bytes) -> Call:
    """Raises InvalidJson, InvalidField, Forbidden."""
    headers = exchange.headers
    call = Call(api, body, tenant=principal.tenant)
    exchange.wanted = call.wanted
    if b"x-autoglm-tenant" in headers:
        call.tenant = principal.act_for(headers[b"x-autoglm-tenant"])
    if b"x-autoglm-priority" in headers:
        call.priority = _priority(headers[b"x-autoglm-priority"])
    if b"x-autoglm-prefer" in headers:
        call.prefer, call.preferred_by = _prefer(headers[b"x-autoglm-prefer"]), "header"
    elif principal.prefer is not None:
        call.prefer, call.preferred_by = principal.prefer, "key"
    if b"x-autoglm-intent" in headers:
        call.hint = _hint(headers[b"x-autoglm-intent"])
    if b"x-autoglm-deadline" in headers:
        call.deadline_s = _moment_s("x-autoglm-deadline", headers[b"x-autoglm-deadline"])
    if b"x-autoglm-first-token" in headers:
        call.first_token_by_s = _moment_s("x-autoglm-first-token", headers[b"x-autoglm-first-token"])
    if call.wanted != AUTO and not principal.decide("model:use", call.wanted):
        exchange.asked = call.wanted
        raise principal.refusal("model:use", call.wanted)
    return call


def _prefer(value: bytes) -> PreferenceName:
    for name in PREFERENCE_NAMES:
        if value == name.encode():
            return name
    raise InvalidField("x-autoglm-prefer", f"must be one of {', '.join(PREFERENCE_NAMES)}")


def _hint(value: bytes) -> str:
    name = value.decode("latin-1")
    check_intent_name(name, field="x-autoglm-intent")
    return name


def check_intent_name(name: str, *, field: str) -> None:
    """Raises InvalidField."""
    if _is_intent(name) is None:
        raise InvalidField(field, f"must be 1 to 64 of a-z, 0-9, - and _, not {name[:40]!r}")


def _priority(value: bytes) -> int:
    if len(value) != 1 or not value.isdigit():
        raise InvalidField("x-autoglm-priority", "must be one digit, 0 (lowest) to 9")
    return int(value)


def _moment_s(name: str, value: bytes) -> float:
    """The monotonic time that the header's seconds lead to."""
    try:
        seconds = math.nan if b"_" in value else float(value)  # Python takes 1_0 for 10
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= 86_400:  # false for NaN, too
        raise InvalidField(name, "must be seconds, over 0 and at most 86400")
    return monotonic_s() + seconds
