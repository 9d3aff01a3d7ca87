"""The answers that a question offers, and which of them a reply means. Pure."""

import json
import re

from autoglm.core.envelope import Envelope, text_of

CHOICES = "choices"
"""The label of a question: its answers, as a JSON list. Channels with buttons make one of each."""
ACTION = "action"
"""The label of a button that was pressed: `ack`, `approve`, `deny`, or `choice:2` for the second answer."""
_CHOICE = "choice"
_is_choice = re.compile(rf"{_CHOICE}:([0-9]{{1,2}})").fullmatch
_is_number = re.compile(r"[\s(（]*([0-9]{1,2})[\s.。)）、]*").fullmatch


def choices_of(envelope: Envelope) -> list[str]:
    """None for a message that offers none."""
    try:
        found = json.loads(envelope.labels.get(CHOICES, "[]"))
    except (ValueError, RecursionError):  # a label of a stranger, which happens to have the name
        return []
    return [one for one in found if isinstance(one, str)] if isinstance(found, list) else []


def action_of_choice(number: int) -> str:
    """What a button for the answer of that number, from 1, sends back."""
    return f"{_CHOICE}:{number}"


def words_of_action(action: str) -> str:
    """What somebody is shown of a button that was pressed: the number of a choice, else the action."""
    name, _, number = action.partition(":")
    return number if name == _CHOICE else action


def words_of(reply: Envelope) -> str:
    """What a reply says: its text, or the action of the button that was pressed."""
    action = _action_of(reply)
    return words_of_action(action) if action else text_of(reply.content).strip()


def chosen_by(reply: Envelope, choices: list[str]) -> str | None:
    """The offered answer that a reply means; None for another one.

    A button has its number, whatever the answers' words are: of 0, 1 and 2 the first one's is `choice:1`.
    """
    if (pressed := _is_choice(_action_of(reply))) is None:
        return choice_of(choices, words_of(reply))
    number = int(pressed[1])
    return choices[number - 1] if 1 <= number <= len(choices) else None


def _action_of(reply: Envelope) -> str:
    """Some adapters have the whole in the label, others its first word; the text has the whole there."""
    action = reply.labels.get(ACTION, "")
    return text_of(reply.content).strip() if action == _CHOICE else action


def choice_of(choices: list[str], words: str) -> str | None:
    """The offered answer that is meant, by its words or its number; None for another one."""
    for text in (words, _first_line(words)):  # a mail has what it answers below
        for choice in choices:
            if _folded(choice) == _folded(text):
                return choice
        number = _is_number(text)
        if number and 1 <= int(number[1]) <= len(choices):
            return choices[int(number[1]) - 1]
    return None


def _first_line(text: str) -> str:
    return next((line for line in text.splitlines() if line.strip()), "")


def _folded(text: str) -> str:
    return " ".join(text.split()).strip("。.!！").casefold()
