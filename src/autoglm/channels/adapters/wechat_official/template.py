"""Fills the fields of a template, each within what its type takes: WeChat refuses the whole message else (47003).

Source: developers.weixin.qq.com/doc/offiaccount/Subscription_Messages/api.html, types of fields.
"""

import re
import unicodedata
from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

from autoglm.channels.channel import Cannot
from autoglm.channels.delivery import Words, permanent
from autoglm.channels.pieces import truncated, utf16_units
from autoglm.core.envelope import Envelope, text_of

WORDS = ("text", "title", "rest", "time", "date", "from", "kind", "priority", "id", "thread", "label.NAME")
_PLACE = re.compile(r"\{([A-Za-z0-9_.-]*)\}")
_LATEST_S = 253_402_214_400
"""The last day of the year 9999: a sender's clock may be in microseconds, and Python knows no later one."""
_EMPTY = "-"
"""WeChat takes no empty value."""


class Rule(NamedTuple):
    characters: int
    pattern: str = r".*"
    mark: str = "…"
    """Where something was cut off; empty where a cut would change the meaning: such a value is refused."""


_RULES: Mapping[str, Rule] = {
    "thing": Rule(20),
    "short_thing": Rule(5),
    "const": Rule(20),
    "phrase": Rule(5),
    "name": Rule(10),
    "character_string": Rule(32, r"[\x20-\x7e]*", "..."),
    "letter": Rule(32, r"[A-Za-z]*", ""),
    "symbol": Rule(5, r"\W*", ""),
    "number": Rule(32, r"-?\d+(\.\d+)?", ""),
    "amount": Rule(16, r"\D?\d{1,10}(\.\d+)?元?", ""),
    "phone_number": Rule(17, r"[\d+() -]*", ""),
    "car_number": Rule(8, r".*", ""),
    "time": Rule(40, r".*\d{1,2}:\d{2}.*|\d{4}年.*", ""),
    "date": Rule(40, r".*\d{4}.*", ""),
}
_LEGACY = Rule(200)
"""first, keyword1, remark of older templates."""


def unknown_words(text: str) -> str:
    """The first place in braces that stands for nothing, and what there is; empty when all are known."""
    for found in _PLACE.finditer(text):
        if found[1] not in WORDS and not re.fullmatch(r"label\..+", found[1]):
            return f"{found[0]}; there are {', '.join(f'{{{word}}}' for word in WORDS)}"
    return ""


class Filled(NamedTuple):
    data: dict[str, dict[str, str]]
    """As the vendor has it."""
    cut: tuple[str, ...]
    """Fields that show the beginning of their value only."""


def filled(fields: Mapping[str, str], envelope: Envelope, zone: str) -> Filled:
    """Raises Cannot, where a value that may not be cut is none of its type."""
    words = _words(envelope, ZoneInfo(zone))

    def word(found: re.Match[str]) -> str:
        name = found[1]
        return envelope.labels.get(name.removeprefix("label."), "") if name.startswith("label.") else words[name]

    whole = {name: _shown(_PLACE.sub(word, text)) for name, text in fields.items()}
    fitted = {name: _fitted(name, value) for name, value in whole.items()}
    cut = tuple(name for name in whole if fitted[name] != whole[name])
    return Filled({name: {"value": value} for name, value in fitted.items()}, cut)


def _words(envelope: Envelope, zone: ZoneInfo) -> dict[str, str]:
    text = text_of(envelope.content).strip()
    title, _, rest = text.partition("\n")
    at = datetime.fromtimestamp(min(envelope.timestamp / 1000, _LATEST_S), zone)
    return {
        "text": text,
        "title": title,
        "rest": rest.strip(),
        "date": f"{at.year}年{at.month}月{at.day}日",
        "time": f"{at.year}年{at.month}月{at.day}日 {at:%H:%M}",
        "from": envelope.from_.partition(":")[2] or envelope.from_,
        "kind": envelope.kind,
        "priority": str(envelope.priority),
        "id": envelope.id,
        "thread": envelope.thread or "",
    }


def _shown(value: str) -> str:
    """In one line, and something."""
    value = " ".join(value.split())
    is_blank = not any(unicodedata.category(one)[0] in "LNPS" for one in value)  # zero-width throughout, too
    return _EMPTY if is_blank else value


def _fitted(name: str, value: str) -> str:
    """Counted in UTF-16 units: no count of characters is larger, save that of what is seen, which is smaller."""
    rule = _RULES.get(name.rstrip("0123456789"), _LEGACY)
    if rule.mark:
        fits = truncated(value, rule.characters, measure=utf16_units, mark=rule.mark)
    else:
        fits = value if utf16_units(value) <= rule.characters else ""
    if not fits or re.fullmatch(rule.pattern, fits) is None:
        raise Cannot(
            permanent(
                "47003",
                Words(
                    f"the template's field {name} does not take the value that the message has for it",
                    f"模板字段 {name} 不接受该消息的值",
                ),
            )
        )
    return fits
