"""The decoder, its words for what is wrong, and its agreement with the JSON Schema that is published."""

import contextlib
import json
import re
import tracemalloc
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.openapi import from_dict

from autoglm.core.envelope import (
    KINDS,
    MAX_DEPTH,
    Envelope,
    ImagePart,
    ImageUrl,
    JsonPart,
    TextPart,
    decode_envelope,
    encode_envelope,
    envelope_schema,
    text_of,
)
from autoglm.core.errors import InvalidField, InvalidJson

SCHEMA_FILE = Path(__file__).resolve().parents[2] / "docs" / "envelope.schema.json"
VALIDATOR = jsonschema_rs.Draft202012Validator(envelope_schema())
HELLO = {"to": "user:alice", "content": "hello"}

names = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=40)
addresses = st.builds("{}:{}".format, st.sampled_from(["user", "group", "device", "model"]), names)
ids = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=128)
milliseconds = st.integers(0, 2**53 - 1)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
parts = st.one_of(
    st.builds(TextPart, text=st.text()),
    st.builds(JsonPart, json=json_values),
    st.builds(ImagePart, image_url=st.builds(ImageUrl, url=st.text())),
)
envelopes = st.builds(
    Envelope,
    to=addresses,
    content=st.text() | st.lists(parts, max_size=4),
    id=ids,
    from_=addresses,
    timestamp=milliseconds,
    kind=st.sampled_from(KINDS),
    labels=st.dictionaries(st.text(max_size=128), st.text(max_size=1024), max_size=8),
    priority=st.integers(0, 9),
    reply_to=st.none() | ids,
    thread=st.none() | ids,
    expires_at=st.none() | milliseconds,
)


@given(envelopes)
def test_an_envelope_survives_the_wire_and_fits_the_schema(envelope: Envelope) -> None:
    wire = encode_envelope(envelope)
    assert decode_envelope(wire) == envelope
    assert VALIDATOR.is_valid(json.loads(wire))


