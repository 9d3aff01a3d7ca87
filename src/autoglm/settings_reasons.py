"""What is wrong with a setting, in words for people who have never seen pydantic or a regular expression."""

from collections.abc import Mapping
from typing import Any

from autoglm.auth.settings import TENANT_PATTERN
from autoglm.auth.tokens.settings import SITE_PATTERN
from autoglm.channels.broker_settings import BROKER_USER_PATTERN
from autoglm.channels.settings import CHANNEL_NAME_PATTERN, CLOCK_PATTERN
from autoglm.core.address import MEMBER_PATTERN
from autoglm.inference.features import INTENT_PATTERN
from autoglm.inference.settings import MODEL_NAME_PATTERN, NAME_PATTERN

_MARKS = "letters, digits and"
PATTERN_WORDS: Mapping[str, str] = {
    NAME_PATTERN: f"may have {_MARKS} . _ -, and begins with a letter or a digit",
    SITE_PATTERN: f"may have up to 64 {_MARKS} . _ -, and begins with a letter or a digit",
    TENANT_PATTERN: f"may have up to 128 {_MARKS} . _ : @ + -, and begins with a letter or a digit",
    MODEL_NAME_PATTERN: f"may have up to 256 {_MARKS} . _ : / @ + -, and begins with a letter or a digit",
    INTENT_PATTERN: "may have up to 64 of a-z, 0-9, _ and -, and begins with a letter or a digit",
    r"^https?://": "begins with http:// or https://",
    r"^https?://[^\s]+$": "begins with http:// or https://, and has no blanks",
    r"^[A-Za-z0-9._-]+$": f"may have {_MARKS} . _ -",
    r"^(/[!-~]*)?$": "begins with a slash, and has no blanks",
    r"^[!-~]+$": "may have visible ASCII characters only",
    CLOCK_PATTERN: 'must be a time of day such as "22:00"',
    BROKER_USER_PATTERN: f"may have {_MARKS} . _ @ -, and begins with a letter or a digit",
    MEMBER_PATTERN: "must be the address of a user or a device, such as user:alice",
    CHANNEL_NAME_PATTERN: "may have a-z, 0-9, _ and -, and begins with a letter or a digit",
    r"^[A-Z]{3}$": 'must be three capital letters, such as "CNY"',
    r"^https?://[^\s?#]+$": "must be an address such as https://host:9093, without ? and #",
    r"^https?://[^\s?#@]+$": "must be an address such as https://host, without ?, # and a user",
    r"^https?://[^/\s]+/?$": "must be an address such as https://host, without a path",
    r"^(https?://\S+)?$": "must be an address such as https://host/page, or empty",
    r"^wss?://[^\s]+$": "must be an address such as wss://host/path",
    r"^mqtts?://(\[[0-9A-Fa-f:.]+\]|[^\s/:@\[\]?#]+)(:\d{1,5})?/?$": (
        "must be an address such as mqtt://broker or mqtts://broker:8883, without a user; mqtt://own is the hub's own"
    ),
    r"^(mailto:[^\s@]+@[^\s@]+|https://[^\s/]\S*)$": "must be such as mailto:it@example.org or https://example.org/it",
    r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$": "must be the name of a host in small letters, such as hub.example.org",
    r"^[^\s/@]+$": "must be the name of a host, such as mail.example.org, without a slash",
    r"^\+[1-9][0-9]{6,14}$": "must be a number with + and the country's code, such as +8613800138000",
    r"^[\w.-]{1,64}$": f"may have up to 64 {_MARKS} . _ -",
    r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$": f"may have up to 64 {_MARKS} . _ -, and begins with a letter or a digit",
    r"^([^.\s]+(\.[^.\s]+)*)?$": "must be names with full stops between them, such as data.code",
    r"^[a-z0-9.][^\s\\/*?\"<>|,#:A-Z]*$": "must be an index's name: small letters, and no \\ / * ? \" < > | , # :",
    r"^[^/+#\x00-\x1f]*$": "has no /, + and #",
    r"^SMS_[0-9A-Za-z_]+$": "must be a template's code such as SMS_123456789",
    r"^[0-9]{6,20}$": "must have 6 to 20 digits",
    r"^[0-9]{1,20}$": "must have up to 20 digits",
    r"^[a-z0-9][a-z0-9-]{0,31}$": "must have 1 to 32 small letters, digits and -",
    r"^[a-z0-9-]{1,32}$": "must be a region's name such as ap-guangzhou",
}
"""What each pattern of a setting asks for, those of the hub's channels included."""


_WHOLE = "must be a whole number"
_REASONS: Mapping[str, str] = {
    "missing": "is needed, but not given",
    "tuple_type": "must be a list, in square brackets",
    "string_type": "must be text, in quotes",
    "literal_error": "must be {expected}",
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_from_float": _WHOLE,
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "greater_than_equal": "must be {ge} or more",
    "greater_than": "must be more than {gt}",
    "less_than_equal": "must be {le} or less",
    "less_than": "must be less than {lt}",
    "too_short": "needs at least {min_length}, and has {actual_length}",
    "too_long": "may have {max_length} at most",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "may have {max_length} characters at most",
}


def plain_reason(kind: str, message: str, facts: Mapping[str, Any], *, name: str = "") -> str:
    """One problem of pydantic, said plainly. kind, message, facts: its `type`, `msg` and `ctx`; name: the setting's."""
    if kind == "string_pattern_mismatch":
        return PATTERN_WORDS.get(facts["pattern"], f"does not look like {facts['pattern']}")
    if kind in _REASONS:
        reason = _REASONS[kind].format_map(facts)
        is_time = name.endswith("_s") and not name.endswith("per_s")
        return f"{reason} of seconds, such as 120" if is_time and reason.endswith(" number") else reason
    text = message.removeprefix("Value error, ")
    return f"{text[:1].lower()}{text[1:]}"
