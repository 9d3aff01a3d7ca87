"""Bodies of requests and frames of WebSockets: JSON, forms, and the words of other programs' clients."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

import msgspec

from autoglm.channels.routes.event import decode_event
from autoglm.core.address import parse_address
from autoglm.core.envelope import check_texts, decode_envelope, encode_envelope
from autoglm.core.errors import InvalidField, InvalidJson, UnsupportedMediaType
from autoglm.gateway.interop.actions import parse_actions
from autoglm.gateway.interop.forms import read_form
from autoglm.gateway.interop.notification import event_of, read_notification
from autoglm.gateway.interop.publication import event_of as event_of_publication
from autoglm.gateway.interop.publication import of_body, of_json
from autoglm.gateway.websocket import SendFrame, _first_frame, _frames, _second_frame
from autoglm.inference.intent.features import read_request, skim
from fuzzing.target import Target

_REFUSED = (InvalidField, InvalidJson, UnsupportedMediaType)

# --- JSON -------------------------------------------------------------------------------------------


def fuzz_envelope(data: bytes) -> None:
    envelope = decode_envelope(data)
    assert decode_envelope(encode_envelope(envelope)) == envelope


def fuzz_event(data: bytes) -> None:
    event = decode_event(data)
    assert decode_event(msgspec.json.encode(event)) == event


def fuzz_frame(data: bytes) -> None:
    """As `/api/ws` reads the text of a message, before and after the hello."""
    from autoglm.core.envelope import decode_body

    text = data.decode("utf-8", "replace").encode()
    with suppress(InvalidJson, InvalidField):
        decode_body(text, _first_frame)
    with suppress(InvalidJson, InvalidField):
        decode_body(text, _second_frame)
    frame = decode_body(text, _frames)
    if isinstance(frame, SendFrame):
        check_texts(frame.message, prefix="message.")


def fuzz_request(data: bytes) -> None:
    """A chat request, which is read before its schema is known."""
    for api in ("chat", "completions", "embeddings", "responses"):
        read_request(data, api)
        skim(data, api)


_ENVELOPES = (
    b'{"to":"user:alice","content":"hi"}',
    b'{"to":"site:n/group:ops","from":"device:p-7","id":"a","timestamp":1,"kind":"alert","labels":{"a":"b"},'
    b'"priority":9,"reply_to":"b","thread":"c","expires_at":2,"site":"n","lamport":3,"content":[{"type":"text",'
    b'"text":"x"},{"type":"json","json":{"n":1.5,"l":[null,true]}},{"type":"image_url","image_url":{"url":"u"}},'
    b'{"type":"input_audio","input_audio":{"data":"AA==","format":"wav"}},{"type":"file","file":{"file_id":"f"}}]}',
)
_FRAMES = (
    b'{"type":"hello","key":"sk-1","ref":"1"}',
    b'{"type":"subscribe","to":"user:a","after":1}',
    b'{"type":"send","message":{"to":"user:a","content":"x"}}',
    b'{"type":"ack","id":"m","state":"read","by":"user:a"}',
)
_REQUESTS = (
    b'{"model":"auto","messages":[{"role":"user","content":"def f(x): return x"}],"max_tokens":5,"stream":true}',
    b'{"model":"auto","input":"words","messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":'
    b'"image_url","image_url":{"url":"data:,"}}]}],"tools":[{}],"response_format":{"type":"json_object"}}',
    b'{"prompt":["a","b"],"n":2}',
)
_JSON_WORDS = (
    b"[" * 50, b"{" * 50, b'{"a":', b"null", b"true", b"1.5", b'"\\ud800"', b'"\\u0000"', b"-0", b"1e400", b',"to":',
    b"[[[]]]", b'"labels":{"', b"18446744073709551615", b"123456789012345678901234567890", b'"\\', b"}", b"]", b",",
)  # fmt: skip

# --- forms of other programs' clients ---------------------------------------------------------------


def _two(data: bytes) -> tuple[str, bytes]:
    """The first line, as a header has it, and the rest."""
    line, _, rest = data.partition(b"\n")
    return line.decode("latin-1"), rest


def fuzz_form(data: bytes) -> None:
    read_form(*_two(data))


def fuzz_apprise(data: bytes) -> None:
    kind, body = _two(data)
    event = event_of(read_notification(body, kind, {"type": "info", "tag": "a,b"}), "key")
    decode_event(msgspec.json.encode(event))


def fuzz_ntfy(data: bytes) -> None:
    header, body = _two(data)
    headers = {b"x-title": header.encode("latin-1"), b"x-actions": header.encode("latin-1"), b"x-tags": b"a,b"}
    for read in (lambda: of_json(body, {}, {}), lambda: of_body("t", body, headers, {"title": header})):
        published = cast(Callable[[], Any], read)()
        decode_event(msgspec.json.encode(event_of_publication(published)))


def fuzz_actions(data: bytes) -> None:
    assert len(parse_actions(data.decode("utf-8", "replace"))) <= 3


def fuzz_address(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    assert str(parse_address(text)) == text


_MULTIPART = (
    b'multipart/form-data; boundary=X\n--X\r\nContent-Disposition: form-data; name="body"\r\n\r\nhi\r\n--X\r\n'
    b"content-disposition: form-data; name=\"f\"; filename*=utf-8''a%20b\r\n\r\nz\r\n--X--\r\n"
)
_APPRISE = (
    b'application/json\n{"body":"b","title":"t","type":"warning","format":"html","tag":["a",["b","c"]],"urls":"x://"}',
    b"application/x-www-form-urlencoded\nbody=b%20c&title=t&type=failure&tag=a+b",
    _MULTIPART,
)
_NTFY = (
    b'view, Open, https://a\n{"topic":"t","message":"m","priority":4,"tags":["x"],"actions":[{"action":"http",'
    b'"label":"l","url":"https://a","headers":{"a":"b"}}],"attach":"https://a/b.png","markdown":true}',
    b"=?utf-8?b?5Lit?=\nhello",
)

TARGETS = (
    Target("envelope", fuzz_envelope, _ENVELOPES, _REFUSED, _JSON_WORDS),
    Target("event", fuzz_event, (b'{"content":"x","kind":"alert","state":"firing","labels":{"a":"b"}}',
                                 *_ENVELOPES), _REFUSED, _JSON_WORDS),
    Target("websocket-frame", fuzz_frame, _FRAMES, _REFUSED, _JSON_WORDS),
    Target("chat-request", fuzz_request, _REQUESTS, _REFUSED, _JSON_WORDS),
    Target("form", fuzz_form, (_MULTIPART, _APPRISE[1]), _REFUSED),
    Target("apprise", fuzz_apprise, _APPRISE, _REFUSED, _JSON_WORDS),
    Target("ntfy", fuzz_ntfy, _NTFY, _REFUSED, (*_JSON_WORDS, b"=?utf-8?q?", b"?=")),
    Target("actions", fuzz_actions, (b"view, Open, https://a, clear=true; http, 'S t', \"https://b\", body='x'",
                                     b'[{"action":"view","label":"l","url":"https://a"}]'), _REFUSED),
    Target("address", fuzz_address, (b"user:alice", b"site:n/channel:c/t", "group:中".encode()), _REFUSED),
)  # fmt: skip
