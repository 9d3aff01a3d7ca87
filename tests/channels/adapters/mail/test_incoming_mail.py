"""Reading mails that came in: broken ones, hostile ones, and what only looks strange."""

import time
from collections.abc import Callable
from email.message import EmailMessage

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoglm.channels.adapters.mail.html_text import text_of_html
from autoglm.channels.adapters.mail.incoming import IncomingMail, Unreadable, decoded, read_mail
from autoglm.channels.adapters.mail.quotes import without_quotes

FROM = b"From: a@b.example\r\nMIME-Version: 1.0\r\n"


def read(raw: bytes) -> IncomingMail:
    return read_mail(raw, attachment_bytes=1_000_000)


def deep(levels: int, *, lines: int = 0) -> bytes:
    opened = b"".join(b'Content-Type: multipart/mixed; boundary="b%d"\r\n\r\n--b%d\r\n' % (n, n) for n in range(levels))
    return FROM + opened + b"\r\nhello\r\n" + b"\r\n" * lines


def deep_by_bare_crs(levels: int, *, lines: int) -> bytes:
    """To email.parser a CR alone ends a line, too."""
    head, _, rest = deep(levels, lines=lines).partition(b"\r\n\r\n")
    return head + b"\r\n\r\n" + rest.replace(b"\r\n", b"\r")


def many_parts(count: int) -> bytes:
    head = FROM + b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n'
    return head + b"".join(b"--b\r\n\r\npart %d\r\n" % number for number in range(count)) + b"--b--\r\n"


@pytest.mark.parametrize(
    ("header", "sender"),
    [
        (b"Alice <Alice@Example.org>", "alice@example.org"),
        ("爱丽丝 <alice@example.org>".encode(), "alice@example.org"),
        (b"=?utf-8?b?54ix5Li95Lid?= <alice@example.org>", "alice@example.org"),
        (b"Li, Wei <li@example.org>", "li@example.org"),
        (b"=?utf-8?q?boss=40example=2Eorg=2C?= <attacker@evil.example>", "attacker@evil.example"),
        (b"boss@example.org, attacker@evil.example", ""),
        (b"boss@example.org\r\nFrom: attacker@evil.example", ""),
    ],
)
def test_the_sender_is_the_one_address_of_the_header(header: bytes, sender: str) -> None:
    """Encoded words are no part of an address (RFC 2047, section 5)."""
    assert read(b"From: " + header + b"\r\n\r\nhi").sender == sender


# --- bombs


@pytest.mark.attack("mail bomb")
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: FROM + b'Content-Type: text/plain; a="' + b';"' * 5_000_000 + b"\r\n\r\nhi", "header_too_long"),
        (lambda: FROM + b"Content-Type: text/plain;\r\n" + b" a=b;\r\n" * 100_000 + b"\r\nhi", "header_too_long"),
        (lambda: FROM + b"\r\n--b\r\nContent-Disposition: x; f=" + b"y" * 20_000, "header_too_long"),
        (lambda: FROM + b"X: y\r\n" * 100_000 + b"\r\nhi", "header_too_long"),
        (lambda: b"x" * 1_000_000, "header_too_long"),
        (lambda: deep(1000, lines=10_000), "too_complicated"),
        (lambda: deep_by_bare_crs(60, lines=100_000), "too_complicated"),
        (lambda: FROM + b"\r\n" * 5_000_000, "too_complicated"),
        (lambda: deep(1100), "too_complicated"),
        (lambda: deep(501), "too_complicated"),
    ],
)  # fmt: skip
def test_a_bomb_is_refused_before_it_costs_anything(make: Callable[[], bytes], reason: str) -> None:
    raw = make()
    began_s = time.process_time()
    with pytest.raises(Unreadable) as caught:
        read(raw)
    assert caught.value.reason == reason
    assert time.process_time() - began_s < 5.0


@pytest.mark.parametrize("raw", [deep(90), deep(500), many_parts(1000)])
def test_what_is_beyond_the_limits_is_named(raw: bytes) -> None:
    assert "a part" in read(raw).left_out


def test_the_costliest_mail_that_is_read_takes_seconds() -> None:
    """25 MB of the shortest lines, as many as are allowed."""
    began_s = time.process_time()
    read(FROM + b"\r\n" + b"x\r\n" * 3_900_000)
    assert time.process_time() - began_s < 20.0


@pytest.mark.parametrize(
    "page", ["<" * 256_000, "<!--" * 64_000, "<a href='" * 30_000, "<div>" * 50_000, "&" * 256_000]
)
def test_a_broken_page_takes_no_longer_than_a_good_one(page: str) -> None:
    began_s = time.process_time()
    text_of_html(page)
    assert time.process_time() - began_s < 5.0


@given(st.binary(max_size=2000))
def test_whatever_comes_is_read_or_refused(body: bytes) -> None:
    for head in (
        b"",
        FROM,
        FROM + b'Content-Type: multipart/report; boundary="b"\r\n\r\n--b\r\n',
        FROM + b"Content-Type: ",
    ):
        try:
            found = read(head + body)
        except Unreadable:
            continue
        assert isinstance(found.text, str)
        found.text.encode()  # no surrogates: it becomes JSON
        found.subject.encode()


