"""Events come out whole, however the network cuts them; a stream without its end is told from a finished one."""

import re
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoglm.inference.sse import TAIL_BYTES, Events, Tail, flaw_of_end, has_event, split_events

STREAM = b': hello\n\ndata: {"a":1}\n\nevent: x\r\ndata: one\r\ndata: two\r\n\r\ndata:[DONE]\n\n'


@given(st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_events_do_not_depend_on_where_the_network_cuts(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    events = Events()
    found = [data for start, end in pairwise(edges) for data in events.feed(STREAM[start:end])]
    assert found == [b'{"a":1}', b"one\ntwo", b"[DONE]"]


@given(st.lists(st.sampled_from([b"data: x", b"\n", b"\r", b":"]), max_size=16).map(b"".join))
def test_odd_line_ends_mean_the_same_byte_by_byte(odd: bytes) -> None:
    stream, events = b"data: a" + odd + b"data: b\n\n", Events()
    found = [data for at in range(len(stream)) for data in events.feed(stream[at : at + 1])]
    assert found == list(Events().feed(stream))


def test_a_long_event_in_small_pieces_takes_time_by_its_length() -> None:
    """4 MiB in pieces of 64 bytes took minutes of the event loop, as each piece copied all that came before it."""
    events, begun_s = Events(), time.process_time()
    assert not [data for _ in range(65_536) for data in events.feed(b"x" * 64)]
    assert not list(events.feed(b"\ndata: y"))
    assert list(events.feed(b"\n\n")) == [b"y"]
    assert time.process_time() - begun_s < 5.0


@given(st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_holding_back_half_an_event_changes_no_byte(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    sent, rest = b"", b""
    for start, end in pairwise(edges):
        whole, rest = split_events(rest + STREAM[start:end])
        assert whole == b"" or whole.endswith((b"\n\n", b"\n\r\n"))
        sent += whole
    assert sent + rest == STREAM


def test_what_has_no_events_is_not_held_back_for_ever() -> None:
    garbage = b"x" * 100_000
    assert split_events(garbage) == (garbage, b"")


def test_an_endless_event_does_not_fill_the_memory() -> None:
    events = Events()
    for _ in range(20):
        assert list(events.feed(b"x" * (1 << 20))) == []
    assert len(events._buffer) <= 8 << 20


def test_an_event_has_ended_at_its_empty_line() -> None:
    assert has_event(b"data: x\n\n")
    assert has_event(b"event: x\r\ndata: y\r\n\r\n")
    assert not has_event(b"data: x\n")
    assert not has_event(b": only a comment\n\ndata: x\n")


@given(st.lists(st.sampled_from([b"data:", b"event:", b"x", b":", b"\n", b"\r\n", b"\r"]), max_size=12).map(b"".join))
def test_what_has_an_event_is_told_as_by_its_definition(start: bytes) -> None:
    definition = re.compile(rb"^(?:data|event):.*?\n\r?\n", re.MULTILINE | re.DOTALL)  # takes time by the square
    assert has_event(start) == (definition.search(start) is not None)


@given(st.lists(st.binary(max_size=3000), max_size=60))
def test_the_tail_is_the_end_of_all_that_was_added(chunks: list[bytes]) -> None:
    tail = Tail()
    for chunk in chunks:
        tail.add(chunk)
    assert tail.last() == b"".join(chunks)[-TAIL_BYTES:]


@pytest.mark.parametrize(
    "end",
    [
        b'data: {"choices":[{"finish_reason":"stop"}]}\n\n',
        b'data: {"choices":[{"finish_reason": "length"}]}\n\n',
        b'data: {"choices":[{"finish_reason":"sensitive"}]}\n\ndata: [DONE]\n\n',
        b'data: {"choices":[]}\n\ndata: [DONE]\n\n',
        b'event: response.completed\ndata: {"type":"response.completed","response":{}}\n\n',
    ],
)
def test_a_stream_that_ends_by_itself_has_no_flaw(end: bytes) -> None:
    assert flaw_of_end(end) == ""


@pytest.mark.parametrize(
    "end",
    [
        b"",
        b'data: {"choices":[{"delta":{"content":"x"},"finish_reason":null}]}\n\n',
        b'data: {"choices":[{"delta":{"content":"\\"finish_reason\\":\\"stop\\" data: [DONE]"}}]}\n\n',
        b'data: {"choices":[{"finish_reason":"network_error"}]}\n\ndata: [DONE]\n\n',
        b'data: {"choices":[{"finish_reason":null}]}\n\ndata: {"error":{"message":"gone"}}\n\ndata: [DONE]\n\n',
    ],
)
def test_a_stream_that_merely_stops_is_broken_whatever_the_model_wrote(end: bytes) -> None:
    assert flaw_of_end(end) != ""
