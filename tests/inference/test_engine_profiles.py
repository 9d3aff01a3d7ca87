"""Profiles set what the client left open, in the provider's dialect, and change nothing else."""

import json

import pytest

from autoglm.inference.engine.profiles import PROFILES, Profile, apply
from autoglm.inference.settings import ProviderName

BODY = b'{"model": "auto",  "messages":[{"role":"user","content":"\\u4f60\\u597d"}], "seed": 1e0}'


def test_what_the_client_sent_stays_byte_for_byte() -> None:
    sent = apply(BODY, PROFILES["precise"], "vllm")
    assert sent == b'{"temperature":0.0,' + BODY[1:]


def test_plain_returns_the_very_same_body() -> None:
    assert apply(BODY, PROFILES["plain"], "vllm") is BODY


@pytest.mark.parametrize("field", ["temperature", "top_p"])
def test_what_the_client_decided_is_not_decided_again(field: str) -> None:
    body = b'{"%s": null, "messages": []}' % field.encode()
    assert apply(body, PROFILES["precise"], "vllm") is body


def test_a_limit_under_its_newer_name_counts_as_set() -> None:
    body = b'{"max_completion_tokens": 7, "messages": []}'
    assert json.loads(apply(body, PROFILES["brief"], "openai")) == json.loads(body)


@pytest.mark.parametrize(
    ("provider", "added"),
    [
        ("glm", {"thinking": {"type": "disabled"}}),
        ("vllm", {"chat_template_kwargs": {"enable_thinking": False}}),
        ("local", {"chat_template_kwargs": {"enable_thinking": False}}),
        ("openai", {}),
    ],
)
def test_thinking_is_switched_in_the_words_of_the_provider(provider: ProviderName, added: dict[str, object]) -> None:
    assert json.loads(apply(BODY, PROFILES["direct"], provider)) == json.loads(BODY) | added


def test_other_apis_are_left_alone() -> None:
    body = b'{"input": "embed me"}'
    assert apply(body, PROFILES["precise"], "openai") is body


def test_a_profile_of_the_operator_sets_any_field() -> None:
    sent = apply(BODY, Profile(name="wild", sets={"presence_penalty": 1.5}), "openai")
    assert json.loads(sent)["presence_penalty"] == 1.5
