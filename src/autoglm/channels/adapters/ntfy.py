"""ntfy (ntfy.sh or a server of one's own): notifications on phones, and what people write or press there.

Sources: docs.ntfy.sh/publish, /subscribe/api; server/errors.go for the codes, server/server.go for the JSON limit.
"""

import base64
import binascii
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self, cast
from urllib.parse import quote

import anyio
import msgspec
import structlog
from pydantic import BaseModel, Field, SecretStr, model_validator

from autoglm.channels.backoff import BackOff
from autoglm.channels.buttons import with_buttons
from autoglm.channels.channel import Cannot, Health, Inbox, Limits, Parcel, Resources, no_target
from autoglm.channels.choices import ACTION
from autoglm.channels.delivery import Delivery, Words, accepted, permanent, too_large, transient
from autoglm.channels.pieces import truncated
from autoglm.channels.settings import BaseUrl, ChannelSettings
from autoglm.channels.vendor_json import vendor_map
from autoglm.channels.web import Answer, NoAnswer, Web, of_status
from autoglm.channels.wording import checked_size, cut_to_pieces, in_words, is_inline_picture, json_bytes
from autoglm.core.envelope import Envelope, ImagePart, JsonPart, Part, check_texts
from autoglm.core.errors import HubError, InvalidField, UnknownRecipient

MESSAGE_BYTES = 4096
TITLE_BYTES = 250
PICTURE_BYTES = 2 << 20
"""ntfy.sh's limit for an attachment of an anonymous sender; other servers have their own, and say 413."""
WINDOW = (60, 300.0)
"""ntfy's default for a visitor: a burst of 60 requests, and one more each 5 s."""
IDLE_S = 150.0
"""ntfy sends a keepalive each 45 s (55 s in some versions): a stream that is silent for so long is dead."""
OWN_TAG = "autoglm"
"""On all that a hub publishes: its own messages come back by the subscription, and are left."""
_PIECES = 20
_FIELDS_BYTES = 100_000
"""Of what goes with each piece."""
MOST_ACTIONS = 3
"""Of a notification, as ntfy counts."""
_OWN_FIELDS = ("title", "tags", "click", "actions", "attach", "filename", "icon", "markdown", "delay", "email", "call")
_pressed = re.compile(r"(ack|choice:[0-9]{1,2}):\s*(\S.*)", re.DOTALL).fullmatch
"""What our buttons post: the action, and the id of the message."""

log = structlog.get_logger(__name__)


