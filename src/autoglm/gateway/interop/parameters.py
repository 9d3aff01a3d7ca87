"""What a publisher says beside the message: in JSON, in headers, or in the query; the first that says it counts.

Source: docs.ntfy.sh/publish, "List of all parameters"; RFC 2047 (encoded words in headers).
"""

import re
from collections.abc import Mapping
from email.errors import HeaderParseError
from email.header import decode_header, make_header

_is_urgency = re.compile(r"(?:u=[0-7])?(?:, ?)?(?:i(?:=\?[01])?)?").fullmatch
"""A `Priority` header of HTTP itself (RFC 9218), which clients add by themselves."""
_YES = ("1", "yes", "true")


class Parameters:
    def __init__(
        self, headers: Mapping[bytes, bytes], query: Mapping[str, str], own: Mapping[str, str] | None = None
    ) -> None:
        """own: what goes before the others, by the first of its names."""
        self._headers = headers
        self._query = query
        self._own = own or {}

    def text(self, *names: str) -> str:
        """The first one that is not empty; without blanks around it."""
        if own := self._own.get(names[0], "").strip():
            return own
        for name in names:
            if value := self._header(name):
                return value
        return next((value for name in names if (value := self._query.get(name, "").strip())), "")

    def is_set(self, *names: str) -> bool:
        return self.text(*names).lower() in _YES

    def _header(self, name: str) -> str:
        raw = self._headers.get(name.encode())
        if raw is None:
            return ""
        value = _text(raw).strip()
        return "" if name == "priority" and _is_urgency(value) else value


def _text(raw: bytes) -> str:
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    if "=?" not in text:
        return text
    try:
        return str(make_header(decode_header(text)))
    except (HeaderParseError, LookupError, UnicodeError, ValueError):
        return text
