"""Messages in the form that WeCom's apps send. Source: developer.work.weixin.qq.com/document/path/90236."""

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from autoglm.channels.adapters.wechat.media import Media, addresses_of, media_of
from autoglm.channels.channel import Cannot
from autoglm.channels.delivery import Words, permanent, too_large
from autoglm.channels.pieces import cut, truncated
from autoglm.core.envelope import Envelope, JsonPart, text_of

TEXT_BYTES = 2048
"""Of text and of Markdown alike."""
CARD_CHARACTERS = 160
"""What a card shows of its text; the vendor's advice."""
BUTTON_CHARACTERS = 10
PIECES = 50
_MSGTYPES = ("text", "markdown", "textcard", "news", "mpnews", "image", "voice", "video", "file", "template_card")
_WITH_TASK = ("button_interaction", "vote_interaction", "multiple_interaction")
_is_member = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}").fullmatch
_is_many = re.compile(r"@(party|tag):([0-9]{1,20})").fullmatch

Form = dict[str, Any]
"""The vendor's JSON, as far as it is of the message."""


def addressee(target: str) -> Form | None:
    """userid, @party:ID or @tag:ID; None for anything else, several members included: each has limits of its own."""
    if (many := _is_many(target)) is not None:
        return {f"to{many[1]}": many[2]}
    return {"touser": target} if _is_member(target) else None


def forms_of(envelope: Envelope, target: str, *, format: str, buttons: Mapping[str, str]) -> list[Form | Media]:
    """In the order in which they go out. Raises Cannot."""
    text = "\n".join(filter(None, (text_of(envelope.content), *addresses_of(envelope.content))))
    found: list[Form | Media] = []
    if text.strip() and not (buttons and len(text) <= CARD_CHARACTERS):
        found += [{"msgtype": format, format: {"content": piece}} for piece in _pieces(text)]
    if buttons:
        found.append(_card(text, task_of(envelope.id, target), buttons))
    found += media_of(envelope.content)
    found += _own_forms(envelope, target)
    if not found:
        words = Words("the message holds nothing that WeCom can show", "消息中没有企业微信可显示的内容")
        raise Cannot(permanent("empty", words))
    return found


def task_of(message_id: str, target: str, index: int = 0) -> str:
    """The task_id of a card: of letters, digits and -, the same for each attempt, other for everything else."""
    return f"autoglm-{hashlib.sha256(chr(0).join((message_id, target, str(index))).encode()).hexdigest()[:40]}"


def task_in(form: Form) -> str:
    card = form.get("template_card")
    return str(card.get("task_id", "")) if isinstance(card, dict) else ""


def _pieces(text: str) -> list[str]:
    pieces = cut(text, TEXT_BYTES)
    if len(pieces) > PIECES:
        words = Words(
            f"the text would take {len(pieces)} messages, and {PIECES} are the limit",
            f"文本需拆成 {len(pieces)} 条消息，上限为 {PIECES} 条",
        )
        raise Cannot(too_large("too_many_pieces", words))
    return pieces


def _card(text: str, task_id: str, buttons: Mapping[str, str]) -> Form:
    shown = truncated(text.strip(), CARD_CHARACTERS, measure=len) or "…"
    card = {
        "card_type": "button_interaction",
        "main_title": {"title": truncated(shown.partition("\n")[0], 26, measure=len)},
        "sub_title_text": shown,
        "task_id": task_id,
        "button_list": [
            {"text": truncated(words, BUTTON_CHARACTERS, measure=len), "style": 1, "key": key}
            for key, words in buttons.items()
        ],
    }
    return {"msgtype": "template_card", "template_card": card}


def _own_forms(envelope: Envelope, target: str) -> list[Form]:
    """json parts in WeCom's own form, such as {"msgtype": "template_card", ...}; a card with buttons gets a task_id."""
    parts = envelope.content if isinstance(envelope.content, list) else []
    found: list[Form] = []
    for index, part in enumerate(parts, 1):
        body = part.json if isinstance(part, JsonPart) else None
        if not isinstance(body, dict) or body.get("msgtype") not in _MSGTYPES:
            continue
        card = body.get("template_card")
        if isinstance(card, dict) and card.get("card_type") in _WITH_TASK and not card.get("task_id"):
            body = {**body, "template_card": {**card, "task_id": task_of(envelope.id, target, index)}}
        found.append({name: value for name, value in body.items() if name not in _ADDRESSED})
    return found


_ADDRESSED = ("touser", "toparty", "totag", "agentid", "enable_duplicate_check", "duplicate_check_interval")
"""Whom it goes to is the address's to say."""
