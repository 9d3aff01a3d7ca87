"""The callback crypto of WeCom and Official Accounts, against wechatpy as the oracle, and what is broken or hostile."""

import base64
import os
import time
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wechatpy.crypto import PrpCrypto, WeChatCrypto  # type: ignore[import-untyped]  # has no stubs
from wechatpy.utils import check_signature as wechatpy_checks  # type: ignore[import-untyped]  # has no stubs

from autoglm.channels.adapters.wechat.callback import Callback
from autoglm.channels.adapters.wechat.crypto import BadCall, CallbackCipher, _aes, check_signature, signature_of
from autoglm.channels.adapters.wechat.elements import MAX_BYTES, MAX_DEPTH, MAX_ELEMENTS, parse_xml
from autoglm.channels.channel import HookCall

TOKEN, RECEIVER = "QDG6eK", "wx5823bf96d3bd56c7"
AES_KEY = "jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2C"
KEY = base64.b64decode(AES_KEY + "=")
NOW_S = 1_790_000_000
CODES = {"signature", "base64", "length", "padding", "receiver", "encoding", "xml", "time", "size"}
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
visible = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=64)
keys = st.binary(min_size=32, max_size=32).map(lambda key: base64.b64encode(key).decode()[:43])
ids = st.from_regex(r"[a-z0-9]{0,24}", fullmatch=True)


def code_of(opened: Callable[[], object]) -> str:
    """Of the BadCall that it raises; empty when it raises none, and any other exception passes."""
    try:
        opened()
    except BadCall as error:
        return error.code
    return ""


def cipher(receiver: str = RECEIVER) -> CallbackCipher:
    return CallbackCipher(AES_KEY, receiver)


def sealed(plain: bytes, *, pad: bytes | None = None) -> str:
    """Encrypted as it is, padded rightly unless told otherwise."""
    count = 32 - len(plain) % 32
    return base64.b64encode(_aes(KEY, plain + (bytes([count]) * count if pad is None else pad), encrypt=True)).decode()


def plain_of(message: bytes, *, size: int | None = None, receiver: bytes = RECEIVER.encode()) -> bytes:
    return os.urandom(16) + (len(message) if size is None else size).to_bytes(4, "big") + message + receiver


@settings(deadline=None)  # the first example loads cryptography
@given(message=texts, key=keys, receiver=ids)
def test_what_wechatpy_encrypts_is_decrypted(message: str, key: str, receiver: str) -> None:
    oracle = WeChatCrypto(TOKEN, key, receiver)
    encrypted = PrpCrypto(oracle.key).encrypt(message, receiver).decode()
    assert CallbackCipher(key, receiver).decrypt(encrypted) == message


@settings(deadline=None)
@given(message=texts, key=keys, receiver=ids)
def test_wechatpy_decrypts_what_is_encrypted(message: str, key: str, receiver: str) -> None:
    oracle = WeChatCrypto(TOKEN, key, receiver)
    assert PrpCrypto(oracle.key).decrypt(CallbackCipher(key, receiver).encrypt(message), receiver) == message


@settings(deadline=None)
@given(message=texts, nonce=visible)
def test_a_whole_call_that_wechatpy_made_is_opened(message: str, nonce: str) -> None:
    inner = f"<xml><Content><![CDATA[{parseable(message)}]]></Content></xml>"
    body = WeChatCrypto(TOKEN, AES_KEY, RECEIVER).encrypt_message(inner, cdata_safe(nonce), str(NOW_S))
    outer = parse_xml(body)
    call = post(body, nonce=cdata_safe(nonce), msg_signature=outer.get("MsgSignature"))
    assert door().message(call).get("Content") == parseable(message).strip().replace("\r\n", "\n").replace("\r", "\n")


