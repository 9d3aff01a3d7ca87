"""Cards with buttons, as WeCom's apps and AI bots send them alike.

Source: developer.work.weixin.qq.com/document/path/90236 (template cards), /path/101032 (AI bots).
"""

import hashlib
from collections.abc import Mapping
from typing import Any

from autoglm.channels.buttons import with_buttons
from autoglm.channels.choices import choices_of
from autoglm.channels.pieces import truncated
from autoglm.core.envelope import Envelope

CARD_CHARACTERS = 160
"""What a card shows of its text; the vendor's advice."""
BUTTON_CHARACTERS = 10
TITLE_CHARACTERS = 26
BUTTONS = 6
"""The vendor's limit for a card."""
_WITH_TASK = ("button_interaction", "vote_interaction", "multiple_interaction")

Form = dict[str, Any]
"""The vendor's JSON, as far as it is of the message."""


def task_of(message_id: str, target: str, index: int = 0) -> str:
    """The task_id of a card: of letters, digits and -, the same for each attempt, other for everything else."""
    return f"autoglm-{hashlib.sha256(chr(0).join((message_id, target, str(index))).encode()).hexdigest()[:40]}"


def task_in(form: Form) -> str:
    """Empty where it is no card with a task."""
    card = form.get("template_card")
    return str(card.get("task_id", "")) if isinstance(card, dict) else ""


def with_task(form: Form, task_id: str) -> Form:
    """A card with buttons or questions needs a task_id, by which a press is told apart; others stay as they are."""
    card = form.get("template_card")
    if not isinstance(card, dict) or card.get("card_type") not in _WITH_TASK or card.get("task_id"):
        return form
    return {**form, "template_card": {**card, "task_id": task_id}}


def with_card(envelope: Envelope, configured: Mapping[str, str]) -> tuple[Envelope, Mapping[str, str]]:
    """(the message, its buttons): the answers that a question offers, where a card has room for all of them; else they
    stand in the text, and the buttons are what the settings say.
    """
    has_room = len(choices_of(envelope)) <= BUTTONS
    envelope, offered = with_buttons(envelope, most=BUTTONS if has_room else 0)
    return envelope, offered or configured


def button_card(text: str, task_id: str, buttons: Mapping[str, str]) -> Form:
    """buttons: words by key. A text that is too long is cut: it goes by itself as well."""
    shown = truncated(text.strip(), CARD_CHARACTERS, measure=len) or "…"
    card = {
        "card_type": "button_interaction",
        "main_title": {"title": truncated(shown.partition("\n")[0], TITLE_CHARACTERS, measure=len)},
        "sub_title_text": shown,
        "task_id": task_id,
        "button_list": [
            {"text": truncated(words, BUTTON_CHARACTERS, measure=len), "style": 1, "key": key}
            for key, words in buttons.items()
        ],
    }
    return {"msgtype": "template_card", "template_card": card}
