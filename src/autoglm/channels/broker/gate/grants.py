"""Which topics filters allow: one by one, and all that another filter matches. Pure.

Source: MQTT 5.0, sections 4.7 (filters, topics that begin with $) and 4.8.2 (shared subscriptions).
"""

import re
from collections.abc import Sequence
from functools import lru_cache

from autoglm.channels.adapters.mqtt.topics import filter_flaw, topic_flaw

_FRESH = "\0"
"""A level that no filter has, for a NUL is in no string (1.5.4)."""
_SHARE = "$share/"


class Grants:
    """`Topics` by filters alone. Topics that begin with $ need one that does so as well; nobody publishes there."""

    epoch = 0

    def __init__(self, publish: Sequence[str], subscribe: Sequence[str]) -> None:
        """Filters of MQTT, without $share; raises ValueError for what is none."""
        for one in (*publish, *subscribe):
            if (flaw := filter_flaw(one)) is not None:
                raise ValueError(f"the filter {one!r} {flaw}")
        self._publish, self._subscribe = tuple(publish), tuple(subscribe)

    def may_publish(self, topic: str) -> bool:
        """False for topics that begin with $, too: they are the broker's own (4.7.2)."""
        return not topic.startswith("$") and topic_flaw(topic) is None and _matches(self._publish, topic)

    def may_still_publish(self, topic: str) -> bool:
        return self.may_publish(topic)

    def may_read(self, topic: str) -> bool:
        return _matches(self._subscribe, topic)

    def may_subscribe(self, pattern: str) -> bool:
        """Whether all is granted that it matches; of a shared subscription its filter counts."""
        wanted = subscribed(pattern)
        return wanted is not None and filter_flaw(wanted) is None and is_within(wanted, self._subscribe)


def subscribed(pattern: str) -> str | None:
    """The filter in a SUBSCRIBE's topic filter, which may be shared; None where that is malformed."""
    if not pattern.startswith(_SHARE) and pattern != "$share":
        return pattern
    group, _, inner = pattern[len(_SHARE) :].partition("/")
    return inner if group and inner and "+" not in group and "#" not in group else None


def is_within(pattern: str, granted: Sequence[str]) -> bool:
    """Whether each topic that `pattern` matches is matched by one of `granted`.

    Exact, because there are more level names than filters can list: a wildcard is covered by wildcards alone. So it is
    enough to look at the topics that have a fresh name in each wildcard's place, and for # at each depth up to one
    more than the deepest of `granted`.
    """
    levels = [_FRESH if level == "+" else level for level in pattern.split("/")]
    if levels[-1] != "#":
        return _matches(tuple(granted), "/".join(levels))
    stem = levels[:-1]
    deepest = max((one.count("/") + 1 for one in granted), default=0)
    most = max(1, deepest + 1 - len(stem))
    topics = ("/".join([*stem, *[_FRESH] * more]) for more in range(most + 1))
    return all(_matches(tuple(granted), topic) for topic in topics if topic)  # no topic is empty (4.7.3)


def _matches(granted: tuple[str, ...], topic: str) -> bool:
    return _expression(granted).fullmatch(topic) is not None


@lru_cache(1024)
def _expression(granted: tuple[str, ...]) -> re.Pattern[str]:
    """Linear in the topic for each filter: a wildcard ends where its level does."""
    return re.compile("|".join(_branch(one) for one in granted) or r"(?!)", re.DOTALL)


def _branch(pattern: str) -> str:
    hidden = r"(?!\$)" if pattern[0] in "+#" else ""
    if pattern == "#":
        return hidden + ".*"
    is_tree = pattern.endswith("/#")
    levels = pattern.removesuffix("/#").split("/")
    named = "/".join("[^/]*" if level == "+" else re.escape(level) for level in levels)
    return hidden + named + ("(?:/.*)?" if is_tree else "")
