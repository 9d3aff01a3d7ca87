"""Messages in the form that WeCom's apps send. Source: developer.work.weixin.qq.com/document/path/90236."""

import re
from collections.abc import Mapping

from autoglm.channels.adapters.wechat.cards import CARD_CHARACTERS, Form, button_card, task_of, with_task
from autoglm.channels.adapters.wechat.media import Media, addresses_of, media_of
from autoglm.channels.channel import Cannot
from autoglm.channels.delivery import Words, permanent
from autoglm.channels.wording import FORM_BYTES, checked_size, cut_to_pieces
from autoglm.core.envelope import Envelope, JsonPart, text_of

TEXT_BYTES = 2048
"""Of text and of Markdown alike."""
_MSGTYPES = ("text", "markdown", "textcard", "news", "mpnews", "image", "voice", "video", "file", "template_card")
_is_member = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}").fullmatch
_is_many = re.compile(r"@(party|tag):([0-9]{1,20})").fullmatch


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
        found += [{"msgtype": format, format: {"content": piece}} for piece in cut_to_pieces(text, TEXT_BYTES)]
    if buttons:
        found.append(button_card(text, task_of(envelope.id, target), buttons))
    found += media_of(envelope.content)
    found += _own_forms(envelope, target)
    if not found:
        words = Words("the message holds nothing that WeCom can show", "消息中没有企业微信可显示的内容")
        raise Cannot(permanent("empty", words))
    return found


def _own_forms(envelope: Envelope, target: str) -> list[Form]:
    """json parts in WeCom's own form, such as {"msgtype": "template_card", ...}; a card with buttons gets a task_id.

    Raises Cannot.
    """
    parts = envelope.content if isinstance(envelope.content, list) else []
    found: list[Form] = []
    for index, part in enumerate(parts, 1):
        body = part.json if isinstance(part, JsonPart) else None
        if not isinstance(body, dict) or body.get("msgtype") not in _MSGTYPES:
            continue
        body = with_task(body, task_of(envelope.id, target, index))
        found.append({name: value for name, value in body.items() if name not in _ADDRESSED})
    checked_size(found, FORM_BYTES)
    return found


_ADDRESSED = ("touser", "toparty", "totag", "agentid", "enable_duplicate_check", "duplicate_check_interval")
"""Whom it goes to is the address's to say."""
