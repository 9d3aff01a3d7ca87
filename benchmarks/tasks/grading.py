"""Scores one reply as right (1.0) or wrong (0.0): strict about the answer, lenient about its wrapping.

Tolerated everywhere: white space and a code fence around the reply, full-width forms (Unicode NFKC). Where a word is
asked for: quotes around it, a full stop after it, its case. What was asked to be left out (prose around JSON, a list
around one word) is an error, for whoever reads the reply by program cannot use it.
"""

import json
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import assert_never

from benchmarks.tasks.sandbox import holds
from benchmarks.tasks.task import ByChoice, ByExact, ByJson, ByNumber, ByPython, ByRegex, Task

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]

_FENCE = re.compile(r"```[\w+-]*[ \t]*\n(.*?)(?:\n[ \t]*```|\Z)", re.DOTALL)
_NUMBER = re.compile(r"(?<![A-Za-z0-9_.])-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?")
_QUOTES = "\"'`“”‘’「」『』"
_STOPS = ".。!！?？ \t\n"


def score(task: Task, reply: str) -> float:
    """1.0 or 0.0. Code of the reply runs confined; see `sandbox.py`."""
    match task.grade:
        case ByNumber(answer=answer):
            return float(is_number(reply, answer))
        case ByChoice(answer=answer, among=among):
            return float(is_choice(reply, answer, among))
        case ByExact(answers=answers, is_case_sensitive=is_case_sensitive):
            return float(is_exact(reply, answers, is_case_sensitive=is_case_sensitive))
        case ByRegex(pattern=pattern):
            return float(is_match(reply, pattern))
        case ByJson(answer=wanted, accepts=accepts, is_case_sensitive=is_case_sensitive):
            return float(is_json(reply, json.loads(wanted), accepts, is_case_sensitive=is_case_sensitive))
        case ByPython(tests=tests):
            return float(holds(code_of(reply), tests))
        case unknown:
            assert_never(unknown)


def is_number(reply: str, answer: float) -> bool:
    """The last number counts, so that `6 + 6 = 12` is right for 12. Commas between thousands may be there."""
    numbers = _NUMBER.findall(unicodedata.normalize("NFKC", reply).replace("−", "-"))
    return bool(numbers) and abs(float(numbers[-1].replace(",", "")) - answer) < 1e-9


def is_choice(reply: str, answer: str, among: Sequence[str]) -> bool:
    """Labels of one letter keep their case: `A` is no article. A longer label hides a shorter one within it."""
    text = unicodedata.normalize("NFKC", reply)
    named = set()
    for label in sorted(among, key=len, reverse=True):
        pattern = rf"(?<![A-Za-z]){re.escape(label)}(?![A-Za-z])" if label.isascii() else re.escape(label)
        text, found = re.subn(pattern, " ", text, flags=0 if len(label) == 1 else re.IGNORECASE)
        if found:
            named.add(label)
    return named == {answer}


def is_exact(reply: str, answers: Sequence[str], *, is_case_sensitive: bool = False) -> bool:
    def plain(text: str) -> str:
        word = unicodedata.normalize("NFKC", text).strip().rstrip(_STOPS).strip(_QUOTES).strip().rstrip(_STOPS)
        return word if is_case_sensitive else word.casefold()

    return plain(unfenced(reply)) in {plain(answer) for answer in answers}


def is_match(reply: str, pattern: str) -> bool:
    """The pattern is written for NFKC text; a full stop at the end may be there."""
    text = unicodedata.normalize("NFKC", unfenced(reply)).strip()
    wanted = re.compile(pattern)
    return bool(wanted.fullmatch(text) or wanted.fullmatch(text.rstrip(".。")))


def is_json(
    reply: str, wanted: Json, accepts: Mapping[str, Sequence[str]] = {}, *, is_case_sensitive: bool = False
) -> bool:  # fmt: skip
    """Texts may differ in white space, width and, unless told otherwise, case; keys and types may not."""
    try:
        given: Json = json.loads(unfenced(reply))
    except (ValueError, RecursionError):
        return False

    def word(text: str) -> str:
        plain = " ".join(unicodedata.normalize("NFKC", text).split())
        return plain if is_case_sensitive else plain.casefold()

    return _is_equal(given, wanted, accepts, "", word)


def code_of(reply: str) -> str:
    """The first fenced block, closed or cut off; all of it when there is none."""
    fenced = _FENCE.search(reply)
    return fenced[1] if fenced else reply


def unfenced(reply: str) -> str:
    """Without the fence that wraps the whole reply. Prose beside a fence stays, and so does a fence cut off."""
    text = reply.strip()
    fenced = _FENCE.fullmatch(text)
    return fenced[1].strip() if fenced and text.endswith("```") else text


def _is_equal(
    given: Json, wanted: Json, accepts: Mapping[str, Sequence[str]], path: str, word: Callable[[str], str]
) -> bool:  # fmt: skip
    match wanted:
        case dict():
            return (
                isinstance(given, dict)
                and given.keys() == wanted.keys()
                and all(
                    _is_equal(given[key], wanted[key], accepts, f"{path}.{key}".lstrip("."), word) for key in wanted
                )
            )
        case list():
            return (
                isinstance(given, list)
                and len(given) == len(wanted)
                and all(
                    _is_equal(mine, theirs, accepts, path, word) for mine, theirs in zip(given, wanted, strict=True)
                )
            )
        case bool() | None:
            return given is wanted
        case int() | float():
            return isinstance(given, int | float) and not isinstance(given, bool) and abs(given - wanted) < 1e-9
        case str():
            return isinstance(given, str) and word(given) in {word(text) for text in (wanted, *accepts.get(path, ()))}
