"""The reader of compact JWS: one form is taken, and no other, though its signature be right."""

import pytest
from joserfc import jws
from joserfc.jwk import OKPKey

from auth.tokens.forge import (
    HUB,
    as_json,
    check,
    header,
    padded,
    payload,
    resigned,
    signed,
    spliced,
    stray_bits,
    token_refusal,
)
from autoglm.auth.tokens.compact import MAX_BYTES, decode_base64url, encode_base64url

GOOD = signed(header(), payload())
FIRST, SECOND, THIRD = GOOD.split(b".")


def test_what_another_library_signs_is_taken() -> None:
    key = OKPKey.import_key(HUB.pem())
    foreign = jws.serialize_compact(header(), as_json(payload()), key, algorithms=["Ed25519"])
    assert check(foreign.encode()).subject == "device:press-7"


def test_blanks_and_the_order_of_members_do_not_matter() -> None:
    spaced = b' {\n"typ" :\t"at+jwt" , "alg":"Ed25519","kid":"' + HUB.kid.encode() + b'"}\r\n'
    assert check(signed(spaced, payload())).jti == "jti-of-this-token"


BASE64 = {
    "padded": lambda part: part + b"=" * (-len(part) % 4),
    "one pad too many": lambda part: part + b"=" * (-len(part) % 4 + 1),
    "stray bits": stray_bits,
    "newline at its end": lambda part: part + b"\n",
    "newline inside": lambda part: part[:8] + b"\n" + part[8:],
    "blank inside": lambda part: part[:8] + b" " + part[8:],
    "NUL inside": lambda part: part[:8] + b"\0" + part[8:],
    "a letter of no alphabet": lambda part: part[:8] + b"!" + part[8:],
    "not ASCII": lambda part: part[:8] + "\u0130".encode() + part[8:],
    "a letter too many": lambda part: part + b"A" * (1 if len(part) % 4 == 0 else 4 - len(part) % 4 + 1),
}


@pytest.mark.attack("non-canonical base64")
@pytest.mark.parametrize("change", BASE64.values(), ids=BASE64)
def test_base64url_has_one_form(change: object) -> None:
    assert callable(change)
    head, body = padded(as_json(header())), padded(as_json(payload()))
    assert check(resigned(head, body)).jti == "jti-of-this-token"
    assert token_refusal(resigned(change(head), body)) == "malformed"
    assert token_refusal(resigned(head, change(body))) == "malformed"
    assert token_refusal(FIRST + b"." + SECOND + b"." + change(THIRD)) == "malformed"


@pytest.mark.attack("non-canonical base64")
def test_the_alphabet_of_plain_base64_is_refused() -> None:
    text = encode_base64url(bytes([0xFB, 0xFF, 0xBF]))
    assert text == "-_-_"
    assert decode_base64url(text.encode()) == bytes([0xFB, 0xFF, 0xBF])
    for other in (b"+/+/", b"-/-_", b"+_-_"):
        with pytest.raises(ValueError, match="base64url"):
            decode_base64url(other)


@pytest.mark.parametrize(
    "compact",
    [
        b"", b".", b"..", b"...", b"....", FIRST, FIRST + b"." + SECOND, GOOD + b".", b"." + GOOD, GOOD + b".x",
        FIRST + b".." + THIRD, b"." + SECOND + b"." + THIRD, FIRST + b"." + SECOND + b".", GOOD + b"\n", b" " + GOOD,
        b'"' + GOOD + b'"', GOOD + b"," + GOOD, b'{"payload":"x"}', b"\xff\xfe\x00",
    ],
)  # fmt: skip
def test_what_has_not_three_parts_is_refused(compact: bytes) -> None:
    assert token_refusal(compact) == "malformed"


