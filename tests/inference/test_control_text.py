"""Control text goes out of the content, and of nothing else, wherever the stream is cut."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoglm.inference.control_text import Stripper, TextStripper
from scripted_model import completion, event

MARKERS = ("<think>...</think>", "<|begin_of_box|>", "<|end_of_box|>", "</answer>")
pieces = st.lists(
    st.sampled_from(
        ["<think>", "</think>", "<|begin_of_box|>", "</answer>", "<", "|", "<th", "hello", "世界", " ", "answer>"]
    ),
    max_size=12,
)


def strip(text: str, markers: tuple[str, ...] = MARKERS) -> str:
    return TextStripper(markers).feed(text, is_last=True)


@given(pieces, st.integers(1, 5))
def test_a_stream_is_stripped_as_the_whole_text_is(parts: list[str], size: int) -> None:
    text = "".join(parts)
    stripper = TextStripper(MARKERS)
    cut = [text[start : start + size] for start in range(0, len(text), size)]
    streamed = "".join(stripper.feed(piece, is_last=False) for piece in cut) + stripper.feed("", is_last=True)
    assert streamed == strip(text)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("<think>no</think>yes", "yes"),
        ("a<|begin_of_box|>42<|end_of_box|>b</answer>", "a42b"),
        ("<think>a</think>b<think>c</think>d", "bd"),
        ("<think>cut off", ""),
        ("1 < 2 and <thin", "1 < 2 and <thin"),
        ("", ""),
    ],
)
def test_what_is_taken_out(text: str, left: str) -> None:
    assert strip(text) == left


def test_of_two_markers_at_one_place_the_longer_goes() -> None:
    assert strip("<a>x", ("<a", "<a>")) == "x"


def test_a_marker_that_would_match_everywhere_is_ignored() -> None:
    assert strip("hello", ("", "...", "...x", "x...")) == "hello"


def test_nothing_but_the_content_changes_in_a_whole_answer() -> None:
    body: dict[str, Any] = completion("<think>x</think>yes", reasoning_content="<think>kept</think>")
    stripped = json.loads(Stripper(MARKERS).whole(json.dumps(body).encode()))
    assert stripped["choices"][0]["message"]["content"] == "yes"
    assert stripped["choices"][0]["message"]["reasoning_content"] == "<think>kept</think>"
    assert stripped["usage"] == body["usage"]


@pytest.mark.parametrize(
    "body", [b"no json", b"[]", b'{"choices":3}', b'{"choices":[{"message":null}]}', b'{"data":[1]}']
)
def test_what_is_no_completion_comes_back_as_it_is(body: bytes) -> None:
    assert Stripper(MARKERS).whole(body) == body


@given(st.integers(1, 40))
def test_markers_split_over_events_and_reads_are_found(size: int) -> None:
    stream = b"".join(event(text) for text in ("<thi", "nk>secret</th", "ink>he", "llo</ans", "wer>")) + event(
        None, "stop"
    )
    stripper = Stripper(MARKERS)
    cut = [stream[start : start + size] for start in range(0, len(stream), size)]
    out = b"".join(stripper.feed(piece) for piece in cut) + stripper.feed(b"data: [DONE]\n\n", is_last=True)
    events = [json.loads(line[6:]) for line in out.split(b"\n") if line.startswith(b"data: {")]
    assert "".join(entry["choices"][0]["delta"].get("content", "") for entry in events) == "hello"
    assert out.endswith(b"data: [DONE]\n\n")


def test_what_looked_like_a_marker_until_the_end_is_let_out() -> None:
    stripper = Stripper(MARKERS)
    out = stripper.feed(event("1 </ans") + event(None, "stop"))
    events = [json.loads(line[6:]) for line in out.split(b"\n") if line.startswith(b"data: {")]
    assert "".join(entry["choices"][0]["delta"].get("content", "") for entry in events) == "1 </ans"


def test_choices_are_filtered_apart() -> None:
    def one(index: int, text: str) -> bytes:
        return b"data: " + json.dumps({"choices": [{"index": index, "text": text}]}).encode() + b"\n\n"

    out = Stripper(MARKERS).feed(one(0, "a</ans") + one(1, "wer>b") + one(0, "wer>c"))
    assert [json.loads(line[6:])["choices"][0]["text"] for line in out.split(b"\n") if line] == ["a", "wer>b", "c"]
