"""A call of Apprise's API: what its sender says, as an event. Pure.

Sources: github.com/caronc/apprise-api, README and api/views.py; Apprise's notification types and tag expressions.
"""

import re
from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from autoglm.channels.routes.event import Event
from autoglm.core.envelope import decode_body, invalid_field
from autoglm.core.errors import InvalidField
from autoglm.gateway.interop.forms import read_form
from autoglm.gateway.interop.reception import labels_of_tags

KEY_PATTERN = r"^[A-Za-z0-9_-]{1,128}$"
is_key = re.compile(KEY_PATTERN).fullmatch
_is_json = re.compile(r"(?:text|application)/(?:x-)?json\b", re.IGNORECASE).match
_is_tag = re.compile(r"(?:[0-9]+:)?(\w[\w-]*)(?::[0-9]+)?").fullmatch
"""`[priority:]name[:retry]`."""
_between_tags = re.compile(r"[,|\s&+]+").split

Type = Literal["info", "success", "warning", "failure"]
Format = Literal["text", "markdown", "html"]
Tags = str | list[str | list[str]]
_PRIORITIES: dict[Type, int] = {"info": 5, "success": 5, "warning": 7, "failure": 8}
_FILES = ("attach", "attachment", "attachments")
_IN_QUERY = ("title", "type", "format", "tag", "tags")


class NewNotification(msgspec.Struct, frozen=True, kw_only=True):
    """Apprise's payload. Other fields are left out of account, as Apprise does."""

    body: str
    title: str | None = None
    type: Type | UnsetType = UNSET
    format: Format | None = None
    tag: Tags | None = None
    tags: Tags | None = None
    urls: Any = None
    """Where a stateless call would send it. Here the routes decide, and this is not kept: it holds passwords."""
    attach: Any = None
    attachment: Any = None
    attachments: Any = None


class Notification(msgspec.Struct, frozen=True, kw_only=True):
    body: str
    title: str
    type: Type
    format: Format
    tags: list[str]
    has_urls: bool


_decoder = msgspec.json.Decoder(NewNotification)


def is_json(content_type: str) -> bool:
    return _is_json(content_type.strip()) is not None


def read_notification(body: bytes, content_type: str, query: Mapping[str, str]) -> Notification:
    """Raises InvalidField, InvalidJson, UnsupportedMediaType. query: says what the body leaves out."""
    rule = next((name for name in query if name.startswith(":")), None)
    if rule is not None:
        raise InvalidField(rule[:40], "the hub maps no fields; send `body`, `title`, `type` and `tag`")
    new = decode_body(body, _decoder) if is_json(content_type) else _of_form(content_type, body)
    for name in _FILES:
        if getattr(new, name):
            raise _no_files(name)
    if not new.body.strip():
        raise InvalidField("body", "is empty")
    said = _of_query({name: query[name] for name in _IN_QUERY if query.get(name)})
    kind = said.type if new.type is UNSET else new.type
    return Notification(
        body=new.body, title=new.title or said.title or "", type="info" if kind is UNSET else kind,
        format=new.format or said.format or "text", has_urls=bool(new.urls),
        tags=_names(new.tag or new.tags or said.tag or said.tags or ""),
    )  # fmt: skip


def _of_form(content_type: str, body: bytes) -> NewNotification:
    form = read_form(content_type, body)
    if form.files:
        raise _no_files(form.files[0])
    return _converted({name: value for name, value in form.fields.items() if value or name == "body"})


def _of_query(said: Mapping[str, str]) -> NewNotification:
    return _converted({**said, "body": ""})


def _converted(fields: Mapping[str, object]) -> NewNotification:
    try:
        return msgspec.convert(fields, NewNotification)
    except msgspec.ValidationError as error:
        raise invalid_field(error, NewNotification, b"") from None


def _no_files(name: str) -> InvalidField:
    return InvalidField(name[:40], "the hub takes no attachments here; send their address in the text")


def _names(tags: Tags) -> list[str]:
    """All tags that an expression names: which of them a message must have, the hub's routes say."""
    found = []
    for one in [tags] if isinstance(tags, str) else tags:
        for text in _between_tags(one) if isinstance(one, str) else one:
            if not text:
                continue
            tag = _is_tag(text)
            if tag is None:
                raise InvalidField("tag", f"{text[:40]!r} is no tag; it has letters, digits, - and _")
            found.append(tag[1])
    return found


def event_of(notification: Notification, key: str) -> Event:
    """What routes see. key: the configuration that the caller names, as ntfy's topic."""
    labels = {
        "via": "apprise", "topic": key, "type": notification.type,
        "format": "" if notification.format == "text" else notification.format,
    } | labels_of_tags(notification.tags)  # fmt: skip
    return Event(
        content=notification.body, title=notification.title, priority=_PRIORITIES[notification.type],
        labels={name: value for name, value in labels.items() if value},
    )  # fmt: skip
