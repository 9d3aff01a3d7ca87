"""The fields of a form: urlencoded, or in parts.

Sources: WHATWG URL, section 5.1 (urlencoded); RFC 7578 (multipart/form-data).
"""

from email.message import Message
from email.utils import collapse_rfc2231_value
from typing import NamedTuple
from urllib.parse import parse_qsl

from autoglm.core.errors import InvalidField, UnsupportedMediaType

MAX_FIELDS = 100
_URLENCODED = "application/x-www-form-urlencoded"
_MULTIPART = "multipart/form-data"


class Form(NamedTuple):
    fields: dict[str, str]
    """The last value where a name comes twice."""
    files: list[str]
    """Names of the fields with files; their contents are not kept."""


def read_form(content_type: str, body: bytes) -> Form:
    """Raises InvalidField, UnsupportedMediaType."""
    header = _header(content_type)
    kind = header.get_content_type()
    if kind == _MULTIPART:
        return _of_parts(str(header.get_param("boundary", "")), body)
    if kind != _URLENCODED:
        raise UnsupportedMediaType(content_type[:80], f"application/json, {_URLENCODED} or {_MULTIPART}")
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict")
    except ValueError as error:  # UnicodeDecodeError is one
        raise InvalidField("body", f"is no readable form: {error}") from None
    return Form(dict(pairs), [])


def _of_parts(boundary: str, body: bytes) -> Form:
    if not boundary:
        raise InvalidField("content-type", "has no boundary")
    form = Form({}, [])
    parts = (b"\r\n" + body).split(b"\r\n--" + boundary.encode("utf-8", "replace"), MAX_FIELDS + 1)
    if len(parts) < 2 or not parts[-1].startswith(b"--"):
        raise InvalidField("body", f"is cut off, or has more than {MAX_FIELDS} parts")
    for part in parts[1:-1]:
        head, separator, value = part.partition(b"\r\n\r\n")
        name, is_file = _name_of(head)
        if not separator or not name:
            raise InvalidField("body", "has a part without a name")
        if is_file:
            form.files.append(name)
            continue
        try:
            form.fields[name] = value.decode()
        except UnicodeDecodeError:
            raise InvalidField(name[:40], "is not UTF-8") from None
    return form


def _name_of(head: bytes) -> tuple[str, bool]:
    """The field's name, and whether it is a file. Raises InvalidField."""
    disposition = _disposition(head)
    try:
        name = collapse_rfc2231_value(disposition.get_param("name", "", "content-disposition"))
        return name, disposition.get_filename() is not None
    except ValueError:  # found by fuzzing: a charset with a NUL in it (RFC 2231, section 4)
        raise InvalidField("body", "has a part whose name or file name cannot be read") from None


def _disposition(head: bytes) -> Message:
    lines = head.decode("utf-8", "replace").split("\r\n")
    found = next((line for line in lines if line.lower().startswith("content-disposition:")), ":")
    header = Message()
    header["content-disposition"] = found.partition(":")[2].strip()
    return header


def _header(content_type: str) -> Message:
    header = Message()
    header["content-type"] = content_type.replace("\r", " ").replace("\n", " ") or _URLENCODED
    return header
