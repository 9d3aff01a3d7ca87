"""MQTT topics: what is one, which filter matches it, and how it reads as the name in an address. All pure.

Source: MQTT 5.0 (OASIS, 2019), sections 1.5.4 (strings) and 4.7 (topic names and filters).
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from urllib.parse import quote, unquote

from autoglm.core.address import check_address
from autoglm.core.errors import InvalidField

TOPIC_BYTES = 65_535
"""Section 1.5.4: the length of a string is two bytes."""
_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
"""NUL and surrogates must not, the others should not be in a string (1.5.4); mosquitto hangs up on them."""
_PLACE = re.compile(r"\{(\d+|topic)\}")


def topic_flaw(topic: str) -> str | None:
    """Why nothing can be published under this topic, as the end of 'the topic ...'; None when it can."""
    if "+" in topic or "#" in topic:
        return "has a wildcard, + or #"
    return _flaw(topic)


def filter_flaw(pattern: str) -> str | None:
    """Why nothing can be subscribed by this filter, as the end of 'the filter ...'; None when it can."""
    levels = pattern.split("/")
    if any("#" in level for level in levels[:-1]) or (len(levels[-1]) > 1 and "#" in levels[-1]):
        return "has a # that is not its whole last level"
    if any("+" in level and level != "+" for level in levels):
        return "has a + that is not a whole level"
    return _flaw(pattern)


def _flaw(text: str) -> str | None:
    if not text:
        return "is empty"
    if _UNFIT.search(text) is not None:
        return "has a control character"
    if len(text.encode()) > TOPIC_BYTES:
        return f"is longer than {TOPIC_BYTES:,} bytes"
    return None


def captures(pattern: str, topic: str) -> tuple[str, ...] | None:
    """What each wildcard of the filter stands for in the topic; None when the filter does not match.

    `#` stands for the rest, which is empty where the topic ends before it (4.7.1.2). Topics that begin with $ are not
    matched by a wildcard at their first level (4.7.2).
    """
    if topic.startswith("$") and pattern[:1] in ("+", "#"):
        return None
    wanted, levels = pattern.split("/"), topic.split("/")
    found: list[str] = []
    for index, level in enumerate(wanted):
        if level == "#":
            return (*found, "/".join(levels[index:]))
        if index >= len(levels):
            return None
        if level == "+":
            found.append(levels[index])
        elif level != levels[index]:
            return None
    return tuple(found) if len(wanted) == len(levels) else None


def matches(pattern: str, topic: str) -> bool:
    return captures(pattern, topic) is not None


def covers(wide: str, narrow: str) -> bool:
    """Whether each topic that `narrow` matches is matched by `wide`, too."""
    if narrow[:1] == "$" and wide[:1] in ("+", "#"):
        return False
    return _covers(wide.split("/"), narrow.split("/"))


def _covers(wide: Sequence[str], narrow: Sequence[str]) -> bool:
    for index, level in enumerate(wide):
        if level == "#":
            return True
        if index >= len(narrow) or narrow[index] == "#" or level not in ("+", narrow[index]):
            return False
    return len(wide) == len(narrow)


def widest(patterns: Iterable[str]) -> list[str]:
    """The filters without those that another one covers: a broker may deliver a message once for each that matches."""
    known = list(dict.fromkeys(patterns))
    return [one for one in known if not any(other != one and covers(other, one) for other in known)]


def wildcards(pattern: str) -> int:
    return sum(level in ("+", "#") for level in pattern.split("/"))


def filled(template: str, found: Sequence[str], topic: str) -> str:
    """The template with `{1}` and so on for what the wildcards stand for, and `{topic}` for the whole topic."""
    return _PLACE.sub(lambda place: topic if place[1] == "topic" else found[int(place[1]) - 1], template)


def template_flaw(template: str, count: int) -> str | None:
    """Why the template does not suit a filter with so many wildcards, as the end of '... '; None when it does."""
    for place in _PLACE.finditer(template):
        if place[1] != "topic" and not 1 <= int(place[1]) <= count:
            return f"names {{{place[1]}}}, and the filter has {count} wildcard{'' if count == 1 else 's'}"
    return None


# --- topics in addresses ----------------------------------------------------------------------------


def as_name(topic: str) -> str:
    """The topic as an address has it: `%20` and the like for blanks and invisible characters, which addresses lack."""
    return "".join(character if _is_plain(character) else quote(character, safe="") for character in topic)


def topic_of(name: str) -> str:
    """The reverse of `as_name`. Raises UnicodeDecodeError where the escapes are no UTF-8."""
    return unquote(name, errors="strict")


@lru_cache(4096)
def _is_plain(character: str) -> bool:
    try:
        check_address(f"user:{character}")
    except InvalidField:
        return False
    return character != "%"
