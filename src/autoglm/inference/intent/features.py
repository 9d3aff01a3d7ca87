"""Reads from a request what can be known of it at a glance: language, code, mathematics, pictures, tools, length.

Pure and total: whatever JSON it gets, it answers; what has no sense counts as absent. It looks at the beginning and the
end of a long text only, so that its cost is bounded; a body of very many values is only skimmed.
"""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from autoglm.inference.features import Features, Language

SEEN_CHARACTERS = 2_000
"""Of a longer text, so many from its beginning and its end are looked at."""
ORDER_CHARACTERS = 240
"""What is wanted stands at the beginning or the end of a long text; so many characters of each are classified."""
MAX_PARTS = 1_000
"""Messages of a conversation, and parts of a message, that are looked at: the newest of them."""

MAX_VALUES = 50_000
"""A body that may have more values is skimmed: decoded, 31 MiB of empty lists would take 4 s and 800 MB. Commas and
brackets are counted, those within texts as well."""
_FEW_BYTES = 64 * 1024  # too short for so many

_WIDE_TOKENS = 0.69
_NARROW_TOKENS = 0.25
"""Tokens per character of Chinese, and of other text. Qwen2.5's tokenizer made 0.69 of the Chinese queries in
`benchmarks/data`, 0.23 of the English ones, 0.22 of Python and 0.30 of Markdown with tables."""

_ABSENT = msgspec.Raw(b"null")


class _Body(msgspec.Struct):
    """What is read of a body; `Any` and `Raw` take every JSON, so that no wrong type is an error."""

    messages: Any = None
    prompt: Any = None
    input: Any = None
    instructions: Any = None
    tools: msgspec.Raw = _ABSENT
    functions: msgspec.Raw = _ABSENT
    tool_choice: Any = None
    response_format: Any = None
    text: Any = None


class _Skimmed(msgspec.Struct):
    """The same fields, as they stand in the body."""

    messages: msgspec.Raw = _ABSENT
    prompt: msgspec.Raw = _ABSENT
    input: msgspec.Raw = _ABSENT
    instructions: msgspec.Raw = _ABSENT
    tools: msgspec.Raw = _ABSENT
    functions: msgspec.Raw = _ABSENT
    tool_choice: msgspec.Raw = _ABSENT
    response_format: msgspec.Raw = _ABSENT
    text: msgspec.Raw = _ABSENT


class Reading(NamedTuple):
    features: Features
    """Without an intent."""
    text: str
    """What the user wrote last, its middle left out when it is long; empty when there is none."""
    orders: tuple[str, ...]
    """See `orders_in`."""


_decode = msgspec.json.Decoder(_Body).decode
_decode_skimmed = msgspec.json.Decoder(_Skimmed).decode
_decode_text = msgspec.json.Decoder(str).decode


def read_request(body: bytes, api: str) -> Reading:
    """api: below `/v1`, such as `/chat/completions`. Never raises; a body that is no JSON object has no features."""
    if len(body) > _FEW_BYTES and body.count(b",") + body.count(b"[") + body.count(b"{") > MAX_VALUES:
        return skim(body, api)
    try:
        fields = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # ValidationError is a DecodeError
        return Reading(Features(api=api), "", ())
    spoken = _Spoken()
    for field in (fields.instructions, fields.messages, fields.prompt, fields.input):
        spoken.take(field)
    seen = _ends(spoken.last, SEEN_CHARACTERS)
    tools = len(fields.tools) + len(fields.functions) - 2 * len(_ABSENT)
    features = Features(
        api=api,
        language=language_of(seen),
        has_code=has_code(seen),
        has_mathematics=has_mathematics(seen),
        has_image=spoken.has_image,
        has_audio=spoken.has_audio,
        wants_tools=tools > len(b"[]") and fields.tool_choice != "none",
        wants_json=_wants_json(fields.response_format) or _wants_json(_member(fields.text, "format")),
        prompt_tokens=int(spoken.tokens + (tools * _NARROW_TOKENS if tools > 0 else 0) + 0.5),
        turns=spoken.turns,
    )
    return Reading(features, seen, orders_in(seen))


# Quotes within a text are escaped in JSON: these are types of parts, roles and fields.
_image = re.compile(rb'"type"\s*+:\s*+"(?:image_url|input_image|image)"').search
_audio = re.compile(rb'"type"\s*+:\s*+"(?:input_audio|audio)"').search
_json_form = re.compile(rb'"type"\s*+:\s*+"json_(?:object|schema)"').search
_text_of_field = re.compile(rb'"(?:content|text)"\s*+:\s*+("(?:[^"\\]++|\\.)*+")', re.DOTALL).match


