"""Messages in the form that AI bots send. Source: developer.work.weixin.qq.com/document/path/101463."""

import re
from collections.abc import Mapping

from autoglm.channels.adapters.wechat.cards import CARD_CHARACTERS, Form, button_card, task_of, with_task
from autoglm.channels.adapters.wechat.media import Media, addresses_of, media_of
from autoglm.channels.channel import Cannot
from autoglm.channels.delivery import Words, permanent
from autoglm.channels.wording import FORM_BYTES, checked_size, cut_to_pieces
from autoglm.core.envelope import Envelope, JsonPart, text_of

TEXT_BYTES = 20_480
"""Of Markdown, in an answer and by itself."""
PIECES = 20
_MSGTYPES = ("markdown", "template_card", "image", "file", "voice", "video")
_is_person = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}").fullmatch
_is_group = re.compile(r"@group:([\x21-\x7e]{1,128})").fullmatch


def addressee(target: str) -> Form | None:
    """userid or @group:CHATID; None for anything else."""
    if (group := _is_group(target)) is not None:
        return {"chatid": group[1], "chat_type": 2}
    return {"chatid": target, "chat_type": 1} if _is_person(target) else None


def forms_of(envelope: Envelope, target: str, *, buttons: Mapping[str, str]) -> list[Form | Media]:
    """In the order in which they go out. Raises Cannot."""
    text = "\n".join(filter(None, (text_of(envelope.content), *addresses_of(envelope.content))))
    found: list[Form | Media] = []
    if text.strip() and not (buttons and len(text) <= CARD_CHARACTERS):
        pieces = cut_to_pieces(text, TEXT_BYTES, most=PIECES)
        found += [{"msgtype": "markdown", "markdown": {"content": piece}} for piece in pieces]
    if buttons:
        found.append(button_card(text, task_of(envelope.id, target), buttons))
    found += media_of(envelope.content)
    parts = envelope.content if isinstance(envelope.content, list) else []
    for index, part in enumerate(parts, 1):
        body = part.json if isinstance(part, JsonPart) else None
        if isinstance(body, dict) and body.get("msgtype") in _MSGTYPES:
            checked_size([body], FORM_BYTES)
            whole = with_task(body, task_of(envelope.id, target, index))
            found.append({name: value for name, value in whole.items() if name not in ("chatid", "chat_type")})
    if not found:
        words = Words("the message holds nothing that the bot can show", "消息中没有机器人可显示的内容")
        raise Cannot(permanent("empty", words))
    return found
