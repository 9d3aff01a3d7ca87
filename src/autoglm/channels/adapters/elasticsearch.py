"""Elasticsearch and OpenSearch: messages become documents of an index or a data stream, with ECS's fields.

Sources: elastic.co/docs/api, Bulk (`create`, items, errors); elastic.co/docs/reference/ecs (fields, 8.11).
"""

import base64
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, NamedTuple, Self, cast

from pydantic import AfterValidator, Field, SecretStr, StringConstraints, model_validator

from autoglm.channels.channel import Health, Inbox, Limits, Parcel, Resources, no_target
from autoglm.channels.delivery import (
    Delivery,
    Failure,
    Words,
    delivered,
    failed,
    permanent,
    throttled,
    transient,
    unauthorized,
)
from autoglm.channels.gathering import Gathering, NotSent
from autoglm.channels.settings import ChannelSettings, check_url
from autoglm.channels.vendor_json import map_of, vendor_value
from autoglm.channels.web import Answer, NoAnswer, Web, of_status
from autoglm.channels.wording import in_words
from autoglm.core.envelope import Envelope, JsonPart

ECS_VERSION = "8.11.0"
PARALLEL = 64
"""Messages on their way at a time, which are the documents of one `_bulk` at the most."""
_PATIENCE_S = 8.0
"""So that with the request itself (`web.TIMEOUT_S`) an attempt ends within the outbox's time, and is not in doubt."""
_BULK_BYTES = 8 << 20
"""Of one `_bulk`; Elastic's guide asks for a few MB."""
_ANSWER_BYTES = 4 << 20
LEVELS = ((9, "critical"), (7, "error"), (6, "warning"), (3, "info"), (0, "debug"))
"""From which priority on which `log.level`."""
IndexName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9.][^\s\\/*?\"<>|,#:A-Z]*$", max_length=255)]

_REASONS: dict[str, tuple[Failure, Words]] = {
    "es_rejected_execution_exception": (
        "throttled",
        Words("Elasticsearch's queue of writes is full", "Elasticsearch 的写入队列已满"),
    ),
    "circuit_breaking_exception": (
        "throttled",
        Words("Elasticsearch has no memory left for writes", "Elasticsearch 内存不足，暂不接受写入"),
    ),
    "cluster_block_exception": (
        "transient",
        Words("the index takes no writes; is Elasticsearch's disk full?", "索引暂不可写，Elasticsearch 磁盘可能已满"),
    ),
    "unavailable_shards_exception": (
        "transient",
        Words("the index's primary shard is not available", "索引的主分片不可用"),
    ),
    "security_exception": (
        "auth",
        Words("the key may not write to the index", "该密钥没有写入此索引的权限"),
    ),
    "index_not_found_exception": (
        "permanent",
        Words("there is no such index, and none is made by itself", "索引不存在，且不会自动创建"),
    ),
}
"""By type of error: the class of failure, and the words for it. All others go by their status."""


_UNREADABLE = transient(
    "unreadable",
    Words(
        "Elasticsearch's answer cannot be read; it may have been delivered",
        "无法解析 Elasticsearch 的应答，消息可能已送达",
    ),
    is_in_doubt=True,
)


class _Document(NamedTuple):
    """Two lines of a `_bulk`."""

    key: str
    lines: bytes


class ElasticsearchSettings(ChannelSettings, frozen=True):
    """A `[[channel]]` of the kind elasticsearch."""

    kind: Literal["elasticsearch"]
    url: Annotated[str, AfterValidator(check_url)] = Field(pattern=r"^https?://[^\s?#@]+$")
    """Address of Elasticsearch or OpenSearch, without a user."""
    indexes: dict[str, IndexName] = Field(min_length=1, max_length=1000)
    """Indexes or data streams by the name that their addresses have."""
    api_key: SecretStr | None = None
    """The encoded form of an API key."""
    username: str = ""
    """For basic authentication, where there is no API key."""
    password: SecretStr | None = None
    """For basic authentication."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.api_key is not None and self.password is not None:
            raise ValueError("give either api_key or username and password")
        if bool(self.username) != (self.password is not None):
            raise ValueError("username and password belong together")
        return self


class Elasticsearch:
    """Satisfies `Channel`."""

    Settings = ElasticsearchSettings

    def __init__(self, settings: ElasticsearchSettings, resources: Resources) -> None:
        self._settings = settings
        self._name = resources.name
        self._web = Web()
        self._bulk = Gathering(self._send_all, most=PARALLEL, most_bytes=_BULK_BYTES, patience_s=_PATIENCE_S)

    def limits(self, target: str) -> Limits:
        """`per_minute` counts documents."""
        count = self._settings.per_minute
        return Limits(windows=((count, 60.0),) if count else (), per="channel", parallel=PARALLEL)

    def compose(self, envelope: Envelope, target: str) -> Sequence[Parcel]:
        if target not in self._settings.indexes:
            raise no_target(self._name, target, list(self._settings.indexes))
        return [Parcel(target=target, body=document_of(envelope))]

    async def send(self, parcel: Parcel, key: str) -> Delivery:
        """`create` with the key as _id: what an earlier attempt brought there is not brought again.

        What is sent meanwhile shares a `_bulk`, each document with a result of its own.
        """
        action = {"create": {"_index": self._settings.indexes[parcel.target], "_id": key}}
        lines = [json.dumps(line, ensure_ascii=False) for line in (action, parcel.body)]
        document = _Document(key, ("\n".join(lines) + "\n").encode("utf-8", "replace"))
        try:
            return await self._bulk.result_of(document, len(document.lines))
        except NotSent:
            words = Words("Elasticsearch takes long for what went before", "Elasticsearch 处理之前的请求过慢")
            return transient("slow", words)

    async def _send_all(self, documents: Sequence[_Document]) -> Sequence[Delivery] | None:
        try:
            answer = await self._request("POST", "/_bulk", b"".join(document.lines for document in documents))
        except NoAnswer as error:
            return [error.delivery] * len(documents)
        refused = of_status(answer)
        if refused is None:
            return of_items(answer, [document.key for document in documents])
        if refused.outcome == "permanent" and len(documents) > 1:  # one of them is to blame
            return None
        return [refused] * len(documents)

    async def check(self) -> Health:
        """A key that may write but not look around is told so with 403: it is known, which is enough."""
        try:
            answer = await self._request("GET", "/")
        except NoAnswer as error:
            return Health(ok=False, reason=error.delivery.reason, code=error.delivery.code)
        failure = of_status(answer)
        if failure is not None and answer.status != 403:
            return Health(ok=False, reason=failure.reason, code=failure.code)
        if answer.status != 403 and b'"version"' not in answer.body:
            words = Words("what answers there is no Elasticsearch", "该地址应答的不是 Elasticsearch")
            return Health(ok=False, reason=words, code="unreadable")
        return Health(ok=True, reason=Words("Elasticsearch answers", "Elasticsearch 应答正常"))

    async def run(self, inbox: Inbox) -> None:
        """Nothing comes from there."""

    async def aclose(self) -> None:
        await self._web.aclose()

    async def _request(self, method: str, path: str, body: bytes | None = None) -> Answer:
        headers = {"Content-Type": "application/x-ndjson"} if body is not None else {}
        if self._settings.api_key is not None:
            headers["Authorization"] = f"ApiKey {self._settings.api_key.get_secret_value()}"
        elif self._settings.password is not None:
            pair = f"{self._settings.username}:{self._settings.password.get_secret_value()}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        url = self._settings.url.rstrip("/") + path
        return await self._web.request(method, url, headers=headers, body=body, limit_bytes=_ANSWER_BYTES)


def document_of(envelope: Envelope) -> dict[str, Any]:
    """A message in ECS's fields; what ECS has no field for is under `autoglm`."""
    at = datetime.fromtimestamp(min(envelope.timestamp / 1000, 253_402_300_799), UTC)
    own = {
        "from": envelope.from_, "to": envelope.to, "kind": envelope.kind,
        "thread": envelope.thread, "reply_to": envelope.reply_to, "site": envelope.site,
    }  # fmt: skip
    event: dict[str, Any] = {
        "kind": "alert" if envelope.kind == "alert" else "event",
        "id": envelope.id,
        "severity": envelope.priority,
    }
    if data := _data(envelope):
        event["original"] = data
    return {
        "@timestamp": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "ecs": {"version": ECS_VERSION},
        "message": in_words(envelope),
        "labels": _labels(envelope),
        "event": event,
        "log": {"level": envelope.labels.get("level") or _level(envelope.priority)},
        "service": {"name": "autoglm-hub", "type": "autoglm"},
        "autoglm": {name: value for name, value in own.items() if value},
    }


def of_items(answer: Answer, keys: Sequence[str]) -> list[Delivery]:
    """The answer is 200 whatever became of the documents: the item of each decides, in their order."""
    items = map_of(vendor_value(answer.body)).get("items")
    if not isinstance(items, list) or len(items) != len(keys):
        return [_UNREADABLE] * len(keys)
    return [_of_item(item, key) for item, key in zip(items, keys, strict=True)]


def _of_item(item: Any, key: str) -> Delivery:
    try:
        found = item["create"]
        status, is_ours = int(found["status"]), found["_id"] == key
        error = found.get("error") or {}
        kind = str(error.get("type", "")) if isinstance(error, dict) else ""
    except (ValueError, KeyError, TypeError, AttributeError):
        return _UNREADABLE
    if not is_ours:
        return _UNREADABLE
    if status in (200, 201, 409):  # 409: an earlier attempt brought it there
        return delivered(key)
    return _refused(status, kind[:100])


def _refused(status: int, kind: str) -> Delivery:
    code = kind or f"item_{status}"
    if (known := _REASONS.get(kind)) is not None:
        failure, words = known
        return failed(failure, code, words)
    if status == 429:
        return throttled(code, Words("Elasticsearch takes no more for now", "Elasticsearch 暂时限流"))
    if status in (401, 403):
        return unauthorized(code, _REASONS["security_exception"][1])
    if status >= 500 or status == 408:
        words = Words(f"Elasticsearch cannot write it for now ({code})", f"Elasticsearch 暂时无法写入（{code}）")
        return transient(code, words)
    words = Words(
        f"Elasticsearch refuses the document ({code}); does it fit the index's mapping?",
        f"Elasticsearch 拒绝该文档（{code}），可能与索引映射不符",
    )
    return permanent(code, words)


def _labels(envelope: Envelope) -> dict[str, str]:
    """Without dots, which would make objects of them: `a` and `a.b` together have no mapping."""
    labels: dict[str, str] = {}
    for name, value in sorted(envelope.labels.items()):
        plain = name.replace(".", "_").strip() or "_"
        while plain in labels:
            plain += "_"
        labels[plain] = value
    return labels


def _level(priority: int) -> str:
    return next(level for least, level in LEVELS if priority >= least)


def _data(envelope: Envelope) -> str:
    """The json parts, as text: a mapping cannot foresee their fields."""
    parts = envelope.content if isinstance(envelope.content, list) else []
    found = [cast(object, part.json) for part in parts if isinstance(part, JsonPart)]
    return json.dumps(found[0] if len(found) == 1 else found, ensure_ascii=False) if found else ""
