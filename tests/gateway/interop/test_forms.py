"""Forms from outside: read as they are meant, or refused; never a crash."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoglm.core.errors import HubError
from autoglm.gateway.interop.forms import Form, read_form

NAMES = st.sampled_from(["body", "title", "type", "tag", "x-1"])
TEXTS = st.text(st.sampled_from('ab 文\r\n-x"=;&%😀'), max_size=40)
MULTIPART = "multipart/form-data; boundary=xx"


def part(name: str, value: str, extra: str = "") -> bytes:
    return f'--xx\r\ncontent-disposition: form-data; name="{name}"{extra}\r\n\r\n{value}\r\n'.encode()


@given(st.dictionaries(NAMES, TEXTS.filter(lambda text: "--xx" not in text), max_size=5))
def test_parts_come_back_as_they_were_sent(fields: dict[str, str]) -> None:
    body = b"".join(part(name, value) for name, value in fields.items()) + b"--xx--\r\n"
    assert read_form(MULTIPART, body) == Form(fields, [])


def test_files_are_named_and_not_kept() -> None:
    body = part("body", "x") + part("attach", "bytes", '; filename="a.txt"') + b"--xx--"
    assert read_form(MULTIPART, body) == Form({"body": "x"}, ["attach"])


def test_a_name_may_be_encoded() -> None:
    """RFC 2231, section 4; browsers send no such names, some libraries do."""
    body = b"--xx\r\ncontent-disposition: form-data; name*=utf-8''%E6%96%87\r\n\r\nx\r\n--xx--"
    assert read_form(MULTIPART, body) == Form({"文": "x"}, [])


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (MULTIPART, b""), (MULTIPART, part("a", "x")), (MULTIPART, b"--xx\r\n\r\nx\r\n--xx--"),
        (MULTIPART, part("a", "x") * 101 + b"--xx--"), (MULTIPART, part("", "x") + b"--xx--"),
        ("multipart/form-data", b"--\r\n"), ("text/plain", b"a=b"), ("", b"%ff=%ff"), ("", b"\xff"),
        ("", b"&".join(b"a=b" for _ in range(101))),
        (MULTIPART, b'--xx\r\ncontent-disposition: form-data; name="a"\r\n\r\n\xff\r\n--xx--'),
        (MULTIPART, b"--xx\r\ncontent-disposition: form-data; name=\"a\"; filename*=\x00''x\r\n\r\nx\r\n--xx--"),
        (MULTIPART, b"--xx\r\ncontent-disposition: form-data; name*=\x00''x\r\n\r\nx\r\n--xx--"),
    ],
)  # fmt: skip
def test_what_is_no_form_is_refused(content_type: str, body: bytes) -> None:
    with pytest.raises(HubError):
        read_form(content_type, body)


@given(st.text(st.sampled_from('abx=;/"\xff\r\n -'), max_size=40), st.binary(max_size=200))
def test_whatever_comes_is_read_or_refused(content_type: str, body: bytes) -> None:
    for kind in (content_type, MULTIPART, f"multipart/form-data; {content_type}"):
        with contextlib.suppress(HubError):
            read_form(kind, body)
