"""A publication of ntfy: what its sender says, as an event, and in the form in which ntfy answers. Pure.

Sources: docs.ntfy.sh/publish; server/server.go and server/types.go of ntfy 2.
"""

import re
from collections.abc import Mapping
from typing import Annotated

import msgspec

from autoglm.channels.routes.event import Event
from autoglm.core.envelope import decode_body
from autoglm.core.errors import InvalidField
from autoglm.gateway.interop.actions import Action, parse_actions
from autoglm.gateway.interop.parameters import Parameters
from autoglm.gateway.interop.reception import labels_of_tags

TOPIC_PATTERN = r"^(?!(?:api|v1|notify)$)[-_A-Za-z0-9]{1,64}$"
"""ntfy's rule for topics, but for the first segments of the hub's own paths."""
is_topic_in_path = re.compile(TOPIC_PATTERN).fullmatch
_is_topic = re.compile(r"[-_A-Za-z0-9]{1,64}").fullmatch
_is_address = re.compile(r"https?://\S+").fullmatch

HUB_TAG = "autoglm"
"""On all that a hub publishes by a channel of the kind ntfy (channels/adapters/ntfy.py)."""
EMPTY = "triggered"
"""ntfy's message where the sender has none."""
_PRIORITIES = {
    "1": 1, "min": 1, "2": 2, "low": 2, "3": 3, "default": 3, "4": 4, "high": 4, "5": 5, "max": 5, "urgent": 5,
}  # fmt: skip
_OURS = {0: 5, 1: 1, 2: 3, 3: 5, 4: 7, 5: 9}
"""By ntfy's priority the hub's; 0 where the sender has none."""
_CANNOT = (
    ("delay", ("x-delay", "delay", "x-at", "at", "x-in", "in"), "the hub tells of events at once; it delays none"),
    (
        "email",
        ("x-email", "x-e-mail", "email", "e-mail", "mail", "e"),
        "who gets a mail is decided by the hub's routes",
    ),
    ("call", ("x-call", "call"), "who is called is decided by the hub's routes"),
    ("template", ("x-template", "template", "tpl"), "the hub's templates belong to its routes"),
)
"""What would have another effect here than at ntfy is refused, as ntfy refuses what its server is not set up for."""


class Attachment(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    url: str


class Published(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """ntfy's answer. `id` is that of the event."""

    id: str
    time: int
    """Seconds of the Unix epoch."""
    event: str
    """Always `message`."""
    topic: str
    message: str
    title: str = ""
    priority: int = 0
    """1 to 5, as the sender has it."""
    tags: list[str] = []
    click: str = ""
    icon: str = ""
    actions: list[Action] = []
    attachment: Attachment | None = None
    content_type: str = ""


class NewPublication(msgspec.Struct, frozen=True, kw_only=True):
    """ntfy's JSON. What it does not know is left out of account, as ntfy does."""

    topic: str
    message: str | None = None
    title: str | None = None
    priority: Annotated[int, msgspec.Meta(ge=0, le=5)] | None = None
    tags: list[str] | None = None
    click: str | None = None
    icon: str | None = None
    actions: list[Action] | None = None
    attach: str | None = None
    filename: str | None = None
    markdown: bool | None = None
    delay: str | None = None
    email: str | None = None
    call: str | None = None


_decoder = msgspec.json.Decoder(NewPublication)
_encode = msgspec.json.Encoder().encode


def of_body(topic: str, body: bytes, headers: Mapping[bytes, bytes], query: Mapping[str, str]) -> Published:
    """Without id and time, which the hub gives. Raises InvalidField, InvalidJson."""
    parameters = Parameters(headers, query)
    try:
        text = body.decode().strip()
    except UnicodeDecodeError:
        raise InvalidField("message", "is not UTF-8; the hub takes no files here") from None
    return _published(topic, text or parameters.text("x-message", "message", "m").replace("\\n", "\n"), parameters)


def of_json(body: bytes, headers: Mapping[bytes, bytes], query: Mapping[str, str]) -> Published:
    """As `of_body`, of JSON with the topic in it; headers and query say what it leaves out."""
    new = decode_body(body, _decoder)
    if _is_topic(new.topic) is None:
        raise InvalidField("topic", "must have 1 to 64 letters, digits, - and _")
    own = {
        "x-title": new.title, "x-priority": str(new.priority) if new.priority else None,
        "x-tags": ",".join(new.tags or ()), "x-click": new.click, "x-icon": new.icon, "x-attach": new.attach,
        "x-actions": _encode(new.actions).decode() if new.actions else None, "x-filename": new.filename,
        "x-markdown": "yes" if new.markdown else None, "x-delay": new.delay, "x-email": new.email, "x-call": new.call,
    }  # fmt: skip
    parameters = Parameters(headers, query, {name: value for name, value in own.items() if value})
    message = (new.message or "").strip() or parameters.text("x-message", "message", "m").replace("\\n", "\n")
    return _published(new.topic, message, parameters)


def _published(topic: str, message: str, parameters: Parameters) -> Published:
    for field, names, why in _CANNOT:
        if parameters.text(*names):
            raise InvalidField(field, why)
    attach = _address(parameters, "x-attach", "attach", "a")
    filename = parameters.text("x-filename", "filename", "file", "f")
    if filename and not attach:
        raise InvalidField("filename", "the hub takes no files here; send their address as `attach`")
    tags = [tag for one in parameters.text("x-tags", "tags", "tag", "ta").split(",") if (tag := one.strip())]
    if HUB_TAG in tags:
        raise InvalidField("tags", f"a hub published this (tag {HUB_TAG!r}); between hubs it would go round in circles")
    is_markdown = (
        parameters.is_set("x-markdown", "markdown", "md") or parameters.text("content-type").lower() == "text/markdown"
    )
    return Published(
        id="", time=0, event="message", topic=topic, message=message or EMPTY,
        title=parameters.text("x-title", "title", "t"),
        priority=_priority(parameters.text("x-priority", "priority", "prio", "p")), tags=tags,
        click=parameters.text("x-click", "click"), icon=_address(parameters, "x-icon", "icon"),
        actions=parse_actions(parameters.text("x-actions", "actions", "action")),
        attachment=Attachment(name=filename or _name_in(attach), url=attach) if attach else None,
        content_type="text/markdown" if is_markdown else "",
    )  # fmt: skip


def _priority(text: str) -> int:
    if not text:
        return 0
    if (found := _PRIORITIES.get(text.lower())) is None:
        raise InvalidField("priority", f"must be 1 to 5, or min, low, default, high or max, not {text[:40]!r}")
    return found


def _address(parameters: Parameters, *names: str) -> str:
    text = parameters.text(*names)
    if text and _is_address(text) is None:
        raise InvalidField(names[1], f"must be an http or https address, not {text[:40]!r}")
    return text


def _name_in(address: str) -> str:
    path = re.split(r"[?#]", address, maxsplit=1)[0].partition("://")[2].partition("/")[2]
    return path.rpartition("/")[2] or "attachment"


def event_of(published: Published) -> Event:
    """What routes see. What an event has no field for is in labels."""
    labels = {
        "via": "ntfy", "topic": published.topic, "click": published.click, "icon": published.icon,
        "attachment": published.attachment.url if published.attachment else "",
        "actions": _encode(published.actions).decode() if published.actions else "",
        "format": "markdown" if published.content_type else "",
    } | labels_of_tags(published.tags)  # fmt: skip
    return Event(
        content=published.message, title=published.title, priority=_OURS[published.priority],
        labels={name: value for name, value in labels.items() if value},
    )  # fmt: skip
