"""JSON from vendors."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoglm.channels.vendor_json import MAX_DEPTH, vendor_json, vendor_map

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=20,
)


@given(value=values)
def test_json_is_what_it_was(value: object) -> None:
    assert vendor_json(json.dumps(value)) == value
    assert vendor_json(json.dumps(value, ensure_ascii=False).encode()) == value


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"\xff",
        b"NaN",
        b"[-Infinity]",
        b'{"a": 1e999}',
        "[" * 200_000,
        "[" * 51 + "]" * 51,
        '{"a":' * 51 + "1" + "}" * 51,
    ],
)
def test_what_is_none_is_a_value_error(data: bytes | str) -> None:
    with pytest.raises(ValueError, match=r"."):
        vendor_json(data)
    assert vendor_map(data) == {}


def test_the_depth_is_the_one_that_is_said() -> None:
    assert vendor_json("[" * MAX_DEPTH + "]" * MAX_DEPTH)


@given(text=st.text(st.characters(), max_size=20))
def test_what_comes_out_can_be_written_down(text: str) -> None:
    """Lone surrogates, in names as well; pairs are joined."""
    found = vendor_json(json.dumps({text: [text + "\ud83d"], "pair": "\ud83d\ude00"}))
    assert json.dumps(found, ensure_ascii=False).encode()
    assert isinstance(found, dict)
    assert found["pair"] == "\U0001f600"
