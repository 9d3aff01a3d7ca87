"""Names an intent where its words leave no doubt: before the classifier is asked, and while there is none yet.

Each rule was written from what its words mean, not from data; `benchmarks/intent.py` reports how often they are right.
"""

import re
from typing import NamedTuple

_MAX_CHARACTERS = 240
"""A rule speaks of a whole order; what is longer holds other things, too."""
_POLITE_ENGLISH = r"^(?:(?:please|pls|can you|could you|would you|help me|kindly|now)[, ]+){0,3}"
_POLITE_CHINESE = r"^(?:请|麻烦|帮我|帮忙|给我|你|能不能|可以|把|将|再|来){0,4}"
_LANGUAGE = r"(?:python|javascript|typescript|java|c\+\+|c#|rust|go|golang|sql|php|bash|shell|matlab)"
_SUM = r"[\d\s.,()+\-*/×÷^%]*\d(?:\s*[+*×÷^]\s*|\s+[-/]\s+)[\d(][\d\s.,()+\-*/×÷^%]*"
"""A minus or a stroke without blanks may be part of a date or a number."""


class Rule(NamedTuple):
    intent: str
    pattern: re.Pattern[str]


def _rule(intent: str, english: str, chinese: str) -> Rule:
    """How an order begins, after words of courtesy."""
    begins = f"{_POLITE_ENGLISH}(?:{english})|{_POLITE_CHINESE}(?:{chinese})"
    return Rule(intent, re.compile(begins, re.IGNORECASE))


RULES = (
    Rule("mathematics", re.compile(rf"^(?:what is|计算|求)?{_SUM}(?:等于几|是多少|等于多少|=)?\s*[?？]?$")),
    Rule("debugging", re.compile(r"Traceback \(most recent call last\)|^\w*(?:Error|Exception): ", re.MULTILINE)),
    _rule("translation", r"translate\b", r"翻译|.{0,40}(?:翻译成|翻译为|译成|译为)"),
    _rule("summary", r"(?:summari[sz]e|tl;?dr)\b", r"(?:总结|概括|归纳)(?:一下|下)?(?:这|下面|以下|上述|全文|本文)"),
    _rule(
        "code",
        rf"(?:write|implement|create|generate|code)\b.{{0,40}}\b{_LANGUAGE}\b.{{0,20}}\b(?:code|script|function|program)\b",
        rf"用\s*{_LANGUAGE}\s*.{{0,6}}(?:写|实现|编写|做)",
    ),
    _rule("rewriting", r"(?:rewrite|rephrase|paraphrase|proofread|reword)\b", r"(?:润色|改写|校对)"),
    _rule(
        "creative",
        r"(?:write|compose) (?:me )?an? (?:short )?(?:poem|haiku|limerick|sonnet|story|song)\b",
        r"(?:写|作)一?[首篇个](?:诗|歌词|童话|小说|故事)",
    ),
)
"""In the order in which they are tried."""


def named_by_rule(order: str) -> str:
    """The name of the intent, or an empty string. order: the text in which what is wanted stands."""
    if len(order) > _MAX_CHARACTERS:
        return ""
    for rule in RULES:
        if rule.pattern.search(order) is not None:
            return rule.intent
    return ""
