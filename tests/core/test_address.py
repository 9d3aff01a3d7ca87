import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoglm.core.address import MAX_ADDRESS, SCHEMES, parse_address
from autoglm.core.errors import InvalidField


@pytest.mark.parametrize(
    "text",
    [
        "user:alice", "group:ops", "device:press-7", "model:auto", "model:qwen/qwen2.5:7b", "user:李雷", "user:a@b.c",
        "channel:wecom/ops-room", "site:north/user:bob", "site:north/site:far/channel:sms/+4712", "user:" + "a" * 205,
    ],
)  # fmt: skip
def test_an_address_reads_back_as_it_was_written(text: str) -> None:
    assert str(parse_address(text)) == text


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("alice", "did you mean 'user:alice'?"),
        ("", "it begins with one of user, group, device, model, channel, site"),
        ("mailto:alice@example.org", "it begins with one of"),
        ("User:alice", "it begins with one of"),
        ("user:", "must not be empty"),
        ("user:alice\n", "blanks, control characters"),
        ("user:al ice", "blanks, control characters"),
        ("user:al\u200bice", "invisible"),
        ("user:alice\u00ad", "invisible"),
        ("user:alice\ufe0f", "invisible"),
        ("user:\u3164", "invisible"),
        ("user:alice\U000e0041", "invisible"),
        ("user:\u202eecila", "invisible"),
        ("user:a\x00", "control characters"),
        ("channel:wecom", "'channel:<channel>/<target>'"),
        ("channel:WeCom/room", "must not be empty or hold"),
        ("site:north", "'site:<name>/<address>'"),
        ("site:north/bob", "'site:<name>/<address>'"),
        ("site:/user:bob", "'site:<name>/<address>'"),
        ("user:" + "a" * 206, f"it has 211 characters, and {MAX_ADDRESS} are the limit"),
    ],
)
def test_what_is_no_address_is_refused_with_a_hint(text: str, hint: str) -> None:
    with pytest.raises(InvalidField) as caught:
        parse_address(text, field="members[2]")
    assert hint in str(caught.value)
    assert caught.value.facts["field"] == "members[2]"
    assert len(str(caught.value)) < 300


@given(st.text(max_size=300))
def test_any_text_is_an_address_or_an_invalid_field(text: str) -> None:
    try:
        address = parse_address(text)
    except InvalidField:
        return
    assert str(address) == text
    assert address.scheme in SCHEMES
    assert "\n" not in text
