"""The XML of callbacks, read by Expat with nothing that XML can be abused for.

A document type declaration is refused as such: without one there are no entities to expand and no files to fetch.
Source: docs.python.org/3/library/xml.html (XML vulnerabilities).
"""

from xml.parsers import expat

from autoglm.channels.adapters.wechat.crypto import BadCall

MAX_BYTES = 128 * 1024
"""A message holds 2,048 bytes of text; the longest events, with lists of departments, a few kilobytes."""
MAX_DEPTH = 8
MAX_ELEMENTS = 1_000


class Element:
    """`text` is what stands directly inside, without blanks at its ends; attributes are left out, there are none."""

    __slots__ = ("children", "name", "text")

    def __init__(self, name: str) -> None:
        self.name = name
        self.text = ""
        self.children: list[Element] = []

    def get(self, name: str) -> str:
        """The text of the first child of that name; empty where there is none."""
        found = self.child(name)
        return "" if found is None else found.text

    def child(self, name: str) -> "Element | None":
        return next((child for child in self.children if child.name == name), None)


def parse_xml(data: bytes | str) -> Element:
    """The outermost element. Raises BadCall, whatever the data are."""
    data = data.encode("utf-8", "replace") if isinstance(data, str) else data
    if len(data) > MAX_BYTES:
        raise BadCall("size", f"the XML is over {MAX_BYTES} bytes")
    reader = _Reader()
    parser = expat.ParserCreate("utf-8")
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = reader.doctype
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise BadCall("xml", f"the body is no XML: {expat.ErrorString(error.code)}") from None
    return reader.root


class _Reader:
    def __init__(self) -> None:
        self.root = Element("")
        self._open: list[Element] = []
        self._texts: list[list[str]] = []
        self._count = 0

    def doctype(self, *_: object) -> None:
        raise BadCall("xml", "a document type declaration is not allowed")

    def start(self, name: str, _: object) -> None:
        self._count += 1
        if self._count > MAX_ELEMENTS or len(self._open) == MAX_DEPTH:
            raise BadCall("xml", f"more than {MAX_ELEMENTS} elements, or more than {MAX_DEPTH} inside each other")
        element = Element(name)
        if self._open:
            self._open[-1].children.append(element)
        else:
            self.root = element
        self._open.append(element)
        self._texts.append([])

    def end(self, _: str) -> None:
        self._open.pop().text = "".join(self._texts.pop()).strip()

    def text(self, data: str) -> None:
        self._texts[-1].append(data)
