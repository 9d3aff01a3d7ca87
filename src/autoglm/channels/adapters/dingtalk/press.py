"""Links that answer a question: whoever taps one says in the conversation what the link holds, to the robot. Pure.

DingTalk has no buttons that call back without a card made in its console. Source: open.dingtalk.com, "robots interact
in groups" (dtmd links); as its users report: only in Markdown and cards, the host in lower case, the content encoded,
in a group with a call of the robot. Not tried with DingTalk itself.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import quote

from autoglm.channels.choices import action_of_choice
from autoglm.channels.pieces import truncated

WORDS_CHARACTERS = 20
_LINK = "dtmd://dingtalkclient/sendMessage?content="
_is_pressed = re.compile(r"(.*?)\s*\[([1-9][0-9]?)#([\x21-\x7e]{1,128})\]", re.DOTALL).fullmatch


class Pressed(NamedTuple):
    words: str
    action: str
    message: str
    """The id of the hub's message that it names; whether that went to this sender, the inbox finds out."""


def links_of(buttons: Mapping[str, str], message_id: str) -> str:
    """In Markdown, one below the other. buttons: words by their action, `choice:NUMBER`.

    What is said names the message: of two questions with the same answers, the right one is answered. A link shows
    its number, too: answers may begin with the same words.
    """
    lines = []
    for action, choice in buttons.items():
        words = truncated(" ".join(choice.split()), WORDS_CHARACTERS, measure=len)
        number = action.partition(":")[2]
        said = f"{words} [{number}#{message_id}]"
        label = words.translate({ord("["): "［", ord("]"): "］", ord("\\"): "＼"})  # they would end the link's text
        lines.append(f"[{number}. {label}]({_LINK}{quote(said, safe='')})")
    return "\n\n".join(lines)


def pressed(text: str) -> Pressed | None:
    """What a link has its reader say; None for what somebody wrote."""
    found = _is_pressed(text)
    return None if found is None else Pressed(found[1], action_of_choice(int(found[2])), found[3])
