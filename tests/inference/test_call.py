"""A call reads two fields of the body and leaves all others as they are."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoglm.core.errors import InvalidField, InvalidJson
from autoglm.inference.call import Call

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**80), 2**80)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text().filter(lambda name: name not in ("model", "stream")), values, max_size=6))
def test_choosing_a_model_changes_that_field_only(others: dict[str, Any]) -> None:
    call = Call("/chat/completions", json.dumps({**others, "model": "auto"}).encode())
    call.name_model("glm-4")
    assert json.loads(call.body) == {**others, "model": "glm-4"}


def test_a_named_model_leaves_the_bytes_alone() -> None:
    body = b'{ "model" : "glm-4",  "x":1.50, "x":2, "n": 123456789012345678901234567890 }'
    call = Call("/chat/completions", body)
    call.name_model("glm-4")
    assert call.body is body


@pytest.mark.parametrize("name", [b"Model", b"MODEL", b"mode\\u004c"])
def test_no_reader_of_json_sees_another_model_than_the_one_that_was_checked(name: bytes) -> None:
    with pytest.raises(InvalidField, match="write that in small letters"):
        Call("/chat/completions", b'{"model":"small","%b":"large"}' % name)


@pytest.mark.parametrize("name", [b"model", b"mod\\u0065l"])
def test_of_a_model_that_is_named_twice_one_is_left(name: bytes) -> None:
    call = Call("/chat/completions", b'{"model":"large", "x": 1.50, "%b":"small"}' % name)
    assert call.model == "small"
    assert call.body == b'{"model":"small","x":1.50}'


def test_the_word_model_elsewhere_is_nobodys_business() -> None:
    tools = {"model": {"Model": "x"}, "text": '"model"'}
    call = Call("/chat/completions", json.dumps({"tools": tools, "model": "m"}).encode())
    assert (call.model, json.loads(call.body)) == ("m", {"tools": tools, "model": "m"})


def test_numbers_keep_their_digits_when_the_model_is_chosen() -> None:
    call = Call(
        "/chat/completions", b'{"model":"auto","seed":123456789012345678901234567890,"t":1.10,"s":"\\u00e9 \xc3\xa9"}'
    )
    call.name_model("glm-4")
    assert b'"seed":123456789012345678901234567890' in call.body
    assert b'"t":1.10' in call.body
    assert b'"s":"\\u00e9 \xc3\xa9"' in call.body


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"{}", "model"),
        (b'{"model":""}', "model"),
        (b'{"model":17}', "model"),
        (b'{"model":"%b"}' % (b"x" * 257), "model"),
        (b'{"model":"m","stream":"yes"}', "stream"),
        (b"[]", "body"),
    ],
)
def test_a_wrong_field_is_named(body: bytes, field: str) -> None:
    with pytest.raises(InvalidField) as caught:
        Call("/chat/completions", body)
    assert caught.value.facts["field"] == field


@pytest.mark.parametrize(
    "body", [b"", b"{", b'{"model": "m"', b"\xff\xfe", b'{"model":"m"} x', b'{"a":' + b"[" * 100_000]
)
def test_what_is_no_json_is_told_so(body: bytes) -> None:
    with pytest.raises(InvalidJson):
        Call("/chat/completions", body)


def test_a_field_whose_name_is_no_text_is_told_where_the_hub_rewrites_the_body() -> None:
    rest = b'"stream":true,"\xff":1}'
    with pytest.raises(InvalidJson):
        Call("/chat/completions", b'{"model":"auto",' + rest)
    with pytest.raises(InvalidJson):
        Call("/chat/completions", b'{"model":"m","model":"m",' + rest)
    named = Call("/chat/completions", b'{"model":"m",' + rest)
    for rewrite in (named.ask_for_usage, lambda: named.name_model("other")):
        with pytest.raises(InvalidJson):
            rewrite()
    assert named.body == b'{"model":"m",' + rest


@pytest.mark.parametrize(
    ("options", "asked", "is_hidden"),
    [
        (b"", b'{"include_usage":true}', True),
        (b',"stream_options":null', b'{"include_usage":true}', True),
        (b',"stream_options":{}', b'{"include_usage":true}', True),
        (b',"stream_options":{"include_usage":false,"x":1.50}', b'{"include_usage":true,"x":1.50}', True),
        (b',"stream_options":{"include_usage":null}', b'{"include_usage":true}', True),
        (b',"stream_options":{ "include_usage" : true }', b'{"include_usage":true}', False),
        (b',"stream_options":{"include_usage":false},"stream_options":{"include_usage":true}',
         b'{"include_usage":true}', False),
        (b',"stream_options":{"include_usage":true,"include_\\u0075sage":false}', b'{"include_usage":true}', True),
    ],
)  # fmt: skip
def test_a_stream_is_asked_for_its_usage_whatever_the_client_says(
    options: bytes, asked: bytes, *, is_hidden: bool
) -> None:
    call = Call("/chat/completions", b'{"model":"m","stream":true%b}' % options)
    assert call.ask_for_usage() is is_hidden
    assert call.body == b'{"model":"m","stream":true,"stream_options":%b}' % asked


@pytest.mark.parametrize("options", [b"[]", b'"include_usage"', b"true", b"1"])
def test_options_of_a_stream_that_are_none_are_refused(options: bytes) -> None:
    with pytest.raises(InvalidField, match="stream_options"):
        Call("/chat/completions", b'{"model":"m","stream":true,"stream_options":%b}' % options).ask_for_usage()


def test_stream_may_be_null() -> None:
    assert not Call("/chat/completions", b'{"model":"m","stream":null}').is_stream
    assert Call("/chat/completions", b'{"model":"m","stream":true}').is_stream
