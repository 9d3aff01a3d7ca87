"""Which answers of a question have a button, and which stand in the text."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoglm.channels.buttons import BUTTON_CHARACTERS, MOST_BUTTONS, with_buttons
from autoglm.channels.choices import choices_of, chosen_by
from autoglm.core.envelope import Envelope, TextPart, text_of


def question(choices: list[str], content: Any = "Which?") -> Envelope:
    return Envelope(to="user:a", content=content, labels={"choices": json.dumps(choices)})


@given(st.lists(st.text('ab "\\压\ud83d', max_size=5), max_size=30), st.integers(0, 25))
def test_each_answer_has_a_button_or_a_line_with_its_number(choices: list[str], most: int) -> None:
    asked = question(choices)
    shown, buttons = with_buttons(asked, most=most)
    assert len(buttons) <= most
    lines = dict(line.split(". ", 1) for line in text_of(shown.content).split("\n")[1:])
    for number, choice in enumerate(choices, 1):
        words = buttons.get(f"choice:{number}", lines.get(str(number), ""))
        assert words == (choice.encode("utf-8", "replace").decode() if choice.strip() else "")


def test_a_button_of_a_long_answer_still_means_it() -> None:
    asked = question(["a" * 300, "b" * 300])
    _, buttons = with_buttons(asked)
    assert [len(words) for words in buttons.values()] == [BUTTON_CHARACTERS] * 2
    pressed = Envelope(to="user:a", content="", labels={"action": list(buttons)[1]})
    assert chosen_by(pressed, choices_of(asked)) == "b" * 300


def test_a_text_that_has_the_answers_is_left_as_it_is() -> None:
    asked = question(["yes", "no"], "Which?\n1. yes\n2. no")
    assert with_buttons(asked, most=0) == (asked, {})


@pytest.mark.parametrize("content", ["", [TextPart(text="Which?")]])
def test_lines_go_to_the_end_of_any_content(content: Any) -> None:
    shown, _ = with_buttons(question(["yes", "no"], content), most=1)
    assert shown.content == ("2. no" if content == "" else [*content, TextPart(text="2. no")])


def test_a_question_of_the_hub_has_a_button_for_each_answer() -> None:
    _, buttons = with_buttons(question([f"answer {number}" for number in range(MOST_BUTTONS)]))
    assert len(buttons) == MOST_BUTTONS
