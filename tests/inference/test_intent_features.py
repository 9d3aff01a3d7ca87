"""What is read of a request at a glance: right on usual requests, and total on odd ones."""

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoglm.inference.features import Features, Language
from autoglm.inference.intent.features import (
    MAX_VALUES,
    ORDER_CHARACTERS,
    SEEN_CHARACTERS,
    Reading,
    has_code,
    has_mathematics,
    language_of,
    orders_in,
    read_request,
    skim,
)
from inference.growth import peak_bytes

CHAT = "/chat/completions"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=5),
    max_leaves=20,
)
KEYS = ("messages", "prompt", "input", "instructions", "tools", "functions", "tool_choice", "response_format", "text")
PARTS = st.fixed_dictionaries({}, optional={"type": JSON, "text": JSON, "content": JSON, "role": JSON})
ODD = st.fixed_dictionaries({}, optional={key: JSON | st.lists(PARTS | JSON, max_size=4) for key in KEYS})


def read(api: str = CHAT, **fields: Any) -> Reading:
    return read_request(json.dumps({"model": "auto", **fields}).encode(), api)


def said(content: Any, **fields: Any) -> Reading:
    return read(messages=[{"role": "user", "content": content}], **fields)


@given(ODD)
def test_any_json_has_features(body: dict[str, Any]) -> None:
    reading = read_request(json.dumps(body).encode(), CHAT)
    assert reading.features.prompt_tokens >= 0
    assert all(order and len(order) <= 2 * ORDER_CHARACTERS for order in reading.orders)
    assert len(reading.text) <= 2 * SEEN_CHARACTERS + 1


@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_what_is_no_request_has_features_too(body: bytes) -> None:
    assert read_request(body, CHAT).features.api == CHAT


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"[" * 100_000, b'{"messages":' + b"[" * 100_000, b"\xff"])
def test_what_cannot_be_read_has_no_features(body: bytes) -> None:
    assert read_request(body, CHAT) == (Features(api=CHAT), "", ())


