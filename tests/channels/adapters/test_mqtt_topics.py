"""Topics and filters against an oracle of regular expressions, and topics in addresses."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from autoglm.channels.adapters.mqtt import MqttSettings
from autoglm.channels.adapters.mqtt.incoming import topic_address
from autoglm.channels.adapters.mqtt.topics import (
    as_name,
    captures,
    covers,
    filled,
    filter_flaw,
    matches,
    topic_flaw,
    topic_of,
    widest,
)  # fmt: skip
from autoglm.channels.settings import parse_channel
from autoglm.core.address import MAX_ADDRESS, check_address

LEVELS = st.sampled_from(["a", "b", "", "$s", "a b", "x.y", "😀"])
TOPICS = st.lists(LEVELS, min_size=1, max_size=5).map("/".join).filter(bool)
FILTERS = st.tuples(
    st.lists(st.one_of(LEVELS, st.just("+")), max_size=4), st.sampled_from([["#"], []])
).map(lambda parts: "/".join([*parts[0], *parts[1]])).filter(bool)  # fmt: skip
NAMES = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="+#"), min_size=1, max_size=40)


def oracle(pattern: str, topic: str) -> bool:
    """MQTT 5.0, section 4.7, as one regular expression."""
    if topic.startswith("$") and pattern[0] in "+#":
        return False
    if pattern == "#":
        return True
    is_tree = pattern.endswith("/#")
    levels = pattern.removesuffix("/#").split("/")
    body = "/".join("[^/]*" if level == "+" else re.escape(level) for level in levels)
    return re.fullmatch(body + ("(/.*)?" if is_tree else ""), topic, re.DOTALL) is not None


@given(FILTERS, TOPICS)
def test_a_filter_matches_what_the_standard_says(pattern: str, topic: str) -> None:
    assert filter_flaw(pattern) is None
    assert matches(pattern, topic) is oracle(pattern, topic)


@given(FILTERS, TOPICS)
def test_a_topic_is_its_filter_with_the_captures_in_the_places_of_the_wildcards(pattern: str, topic: str) -> None:
    found = captures(pattern, topic)
    if found is None:
        return
    rest = iter(found)
    again = "/".join(next(rest) if level in ("+", "#") else level for level in pattern.split("/"))
    assert again in (topic, f"{topic}/")  # `a/#` matches `a`, too
    assert next(rest, None) is None


@given(FILTERS, FILTERS, TOPICS)
def test_what_a_narrow_filter_matches_a_wide_one_does(wide: str, narrow: str, topic: str) -> None:
    if covers(wide, narrow) and oracle(narrow, topic):
        assert oracle(wide, topic)


@given(st.lists(FILTERS, max_size=6), TOPICS)
def test_the_widest_filters_match_the_same_topics(patterns: list[str], topic: str) -> None:
    kept = widest(patterns)
    assert any(oracle(one, topic) for one in kept) is any(oracle(one, topic) for one in patterns)
    assert not [one for one in kept for other in kept if one != other and covers(one, other)]


@given(NAMES)
def test_a_topic_reads_as_a_name_and_back(topic: str) -> None:
    check_address(f"channel:mqtt/{as_name(topic)}")
    assert topic_of(as_name(topic)) == topic


@given(st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=400))
def test_every_topic_has_an_address(topic: str) -> None:
    address = topic_address("mqtt", topic)
    check_address(address)
    assert len(address) <= MAX_ADDRESS
    assert topic_address("mqtt", topic + "x") != address


@pytest.mark.parametrize(
    ("topic", "part"),
    [
        ("", "empty"), ("a/+/b", "wildcard"), ("a/#", "wildcard"), ("a\x00b", "control"), ("a\nb", "control"),
        ("\ud800", "control"), ("x" * 65_536, "65,535"), ("压" * 21_846, "65,535"),
    ],
)  # fmt: skip
def test_what_is_no_topic_is_told(topic: str, part: str) -> None:
    assert part in str(topic_flaw(topic))


@pytest.mark.parametrize("topic", ["x" * 65_535, "压" * 21_845, "plant 7/a.b/😀", "/", "//a/", "$SYS/x"])
def test_unusual_topics_are_topics(topic: str) -> None:
    assert topic_flaw(topic) is None


@pytest.mark.parametrize("pattern", ["a#", "a/#/b", "a+", "a/+b", "#/", "", "a\x00"])
def test_what_is_no_filter_is_told(pattern: str) -> None:
    assert filter_flaw(pattern) is not None


def test_templates_take_levels_and_the_topic() -> None:
    assert filled("{2}-{1} of {topic} {x}", ["a", "b"], "a/b") == "b-a of a/b {x}"


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"topics": [{"topic": "a/+", "from": "device:{2}"}]}, "the filter has 1 wildcard"),
        ({"topics": [{"topic": "a/+", "to": "nobody {1}"}]}, "not an address"),
        ({"topics": [{"topic": "a/#/b"}]}, "not its whole last level"),
        ({"topics": [{"topic": "$share/g/a"}]}, "set `share`"),
        ({"targets": [{"target": "+", "topic": "a/#"}]}, "wildcard"),
        ({"targets": [{"target": "+", "topic": "a/{2}"}]}, "the filter has 1 wildcard"),
        ({"presence": {"topic": "a/+"}}, "wildcard"),
        ({"publish": ["a/b#"]}, "not its whole last level"),
        ({"share": "g", "version": "3.1.1"}, "share needs"),
        ({"broker": "nats-server"}, "3.1.1"),
        ({"broker": "nats-server", "version": "3.1.1", "topics": [{"topic": "a b"}]}, "no blank"),
        ({"tls_ca_file": "x.pem"}, "mqtts://"),
        ({"url": "mqtts://b", "tls_key_file": "x.pem"}, "go together"),
        ({"password": "x"}, "needs a username"),
        ({"url": "mqtt://user:secret@b"}, "pattern"),
        ({"url": "http://b"}, "pattern"),
        ({"url": "mqtt://b:0"}, "1 to 65535"),
        ({"url": "mqtt://b:65536"}, "1 to 65535"),
    ],
)
def test_settings_that_cannot_work_are_told(fields: dict[str, Any], part: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(part)):
        parse_channel({"name": "mqtt", "kind": "mqtt", "url": "mqtt://broker", **fields})


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("mqtt://broker", "broker", 1883), ("mqtts://broker/", "broker", 8883), ("mqtt://[::1]:1884", "::1", 1884),
        ("mqtt://10.0.0.1:99", "10.0.0.1", 99),
    ],
)  # fmt: skip
def test_a_url_names_host_and_port(url: str, host: str, port: int) -> None:
    settings = parse_channel({"name": "mqtt", "kind": "mqtt", "url": url})
    assert isinstance(settings, MqttSettings)
    assert (settings.host, settings.port) == (host, port)