def skim(body: bytes, api: str) -> Reading:
    """As `read_request`, but nothing is decoded save the last text, whoever said it; tokens are those of the JSON."""
    try:
        fields = _decode_skimmed(body)
        said = [bytes(field) for field in (fields.instructions, fields.messages, fields.prompt, fields.input)]
        said = [field for field in said if field != bytes(_ABSENT)]
        last = _last_text(said[-1]) if said else ""
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Reading(Features(api=api), "", ())
    spoken = _Spoken()
    for field in said:
        spoken.take(field.decode("utf-8", "replace"))
    seen = _ends(last, SEEN_CHARACTERS)
    tools = len(fields.tools) + len(fields.functions) - 2 * len(_ABSENT)
    features = Features(
        api=api,
        language=language_of(seen),
        has_code=has_code(seen),
        has_mathematics=has_mathematics(seen),
        has_image=any(map(_image, said)),
        has_audio=any(map(_audio, said)),
        wants_tools=tools > len(b"[]") and bytes(fields.tool_choice) != b'"none"',
        wants_json=any(_json_form(bytes(form)) is not None for form in (fields.response_format, fields.text)),
        prompt_tokens=int(spoken.tokens + (tools * _NARROW_TOKENS if tools > 0 else 0) + 0.5),
        turns=sum(field.count(b'"role"') for field in said),
    )
    return Reading(features, seen, orders_in(seen))


def _last_text(said: bytes) -> str:
    """Of a prompt, or of a list of messages; empty where none is found soon."""
    end = len(said)
    for _ in range(4):  # "text" is a type of parts, too
        if said.startswith(b'"'):
            return _decode_text(said)
        end = max(said.rfind(b'"content"', 0, end), said.rfind(b'"text"', 0, end))
        if end < 0:
            break
        if (found := _text_of_field(said, end)) is not None:
            return _decode_text(found[1])
    return ""


class _Spoken:
    """Walks through the messages of a request, in every form that OpenAI's endpoints take."""

    def __init__(self) -> None:
        self.last = ""
        """The text of the user's last message."""
        self.turns = 0
        self.tokens = 0.0
        self.has_image = False
        self.has_audio = False

    def take(self, field: Any) -> None:
        """A text, a list of texts or of tokens, or a list of messages."""
        if isinstance(field, str):
            self.last = field
            self._count(field)
        elif isinstance(field, list):
            if field and isinstance(field[0], int):
                self.tokens += len(field)
            for entry in field[-MAX_PARTS:]:
                if isinstance(entry, str):
                    self.take(entry)
                elif isinstance(entry, list):
                    self.tokens += len(entry)
                elif isinstance(entry, dict):
                    self._take_message(entry)

    def _take_message(self, message: dict[str, Any]) -> None:
        self.turns += 1
        texts = [text for text in self._texts(message.get("content")) if text]
        for text in texts:
            self._count(text)
        if message.get("role", "user") == "user" and texts:
            self.last = "\n".join(texts)

    def _texts(self, content: Any) -> Iterator[str]:
        if isinstance(content, str):
            yield content
        elif isinstance(content, list):
            for part in content[-MAX_PARTS:]:
                if isinstance(part, str):
                    yield part
                elif isinstance(part, dict):
                    kind, text = part.get("type"), part.get("text")
                    if isinstance(text, str):
                        yield text
                    self.has_image = self.has_image or kind in ("image_url", "input_image", "image")
                    self.has_audio = self.has_audio or kind in ("input_audio", "audio")

    def _count(self, text: str) -> None:
        # In UTF-8 a Chinese character takes 3 bytes where a Latin letter takes 1; counting bytes costs no loop here.
        wide = 0 if text.isascii() else (len(text.encode("utf-8", "surrogatepass")) - len(text)) / 2
        self.tokens += wide * _WIDE_TOKENS + max(0.0, len(text) - wide) * _NARROW_TOKENS


def _member(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _wants_json(form: Any) -> bool:
    return _member(form, "type") in ("json_object", "json_schema")


def _ends(text: str, reach: int) -> str:
    return text if len(text) <= 2 * reach else f"{text[:reach]}\n{text[-reach:]}"


def orders_in(text: str) -> tuple[str, ...]:
    """The parts of a text in which what is wanted should stand; none without a letter or a digit."""
    text = text.strip()
    if _a_letter_or_digit(text) is None:
        return ()
    if len(text) <= 2 * ORDER_CHARACTERS:
        return (text,)
    first = text[:ORDER_CHARACTERS].partition("\n")[0]
    last = text[-ORDER_CHARACTERS:].rpartition("\n")[2]
    return tuple(order.strip() for order in (first, last) if _a_letter_or_digit(order) is not None)


_a_letter_or_digit = re.compile(r"[^\W_]").search
_chinese = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]+").findall
_latin = re.compile(r"[A-Za-z]+").findall
_a_latin_letter = re.compile(r"[A-Za-z]").search
_other = re.compile(r"[^\W\d_A-Za-z\u3400-\u9fff\uf900-\ufaff]+").findall
_LETTERS_PER_CHARACTER = 2.5
"""A Chinese character says as much as so many letters: `数据库` is `database`."""
_MIXED = 0.2
"""From this share of the lesser language on, a text is in both."""


