"""Apprise, for the long tail of services: an optional extra whose word about delivery cannot be relied on.

Source: Apprise 2.3's API. Measured: it reports success on HTTP 200 whatever error the body has, and counts characters
where services count bytes; of a failure it says the HTTP status in its log, and no more.
"""

import base64
import binascii
import importlib
import importlib.util
import re
from collections.abc import Iterator, Sequence
from typing import Any, Literal, cast

import anyio
import msgspec
from anyio.to_thread import run_sync
from pydantic import BaseModel, Field, SecretStr

from autoglm.channels.channel import Cannot, Health, Inbox, Limits, Parcel, Resources, no_target
from autoglm.channels.delivery import Delivery, Words, accepted, permanent, too_large, transient
from autoglm.channels.pieces import truncated
from autoglm.channels.settings import ChannelSettings
from autoglm.channels.web import Answer, of_status
from autoglm.channels.wording import cut_to_pieces
from autoglm.core.envelope import AudioPart, Envelope, FilePart, ImagePart, text_of
from autoglm.core.errors import MissingExtra

EXTRA = "apprise"
FILE_BYTES = 10 << 20
"""Of one attachment: Apprise has it in memory several times."""
_FILES = 5
_TITLE_BYTES = 200
_STATUS = re.compile(r"\berror=(\d{3})\b")
_UNKNOWN = Words(
    "Apprise reports success; whether it was delivered is not known", "Apprise 报告成功，但是否送达无法得知"
)


