"""HTML mails as plain text: what a person would read, without scripts, styles and what is hidden."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser

LIMIT_CHARACTERS = 256 * 1024
"""What is beyond is left out."""
_TAG = re.compile(r"</?[A-Za-z][^<>]{0,8192}>")
_LINE_CHARACTERS = 8192
_BLOCKS = frozenset(
    re.findall(
        r"\w+",
        "address article aside blockquote center dd div dl dt fieldset figcaption figure footer form h1 h2 h3 h4 h5 h6 "
        "header hr li main nav ol p pre section table tr ul",
    )
)
_UNSEEN = frozenset(re.findall(r"\w+", "script style head title template noscript object svg math select iframe"))
_VOID = frozenset(re.findall(r"\w+", "area base br col embed hr img input link meta source track wbr"))
_HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
_MOST_QUOTES = 20
"""Levels of quotes that are told apart."""


def text_of_html(html: str) -> str:
    """Paragraphs as lines, items of lists with `- `, quoted mails with `> `, links with an address that differs."""
    reader = _Reader()
    reader.feed("".join(_whole_tags(html[:LIMIT_CHARACTERS])))
    reader.close()
    return reader.text()


def _whole_tags(html: str) -> Iterator[str]:
    """Without comments, and with `&lt;` for what begins no tag, in time that grows with the length.

    html.parser by itself takes 194 s of CPU for 240 kB of `<a href='` (measured with Python 3.11.7).
    """
    start = 0
    while (at := html.find("<", start)) >= 0:
        yield html[start:at]
        if (tag := _TAG.match(html, at)) is not None:
            yield tag[0]
            start = tag.end()
        elif html.startswith("<!--", at):
            end = html.find("-->", at)
            if end < 0:
                return
            start = end + 3
        elif html.startswith(("<!", "<?"), at) and (end := html.find(">", at, at + _LINE_CHARACTERS)) >= 0:
            start = end + 1
        else:
            yield "&lt;"
            start = at + 1
    yield html[start:]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._lines: list[str] = []
        self._line = ""
        self._unseen: list[str] = []
        """Open elements from the outermost one that nobody sees."""
        self._quotes = 0
        self._is_raw = False
        self._link: tuple[str, int] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if self._unseen or tag in _UNSEEN or "hidden" in found or _HIDDEN.search(found.get("style") or ""):
            if tag not in _VOID and len(self._unseen) < 1000:
                self._unseen.append(tag)
            return
        if tag in _BLOCKS or tag == "br":
            self._end_line()
        if tag in ("p", "h1", "h2", "h3", "blockquote") and self._lines and self._lines[-1].strip("> "):
            self._lines.append("> " * self._depth)
        match tag:
            case "blockquote":
                self._quotes += 1
            case "li":
                self._line = "- "
            case "td" | "th":
                self._line += " " if self._line and not self._line.endswith(" ") else ""
            case "pre":
                self._is_raw = True
            case "img":
                self._line += (found.get("alt") or "").strip()
            case "a":
                self._link = (found.get("href") or "", len(self._line))

    def handle_endtag(self, tag: str) -> None:
        if self._unseen:
            if tag in self._unseen:  # those inside that nobody closed end with it
                while self._unseen.pop() != tag:
                    pass
            return
        if tag == "a" and self._link is not None:
            address, start = self._link
            shown = self._line[start:].strip()
            if address.startswith(("http://", "https://")) and address.rstrip("/") != shown.rstrip("/"):
                self._line += f" <{address}>"
            self._link = None
        if tag in _BLOCKS:
            self._end_line()
        if tag == "blockquote":
            self._quotes = max(0, self._quotes - 1)
        if tag == "pre":
            self._is_raw = False

    def handle_data(self, data: str) -> None:
        if self._unseen:
            return
        if self._is_raw:
            *lines, self._line = (self._line + data).split("\n")
            self._lines.extend("> " * self._depth + line for line in lines)
            return
        if len(self._line) > _LINE_CHARACTERS:
            self._end_line()
        words = re.sub(r"[ \t\r\n\f]+", " ", data)
        self._line += words.lstrip(" ") if not self._line or self._line.endswith(" ") else words

    def text(self) -> str:
        self._end_line()
        text = "\n".join(line.rstrip(" ") for line in self._lines).replace("\xa0", " ")
        return re.sub(r"\n{3,}", "\n\n", text).strip("\n")

    @property
    def _depth(self) -> int:
        return min(self._quotes, _MOST_QUOTES)

    def _end_line(self) -> None:
        if self._line.strip():
            line = self._line if self._is_raw else self._line.strip(" ")
            self._lines.append("> " * self._depth + line)
        self._line = ""
        if self._link is not None:
            self._link = (self._link[0], 0)
