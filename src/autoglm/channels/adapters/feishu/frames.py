"""Frames of Feishu's long connection: a small protobuf message, encoded and decoded here.

Source: protobuf.dev/programming-guides/encoding; the fields of `pbbp2.Frame` in larksuite/oapi-sdk-python (MIT).
"""

from collections.abc import Iterator

import msgspec

CONTROL, DATA = 0, 1
"""Values of `method`."""
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MOST_VARINT_BYTES = 10
_WORD = (1 << 64) - 1


class Malformed(Exception):
    """What came is no frame."""


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """Each field of a number is always written: they are required ones (proto2)."""

    seq_id: int = 0
    log_id: int = 0
    service: int = 0
    method: int = CONTROL
    headers: tuple[tuple[str, str], ...] = ()
    payload_encoding: str = ""
    payload_type: str = ""
    payload: bytes = b""
    log_id_new: str = ""

    def header(self, name: str) -> str:
        """Empty where there is none."""
        return next((value for key, value in self.headers if key == name), "")


def encoded(frame: Frame) -> bytes:
    parts = [
        _number(1, frame.seq_id), _number(2, frame.log_id), _number(3, frame.service), _number(4, frame.method),
        *(_text(5, _text(1, key.encode()) + _text(2, value.encode())) for key, value in frame.headers),
    ]  # fmt: skip
    texts = ((6, frame.payload_encoding.encode()), (7, frame.payload_type.encode()), (8, frame.payload))
    parts += [_text(field, value) for field, value in (*texts, (9, frame.log_id_new.encode())) if value]
    return b"".join(parts)


def decoded(data: bytes) -> Frame:
    """Unknown fields are skipped. Raises Malformed."""
    numbers = {1: 0, 2: 0, 3: 0, 4: 0}
    texts = {6: b"", 7: b"", 8: b"", 9: b""}
    headers: list[tuple[str, str]] = []
    for field, value in _fields(data):
        if field in numbers and isinstance(value, int):
            numbers[field] = value
        elif field in texts and isinstance(value, bytes):
            texts[field] = value
        elif field == 5 and isinstance(value, bytes):
            headers.append(_header(value))
        elif field in numbers or field in texts or field == 5:
            raise Malformed(f"field {field} has another type")
    return Frame(
        seq_id=numbers[1], log_id=numbers[2], service=_signed(numbers[3]), method=_signed(numbers[4]),
        headers=tuple(headers), payload_encoding=_decoded_text(texts[6]), payload_type=_decoded_text(texts[7]),
        payload=texts[8], log_id_new=_decoded_text(texts[9]),
    )  # fmt: skip


def _header(data: bytes) -> tuple[str, str]:
    found = {1: b"", 2: b""}
    for field, value in _fields(data):
        if field in found:
            if not isinstance(value, bytes):
                raise Malformed("a header is no text")
            found[field] = value
    return _decoded_text(found[1]), _decoded_text(found[2])


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        field, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield field, value
            continue
        if kind == _BYTES:
            size, at = _varint(data, at)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise Malformed(f"wire type {kind}")
        if size > len(data) - at:
            raise Malformed("it is cut")
        if kind == _BYTES:
            yield field, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for index in range(_MOST_VARINT_BYTES):
        if at + index >= len(data):
            raise Malformed("it is cut")
        byte = data[at + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value & _WORD, at + index + 1
    raise Malformed("a number has too many bytes")


def _number(field: int, value: int) -> bytes:
    return _encoded_varint(field << 3 | _VARINT) + _encoded_varint(value & _WORD)


def _text(field: int, value: bytes) -> bytes:
    return _encoded_varint(field << 3 | _BYTES) + _encoded_varint(len(value)) + value


def _encoded_varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def _signed(value: int) -> int:
    """An int32, whose negative values are written as 64 bits."""
    low = value & 0xFFFFFFFF
    return low - (1 << 32) if low >> 31 else low


def _decoded_text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise Malformed("a text is no UTF-8") from error
