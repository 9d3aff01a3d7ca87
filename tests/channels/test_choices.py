"""Which of the offered answers a reply means."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoglm.channels.choices import action_of_choice, choice_of, choices_of, chosen_by, words_of
from autoglm.core.envelope import Envelope

OFFERED = ["Stop it", "Let it run", "叫电工"]


def reply(content: str, **labels: str) -> Envelope:
    return Envelope(to="user:a", content=content, labels=labels)


@pytest.mark.parametrize(
    ("words", "choice"),
    [
        ("Stop it", 0), ("stop  IT.", 0), (" 叫电工！", 2), ("2", 1), ("2.", 1), ("（3）", 2), ("3、", 2),
        ("\n1\n\n> 1. Stop it\n> 2. Let it run", 0), ("0", None), ("4", None), ("22", None), ("stop", None),
        ("1 2", None), ("", None), ("２", None),
    ],
)  # fmt: skip
def test_a_choice_is_named_by_its_words_or_its_number(words: str, choice: int | None) -> None:
    assert choice_of(OFFERED, words) == (None if choice is None else OFFERED[choice])


@given(st.lists(st.sampled_from(["1", "2", "a", "a b", "是", " "]), max_size=20), st.text("12ab 是.\n", max_size=6))
def test_what_is_chosen_was_offered(choices: list[str], words: str) -> None:
    assert choice_of(choices, words) in [None, *choices]


def test_words_go_before_numbers() -> None:
    assert choice_of(["2", "1"], "1") == "1"


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (reply(" on my way \n"), "on my way"), (reply("press text", action="approve"), "approve"),
        (reply("choice:2", action="choice"), "2"), (reply("2", action="choice:2"), "2"), (reply(""), ""),
    ],
)  # fmt: skip
def test_a_button_says_what_its_action_is(message: Envelope, words: str) -> None:
    assert words_of(message) == words


@pytest.mark.parametrize("choices", [OFFERED, ["0", "1", "2"], ["2", "1"], ["choice:2", "1"]])
def test_each_offered_answer_has_a_button_that_means_it(choices: list[str]) -> None:
    """Also where another answer has the button's number as its words."""
    for number, choice in enumerate(choices, 1):
        action = action_of_choice(number)
        for press in (reply("", action=action), reply(choice, action=action), reply(action, action="choice")):
            assert chosen_by(press, choices) == choice


@pytest.mark.parametrize(
    ("answer", "choice"),
    [
        (reply("1"), "1"), (reply("3"), "2"), (reply("choice:1"), None), (reply("", action="choice:0"), None),
        (reply("1", action="choice:4"), None), (reply("x", action="1"), "1"), (reply("x", action="choice:"), None),
    ],
)  # fmt: skip
def test_what_is_typed_goes_by_its_words_first_and_no_press_means_what_is_not_offered(
    answer: Envelope, choice: str | None
) -> None:
    assert chosen_by(answer, ["0", "1", "2"]) == choice


@pytest.mark.parametrize("label", ["", "[", "5", '{"a": 1}', "[" * 1000, "null"])
def test_a_label_that_is_no_list_offers_nothing(label: str) -> None:
    assert choices_of(reply("x", choices=label)) == []


@pytest.mark.parametrize("choices", [["a", "b"], [], ["a", 5, None]])
def test_a_label_with_a_list_offers_its_texts(choices: list[Any]) -> None:
    assert choices_of(reply("x", choices=json.dumps(choices))) == [one for one in choices if isinstance(one, str)]
