"""A share of the fuzzing that `make fuzz` does for longer."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auth.tokens import fuzz_targets
from auth.tokens.forge import header, payload
from auth.tokens.fuzz_targets import SEEDS, fuzz_token
from auth.tokens.runs import proof_header, proof_payload

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("seed", SEEDS, ids=range(len(SEEDS)))
def test_a_seed_gets_through_and_so_does_each_damaged_one(seed: bytes) -> None:
    fuzz_token(seed)
    for cut in range(0, len(seed), 37):
        fuzz_token(seed[:cut])
        fuzz_token(seed[:cut] + b"\x00\xff" + seed[cut + 1 :])


@given(st.binary(max_size=400))
def test_bytes_raise_nothing_but_refusals(data: bytes) -> None:
    fuzz_token(data)


@st.composite
def nearly(draw: st.DrawFn) -> bytes:
    """A good header or payload in which a few members were changed, dropped or added."""
    members: dict[str, Any] = dict(draw(st.sampled_from([header(), payload(), proof_header(), proof_payload("x")])))
    for _ in range(draw(st.integers(0, 3))):
        name = draw(st.sampled_from(sorted(members)) if members else st.text(max_size=5))
        if draw(st.booleans()):
            members[name] = draw(json_values)
        else:
            members.pop(name, None)
    return json.dumps(members, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")


@given(nearly())
@settings(max_examples=300)
def test_json_that_is_nearly_right_raises_nothing_but_refusals(data: bytes) -> None:
    fuzz_token(data)


def test_the_target_notices_another_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ValueError("broken")

    monkeypatch.setattr(fuzz_targets, "verify", broken)
    with pytest.raises(ValueError, match="broken"):
        fuzz_token(b"x")
