"""Frames of Feishu's long connection next to Google's protobuf."""

import contextlib
from typing import Any

import pytest
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # no stubs
from hypothesis import given
from hypothesis import strategies as st

from autoglm.channels.adapters.feishu.frames import Frame, Malformed, decoded, encoded
from fakes.feishu_app import Frame as GooglesFrame

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
frames = st.builds(
    Frame,
    seq_id=st.integers(0, 2**64 - 1),
    log_id=st.integers(0, 2**64 - 1),
    service=st.integers(-(2**31), 2**31 - 1),
    method=st.integers(-(2**31), 2**31 - 1),
    headers=st.lists(st.tuples(texts, texts), max_size=4).map(tuple),
    payload_encoding=texts,
    payload_type=texts,
    payload=st.binary(max_size=300),
    log_id_new=texts,
)


def googles(frame: Frame) -> Any:
    """The same frame, made by Google's library."""
    found = GooglesFrame(SeqID=frame.seq_id, LogID=frame.log_id, service=frame.service, method=frame.method)
    for key, value in frame.headers:
        found.headers.add(key=key, value=value)
    optional: dict[str, str | bytes] = {
        "payload_encoding": frame.payload_encoding, "payload_type": frame.payload_type, "payload": frame.payload,
        "LogIDNew": frame.log_id_new,
    }  # fmt: skip
    for name, content in optional.items():
        if content:
            setattr(found, name, content)
    return found


@given(frame=frames)
def test_what_we_write_is_what_google_writes(frame: Frame) -> None:
    assert encoded(frame) == googles(frame).SerializeToString()


@given(frame=frames)
def test_what_google_writes_we_read(frame: Frame) -> None:
    assert decoded(googles(frame).SerializeToString()) == frame


@given(frame=frames, data=st.data())
def test_of_a_cut_frame_we_read_what_google_reads_or_nothing_as_google(frame: Frame, data: st.DataObject) -> None:
    whole = encoded(frame)
    piece = whole[: data.draw(st.integers(0, len(whole)))]
    try:
        theirs = GooglesFrame.FromString(piece)
    except DecodeError:
        with pytest.raises(Malformed):
            decoded(piece)
        return
    assert decoded(piece) == Frame(
        seq_id=theirs.SeqID, log_id=theirs.LogID, service=theirs.service, method=theirs.method,
        headers=tuple((header.key, header.value) for header in theirs.headers), payload=theirs.payload,
        payload_encoding=theirs.payload_encoding, payload_type=theirs.payload_type, log_id_new=theirs.LogIDNew,
    )  # fmt: skip


@given(data=st.binary(max_size=200))
def test_any_bytes_are_a_frame_or_malformed(data: bytes) -> None:
    with contextlib.suppress(Malformed):
        assert decoded(encoded(decoded(data))) == decoded(data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x08", "cut"),
        (b"\x08" + b"\xff" * 10 + b"\x01", "too many bytes"),
        (b"\x42\xff\xff\xff\xff\x0fx", "cut"),
        (b"\x0a\x01x", "another type"),
        (b"\x40\x01", "another type"),
        (b"\x2a\x02\x08\x01", "no text"),
        (b"\x32\x01\xff", "UTF-8"),
        (b"\x0b", "wire type"),
    ],
)
def test_what_is_malformed_is_said(data: bytes, reason: str) -> None:
    with pytest.raises(Malformed, match=reason):
        decoded(data)


def test_unknown_fields_are_skipped() -> None:
    """Of each wire type: a vendor adds fields."""
    more = b"\x50\x05" + b"\x59" + b"12345678" + b"\x62\x02hi" + b"\x6d" + b"1234"
    assert decoded(encoded(Frame(service=3)) + more) == Frame(service=3)