def language_of(text: str) -> Language:
    """By the share of the scripts. Kana, hangul, Cyrillic and the like are `other`; no letter at all is `none`."""
    if text.isascii():
        return "none" if _a_latin_letter(text) is None else "en"
    latin = len("".join(_latin(text)))
    chinese = len("".join(_chinese(text))) * _LETTERS_PER_CHARACTER
    other = len("".join(_other(text)))
    total = latin + chinese + other
    if not total:
        return "none"
    if other * 2 > latin + chinese:
        return "other"
    share = chinese / (latin + chinese)
    return "en" if share < _MIXED else "zh" if share > 1 - _MIXED else "mixed"


_MARKS_OF_CODE = (
    "```",
    "</",
    "#include",
    "console.log(",
    "print(",
    "public static",
    "Traceback (most recent call last)",
)
_line_of_code = re.compile(
    r"^[ \t]*(?:"
    r"import [\w.]+(?: as \w+)?[ \t;]*$|from [\w.]+ import [\w*(]|package [\w.]+;?[ \t]*$|using [\w.:]+;"
    r"|(?:async )?(?:def|fn|func|function)\s\w{1,60}\s?[(<]|class \w{1,60}\s?[:({]|(?:const|let|var) \w{1,60}\s?[=:;]"
    r"|(?:public|private|protected|static)\s[\w<>\[\], ]{1,80}[({;=]"
    r"|git (?:add|branch|checkout|clone|commit|diff|fetch|log|merge|pull|push|rebase|reset|stash|status)\b"
    r"|pip3? install\b|npm (?:install|run|start|test)\b|docker (?:build|compose|exec|logs|ps|pull|run)\b"
    r"|kubectl (?:apply|delete|describe|exec|get|logs)\b|sudo \w+ \S|curl (?:-|http))",
    re.MULTILINE,
).search
_block = re.compile(r"[;{>][ \t]{0,8}\n[^\n]{0,120}[;}{][ \t]{0,8}(?:\n|$)").search
_error_of_program = re.compile(r"\b[A-Z]\w{2,30}(?:Error|Exception)\b").search
_query = re.compile(r"\bSELECT\b[^\n]{1,80}?\bFROM\b").search


def has_code(text: str) -> bool:
    """True for source code, commands of a shell, and the errors of programs."""
    return (
        any(mark in text for mark in _MARKS_OF_CODE)
        or _line_of_code(text) is not None
        or ("\n" in text and _block(text) is not None)
        or (("Error" in text or "Exception" in text) and _error_of_program(text) is not None)
        or ("SELECT" in text and _query(text) is not None)
    )


_MATHEMATICAL_WORDS = (
    "derivative", "integral", "equation", "polynomial", "determinant", "square root", "solve for", "\\frac", "\\int",
    "\\sum", "\\sqrt", "方程", "求导", "导数", "积分", "矩阵", "行列式", "平方根", "立方根", "等于几",
)  # fmt: skip
_sign = re.compile(r"[0-9^=√∫∑∏≤≥≠∞π]|\b[a-z]\(x\)").search
_formula = re.compile(
    r"\d\s?[-+*/×÷^]\s?\(?\d|\b[a-z]\s?(?:\^|\*\*)\s?\d|\b\d*[a-z]\s?[-+]\s?\d+\s?=|\b[a-z]\(x\)|[√∫∑∏≤≥≠∞π]"
    r"|\$[^$\n]{1,80}[\\^_=][^$\n]{0,80}\$"
).search
_DATE_OR_NUMBER = re.compile(r"\d{4}[-/]\d{1,2}[-/]\d{1,2}|\d{1,3}(?:[-.]\d{1,4}){2,}|\b\d{3,4}-\d{4,8}\b")


def has_mathematics(text: str) -> bool:
    """True for formulas and the words that go with them; dates, telephone numbers and addresses are none."""
    if any(word in text for word in _MATHEMATICAL_WORDS):
        return True
    return _sign(text) is not None and _formula(_DATE_OR_NUMBER.sub(" ", text)) is not None
