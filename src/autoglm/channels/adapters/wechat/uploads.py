"""Uploads of pictures and files, each at most once while the vendor keeps it.

Source: developer.work.weixin.qq.com/document/path/90253 (apps), /path/99110 (group robots: upload_media).
"""

import hashlib
import re
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable

import anyio
import msgspec

from autoglm.channels.adapters.wechat.answers import Fields, Refused
from autoglm.channels.delivery import Delivery, Words, transient
from autoglm.core.clock import monotonic_s

MEDIA_LIFE_S = 2 * 86_400.0
"""The vendor keeps media for 3 days."""
_REMEMBERED = 256
_MEDIA_CODE = 40007
_NAME_CHARACTERS = 128
_END_CHARACTERS = 16
"""Of a longer name its end is kept: there it says of what type the file is."""

Upload = Callable[[str, str, bytes], Awaitable[Fields]]
"""(kind, Content-Type, form): one request that uploads. Raises Refused."""


class _UnderWay:
    """An upload that others wait for. It ends without a failure and without an id when who uploads is cancelled."""

    def __init__(self) -> None:
        self.is_over = anyio.Event()
        self.failure: Refused | None = None


class Uploads:
    """By whom media may be used together: an app, or one robot. In memory: after a restart they are uploaded anew."""

    def __init__(self, upload: Upload) -> None:
        self._upload = upload
        self._ids: OrderedDict[str, tuple[str, float]] = OrderedDict()
        """By what it is of: the vendor's id, and until when it is good."""
        self._under_way: dict[str, _UnderWay] = {}

    async def post(self, post: Callable[[str], Awaitable[Fields]], kind: str, name: str, data: bytes) -> Fields:
        """Post a message with the id; once more with a fresh upload when the vendor knows the id no more.

        By the same id, vendors see that a message is a repeated one. Raises Refused; what fails in the upload is never
        in doubt: no message is out.
        """
        key = f"{kind} {name} {hashlib.sha256(data).hexdigest()}"
        media_id = await self._media_id(key, kind, name, data)
        try:
            return await post(media_id)
        except Refused as error:
            if error.code != _MEDIA_CODE:
                raise
        if self._ids.get(key, ("", 0.0))[0] == media_id:  # else somebody has uploaded it anew meanwhile
            del self._ids[key]
        return await post(await self._media_id(key, kind, name, data))

    async def _media_id(self, key: str, kind: str, name: str, data: bytes) -> str:
        """Those who ask while it is uploaded share the result, a failure included: raises Refused."""
        while True:
            known, until_s = self._ids.get(key, ("", 0.0))
            if monotonic_s() < until_s:
                return known
            if (other := self._under_way.get(key)) is None:
                break
            await other.is_over.wait()
            if other.failure is not None:
                raise Refused(other.failure.delivery, other.failure.code)
        mine = self._under_way[key] = _UnderWay()
        try:
            media_id = await self._uploaded(kind, name, data)
            self._ids[key] = (media_id, monotonic_s() + MEDIA_LIFE_S)
        except Refused as error:
            mine.failure = error
            raise
        finally:
            del self._under_way[key]
            mine.is_over.set()
        while len(self._ids) > _REMEMBERED:
            self._ids.popitem(last=False)
        return media_id

    async def _uploaded(self, kind: str, name: str, data: bytes) -> str:
        content_type, form = form_of(name, data)
        try:
            fields = await self._upload(kind, content_type, form)
        except Refused as error:
            raise Refused(_unsent(error.delivery), error.code) from None
        media_id = fields.get("media_id")
        if not isinstance(media_id, str) or not media_id:
            raise Refused(transient("unreadable", _NOT_UPLOADED))
        return media_id


def form_of(name: str, data: bytes) -> tuple[str, bytes]:
    """(Content-Type, body) of a form with the field `media`. Source: RFC 7578."""
    boundary = secrets.token_hex(16)
    quoted = re.sub(r'[\x00-\x1f"\\\x7f]', "_", name)
    if len(quoted) > _NAME_CHARACTERS:
        quoted = quoted[: _NAME_CHARACTERS - _END_CHARACTERS] + quoted[-_END_CHARACTERS:]
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="media"; filename="{quoted}"; '
        f"filelength={len(data)}\r\nContent-Type: application/octet-stream\r\n\r\n"
    )
    ends = f"\r\n--{boundary}--\r\n".encode()
    return f"multipart/form-data; boundary={boundary}", head.encode("utf-8", "replace") + data + ends


_NOT_UPLOADED = Words("the picture or file could not be uploaded", "图片或文件未能上传")


def _unsent(delivery: Delivery) -> Delivery:
    if not delivery.is_in_doubt:
        return delivery
    return msgspec.structs.replace(delivery, reason=_NOT_UPLOADED, is_in_doubt=False)