# --- charsets


@pytest.mark.parametrize(
    ("data", "charset", "text"),
    [
        ("压机停了".encode("gb18030"), "gb2312", "压机停了"),
        ("压机停了".encode("gb18030"), None, "压机停了"),
        ("压机停了".encode(), "us-ascii", "压机停了"),
        ("压机停了".encode(), "x-unknown-charset", "压机停了"),
        ("don’t".encode("cp1252"), "iso-8859-1", "don’t"),
        ("停".encode("big5"), "big5", "停"),
        (b"plain", "base64", "plain"),
        (b"plain", "idna", "plain"),
        (b"plain", "utf\x008", "plain"),
        (b"a\x00b", "utf-8", "ab"),
    ],
)
def test_a_broken_charset_ends_nothing(data: bytes, charset: str | None, text: str) -> None:
    assert decoded(data, charset) == text


@pytest.mark.parametrize(
    ("subject", "text"),
    [
        (b"=?utf-8?B?5Y6L5py6?= 7", "压机 7"),
        ("压机".encode(), "压机"),
        ("压机".encode("gb18030"), "压机"),
        (b"=?utf-8?B?broken", "=?utf-8?B?broken"),
        (b"=?nope?Q?a?=", "a"),
        (b"a\r\n b", "a b"),
        (b"=?utf-8?Q?a=0D=0ABcc:_x?=", "a Bcc: x"),
    ],
)
def test_a_subject_is_one_readable_line(subject: bytes, text: str) -> None:
    assert read(FROM + b"Subject: " + subject + b"\r\n\r\nhi").subject == text


# --- HTML


def test_html_reads_as_a_person_would_read_it() -> None:
    page = """<html><head><title>no</title><style>p {}</style></head><body><script>alert("no")</script>
    <h1>Shift</h1><p>Press&nbsp;7 is <b>down</b>.<br>Since 7&lt;8.</p><div style="display:none">no</div>
    <ul><li>one</li><li>two</li></ul><a href="https://x.example/a">the log</a> <a href="https://y.example">https://y.example/</a>
    <table><tr><td>a</td><td>b</td></tr></table><blockquote>old<blockquote>older</blockquote></blockquote>
    <img src="https://spy.example/1.gif" alt="a press"><pre>x
      y</pre></body></html>"""
    assert text_of_html(page).splitlines() == [
        "Shift", "", "Press 7 is down.", "Since 7<8.", "- one", "- two", "the log <https://x.example/a> https://y.example/",
        "a b", "", "> old", ">", "> > older", "a press", "x", "      y",
    ]  # fmt: skip


def test_a_mail_of_html_alone_becomes_text() -> None:
    mail = EmailMessage()
    mail["From"] = "a@b.example"
    mail.set_content("<p>Yes.</p><script>no</script>", subtype="html")
    assert read(mail.as_bytes()).text == "Yes."


def test_of_alternatives_the_plain_one_is_read() -> None:
    mail = EmailMessage()
    mail["From"] = "a@b.example"
    mail.set_content("plain")
    mail.add_alternative("<p>rich</p>", subtype="html")
    assert read(mail.as_bytes()).text == "plain"


# --- quotes


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Yes.\n\nOn Thu, 26 Nov 2026 at 10:00, Hub <hub@hub.example> wrote:\n> Shall I?", "Yes."),
        ("好的。\n\n在 2026年11月26日 10:00，AutoGLM Hub <hub@hub.example> 写道：\n> 可以吗？", "好的。"),
        ("好的\n\n------------------ 原始邮件 ------------------\n发件人: Hub\n可以吗？", "好的"),
        ("Yes.\n\n-----Original Message-----\nFrom: Hub\nSent: Thursday\n\nShall I?", "Yes."),
        (
            "Yes.\n\n________________________________\nFrom: Hub\nSent: Thursday\nTo: Alice\nSubject: x\n\nShall I?",
            "Yes.",
        ),
        ("Ja.\n\nAm 26.11.26 um 10:00 schrieb Hub:\n> Soll ich?", "Ja."),
        ("> Shall I?\nYes.\n> Really?\nReally.", "Yes.\nReally."),
        ("On Thu, Hub wrote:\n> Shall I?\nYes, at 7.", "On Thu, Hub wrote:\nYes, at 7."),
        ("Yes.\n-- \nAlice\nShift lead", "Yes."),
        ("A list:\n---\nFrom: Beijing\nthe end", "A list:\n---\nFrom: Beijing\nthe end"),
        ("> nothing but quotes", "> nothing but quotes"),
        ("On Monday I wrote: hello", "On Monday I wrote: hello"),
    ],
)
def test_only_the_answer_stays(text: str, answer: str) -> None:
    assert without_quotes(text) == answer


@given(st.text(alphabet=st.sampled_from("On wrote:>-_发件人写道\n 2026<>"), max_size=300))
def test_cutting_quotes_always_ends_and_leaves_something(text: str) -> None:
    answer = without_quotes(text)
    assert bool(answer) == bool(text.strip())