class Service(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """`[channel.services.NAME]`: a service; its address is channel:CHANNEL/NAME."""

    url: SecretStr
    """Apprise's URL of the service, with its secrets."""
    max_bytes: int = Field(default=2000, ge=64, le=1_000_000)
    """Longest text of one message to it."""


class AppriseSettings(ChannelSettings, frozen=True):
    """A `[[channel]]` of the kind apprise."""

    kind: Literal["apprise"]
    services: dict[str, Service] = Field(min_length=1, max_length=1000)
    """Services by the name that their addresses have."""
    timeout_s: float = Field(default=20.0, ge=1.0, le=300.0)
    """When an attempt is given up; it may have been delivered then."""


class Apprise:
    """Satisfies `Channel`."""

    Settings = AppriseSettings

    def __init__(self, settings: AppriseSettings, resources: Resources) -> None:
        """Raises MissingExtra."""
        if importlib.util.find_spec("apprise") is None:
            raise MissingExtra(EXTRA, "a channel of the kind apprise")
        self._settings = settings
        self._name = resources.name
        self._read_blob = resources.read_blob
        self._threads = anyio.CapacityLimiter(2)

    def limits(self, target: str) -> Limits:
        count, service = self._settings.per_minute, self._settings.services.get(target)
        digest_bytes = 0 if service is None else service.max_bytes
        return Limits(windows=((count, 60.0),) if count else (), parallel=1, digest_bytes=digest_bytes)

    def compose(self, envelope: Envelope, target: str) -> Sequence[Parcel]:
        """Files go after the text, each by itself: a service that takes none loses no text."""
        service = self._settings.services.get(target)
        if service is None:
            raise no_target(self._name, target, list(self._settings.services))
        frame = {"title": truncated(envelope.labels.get("title", ""), _TITLE_BYTES), "type": type_of(envelope)}
        bodies = [*_texts(envelope, service.max_bytes), *_files(envelope)]
        if not bodies:
            words = Words("the message holds nothing that can be sent", "消息中没有可发送的内容")
            raise Cannot(permanent("empty", words))
        return [Parcel(target=target, body=frame | body) for body in bodies]

    async def send(self, parcel: Parcel, key: str) -> Delivery:
        """In a thread, of which there are two: one that hangs is left behind when its time is up."""
        body = cast(dict[str, Any], parcel.body)
        data = None
        if "blob" in body:
            data = await self._read_blob(body["blob"])
            if data is None:
                return permanent("no_file", Words("the hub does not have the file any more", "本机已没有该文件"))
            if len(data) > FILE_BYTES:
                return _file_too_large()
        elif "data" in body:
            data = base64.b64decode(body["data"])
        url = self._settings.services[parcel.target].url.get_secret_value()
        started: list[bool] = []
        with anyio.move_on_after(self._settings.timeout_s):
            return await run_sync(
                _notify, url, body, data, self._settings.timeout_s, started, limiter=self._threads,
                abandon_on_cancel=True,
            )  # fmt: skip
        words = Words("no answer in time; it may have been delivered", "等待应答超时，消息可能已送达")
        return transient("timeout", words, is_in_doubt=bool(started))

    async def check(self) -> Health:
        """Of the URLs alone: Apprise has no way to ask a service."""
        for name, service in self._settings.services.items():
            if not await run_sync(_is_service, service.url.get_secret_value(), limiter=self._threads):
                words = Words(f"Apprise cannot read the URL of {name!r}", f"Apprise 无法识别 {name!r} 的 URL")
                return Health(ok=False, reason=words, code="bad_url")
        words = Words(
            "Apprise can read the URLs; whether the services answer is not known", "URL 可识别；服务是否应答无法得知"
        )
        return Health(ok=True, reason=words)

    async def run(self, inbox: Inbox) -> None:
        """Apprise hears nothing."""

    async def aclose(self) -> None:
        """Nothing stays open between attempts."""


def type_of(envelope: Envelope) -> str:
    """Apprise's kind of notification, which some services show as a colour."""
    if envelope.labels.get("state") == "resolved":
        return "success"
    return "failure" if envelope.priority >= 9 else "warning" if envelope.priority >= 6 else "info"


def of_log(lines: Sequence[str]) -> Delivery:
    """A failure, by the HTTP status in what Apprise logged last; the rest is not told, for it may hold secrets."""
    found = [status for line in lines for status in _STATUS.findall(line)]
    if found and (failure := of_status(Answer(int(found[-1]), {}, b""))) is not None:
        return failure
    words = Words(
        "Apprise could not send it and does not say why; it may have been delivered",
        "Apprise 未能发送且未说明原因，消息可能已送达",
    )
    return transient("apprise_failed", words, is_in_doubt=True)


def _notify(url: str, body: dict[str, Any], data: bytes | None, timeout_s: float, started: list[bool]) -> Delivery:
    started.append(True)
    apprise, service = _service(url)
    if service is None:
        return permanent("bad_url", Words("Apprise cannot read the service's URL", "Apprise 无法识别该服务的 URL"))
    if data is not None and not service.attachment_support:
        return permanent(
            "no_files", Words("the service takes no files from Apprise", "该服务不支持通过 Apprise 发送文件")
        )
    service.socket_connect_timeout = service.socket_read_timeout = timeout_s
    sender = apprise.Apprise(asset=service.asset)
    sender.add(service)
    attach = None if data is None else _attachment(apprise, data, body["filename"])
    result = sender.notify(
        body=body.get("text", ""), title=body["title"], notify_type=body["type"], attach=attach, body_format="text"
    )
    try:
        if result:
            return msgspec.structs.replace(accepted(), reason=_UNKNOWN)
        return of_log([str(line.message) for each in result.results for line in each.logs()])
    finally:
        result.close()


def _is_service(url: str) -> bool:
    return _service(url)[1] is not None


def _service(url: str) -> tuple[Any, Any]:
    """(the package, the service of this URL or None). It keeps nothing on disk and follows no redirects."""
    apprise = importlib.import_module("apprise")
    importlib.import_module("logging").getLogger("apprise").propagate = False  # its lines name hosts and users
    asset = apprise.AppriseAsset(storage_mode="memory", async_mode=False, http_redirects=False)
    return apprise, apprise.Apprise.instantiate(url, asset=asset, suppress_exceptions=True)


def _attachment(apprise: Any, data: bytes, filename: str) -> Any:
    """From memory: given a path or an address, Apprise would read or fetch it."""
    memory = importlib.import_module("apprise.attachment.memory")
    kept = memory.AttachMemory(content=data, name=filename, mimetype="application/octet-stream")
    return apprise.AppriseAttachment([kept])


def _texts(envelope: Envelope, max_bytes: int) -> list[dict[str, Any]]:
    """With the addresses of pictures, which are named and not fetched."""
    parts = envelope.content if isinstance(envelope.content, list) else []
    pictures = [part.image_url.url for part in parts if isinstance(part, ImagePart)]
    lines = [text_of(envelope.content), *(url for url in pictures if not url.startswith("data:"))]
    text = "\n".join(line for line in lines if line.strip())
    return [{"text": piece} for piece in cut_to_pieces(text, max_bytes)]


def _files(envelope: Envelope) -> list[dict[str, str]]:
    files = list(_each_file(envelope))
    if len(files) > _FILES:
        words = Words(f"{len(files)} files, and {_FILES} are the limit", f"共 {len(files)} 个文件，上限为 {_FILES} 个")
        raise Cannot(too_large("too_many_files", words))
    for file in files:
        try:
            size = len(base64.b64decode(file.get("data", ""), validate=True))
        except binascii.Error:
            words = Words("the picture or file is no base64", "图片或文件不是有效的 base64")
            raise Cannot(permanent("bad_file", words)) from None
        if size > FILE_BYTES:
            raise Cannot(_file_too_large())
    return files


def _each_file(envelope: Envelope) -> Iterator[dict[str, str]]:
    for part in envelope.content if isinstance(envelope.content, list) else []:
        match part:
            case ImagePart(image_url=image) if image.url.startswith("data:"):
                yield {"filename": "picture.png", "data": image.url.partition(",")[2]}
            case AudioPart(input_audio=audio):
                yield {"filename": f"audio.{audio.format}", "data": audio.data}
            case FilePart(file=file) if file.file_data:
                yield {"filename": file.filename or "file", "data": file.file_data.partition(",")[2]}
            case FilePart(file=file) if file.file_id:
                yield {"filename": file.filename or "file", "blob": file.file_id}
            case _:
                pass


def _file_too_large() -> Delivery:
    return too_large("file_too_large", Words("the file is over 10 MB", "文件超过 10 MB"))
