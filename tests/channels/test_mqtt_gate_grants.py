"""Which topics and filters a device's rights cover, against a model that lists the topics."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoglm.channels.broker.gate.grants import Grants, is_within

LEVELS = ("a", "b", "", "z")
"""z stands for all names that no filter has."""
TOPICS = [
    topic
    for depth in range(1, 5)
    for first in (*LEVELS, "$a")
    for rest in product(LEVELS, repeat=depth - 1)
    if (topic := "/".join((first, *rest)))
]


def matched(pattern: str, topic: str) -> bool:
    """MQTT 5.0, section 4.7, word for word."""
    if topic.startswith("$") and pattern[0] in "+#":
        return False
    return _levels(pattern.split("/"), topic.split("/"))


def _levels(pattern: list[str], topic: list[str]) -> bool:
    if pattern == ["#"]:
        return True
    if not pattern or not topic:
        return not pattern and not topic
    return pattern[0] in ("+", topic[0]) and (
        _levels(pattern[1:], topic[1:]) or (not topic[1:] and pattern[1:] == ["#"])
    )


filters = (
    st.lists(st.sampled_from(("a", "b", "", "+")), min_size=1, max_size=3)
    .flatmap(lambda levels: st.sampled_from((levels, [*levels[:2], "#"], ["$a", *levels[:2]])))
    .map("/".join)
    .filter(bool)
    | st.sampled_from(("#", "$a/#", "+/#"))
)  # fmt: skip


@given(filters, st.lists(filters, max_size=4))
def test_a_filter_is_granted_exactly_when_each_of_its_topics_is(wanted: str, granted: list[str]) -> None:
    covered = all(
        any(matched(one, topic) for one in granted) for topic in TOPICS if matched(wanted, topic)
    )  # fmt: skip
    assert is_within(wanted, granted) is covered


@given(st.lists(filters, max_size=4), st.sampled_from(TOPICS))
def test_a_topic_is_granted_exactly_when_a_filter_matches_it(granted: list[str], topic: str) -> None:
    grants = Grants(granted, granted)
    is_matched = any(matched(one, topic) for one in granted)
    assert grants.may_read(topic) is is_matched
    assert grants.may_publish(topic) is (is_matched and not topic.startswith("$"))


@pytest.mark.attack("wildcard widening")
@pytest.mark.parametrize(
    ("granted", "wanted"),
    [
        (["plant/7/#"], "plant/+/command"), (["plant/7/#"], "#"), (["plant/7/#"], "plant/#"), (["plant/+"], "plant/#"),
        (["plant/7"], "plant/7/#"), (["+/x"], "#"), (["#"], "$SYS/#"), (["+/#"], "$SYS/x"), (["a", "b"], "+"),
        (["plant/7/#"], "$share/g/plant/#"), (["plant/7/#"], "$share/g/#"), (["#"], "$share/g/$SYS/#"),
        (["plant/7/#"], "$share/g"), (["#"], "$share//a"), (["#"], "$share/g+/a"), (["#"], "$share/g/"),
        (["#"], "$share"), (["#"], "a/#/b"), (["#"], "a#"), (["#"], "a+"), (["#"], "a\0b"), ([], "a"),
        ([], "/#"), ([], "#"), (["/"], "/#"), (["+", "+/+"], "#"), (["a", "a/+"], "a/#"),
        (["plant/7/#"], "plant/7x"),
    ],
)  # fmt: skip
def test_no_filter_reaches_beyond_what_is_granted(granted: list[str], wanted: str) -> None:
    assert not Grants((), granted).may_subscribe(wanted)


@pytest.mark.parametrize(
    ("granted", "wanted"),
    [
        (["plant/7/#"], "plant/7"), (["plant/7/#"], "plant/7/+"), (["plant/7/#"], "$share/g/plant/7/#"), (["#"], "+/#"),
        (["+/#"], "#"), (["a", "a/+/#"], "a/#"), (["+", "+/+/#"], "#"), (["$SYS/#"], "$SYS/broker/+"),
        (["plant/+/command"], "plant/7/command"), (["压机/#"], "压机/7/温度"), (["a.b/#"], "a.b/c"),
    ],
)  # fmt: skip
def test_what_is_granted_may_be_had_in_parts_and_together(granted: list[str], wanted: str) -> None:
    assert Grants((), granted).may_subscribe(wanted)


@pytest.mark.parametrize("topic", ["$SYS/x", "$MQTT/x", "a/+", "a/#", "", "a\0b", "a\nb", "b"])
def test_nobody_publishes_to_these(topic: str) -> None:
    """Even with a right to read them, and one to all below a."""
    assert not Grants(["a/#", "$SYS/#", "$MQTT/#"], ()).may_publish(topic)


def test_rights_of_what_is_no_filter_are_a_fault() -> None:
    with pytest.raises(ValueError, match="not a whole level"):
        Grants(["a+"], ())
