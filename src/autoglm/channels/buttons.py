"""Buttons for the answers that a question offers; an answer without one stands in the text. Pure."""

import msgspec

from autoglm.channels.choices import action_of_choice, choices_of
from autoglm.channels.pieces import truncated
from autoglm.core.envelope import Envelope, TextPart, text_of

MOST_BUTTONS = 20
"""As many as a question of the hub may offer; a label that somebody wrote may have hundreds."""
BUTTON_CHARACTERS = 100


def with_buttons(envelope: Envelope, *, most: int = MOST_BUTTONS) -> tuple[Envelope, dict[str, str]]:
    """(the message, by the action that a press sends back the words of its buttons).

    The first `most` answers have a button, whose words are cut to BUTTON_CHARACTERS. Each other one is a line at the
    end of the text, with the number that chooses it, unless the text has that line: the hub's own questions do.
    """
    # Half a surrogate pair, which JSON can write, goes over no wire.
    known = [choice.encode("utf-8", "replace").decode() for choice in choices_of(envelope)]
    shown = {number: choice for number, choice in enumerate(known, 1) if choice.strip()}
    numbers = list(shown)
    lines = text_of(envelope.content).splitlines()
    left = [line for number in numbers[most:] if (line := f"{number}. {shown[number]}") not in lines]
    buttons = {
        action_of_choice(number): truncated(shown[number], BUTTON_CHARACTERS, measure=len) for number in numbers[:most]
    }
    return _with_text(envelope, left) if left else envelope, buttons


def _with_text(envelope: Envelope, lines: list[str]) -> Envelope:
    text, content = "\n".join(lines), envelope.content
    more = f"{content}\n{text}".lstrip("\n") if isinstance(content, str) else [*content, TextPart(text=text)]
    return msgspec.structs.replace(envelope, content=more)
