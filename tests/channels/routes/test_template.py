"""Templates are bounded and sandboxed; what goes wrong is said in words."""

import pytest

from autoglm.channels.routes.event import Event
from autoglm.channels.routes.template import MAX_TEXT_BYTES, check_template, plain_text, rendered
from autoglm.core.errors import InvalidField

EVENT = Event(content="down {{ 7 * 7 }}", title="Press", labels={"line": "3"}, priority=9)


def test_a_template_has_the_event_and_how_many_there_are() -> None:
    source = "{{ event.title }} on line {{ event.labels.line }} ({{ count }}){% for e in events %}!{% endfor %}"
    assert rendered(source, [EVENT, EVENT]) == "Press on line 3 (2)!!"


def test_a_strangers_text_is_a_value_and_never_a_template() -> None:
    assert rendered("{{ event.content }}", [EVENT]) == "down {{ 7 * 7 }}"
    assert plain_text([EVENT]) == "Press\ndown {{ 7 * 7 }}"


@pytest.mark.parametrize(
    "source",
    [
        "{{ event.__class__.__mro__ }}",
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ nothing }}",
        "{{ event.labels.nothing }}",
        "{{ 1 / 0 }}",
        "{{ range(10 ** 9) | list }}",
        "{{ event.title + 1 }}",
        "{% include 'autoglm.toml' %}",
    ],
)
def test_what_must_not_or_cannot_be_done_fails_in_words(source: str) -> None:
    with pytest.raises(InvalidField, match="the template fails"):
        rendered(source, [EVENT])


def test_a_long_text_is_cut() -> None:
    assert len(rendered("{% for i in range(90000) %}压{% endfor %}", [EVENT]).encode()) <= MAX_TEXT_BYTES


def test_a_broken_template_is_found_before_it_is_used() -> None:
    with pytest.raises(InvalidField, match=r"route\[0\].template: line 2: "):
        check_template("a\n{% if %}", "route[0].template")
    check_template("{{ event.content }}", "x")
