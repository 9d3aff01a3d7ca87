"""What brokers and mail servers hand over: MQTT's topics and payloads, mails and their HTML."""

from autoglm.channels.adapters.mail.html_text import text_of_html
from autoglm.channels.adapters.mail.incoming import Unreadable as UnreadableMail
from autoglm.channels.adapters.mail.incoming import read_mail
from autoglm.channels.adapters.mail.intake import content_of
from autoglm.channels.adapters.mqtt.incoming import Arrival, read_message, read_receipt, rule_for
from autoglm.channels.adapters.mqtt.incoming import Unreadable as UnreadableReceipt
from autoglm.channels.adapters.mqtt.settings import TopicRule
from autoglm.channels.adapters.mqtt.topics import as_name, captures, covers, filter_flaw, matches, topic_flaw, topic_of
from autoglm.core.envelope import Envelope, encode_envelope
from fuzzing.target import Target

_TO = "user:alice"
_RULES = (
    TopicRule.model_validate({"topic": "a/+/b/#", "from": "device:{1}", "to": "group:{2}", "labels": {"t": "{topic}"},
                              "thread": "{1}-{2}", "id_field": "n"}),
    TopicRule(topic="#"),
)  # fmt: skip


def fuzz_mqtt(data: bytes) -> None:
    """topic, content type, and the payload behind them."""
    topic, _, rest = data.partition(b"\n")
    kind, _, payload = rest.partition(b"\n")
    name = topic.decode("utf-8", "replace")
    if topic_flaw(name) is not None or (found := rule_for(_RULES, name)) is None:
        return
    said = Arrival(name, payload, content_type=kind.decode("utf-8", "replace"), properties={"id": "x", "thread": name})
    plain = Arrival(name, payload, correlation=name, expires_in_s=1)
    for arrival in (said, plain):
        encode_envelope(read_message(arrival, *found, channel="c", incoming_to=_TO))
    read_receipt(plain)


def fuzz_topics(data: bytes) -> None:
    """Two filters and a topic. Whoever covers a filter matches all that it matches."""
    wide, narrow, topic, *_ = [*data.decode("utf-8", "replace").split("\n"), "", ""]
    if filter_flaw(wide) or filter_flaw(narrow) or topic_flaw(topic):
        return
    if covers(wide, narrow) and matches(narrow, topic):
        assert matches(wide, topic)
    captures(wide, topic)
    assert topic_of(as_name(topic)) == topic


# --- mail -------------------------------------------------------------------------------------------


def fuzz_mail(data: bytes) -> None:
    mail = read_mail(data, attachment_bytes=1 << 20)
    content = content_of(mail, is_answer=bool(mail.references))
    encode_envelope(Envelope(to=_TO, content=content, labels={"title": mail.subject} if mail.subject else {}))
    assert "\n" not in mail.subject
    assert "\n" not in mail.sender


def fuzz_html(data: bytes) -> None:
    text_of_html(data.decode("utf-8", "replace")).encode()


_MAILS = (
    b"From: a <a@b.example>\r\nTo: c@d.example\r\nMessage-ID: <1@b>\r\nReferences: <2@b> <3@b>\r\nDate: Mon, 1 Jan 2026"
    b" 00:00:00 +0000\r\nSubject: =?utf-8?b?5Lit?= x\r\n\r\nhello\r\n> quoted\r\n",
    b"From: a@b.example\r\nContent-Type: multipart/mixed; boundary=X\r\n\r\n--X\r\nContent-Type: multipart/alternative;"
    b" boundary=Y\r\n\r\n--Y\r\nContent-Type: text/plain; charset=gb2312\r\n\r\n\xd6\xd0\r\n--Y\r\nContent-Type: "
    b"text/html\r\n\r\n<p>x<b>y</b>\r\n--Y--\r\n--X\r\nContent-Type: image/png; name*=utf-8''a%20b\r\nContent-"
    b"Transfer-Encoding: base64\r\n\r\nAAAA\r\n--X--\r\n",
    b"From: m@b.example\r\nContent-Type: multipart/report; report-type=delivery-status; boundary=X\r\n\r\n--X\r\n"
    b"Content-Type: message/delivery-status\r\n\r\nOriginal-Envelope-Id: <1+40b>\r\n\r\nFinal-Recipient: rfc822; a"
    b"@b\r\nAction: failed\r\nStatus: 5.1.1\r\n\r\n--X\r\nContent-Type: message/rfc822\r\n\r\nMessage-ID: <1@b>\r\n"
    b"\r\nx\r\n--X--\r\n",
)
_MAIL_WORDS = (
    b"Content-Type: multipart/mixed; boundary=X\r\n", b"Content-Type: message/rfc822\r\n\r\n", b"--X\r\n", b"\r\n\r\n",
    b"Content-Transfer-Encoding: base64\r\n", b"Content-Transfer-Encoding: quoted-printable\r\n", b"=?utf-8?q?=3D?=",
    b"Content-Transfer-Encoding: uuencode\r\n", b"; charset=utf-7", b"; charset=idna", b"begin 644 a\r\n", b"=\r\n",
    b"Content-Disposition: attachment; filename*0*=utf-8''%ff\r\n", b"Content-Type: text/html\r\n",
    b"Subject: \xff\r\n",
)  # fmt: skip
_JSON_WORDS = (
    b"123456789012345678901234567890", b'"\\ud800"', b"null", b"[" * 60, b'{"a":', b"1e400", b"NaN", b"true", b"-1",
    b'"content":', b'"\\u0000"', b"9007199254740993", b"18446744073709551616",
)  # fmt: skip

TARGETS = (
    Target("mqtt", fuzz_mqtt, (
        b'a/b1/b/c/d\napplication/json\n{"n":1,"content":"x","id":"i"}',
        b'x/y\ntext/plain\n{"id":"m","state":"read"}',
        b"a/x/b\n\n21.5",
        b"x\n\n\xff\x00",
    ), (UnreadableReceipt,), _JSON_WORDS),
    Target("mqtt-topics", fuzz_topics, (b"a/+/#\na/b/#\na/b/c", b"#\n+/b\n$SYS/x", b"+\na\na%20"),
           words=(b"+", b"#", b"/", b"$", b"\n")),
    Target("mail", fuzz_mail, _MAILS, (UnreadableMail,), _MAIL_WORDS),
    Target("mail-html", fuzz_html, (b"<html><p>a<blockquote>b</blockquote><ul><li>c<a href='d'>e</a></ul><!-- x -->",
                                    b"<table><tr><td style='display:none'>a</td><td>&#55296;&amp;</td></tr><br/>"),
           words=(b"<blockquote>", b"</blockquote>", b"&#55296;", b"<!--", b"-->", b"<![CDATA[", b"<a href='")),
)  # fmt: skip