@pytest.mark.parametrize(
    ("api", "fields"),
    [
        (CHAT, {"messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "hello"}]}),
        (CHAT, {"messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}]}]}),
        ("/completions", {"prompt": "hello"}),
        ("/completions", {"prompt": ["first", "hello"]}),
        ("/embeddings", {"input": ["hello"]}),
        ("/responses", {"instructions": "Be short.", "input": "hello"}),
        ("/responses", {"input": [{"role": "user", "content": [{"type": "input_text", "text": "hello"}]}]}),
    ],
)
def test_the_user_s_last_words_are_found_in_every_form(api: str, fields: dict[str, Any]) -> None:
    assert read(api, **fields).orders == ("hello",)


def test_the_last_turn_of_the_user_counts() -> None:
    roles = ("user", "assistant", "user", "assistant", "tool")
    reading = read(messages=[{"role": role, "content": f"{role} {place}"} for place, role in enumerate(roles)])
    assert (reading.text, reading.features.turns) == ("user 2", 5)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("What is a quorum?", "en"), ("什么是法定人数?", "zh"), ("帮我 review 一下这个 pull request", "mixed"),
        ("こんにちは、元気ですか", "other"),
        ("Как дела", "other"), ("", "none"), ("12 + 30 = ?", "none"), ("把 AC 调到二十六度,然后把客厅的灯关掉", "zh"),
        ("The word 好 means good in most of its uses", "en"), ("Où est la gare", "en"),
    ],
)  # fmt: skip
def test_language_follows_the_scripts(text: str, language: Language) -> None:
    assert language_of(text) == language


@pytest.mark.parametrize(
    "text",
    [
        "```\nx\n```", "def f(x):\n    return x", "import os", "from a.b import c", "#include <stdio.h>", "print(1)",
        "SELECT name FROM users", "ValueError: bad", "x = 1;\ny = 2;\n", "git push origin main", "<b>hi</b>",
        "public static void main", "const x = 3",
    ],
)  # fmt: skip
def test_code_is_seen(text: str) -> None:
    assert has_code(text)


@pytest.mark.parametrize(
    "text",
    [
        "Write a letter; keep it short.", "import duties on steel were raised by the new law", "用中文写一封信",
        "from Monday on we are closed", "Select a colour from the list", "git is a tool", "Let me know; thanks",
        "class of 1998 reunion", "The function of the heart",
    ],
)  # fmt: skip
def test_prose_is_no_code(text: str) -> None:
    assert not has_code(text)


@pytest.mark.parametrize(
    "text", ["3 + 5", "解方程 2x+5=17", "x^2", "∫ x dx", "f(x) is even", "what is 12*12", "$a_n = 2$"]
)
def test_mathematics_is_seen(text: str) -> None:
    assert has_mathematics(text)


@pytest.mark.parametrize(
    "text", ["2026-11-27", "call 021-5555-1234", "192.168.1.20", "room 12", "版本 1.2.3-4", "A-203"]
)
def test_dates_and_numbers_are_no_mathematics(text: str) -> None:
    assert not has_mathematics(text)


def test_pictures_sounds_tools_and_json_are_seen() -> None:
    image = said([{"type": "text", "text": "What?"}, {"type": "image_url", "image_url": {"url": "data:,"}}]).features
    audio = said([{"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}]).features
    tools = said("x", tools=[{"type": "function", "function": {"name": "f"}}]).features
    form = said("x", response_format={"type": "json_schema", "json_schema": {}}).features
    newer = read("/responses", input="x", text={"format": {"type": "json_schema"}}).features
    assert [image.has_image, audio.has_audio, tools.wants_tools, form.wants_json, newer.wants_json] == [True] * 5
    plain = said("x", tools=[], tool_choice="auto", response_format={"type": "text"}).features
    assert [plain.has_image, plain.has_audio, plain.wants_tools, plain.wants_json] == [False] * 4
    assert not said("x", tools=[{"type": "function"}], tool_choice="none").features.wants_tools


@pytest.mark.parametrize(("text", "low", "high"), [("word " * 1000, 1000, 1500), ("中文" * 500, 500, 800), ("", 0, 0)])
def test_tokens_are_estimated_by_script(text: str, low: int, high: int) -> None:
    assert low <= said(text).features.prompt_tokens <= high


def test_all_of_the_conversation_and_the_tools_count_as_tokens() -> None:
    once = said("word " * 100).features.prompt_tokens
    tool = {"type": "function", "function": {"name": "f", "description": "word " * 100}}
    assert said("word " * 100, tools=[tool]).features.prompt_tokens > 2 * once
    assert read("/completions", prompt=list(range(700))).features.prompt_tokens == 700


def test_an_order_stands_at_one_end_of_a_long_text() -> None:
    body = "lorem ipsum " * 1000
    assert orders_in(f"Summarize this.\n{body}")[0] == "Summarize this."
    assert orders_in(f"{body}\n请总结上文")[1] == "请总结上文"
    assert orders_in("short\ntext") == ("short\ntext",)
    assert orders_in(" \n ") == ()


@pytest.mark.parametrize(
    "text",
    ["x" * 100_000, "字" * 100_000, " " * 100_000, ";\n" * 50_000, "((1+" * 25_000, "$" * 100_000, "SELECT " * 14_000],
)  # fmt: skip
def test_a_prompt_of_100_000_characters_costs_a_bounded_time(text: str) -> None:
    """A hundred times what is usual, so that only a cost that grows with the square of the length fails it."""
    began_s = time.process_time()
    said(text)
    assert time.process_time() - began_s < 0.2


@given(ODD | JSON, st.binary(max_size=3))
def test_any_body_can_be_skimmed(body: Any, rest: bytes) -> None:
    reading = skim(json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass") + rest, CHAT)
    assert reading.features.api == CHAT
    assert len(reading.text) <= 2 * SEEN_CHARACTERS + 1


def test_a_body_of_very_many_values_is_skimmed() -> None:
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ok"}] * (MAX_VALUES // 4)
    picture = {"role": "user", "content": [{"type": "image_url"}, {"type": "text", "text": '写一首"诗"'}]}
    tools = [{"type": "function", "function": {"name": "f"}}]
    skimmed = read(messages=[*turns, picture], tools=tools, response_format={"type": "json_object"})
    features = skimmed.features
    assert (skimmed.text, features.language, features.turns) == ('写一首"诗"', "zh", len(turns) + 1)
    assert [features.has_image, features.has_audio, features.wants_tools, features.wants_json] == [1, 0, 1, 1]
    assert read(prompt="one, two" + ", three" * MAX_VALUES, tools=tools, tool_choice="none").text.startswith("one, two")


@pytest.mark.parametrize("field", ["messages", "prompt", "tools", "tool_choice", "response_format", "text"])
def test_very_many_values_take_no_more_memory_than_the_body(field: str) -> None:
    """A Python list for each of them took 27 times as much."""
    body = b'{"model":"auto","%b":[' % field.encode() + b"[]," * 700_000 + b"[]]}"
    assert peak_bytes(lambda body: read_request(body, CHAT), body) < 4 * len(body)
