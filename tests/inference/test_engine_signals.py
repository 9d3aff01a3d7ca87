"""What an answer tells about itself."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoglm.inference.engine.signals import MAX_BYTES, signals_of
from inference.growth import growth

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(
            st.sampled_from(
                ["choices", "message", "delta", "content", "tool_calls", "function", "finish_reason", "tools"]
            ),
            inner,
        )
    ),
    max_leaves=20,
)


PLAIN = {"not_cut_off", "not_refused", "not_empty"}


def doubling(levels: int) -> dict[str, Any]:
    """Each definition refers to the next one twice: 2^levels to check."""
    names = [f"#/$defs/{level}" for level in range(levels + 1)]
    definitions: dict[str, Any] = {
        str(level): {"allOf": [{"$ref": names[level + 1]}, {"$ref": names[level + 1]}]} for level in range(levels)
    }
    return {"$ref": names[0], "$defs": {**definitions, str(levels): {"type": "object"}}}


def checked_by(schema: Any, text: str) -> dict[str, float]:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    return signals_of(request(response_format=form), answer(text))


def request(**fields: Any) -> bytes:
    return json.dumps({"model": "auto", "messages": [{"role": "user", "content": "hi"}], **fields}).encode()


def answer(text: str | None = "Hello.", finish: str = "stop", calls: list[dict[str, Any]] | None = None) -> bytes:
    message = {"role": "assistant", "content": text, **({"tool_calls": calls} if calls else {})}
    return json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": finish}]}).encode()


def stream(*deltas: dict[str, Any], finish: str = "stop") -> bytes:
    chunks = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    return b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks) + b"data: [DONE]\n\n"


def tool_call(name: str, arguments: str) -> dict[str, Any]:
    return {"id": "1", "type": "function", "function": {"name": name, "arguments": arguments}}


def test_a_plain_answer_is_good_in_all_that_can_be_seen() -> None:
    assert signals_of(request(), answer()) == {"not_cut_off": 1.0, "not_refused": 1.0, "not_empty": 1.0}


def test_a_cut_answer_and_an_empty_one_are_seen() -> None:
    assert signals_of(request(), answer(finish="length"))["not_cut_off"] == 0.0
    assert signals_of(request(), answer(" \n"))["not_empty"] == 0.0


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "Sorry, I cannot do this.",
        "I'm unable to open files.",
        "As an AI language model, I have no opinion.",
        "抱歉，我无法回答这个问题。",
        "很抱歉，但我不能提供这些信息。",
        "对不起，我没办法帮您。",
        "作为一个人工智能语言模型，我无法判断。",
    ],
)
def test_a_refusal_is_seen_in_both_languages(text: str) -> None:
    assert signals_of(request(), answer(text))["not_refused"] == 0.0


@pytest.mark.parametrize(
    "text",
    ["He said: I'm sorry, but I can't.", "Sorry for the delay; here it is.", "他说：抱歉，我无法回答。", "可以。"],
)
def test_words_of_regret_that_are_no_refusal_pass(text: str) -> None:
    assert signals_of(request(), answer(text))["not_refused"] == 1.0


def test_a_filtered_answer_counts_as_refused() -> None:
    assert signals_of(request(), answer("", finish="sensitive"))["not_refused"] == 0.0


@pytest.mark.parametrize(
    ("text", "is_valid"),
    [('{"a": 1}', 1.0), ('```json\n{"a": 1}\n```', 1.0), ('{"a": "x"}', 0.0), ("{}", 0.0), ("a: 1", 0.0)],
)
def test_json_is_held_against_the_schema(text: str, is_valid: float) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    assert signals_of(request(response_format=form), answer(text))["json_valid"] == is_valid


def test_a_schema_that_leads_elsewhere_is_not_fetched_and_says_nothing() -> None:
    form = {"type": "json_schema", "json_schema": {"schema": {"$ref": "http://127.0.0.1:9/x"}}}
    assert signals_of(request(response_format=form), answer("{}")).keys() == PLAIN


def test_of_many_tool_calls_the_first_four_are_looked_at() -> None:
    good, bad = tool_call("weather", '{"city": "Ulm"}'), tool_call("weather", "{}")
    for calls, valid in (([good] * 4 + [bad] * 50, 1.0), ([good] * 3 + [bad] * 50, 0.75)):
        numbered = [{**call, "index": index} for index, call in enumerate(calls)]
        found = signals_of(request(tools=[WEATHER]), answer(None, "tool_calls", numbered))
        assert found["tool_call_valid"] == valid


@pytest.mark.parametrize(
    ("name", "arguments", "is_valid"),
    [
        ("weather", '{"city": "Ulm"}', 1.0),
        ("weather", '{"town": "Ulm"}', 0.0),
        ("weather", "Ulm", 0.0),
        ("news", "{}", 0.0),
    ],
)
def test_tool_calls_are_held_against_the_tools(name: str, arguments: str, is_valid: float) -> None:
    signals = signals_of(request(tools=[WEATHER]), answer(None, "tool_calls", [tool_call(name, arguments)]))
    assert signals["tool_call_valid"] == is_valid
    assert signals["not_empty"] == 1.0


def test_prose_where_a_tool_was_required_is_invalid() -> None:
    assert signals_of(request(tools=[WEATHER], tool_choice="required"), answer())["tool_call_valid"] == 0.0
    assert "tool_call_valid" not in signals_of(request(tools=[WEATHER]), answer())


def test_a_stream_is_read_as_its_whole() -> None:
    form = {"type": "json_object"}
    assert (
        signals_of(request(response_format=form), stream({"content": '{"a"'}, {"content": ": 1}"}))["json_valid"] == 1
    )
    pieces = [
        {"tool_calls": [{"index": 0, "function": {"name": "weather", "arguments": '{"ci'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": 'ty": "Ulm"}'}}]},
    ]
    assert signals_of(request(tools=[WEATHER]), stream(*pieces, finish="tool_calls"))["tool_call_valid"] == 1.0


WIDE = {"type": "object", "properties": {f"p{place}": {"type": "string"} for place in range(1_000)}}
ORDER = {
    "type": "object",
    "properties": {"from": {"$ref": "#/$defs/a~1b"}, "to": {"$ref": "#/$defs/a~1b"}},
    "$defs": {"a/b": {"type": "object", "properties": {"day": {"pattern": "^[0-9]{4}-[0-9]{2}$"}}}},
}


def test_a_schema_with_references_and_patterns_is_followed() -> None:
    assert checked_by(ORDER, '{"from": {"day": "2026-01"}, "to": {}}')["json_valid"] == 1.0
    assert checked_by(ORDER, '{"from": {"day": "2026-01"}, "to": {"day": "soon"}}')["json_valid"] == 0.0


@pytest.mark.parametrize(
    "schema",
    [
        doubling(16),
        {"$ref": "#"},
        {"items": {"$ref": "#"}},
        {"$ref": "#nowhere"},
        {"$defs": {"a": {"$id": "other", "$defs": {"b": {}}, "$ref": "#/$defs/b"}, "b": {}}, "$ref": "#/$defs/a"},
        {"$dynamicRef": "#x", "$defs": {"a": {"$dynamicAnchor": "x"}}},
        {"anyOf": [{"properties": {"a": {"unevaluatedProperties": False}}}]},
        WIDE,
        {"allOf": [{"pattern": f"^a{place}"} for place in range(30)]},
        {"pattern": "(a{1,1000}){1,100}"},
        {"pattern": "a" * 3_000},
        {"$defs": {"x" * 300: {}}, "$ref": "#/$defs/" + "x" * 300},
        {"type": "no such type"},
    ],
)
def test_of_a_schema_that_is_costly_or_wrong_nothing_is_said(schema: dict[str, Any]) -> None:
    """Though the answer would fit: to find out could take the event loop for hours."""
    assert checked_by(schema, "{}").keys() == PLAIN
    tool = {"type": "function", "function": {"name": "x", "parameters": schema}}
    calls = [tool_call("x", "{}")]
    assert "tool_call_valid" not in signals_of(request(tools=[tool]), answer(None, "tool_calls", calls))
    assert checked_by(schema, "no JSON")["json_valid"] == 0.0


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"items": {"type": "integer"}}, f"[{'1,' * 40_000}1]"),
        ({"items": {"allOf": [{"type": "integer"}] * 400}}, f"[{'1,' * 4_000}1]"),
        ({"pattern": "[ab]*a[ab]{200}[^ab]"}, f'"{"ab" * 16_000}"'),
    ],
)
def test_a_long_answer_is_not_held_against_a_schema(schema: dict[str, Any], text: str) -> None:
    assert checked_by(schema, text).keys() == PLAIN


def test_a_call_that_cannot_be_judged_leaves_the_verdict_to_the_others() -> None:
    costly = {"type": "function", "function": {"name": "x", "parameters": doubling(16)}}
    calls = [tool_call("x", "{}"), {**tool_call("weather", "{}"), "index": 1}]
    assert signals_of(request(tools=[WEATHER, costly]), answer(None, "tool_calls", calls))["tool_call_valid"] == 0.0


def test_blank_lines_after_a_fence_are_read_once() -> None:
    """Not once for each that might be the end of the first line: eight times as many, so about eight times the work."""
    few, many = (answer("```json" + "\n" * count + "x") for count in (4_000, 32_000))
    form = request(response_format={"type": "json_object"})
    assert signals_of(form, many)["json_valid"] == 0.0
    assert growth(lambda said: signals_of(form, said), few, many) < 24


def test_what_is_too_long_or_no_chat_is_not_judged() -> None:
    assert signals_of(request(), answer("x" * MAX_BYTES)) == {}
    assert signals_of(request(), b'{"data": []}') == {}
    assert signals_of(request(), b"<html>") == {}


@given(JSON_VALUES, JSON_VALUES)
def test_odd_fields_raise_nothing(wanted: Any, said: Any) -> None:
    signals = signals_of(json.dumps(wanted).encode(), json.dumps(said).encode())
    assert all(0.0 <= value <= 1.0 for value in signals.values())
