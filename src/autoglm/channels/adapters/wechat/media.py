"""Pictures and files of a message, as WeCom and WeChat take them: by the id of what was uploaded.

Source: developer.work.weixin.qq.com/document/path/90253; developers.weixin.qq.com/doc/offiaccount (New temporary
materials). Both keep them for 3 days.
"""

import base64
import binascii
import re
from collections.abc import Awaitable, Callable

import msgspec

from autoglm.channels.channel import Cannot
from autoglm.channels.delivery import Words, permanent, too_large
from autoglm.channels.wording import is_inline_picture
from autoglm.core.envelope import AudioPart, Content, FilePart, ImagePart, Part

_SUFFIXES = {"image/png": "png", "image/jpeg": "jpg", "image/gif": "gif", "image/webp": "webp", "image/bmp": "bmp"}
_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)?(?:;[\w.=+-]+)*;base64,", re.ASCII)


class Media(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be uploaded: its bytes, or the id of a blob that has them."""

    kind: str
    """image or file, as both vendors call it."""
    name: str
    data: bytes = b""
    blob: str = ""


def media_of(content: Content) -> list[Media]:
    """The pictures and files of a message, those at an http address left out. Raises Cannot."""
    found = []
    for part in content if isinstance(content, list) else []:
        match part:
            case ImagePart() if part.image_url.url.startswith("data:"):
                kind, data = _decoded(part.image_url.url)
                found.append(Media(kind="image", name=f"picture.{_SUFFIXES.get(kind, 'png')}", data=data))
            case FilePart() if part.file.file_id is not None:
                found.append(Media(kind="file", name=part.file.filename or "file", blob=part.file.file_id))
            case FilePart() if part.file.file_data is not None:
                found.append(
                    Media(kind="file", name=part.file.filename or "file", data=_decoded(part.file.file_data)[1])
                )
            case AudioPart():
                data = _decoded(f"data:;base64,{part.input_audio.data}")[1]
                found.append(Media(kind="file", name=f"audio.{part.input_audio.format}", data=data))
            case _:
                pass
    return found


def is_media(part: Part) -> bool:
    """A `Carries`: what `media_of` makes something of."""
    if isinstance(part, FilePart):
        return part.file.file_id is not None or part.file.file_data is not None
    return isinstance(part, AudioPart) or is_inline_picture(part)


def addresses_of(content: Content) -> list[str]:
    """Of pictures at an http address: they go as text."""
    parts = content if isinstance(content, list) else []
    urls = [part.image_url.url for part in parts if isinstance(part, ImagePart)]
    return [url for url in urls if not url.startswith("data:")]


def _decoded(url: str) -> tuple[str, bytes]:
    head = _DATA_URL.match(url)
    try:
        if head is None:
            raise binascii.Error
        return head[1] or "", base64.b64decode(url[head.end() :], validate=True)
    except (binascii.Error, ValueError):
        words = Words("a picture or file of the message is no base64", "消息中的图片或文件不是有效的 base64")
        raise Cannot(permanent("bad_media", words)) from None


async def bytes_of(media: Media, read_blob: Callable[[str], Awaitable[bytes | None]], limit_bytes: int) -> bytes:
    """Raises Cannot: it is not here, too large or, as vendors see it, too small."""
    data = await read_blob(media.blob) if media.blob else media.data
    if data is None:
        raise Cannot(permanent("no_file", Words("the file of the message is not in this hub", "本机没有该消息的文件")))
    check_media_size(data, limit_bytes)
    return data


def check_media_size(data: bytes, limit_bytes: int) -> None:
    """Raises Cannot: too large or, as vendors see it, too small."""
    if len(data) > limit_bytes:
        limit_mib = limit_bytes // 2**20
        words = Words(f"the picture or file is over {limit_mib} MB", f"图片或文件超过 {limit_mib} MB")
        raise Cannot(too_large("media_too_large", words))
    if len(data) <= 5:  # WeCom: "all files must be over 5 bytes"
        raise Cannot(permanent("media_too_small", Words("the picture or file is empty", "图片或文件为空")))
