"""What a token's scopes let a device do with topics, compared with what scopes say everywhere else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoglm.auth.scopes import any_covers
from autoglm.channels.broker.gate.grants import Grants
from autoglm.channels.broker.gate.scopes import filters_of

TOPICS = ("a", "a/b", "a/b/c", "ab", "a/", "b", "/a", "/", "a/+", "a/#")
SCOPES = ("admin:*", "publish:topic", "publish:topic:*", "subscribe:topic:*", "send:message", "admin:policy",
          *(f"publish:topic:{topic}{end}" for topic in TOPICS for end in ("", "*", "/*")))  # fmt: skip


@given(st.lists(st.sampled_from(SCOPES), max_size=4), st.sampled_from(TOPICS))
def test_no_topic_is_granted_that_the_scopes_do_not_cover(scopes: list[str], topic: str) -> None:
    may_publish = Grants(filters_of(scopes, "publish:topic"), ()).may_publish(topic)
    assert not may_publish or any_covers(scopes, "publish:topic", topic)


@pytest.mark.parametrize(
    ("scope", "filters"),
    [
        ("publish:topic", ("#",)), ("publish:topic:*", ("#",)), ("admin:*", ("#",)), ("publish:topic:a/b", ("a/b",)),
        ("publish:topic:a/*", ("a/+/#",)), ("publish:topic:a*", ()), ("publish:topic:+/x", ()), ("publish:topic:#", ()),
        ("publish:topic:/*", ()), ("subscribe:topic:*", ()), ("admin:policy", ()),
        ("publish:topic:$SYS/*", ("$SYS/+/#",)),
        ("publish:topic:a/b*/*", ()), ("publish:topics:a", ()), ("publish:topic:", ()),
    ],
)  # fmt: skip
def test_scopes_become_filters(scope: str, filters: tuple[str, ...]) -> None:
    assert filters_of([scope, scope], "publish:topic") == filters


def test_each_action_has_its_own() -> None:
    scopes = ["publish:topic:plant/7/*", "subscribe:topic:plant/7/command"]
    assert filters_of(scopes, "publish:topic") == ("plant/7/+/#",)
    assert filters_of(scopes, "subscribe:topic") == ("plant/7/command",)