@pytest.mark.attack("oversized token")
def test_the_size_is_bounded() -> None:
    """Blanks in the JSON make a token as long as one likes; three bytes give four letters."""
    spare = MAX_BYTES - len(GOOD)
    longest = signed(header(), as_json(payload()) + b" " * (spare * 3 // 4))
    while len(longest) > MAX_BYTES:
        spare -= 1
        longest = signed(header(), as_json(payload()) + b" " * (spare * 3 // 4))
    assert MAX_BYTES - 4 < len(longest) <= MAX_BYTES
    assert check(longest).jti == "jti-of-this-token"
    assert token_refusal(signed(header(), as_json(payload()) + b" " * (spare * 3 // 4 + 6))) == "malformed"
    assert token_refusal(b"A" * 100_000_000) == "malformed"


@pytest.mark.attack("deeply nested JSON")
@pytest.mark.parametrize("nest", [b"[" * 5000 + b"]" * 100, b'{"a":' * 1000, b"[" * 2900 + b"]" * 2900])
def test_nesting_without_end_is_refused(nest: bytes) -> None:
    assert token_refusal(signed(header(), nest)) == "malformed"
    assert token_refusal(signed(nest, payload())) == "malformed"


TWICE = {
    "the same": b'"exp":9999999999',
    "another value first": b'"sub":"user:admin"',
    "an escaped name": b'"\\u0065xp":9999999999',
    "all of it escaped": b'"\\u0073\\u0075\\u0062":"user:admin"',
    "inside another": b'"cnf":{"jkt":"x","jkt":"y"}',
}


@pytest.mark.attack("duplicate JSON keys")
@pytest.mark.parametrize("extra", TWICE.values(), ids=TWICE)
def test_a_key_stands_once(extra: bytes) -> None:
    assert token_refusal(signed(header(), spliced(as_json(payload()), extra))) == "malformed"


@pytest.mark.attack("duplicate JSON keys")
def test_a_key_stands_once_at_any_depth() -> None:
    jkt = payload()["cnf"]["jkt"].encode()
    text = as_json(payload())
    twice = text.replace(b'"cnf": {', b'"cnf": {"jkt":"' + jkt + b'",')
    assert twice.count(jkt) == 2
    assert token_refusal(signed(header(), twice)) == "malformed"
    deep = text.replace(b'"cnf": {', b'"cnf": {"\\u006akt":"' + jkt + b'",')
    assert token_refusal(signed(header(), deep)) == "malformed"


@pytest.mark.attack("duplicate JSON keys")
@pytest.mark.parametrize("extra", [b'"alg":"none"', b'"kid":"x"', b'"\\u0061lg":"none"', b'"typ":"at+jwt"'])
def test_a_key_of_the_header_stands_once(extra: bytes) -> None:
    assert token_refusal(signed(spliced(as_json(header()), extra), payload())) == "malformed"


@pytest.mark.attack("escaped names in the header")
def test_no_name_in_the_header_is_escaped() -> None:
    text = as_json(header())
    for name, escaped in ((b'"alg"', b'"\\u0061lg"'), (b'"kid"', b'"k\\u0069d"'), (b"at+jwt", b"at\\u002bjwt")):
        assert text.count(name) == 1
        assert token_refusal(signed(text.replace(name, escaped), payload())) == "malformed"


@pytest.mark.attack("unicode look-alikes")
@pytest.mark.parametrize("name", ["\u0430ud", "aud\u200b", "AUD", "\uff41ud", "a\u0075d\u0000"])
def test_names_that_look_like_ours_are_not_ours(name: str) -> None:
    assert token_refusal(signed(header(), payload(**{name: "elsewhere"}))) == "malformed"


NOT_OBJECTS = {
    "list": b"[]", "string": b'"x"', "number": b"1", "null": b"null", "nothing": b" ", "half": b'{"a":', "two": b"{}{}",
    "rest": b"{}x", "BOM": b"\xef\xbb\xbf{}",
    "float": b'{"x":1.5}', "power": b'{"x":1e2}', "UTF-16": "{}".encode("utf-16"), "single quotes": b"{'a':1}",
    "comment": b"{/**/}", "comma": b'{"a":1,}', "NaN": b'{"iat":NaN}', "infinity": b'{"iat":-Infinity}',
    "UTF-8 of a surrogate": b'{"sub":"\xed\xa0\x80"}', "broken UTF-8": b'{"sub":"\xff"}', "control": b'{"sub":"\x01"}',
}  # fmt: skip


@pytest.mark.parametrize("text", NOT_OBJECTS.values(), ids=NOT_OBJECTS)
def test_what_is_no_strict_json_object_is_refused(text: bytes) -> None:
    assert token_refusal(signed(header(), text)) == "malformed"
    assert token_refusal(signed(text, payload())) == "malformed"


@pytest.mark.attack("half a surrogate pair")
def test_text_that_nobody_can_write_down_is_refused() -> None:
    """Else it would come out later, where it is logged or stored."""
    for name in ("sub", "iss", "aud"):
        text = as_json(payload(**{name: "HERE"})).replace(b"HERE", b"user:\\ud800")
        assert token_refusal(signed(header(), text)) == "malformed"
