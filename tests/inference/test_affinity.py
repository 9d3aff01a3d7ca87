"""Which requests continue a conversation, and how long they stay where it is cached."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoglm.inference import affinity
from autoglm.inference.affinity import LONG_BYTES, WORTH_BYTES, PrefixTable, may_stay, prefix_of
from autoglm.inference.call import Call
from inference.calls import CHAT
from inference.growth import peak_bytes

SYSTEM = {"role": "system", "content": 'You are "user" friendly. ' * 60}
FIRST = {"role": "user", "content": "What is a slot?"}
TURN = [{"role": "assistant", "content": "A place."}, {"role": "user", "content": "Whose?"}]


def chat(*messages: dict[str, str], tenant: str = "t", model: str = "m", **fields: Any) -> Call:
    return Call(CHAT, json.dumps({"model": model, "messages": messages, **fields}).encode(), tenant=tenant)


def test_turns_of_a_conversation_have_one_prefix() -> None:
    assert prefix_of(chat(SYSTEM, FIRST)) == prefix_of(chat(SYSTEM, FIRST, *TURN)) != 0


def test_another_question_tenant_model_or_user_has_another_prefix() -> None:
    others = [
        chat(SYSTEM, {"role": "user", "content": "What is a queue?"}),
        chat(SYSTEM, FIRST, tenant="u"),
        chat(SYSTEM, FIRST, model="n"),
        chat(SYSTEM, FIRST, user="alice"),
        chat(FIRST | {"content": "x" * WORTH_BYTES}, SYSTEM),
    ]
    assert len({prefix_of(call) for call in (chat(SYSTEM, FIRST), *others)}) == 6


def test_the_clients_own_key_names_it_whatever_the_messages() -> None:
    one, other = chat(SYSTEM, FIRST, prompt_cache_key="k"), chat(SYSTEM, *TURN, prompt_cache_key="k")
    assert prefix_of(one) == prefix_of(other) != prefix_of(chat(SYSTEM, FIRST))


def test_what_is_short_is_not_worth_it() -> None:
    assert prefix_of(chat(FIRST)) == 0


@pytest.mark.parametrize("messages", ["text", None, 5, {"role": "user"}, [], [1, "a", None], [[]]])
def test_bodies_of_any_shape_are_taken(messages: object) -> None:
    body = json.dumps({"model": "m", "messages": messages, "input": "x" * WORTH_BYTES}).encode()
    assert isinstance(prefix_of(Call(CHAT, body)), int)


def test_a_long_conversation_is_known_by_its_beginning() -> None:
    book = {"role": "user", "content": "x" * LONG_BYTES}
    assert prefix_of(chat(SYSTEM, book)) == prefix_of(chat(SYSTEM, book, *TURN)) != 0
    others = [chat(FIRST, book), chat(SYSTEM, book, tenant="u"), chat(SYSTEM, book, user="alice")]
    assert len({prefix_of(call) for call in (chat(SYSTEM, book), *others)}) == 4
    keyed = [chat(SYSTEM, book, prompt_cache_key="k"), chat(SYSTEM, prompt_cache_key="k")]
    assert len(set(map(prefix_of, keyed))) == 1
    assert prefix_of(Call(CHAT, b'{"model":"m","input":"%b"}' % (b"x" * LONG_BYTES))) == 0


def test_very_many_messages_take_no_more_memory_than_the_body() -> None:
    """An object for each of them took 26 times as much; calls for a named model paid it as well."""
    call = Call(CHAT, b'{"model":"m","messages":[' + b"[]," * 700_000 + b"[]]}")
    assert peak_bytes(prefix_of, call) < 4 * len(call.body)


def test_the_table_forgets_what_was_longest_unused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(affinity, "MAX_PREFIXES", 3)
    table = PrefixTable()
    for prefix in (1, 2, 3):
        table.note(prefix, "a", 10.0)
    table.note(1, "b", 20.0)
    table.note(4, "a", 10.0)
    assert len(table) == 3
    assert table.home_of(1) == ("b", 20.0)
    assert table.home_of(2) == ("", 0.0)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.integers(0, 1000))
def test_the_guard_is_that_of_its_formula(running: int, least: int) -> None:
    assert may_stay(running, least) is (running <= max(1.5 * least, least + 2))
