"""What of a stream is kept back until the answer is counted, and what is not."""

import pytest

from autoglm.gateway.relay import _MAX_HELD_BYTES, Hold
from scripted_model import event

USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}\n\n'
DONE = b"data: [DONE]\n\n"


@pytest.mark.parametrize("finish", [None, ""])
@pytest.mark.parametrize("word", [{"text": "word"}, {"text": None, "reasoning_content": "hm"}, {"text": None}])
def test_all_but_the_end_flows(word: dict[str, str | None], finish: str | None) -> None:
    """Some servers say in each chunk that it ends for an empty reason."""
    sent: list[bytes] = []
    hold = Hold(sent.append)
    chunks = [event(**word, finish=finish) for _ in range(3)]
    for chunk in chunks:
        hold.take(chunk)
    assert sent == chunks
    for end in (event(None, "stop"), USAGE, DONE):
        hold.take(end)
    assert b"".join(sent) == b"".join(chunks)
    hold.release()
    assert b"".join(sent) == b"".join(chunks) + event(None, "stop") + USAGE + DONE


def test_what_goes_on_for_ever_after_the_end_is_not_all_held() -> None:
    sent: list[bytes] = []
    hold = Hold(sent.append)
    hold.take(event(None, "stop"))
    for _ in range(8000):
        hold.take(USAGE)
        assert len(hold._held) < _MAX_HELD_BYTES + 1024
    hold.release()
    assert b"".join(sent) == event(None, "stop") + 8000 * USAGE
    assert 8000 * len(USAGE) > 2 * _MAX_HELD_BYTES


@pytest.mark.parametrize("word", [event("more"), event(None, reasoning_content="more")])
def test_what_one_choice_says_after_the_end_of_another_flows(word: bytes) -> None:
    sent: list[bytes] = []
    hold = Hold(sent.append)
    hold.take(event(None, "stop") + word)
    assert b"".join(sent) == event(None, "stop") + word