@given(st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_an_envelope_or_a_hub_error(body: bytes) -> None:
    with contextlib.suppress(InvalidJson, InvalidField):
        assert isinstance(decode_envelope(body), Envelope)


def generated_from_the_schema() -> st.SearchStrategy[Any]:
    schema = envelope_schema()
    request = {"required": True, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Envelope"}}}}
    components = json.loads(json.dumps(schema["$defs"]).replace("#/$defs/", "#/components/schemas/"))
    described = from_dict(
        {
            "openapi": "3.1.0",
            "info": {"title": "envelope", "version": "1"},
            "paths": {"/": {"post": {"requestBody": request, "responses": {"200": {"description": "fine"}}}}},
            "components": {"schemas": components},
        }
    )
    return described["/"]["POST"].as_strategy().map(lambda case: case.body)


def integers_written_as_such(value: Any) -> Any:
    """JSON Schema takes 4.0 for an integer, our decoder wants 4."""
    match value:
        case dict():
            return {name: integers_written_as_such(inner) for name, inner in value.items()}
        case list():
            return [integers_written_as_such(inner) for inner in value]
        case float() if value.is_integer():
            return int(value)
    return value


@settings(suppress_health_check=list(HealthCheck), deadline=None, max_examples=150)
@given(generated_from_the_schema())
def test_what_fits_the_schema_decodes(value: Any) -> None:
    envelope = decode_envelope(json.dumps(integers_written_as_such(value)).encode())
    assert envelope.to == value["to"]


@pytest.mark.parametrize(
    "change",
    [
        {"to": "alice"}, {"to": ""}, {"to": "user:a\n"}, {"to": "user:a b"}, {"to": "user:" + "a" * 206}, {"to": None},
        {"to": "channel:WeCom/room"}, {"to": "site:north/bob"}, {"from": ""}, {"from": "bob"},
        {"id": ""}, {"id": "a b"}, {"id": "a\n"}, {"id": "é"}, {"id": "a" * 129}, {"id": 7},
        {"content": None}, {"content": 5}, {"content": {}}, {"content": ["text"]}, {"content": [{"type": "video"}]},
        {"content": [{"type": "text"}]}, {"content": [{"type": "text", "text": "x", "more": 1}]},
        {"content": [{"text": "x"}]},
        {"timestamp": -1}, {"timestamp": 2**53}, {"timestamp": "now"}, {"timestamp": 1.5}, {"timestamp": True},
        {"kind": "shout"}, {"kind": None}, {"priority": 10}, {"priority": -1}, {"priority": "5"},
        {"labels": {"a": 5}}, {"labels": {"a" * 129: "b"}}, {"labels": {"a": "b" * 1025}}, {"labels": []},
        {"labels": {str(number): "" for number in range(65)}}, {"reply_to": ""}, {"thread": "a b"}, {"expires_at": -1},
        {"lamport": -1}, {"site": "a" * 65}, {"subject": "unknown"},
    ],
    ids=lambda change: json.dumps(change)[:40],
)  # fmt: skip
def test_decoder_and_schema_refuse_the_same(change: dict[str, Any]) -> None:
    assert not VALIDATOR.is_valid(HELLO | change)
    with pytest.raises(InvalidField) as caught:
        decode_envelope(json.dumps(HELLO | change).encode())
    assert str(caught.value.facts["field"]).startswith(next(iter(change)))


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        (b'{"to": "alice", "content": "x"}', "to", "did you mean 'user:alice'?"),
        (b'{"to": "user:a", "from": "bob", "content": "x"}', "from", "'bob' is not an address such as 'user:alice'"),
        (b'{"to": "user:a", "content": "x", "id": "a b"}', "id", "1 to 128 visible ASCII characters"),
        (b'{"to": "user:a", "content": "x", "thread": "\\u0000"}', "thread", "visible ASCII"),
        (b'{"to": "user:a"}', "content", "is missing"),
        (b'{"to": "user:a", "content": "x", "prioritty": 1}', "prioritty", "Did you mean 'priority'?"),
        (b'{"to": "user:a", "content": [{"type": "text", "txt": 1}]}', "content[0].txt", "there is no such field"),
        (b'{"to": "user:a", "content": [{"type": "text"}]}', "content[0].text", "is missing"),
        (b'{"to": "user:a", "content": [{"type": "text", "text": 1}]}', "content[0].text", "must be text, not a whole"),
        (
            b'{"to": "user:a", "content": "x", "labels": {"' + b"k" * 200 + b'": "v"}}', "labels",
            "each name in it must be text of at most 128 characters",
        ),
        (b"[]", "body", "must be an object, not a list"),
        (b"null", "body", "must be an object, not null"),
        (b'{"to": "user:a", "content": "x", "priority": 1e999}', "priority", "must be a whole number from 0 to 9"),
        (b'{"to": "user:a", "content": "x", "priority": 10}', "priority", "must be a whole number from 0 to 9"),
        (b'{"to": "user:a", "content": "x", "priority": 5.0}', "priority", "from 0 to 9, not a decimal number"),
        (b'{"to": "user:a", "content": 5}', "content", "must be text or a list, not a whole number"),
        (b'{"to": "user:a", "content": "x", "site": 5}', "site", "must be text of at most 64 characters"),
        (b'{"to": "user:a", "content": "x", "id": ""}', "id", "must be text of 1 to 128 characters"),
        (
            b'{"to": "user:a", "content": "x", "kind": "sms"}', "kind",
            "must be one of 'alert', 'chat', 'event', 'log', 'receipt', 'task', not 'sms'",
        ),
        (
            b'{"to": "user:a", "content": [{"type": "video"}]}', "content[0].type",
            "must be one of 'text', 'image_url', 'input_audio', 'file', 'json', not 'video'",
        ),
        (
            b'{"to": "user:a", "content": [{"type": "image_url", "image_url": {"url": "", "detail": "x"}}]}',
            "content[0].image_url.detail", "must be one of 'auto', 'high', 'low', not 'x'",
        ),
        (b'{"to": "user:a", "content": "x", "labels": {"a": "", "b": 5}}', "labels['b']", "text of at most 1024"),
        (b'{"labels": {"a": "%b"}, "to": 5 5' % (b"x" * 1025), "labels[...]", "text of at most 1024"),
        (b'{"to": "user:a", "content": "x", "labels": []}', "labels", "an object with at most 64 entries, not a list"),
    ],
)  # fmt: skip
def test_an_error_names_the_field_in_plain_words(body: bytes, field: str, words: str) -> None:
    with pytest.raises(InvalidField) as caught:
        decode_envelope(body)
    assert caught.value.facts["field"] == field
    assert words in str(caught.value)
    assert "regex" not in str(caught.value)
    assert "`" not in str(caught.value)