class Topic(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """`[channel.topics.NAME]`: a topic; its address is channel:CHANNEL/NAME."""

    topic: SecretStr
    """The topic at ntfy; who knows it can read and write it, where ntfy has no users."""
    subscribe: bool = False
    """Take in what others publish there."""
    replies: SecretStr | None = None
    """A topic for answers: each message gets a button Acknowledge, which posts there."""

    @model_validator(mode="after")
    def _are_topics(self) -> Self:
        for one in (self.topic, self.replies):
            text = "t" if one is None else one.get_secret_value()
            if not (1 <= len(text) <= 64 and text.isascii() and text.replace("-", "a").replace("_", "a").isalnum()):
                raise ValueError("a topic has 1 to 64 letters, digits, - and _")
        return self


class NtfySettings(ChannelSettings, frozen=True):
    """A `[[channel]]` of the kind ntfy."""

    kind: Literal["ntfy"]
    topics: dict[str, Topic] = Field(min_length=1, max_length=100)
    """Topics by the name that their addresses have."""
    url: BaseUrl = "https://ntfy.sh"
    """The server's address."""
    token: SecretStr | None = None
    """An access token, `tk_...`."""
    username: str = ""
    """For basic authentication, where there is no token."""
    password: SecretStr | None = None
    """For basic authentication."""
    catch_up_s: float = Field(default=43_200.0, ge=0.0, le=2_592_000.0)
    """How far back the hub looks for messages when it starts; ntfy keeps them for 12 h by default."""

    @model_validator(mode="after")
    def _are_different(self) -> Self:
        used = [one for topic in self.topics.values() for one in (topic.topic, topic.replies) if one is not None]
        if len({one.get_secret_value() for one in used}) < len(used):
            raise ValueError("a topic is named twice: an answer there could not be joined to what it answers")
        return self

    @model_validator(mode="after")
    def _hears_its_button(self) -> Self:
        for name, topic in self.topics.items():
            if topic.replies is not None and not self.knows(name):
                raise ValueError(
                    f"topics.{name} has `replies`, but `senders` does not name it: the button would do nothing; "
                    f'write senders = ["{name}"]'
                )
        return self


class Ntfy:
    """Satisfies `Channel`."""

    Settings = NtfySettings

    def __init__(self, settings: NtfySettings, resources: Resources) -> None:
        self._settings = settings
        self._name = resources.name
        self._url = settings.url
        self._web = Web()

    def limits(self, target: str) -> Limits:
        count = self._settings.per_minute
        return Limits(
            windows=((count, 60.0) if count else WINDOW,), per="channel", parallel=2, digest_bytes=MESSAGE_BYTES
        )

    def compose(self, envelope: Envelope, target: str) -> Sequence[Parcel]:
        topic = self._settings.topics.get(target)
        if topic is None:
            raise no_target(self._name, target, list(self._settings.topics))
        buttons: Mapping[str, str] = {}
        if topic.replies is not None:
            envelope, offered = with_buttons(envelope, most=MOST_ACTIONS)
            buttons = offered or {"ack": "Acknowledge"}
        own = fields_of(envelope)
        bodies = [own | {"message": piece} for piece in _pieces(envelope)]
        if topic.replies is not None and bodies:
            url = f"{self._url}/{topic.replies.get_secret_value()}"
            ours = [
                {"action": "http", "label": words, "method": "POST", "body": f"{action}:{envelope.id}", "url": url,
                 "clear": True} for action, words in buttons.items()
            ]  # fmt: skip
            others = bodies[-1].get("actions")
            bodies[-1]["actions"] = [*ours, *(others if isinstance(others, list) else [])][:MOST_ACTIONS]
        pictures = _pictures(envelope)
        if not bodies and not pictures:
            words = Words("the message holds nothing that ntfy can show", "消息中没有 ntfy 可显示的内容")
            raise Cannot(permanent("empty", words))
        return [Parcel(target=target, body=body) for body in (*bodies, *pictures)]

    async def send(self, parcel: Parcel, key: str) -> Delivery:
        """ntfy knows no idempotency key."""
        topic = self._settings.topics[parcel.target].topic.get_secret_value()
        body = cast(dict[str, Any], parcel.body)
        try:
            if "picture" in body:
                headers = {"Filename": body["filename"], "Tags": OWN_TAG}
                answer = await self._request("PUT", f"/{topic}", headers, base64.b64decode(body["picture"]))
            else:
                text = json.dumps({"topic": topic, **body}, ensure_ascii=False).encode("utf-8", "replace")
                answer = await self._request("POST", "/", {"Content-Type": "application/json"}, text)
        except NoAnswer as error:
            return error.delivery
        return of_answer(answer)

    async def check(self) -> Health:
        """Of the account, which a credential that was revoked has not."""
        try:
            answer = await self._request("GET", "/v1/account", {})
        except NoAnswer as error:
            return Health(ok=False, reason=error.delivery.reason, code=error.delivery.code)
        if of_status(answer) is not None:
            failure = of_answer(answer)
            return Health(ok=False, reason=failure.reason, code=failure.code)
        return Health(ok=True, reason=Words("ntfy answers", "ntfy 应答正常"))

    async def run(self, inbox: Inbox) -> None:
        """Goes on after the last message that the inbox has taken, whatever fails meanwhile."""
        heard = self._heard()
        if not heard:
            return
        path = ",".join(quote(topic, safe="") for topic in heard)
        since, pauses = f"{round(self._settings.catch_up_s)}s", BackOff()
        while True:
            try:
                url = f"{self._url}/{path}/json?since={quote(since, safe='')}"
                async with self._web.lines(url, headers=self._authorization(), idle_s=IDLE_S) as lines:
                    async for line in lines:
                        if (incoming := read_event(line)) is not None:
                            await self._take(incoming, heard, inbox)
                            since = incoming.id
                        pauses.reset()
                code = "ended"
            except NoAnswer as error:
                code = error.delivery.code
            except HubError as error:  # the inbox's: the message comes again, for `since` is before it
                code = error.code
            pause_s = pauses.pause_s()
            log.warning("ntfy_stream_ended", channel=self._name, code=code, retry_in_s=round(pause_s, 1))
            await anyio.sleep(pause_s)

    async def aclose(self) -> None:
        await self._web.aclose()

    def _heard(self) -> dict[str, str]:
        """Topic to the name that its messages have as their sender."""
        heard: dict[str, str] = {}
        for name, topic in self._settings.topics.items():
            if topic.replies is not None:
                heard[topic.replies.get_secret_value()] = name
            if topic.subscribe:
                heard[topic.topic.get_secret_value()] = name
        return heard

    async def _take(self, incoming: "Incoming", heard: Mapping[str, str], inbox: Inbox) -> None:
        if OWN_TAG in incoming.tags or incoming.topic not in heard:
            return
        envelope = envelope_of(incoming, sender=f"channel:{self._name}/{heard[incoming.topic]}",
                               to=self._settings.incoming_to)  # fmt: skip
        try:
            check_texts(envelope)
            await inbox.take(envelope)
        except (InvalidField, UnknownRecipient) as error:  # it would come again for ever, and nothing after it
            log.error("ntfy_message_left", channel=self._name, reason=str(error))

    async def _request(self, method: str, path: str, headers: Mapping[str, str], body: bytes | None = None) -> Answer:
        return await self._web.request(
            method, self._url + path, headers={**headers, **self._authorization()}, body=body
        )

    def _authorization(self) -> dict[str, str]:
        if self._settings.token is not None:
            return {"Authorization": f"Bearer {self._settings.token.get_secret_value()}"}
        if self._settings.password is not None:
            pair = f"{self._settings.username}:{self._settings.password.get_secret_value()}"
            return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
        return {}


class Incoming(msgspec.Struct, frozen=True, kw_only=True):
    """A message of the stream."""

    id: str
    event: str
    topic: str = ""
    time: int = 0
    message: str = ""
    title: str = ""
    priority: int = 3
    tags: list[str] = []
    attachment: dict[str, Any] = {}


_decoder = msgspec.json.Decoder(Incoming)


def read_event(line: bytes) -> Incoming | None:
    """None for what is no message: open, keepalive, kinds that come some day, and lines that cannot be read."""
    try:
        incoming = _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return incoming if incoming.event == "message" and incoming.id else None


def envelope_of(incoming: Incoming, *, sender: str, to: str) -> Envelope:
    """`ack:ID`, which the button posts, acknowledges that message; `choice:2:ID` gives the second answer to it."""
    pressed = _pressed(incoming.message)
    labels = {"title": incoming.title[:1024]} if incoming.title else {}
    if incoming.tags:
        labels["tags"] = ",".join(incoming.tags)[:1024]
    if url := incoming.attachment.get("url"):
        labels["attachment"] = str(url)[:1024]
    at_ms = min(max(0, incoming.time), 2**42) * 1000
    return Envelope(
        id=f"ntfy-{incoming.id[:100]}", from_=sender, to=to, content=incoming.message, timestamp=at_ms,
        priority=_PRIORITY_OF.get(incoming.priority, 5), reply_to=pressed[2].strip() if pressed else None,
        labels=labels | ({ACTION: pressed[1]} if pressed else {}),
    )  # fmt: skip


_PRIORITY_OF = {1: 1, 2: 3, 3: 5, 4: 7, 5: 9}


def priority_of(priority: int) -> int:
    """Ours (0 to 9) as ntfy's: 5, the usual one, is its 3."""
    return 1 + (priority >= 2) + (priority >= 4) + (priority >= 7) + (priority >= 9)


def fields_of(envelope: Envelope) -> dict[str, Any]:
    """What a notification has beside its text: of the labels title, tags and click, of the first picture at an
    address, and of a json part {"ntfy": {...}} with fields of ntfy's own. Raises Cannot.
    """
    parts = envelope.content if isinstance(envelope.content, list) else []
    fields: dict[str, Any] = {}
    for part in parts:
        if isinstance(part, ImagePart) and not part.image_url.url.startswith("data:"):
            fields.setdefault("attach", part.image_url.url)
        if (
            isinstance(part, JsonPart)
            and isinstance(part.json, dict)
            and isinstance(own := part.json.get("ntfy"), dict)
        ):
            fields |= {name: own[name] for name in _OWN_FIELDS if name in own}
    checked_size([fields], _FIELDS_BYTES)
    tags = [tag.strip() for tag in envelope.labels.get("tags", "").split(",") if tag.strip()]
    labels = {name: envelope.labels[name] for name in ("title", "click") if envelope.labels.get(name)}
    fields = labels | fields
    if "title" in fields:
        fields["title"] = truncated(str(fields["title"]), TITLE_BYTES)
    own_tags = fields.get("tags", [])
    fields["tags"] = [*tags, *(own_tags if isinstance(own_tags, list) else []), OWN_TAG]
    return fields | {"priority": priority_of(envelope.priority)}


def of_answer(answer: Answer) -> Delivery:
    """ntfy's errors have a code of five digits, whose first three are the HTTP status."""
    body = vendor_map(answer.body)
    code, identity = str(body.get("code", "")), str(body.get("id", ""))
    failure = of_status(answer)
    if failure is not None:
        return msgspec.structs.replace(failure, code=code or failure.code)
    if identity:
        return accepted(identity)
    words = Words("ntfy's answer cannot be read; it may have been delivered", "无法解析 ntfy 的应答，消息可能已送达")
    return transient("unreadable", words, is_in_doubt=True)


def _pieces(envelope: Envelope) -> list[str]:
    fields = fields_of(envelope)
    attached = fields.get("attach")

    def carries(part: Part) -> bool:
        return is_inline_picture(part) or (isinstance(part, ImagePart) and part.image_url.url == attached)

    text = in_words(envelope, carries=carries)
    if title := fields.get("title"):  # a notice begins with it, and ntfy shows it above
        text = text.removeprefix(f"{title}\n") or text
    if not text:
        return [""] if attached is not None else []
    return cut_to_pieces(text, MESSAGE_BYTES, measure=json_bytes, most=_PIECES)


def _pictures(envelope: Envelope) -> list[dict[str, str]]:
    """Pictures in the message itself, in base64."""
    parts = envelope.content if isinstance(envelope.content, list) else []
    found = []
    for part in parts:
        if not (isinstance(part, ImagePart) and part.image_url.url.startswith("data:")):
            continue
        head, _, data = part.image_url.url.partition(",")
        try:
            size = len(base64.b64decode(data, validate=True))
        except binascii.Error:
            raise Cannot(permanent("bad_picture", Words("the picture is no base64", "图片不是有效的 base64"))) from None
        if size > PICTURE_BYTES:
            raise Cannot(too_large("41301", Words("the picture is over 2 MB", "图片超过 2 MB")))
        kind = head.removeprefix("data:image/").partition(";")[0]
        found.append({"picture": data, "filename": f"picture.{kind if kind.isalnum() else 'bin'}"})
    return found
