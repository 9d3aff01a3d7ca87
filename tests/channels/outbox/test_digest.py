"""A digest holds whole messages, in their order, within the vendor's bytes."""

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from autoglm.channels.outbox.digest import fits_a_digest, line_of, packed
from autoglm.channels.pieces import utf8_bytes
from autoglm.core.envelope import Envelope, text_of


def message(content: Any, **fields: Any) -> Envelope:
    wanted = {"id": "m", "from": "user:a", "to": "channel:c/t", "timestamp": 1_790_000_000_000}
    return msgspec.convert({**wanted, "content": content, **fields}, Envelope)


@given(st.lists(st.text("a压👨", min_size=1, max_size=120), min_size=1, max_size=60), st.integers(200, 2048))
def test_it_fits_and_loses_no_word(texts: list[str], digest_bytes: int) -> None:
    envelopes = [message(text) for text in texts]
    found = packed(envelopes, digest_bytes)
    if found is None:
        first_two = sum(1 + utf8_bytes(line_of(envelope)) for envelope in envelopes[:2])
        assert len(envelopes) < 2 or first_two + 30 > digest_bytes
        return
    made, count = found
    assert utf8_bytes(text_of(made.content)) <= digest_bytes
    assert text_of(made.content).split("\n", 1)[1] == "\n".join(line_of(one) for one in envelopes[:count])


def test_who_has_a_place_of_its_own_is_in_none() -> None:
    plain = message("x")
    assert fits_a_digest(plain, 2048)
    for other in (
        message("x", priority=8), message("x", thread="t"), message([{"type": "text", "text": "x"}]),
        message("x" * 2000), message("Stop?", labels={"question": "m"}), message("x", labels={"choices": '["yes"]'}),
    ):  # fmt: skip
        assert not fits_a_digest(other, 2048)


def test_its_priority_is_that_of_its_most_urgent_message() -> None:
    found = packed([message("a", priority=2), message("b", priority=6)], 2048)
    assert found is not None
    assert (found[0].priority, found[1]) == (6, 2)