@given(json_values, st.sampled_from(["labels", "content", "kind", "priority", "to"]))
def test_no_error_is_in_the_decoder_s_own_words(value: Any, field: str) -> None:
    words = ""
    try:
        decode_envelope(json.dumps(HELLO | {field: value}).encode())
    except InvalidField as error:
        words = str(error)
    assert not re.search("[Ee]xpected `|enum value", words)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "truncated"),
        (b"{", "truncated"),
        (b"to=user:a", "malformed"),
        (b'{"to": "\xff"}', "not UTF-8"),
        (json.dumps(HELLO).encode("utf-16"), "UTF-16"),
        (json.dumps(HELLO).encode("utf-8-sig"), "byte order mark"),
        (b'{"to": "user:a", "content": "\\ud800"}', "truncated"),
        (b'{"to": "user:a", "content": "a\x00b"}', "malformed"),
        (b'{"to": NaN}', "malformed"),
        (b'{"to": "user:a", "content": "x"} trailing', "trailing"),
    ],
)
def test_what_is_no_json_is_called_so(body: bytes, words: str) -> None:
    with pytest.raises(InvalidJson, match=words):
        decode_envelope(body)


def nested(levels: int, opening: str = "[", closing: str = "]") -> bytes:
    inner = opening * (levels - 3) + closing * (levels - 3)  # the envelope, its content, the part
    return b'{"to": "user:a", "content": [{"type": "json", "json": %b}]}' % inner.encode()


def test_nesting_has_one_limit_wherever_it_is_read() -> None:
    assert decode_envelope(nested(MAX_DEPTH))
    for levels in (MAX_DEPTH + 1, 500, 100_000):
        with pytest.raises(InvalidField, match="nested deeper than 100 levels"):
            decode_envelope(nested(levels))


def test_brackets_in_texts_and_many_flat_ones_are_no_nesting() -> None:
    flat: list[dict[str, list[int]]] = [{"a": []} for _ in range(1000)]
    content = [{"type": "text", "text": "[{" * 500 + '\\"'}, {"type": "json", "json": flat}]
    assert decode_envelope(json.dumps({"to": "user:a", "content": content}).encode())


def test_looking_for_nesting_takes_no_more_memory_than_the_body() -> None:
    body = b'{"to": "user:a", "content": "%b%b"}' % (b"[" * (MAX_DEPTH + 1), b"x" * 1_000_000)
    tracemalloc.start()
    try:
        decode_envelope(body)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 4 * len(body)


def test_of_a_name_that_is_there_twice_the_last_counts() -> None:
    assert decode_envelope(b'{"to": "user:a", "to": "user:b", "content": "x"}').to == "user:b"


def test_text_of_joins_the_text_parts() -> None:
    assert text_of("plain") == "plain"
    assert text_of([TextPart(text="one"), JsonPart(json=1), TextPart(text="two")]) == "one\ntwo"


def test_the_published_schema_is_the_file_in_docs() -> None:
    """To make it anew: curl http://127.0.0.1:8600/api/schemas/envelope.json > docs/envelope.schema.json"""
    assert json.loads(SCHEMA_FILE.read_bytes()) == msgspec.to_builtins(envelope_schema())


def test_the_schema_promises_no_default_for_what_the_hub_fills_in() -> None:
    properties = envelope_schema()["$defs"]["Envelope"]["properties"]
    for name in ("id", "from", "timestamp"):
        assert "default" not in properties[name]
    for value in properties.values():
        if value.get("default") is not None and "pattern" in value:
            pytest.fail("a default that contradicts its pattern")