@settings(deadline=None)
@given(message=texts)
def test_wechatpy_opens_an_answer(message: str) -> None:
    answer = parse_xml(door().sealed(message, "n1"))
    opened = WeChatCrypto(TOKEN, AES_KEY, RECEIVER).decrypt_message(
        {"Encrypt": answer.get("Encrypt")}, answer.get("MsgSignature"), answer.get("TimeStamp"), answer.get("Nonce")
    )
    assert opened == message


@settings(deadline=None)
@given(token=visible, timestamp=visible, nonce=visible)
def test_the_signature_in_plain_text_is_that_of_wechatpy(token: str, timestamp: str, nonce: str) -> None:
    wechatpy_checks(token, signature_of(token, timestamp, nonce), timestamp, nonce)


@pytest.mark.parametrize(
    "signature",
    ["", "0" * 40, "é" * 40, "\ud800", signature_of("a", "b").upper(), "x" * 10_000],
    ids=["empty", "zeros", "no ascii", "surrogate", "upper case", "long"],
)
def test_a_wrong_signature_is_refused(signature: str) -> None:
    with pytest.raises(BadCall) as caught:
        check_signature(signature, "a", "b")
    assert caught.value.code == "signature"
    check_signature(signature_of("a", "b"), "b", "a")


MALFORMED = {
    "nothing": ("", "length"),
    "three bytes": ("AAAA", "length"),
    "no base64": ("not base64!", "base64"),
    "chinese": ("压机", "base64"),
    "surrogate": ("\ud800", "base64"),
    "cut base64": (sealed(plain_of(b"x"))[:-3], "base64"),
    "cut": (sealed(plain_of(b"x"))[:-4], "length"),
    "one block": (base64.b64encode(bytes(16)).decode(), "length"),
    "a byte too much": (base64.b64encode(bytes(33)).decode(), "length"),
    "padding of 0": (sealed(bytes(32), pad=b""), "padding"),
    "padding of 33": (sealed(bytes(31), pad=bytes([33])), "padding"),
    "uneven padding": (sealed(bytes(30), pad=b"\x03\x02"), "padding"),
    "padding alone": (sealed(b"", pad=bytes([32]) * 32), "length"),
    "no length": (sealed(bytes(19)), "length"),
    "a length of 4 GiB": (sealed(plain_of(b"x", size=2**32 - 1)), "length"),
    "a length over all": (sealed(plain_of(b"x", size=len(RECEIVER) + 2)), "length"),
    "a length too small": (sealed(plain_of(b"x", size=0)), "receiver"),
    "no receiver": (sealed(plain_of(b"x", receiver=b"")), "receiver"),
    "another receiver": (sealed(plain_of(b"x", receiver=b"wx-somebody-else")), "receiver"),
    "no utf-8": (sealed(plain_of(b"\xff\xfe")), "encoding"),
    "a lone surrogate": (sealed(plain_of(b"\xed\xa0\x80")), "encoding"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_encryption_is_told_apart(name: str) -> None:
    text, code = MALFORMED[name]
    with pytest.raises(BadCall) as caught:
        cipher().decrypt(text)
    assert caught.value.code == code


def test_a_wrong_key_is_an_error_like_the_others() -> None:
    other = CallbackCipher("A" * 43, RECEIVER)
    for _ in range(300):  # by chance the padding is right once in 256
        with pytest.raises(BadCall) as caught:
            other.decrypt(cipher().encrypt("压机停了"))
        assert caught.value.code in ("padding", "length", "receiver")


def test_an_ai_bot_has_no_receiver() -> None:
    assert cipher("").decrypt(cipher("").encrypt("{}")) == "{}"


@settings(deadline=None)
@given(data=st.binary(max_size=400), flip=st.integers(0, 255))
def test_whatever_is_decrypted_there_is_one_kind_of_error(data: bytes, flip: int) -> None:
    """Noise, noise of the right length, and a good text with one byte changed."""
    good = bytearray(base64.b64decode(cipher().encrypt(data.hex())))
    good[flip % len(good)] ^= flip or 1
    for sealed_text in (data, data[: len(data) // 32 * 32], bytes(good)):
        for text in (base64.b64encode(sealed_text).decode(), sealed_text.decode("latin-1")):
            assert code_of(partial(cipher().decrypt, text)) in {"", *CODES}


BOMB = (
    '<!DOCTYPE x [<!ENTITY a "'
    + "b" * 1000
    + '">'
    + "".join(f'<!ENTITY a{n} "{f"&a{n - 1 or str()};" * 10}">' for n in range(1, 9))
)
HOSTILE = {
    "billion laughs": BOMB + "]><xml>&a8;</xml>",
    "quadratic blow-up": '<!DOCTYPE x [<!ENTITY a "' + "b" * 50_000 + '">]><xml>' + "&a;" * 20_000 + "</xml>",
    "external file": '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><xml>&a;</xml>',
    "external dtd": '<!DOCTYPE x SYSTEM "http://127.0.0.1:9/x.dtd"><xml/>',
    "parameter entity": '<!DOCTYPE x [<!ENTITY % a SYSTEM "http://127.0.0.1:9/">%a;]><xml/>',
    "bare doctype": "<!DOCTYPE xml><xml/>",
    "undeclared entity": "<xml>&nothing;</xml>",
    "deep": "<a>" * (MAX_DEPTH + 1) + "</a>" * (MAX_DEPTH + 1),
    "very deep": "<a>" * 40_000,
    "wide": "<xml>" + "<a/>" * MAX_ELEMENTS + "</xml>",
    "long": "<xml>" + "b" * MAX_BYTES + "</xml>",
    "cut": "<xml><a>",
    "two roots": "<a/><b/>",
    "empty": "",
    "no xml": '{"a": 1}',
    "nul": "<xml>\0</xml>",
    "wrong nesting": "<a><b></a></b>",
    "many attributes": "<xml " + " ".join(f'a{n}="1"' for n in range(5000)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_xml_is_refused_at_once(name: str) -> None:
    began_s = time.process_time()
    with pytest.raises(BadCall) as caught:
        parse_xml(HOSTILE[name].encode("latin-1"))
    assert caught.value.code in ("xml", "size")
    assert time.process_time() - began_s < 0.5


@settings(deadline=None)
@given(st.binary(max_size=2000) | st.text(alphabet="<>&;!/x[]\"' \0压", max_size=200).map(str.encode))
def test_whatever_is_parsed_there_is_one_kind_of_error(data: bytes) -> None:
    assert code_of(lambda: parse_xml(data)) in ("", "xml", "size")


def test_xml_is_read_as_vendors_write_it() -> None:
    found = parse_xml("<xml> <A><![CDATA[ <b> 压 ]]></A><N>1</N><L><I>x</I><I>y</I></L><N>2</N><E/></xml>".encode())
    assert (found.name, found.get("A"), found.get("N"), found.get("E"), found.get("none")) == (
        "xml",
        "<b> 压",
        "1",
        "",
        "",
    )
    inner = found.child("L")
    assert inner is not None
    assert [item.text for item in inner.children] == ["x", "y"]


# --- whole calls ------------------------------------------------------------------------------------


def door(*, aes_key: str | None = AES_KEY) -> Callback:
    return Callback(TOKEN, aes_key, RECEIVER, window_s=300.0, clock_ms=lambda: NOW_S * 1000)


def post(body: str | bytes, *, nonce: str = "n1", at_s: int = NOW_S, **query: str) -> HookCall:
    data = body.encode() if isinstance(body, str) else body
    return HookCall("POST", {"timestamp": str(at_s), "nonce": nonce, **query}, {}, data)


def signed(inner: str, *, at_s: int = NOW_S, nonce: str = "n1") -> HookCall:
    text = cipher().encrypt(inner)
    signature = signature_of(TOKEN, str(at_s), nonce, text)
    return post(f"<xml><Encrypt>{text}</Encrypt></xml>", nonce=nonce, at_s=at_s, msg_signature=signature)


def encrypted_body(text: str) -> bytes:
    return f"<xml><Encrypt>{text}</Encrypt></xml>".encode("utf-8", "replace")


def parseable(text: str) -> str:
    """Without what XML cannot hold."""
    return "".join(one for one in text if one in "\t\n" or (one >= " " and one not in "\ufffe\uffff")).replace(
        "]]>", ""
    )


def cdata_safe(nonce: str) -> str:
    return nonce.replace("]]>", "-")


@pytest.mark.parametrize("away_s", [-301, 301, -(10**9)])
def test_a_call_outside_the_window_is_refused_however_well_it_is_signed(away_s: int) -> None:
    with pytest.raises(BadCall) as caught:
        door().message(signed("<xml/>", at_s=NOW_S + away_s))
    assert caught.value.code == "time"
    assert door().message(signed("<xml><A>1</A></xml>", at_s=NOW_S + max(-300, min(300, away_s)))).get("A") == "1"


def test_a_signature_holds_for_its_own_text_and_nonce_only() -> None:
    good = signed("<xml><A>1</A></xml>")
    other = signed("<xml><A>2</A></xml>", nonce="n2")
    for call in (good._replace(body=other.body), good._replace(query={**good.query, "nonce": "n2"})):
        with pytest.raises(BadCall) as caught:
            door().message(call)
        assert caught.value.code == "signature"


def test_with_a_key_nothing_is_taken_in_plain_text() -> None:
    """The signature of a plain call covers no body: whoever saw one could send anything."""
    call = post("<xml><A>1</A></xml>", signature=signature_of(TOKEN, str(NOW_S), "n1"))
    assert door(aes_key=None).message(call).get("A") == "1"
    with pytest.raises(BadCall):
        door().message(call)


def test_the_echo_is_given_to_the_byte() -> None:
    text = cipher().encrypt("1616140317555161061")
    query = {"timestamp": str(NOW_S), "nonce": "n1", "echostr": text}
    sign = signature_of(TOKEN, str(NOW_S), "n1", text)
    assert door().echo(HookCall("GET", {**query, "msg_signature": sign}, {}, b"")) == "1616140317555161061"
    plain = {**query, "echostr": "5837", "signature": signature_of(TOKEN, str(NOW_S), "n1")}
    assert door(aes_key=None).echo(HookCall("GET", plain, {}, b"")) == "5837"
    with pytest.raises(BadCall):
        door().echo(HookCall("GET", {**query, "msg_signature": sign[::-1]}, {}, b""))


@settings(deadline=None)
@given(
    query=st.fixed_dictionaries(
        {},
        optional={
            "timestamp": st.just(str(NOW_S)) | st.text(max_size=20),
            "nonce": st.text(max_size=20),
            "signature": st.just("0" * 40) | st.text(max_size=50),
            "msg_signature": st.just("0" * 40) | st.text(max_size=50),
            "echostr": st.text(max_size=20),
        },
    ),
    body=st.binary(max_size=100) | st.text(max_size=40).map(encrypted_body),
    has_key=st.booleans(),
)
def test_whatever_a_stranger_calls_with_it_is_refused(query: dict[str, str], body: bytes, has_key: bool) -> None:
    there = door(aes_key=AES_KEY if has_key else None)
    for opened in (there.echo, there.message):
        with pytest.raises(BadCall) as caught:
            opened(HookCall("POST", query, {}, body))
        assert caught.value.code in CODES


def test_a_flood_of_wrong_signatures_costs_little() -> None:
    """2,000 calls of the size of a long message take less than a second of CPU: some 0.05 ms each."""
    call = signed("<xml><Content>" + "压" * 680 + "</Content></xml>")
    wrong = call._replace(query={**call.query, "msg_signature": "0" * 40})
    there = door()
    began_s = time.process_time()
    for _ in range(2000):
        with pytest.raises(BadCall):
            there.message(wrong)
    assert time.process_time() - began_s < 1.0
