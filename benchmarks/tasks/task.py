"""The tasks, read from `data/KIND.LANGUAGE.toml`, and their two halves.

The tasks were written for this project; none comes from a published test set, so no model can have seen them. Their
levels (easy, medium, hard) were given when they were written, before any model had seen them.
"""

import hashlib
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

DATA = Path(__file__).parent / "data"

Kind = Literal["arithmetic", "classification", "code", "extraction", "format"]
Level = Literal["easy", "medium", "hard"]
TaskLanguage = Literal["en", "zh"]


class ByNumber(msgspec.Struct, frozen=True, tag_field="by", tag="number", forbid_unknown_fields=True):
    """The last number of the reply is `answer`."""

    answer: float
    working: str
    """How the author came to the answer, as a Python expression."""


class ByChoice(msgspec.Struct, frozen=True, tag_field="by", tag="choice", forbid_unknown_fields=True):
    """The reply names `answer` and no other of `among`."""

    answer: str
    among: tuple[str, ...]


class ByExact(msgspec.Struct, frozen=True, tag_field="by", tag="exact", forbid_unknown_fields=True):
    """The whole reply is one of `answers`."""

    answers: tuple[str, ...]
    is_case_sensitive: bool = False


class ByRegex(msgspec.Struct, frozen=True, tag_field="by", tag="regex", forbid_unknown_fields=True):
    """The whole reply matches `pattern`."""

    pattern: str


class ByJson(msgspec.Struct, frozen=True, tag_field="by", tag="json", forbid_unknown_fields=True):
    """The whole reply is JSON equal to `answer`: the same keys, types and values."""

    answer: str
    """As JSON text, for TOML has no null."""
    accepts: dict[str, tuple[str, ...]] = {}  # msgspec copies it
    """Other right values by key, such as `city` or `address.city`."""
    is_case_sensitive: bool = False


class ByPython(msgspec.Struct, frozen=True, tag_field="by", tag="python", forbid_unknown_fields=True):
    """The reply is code for which each of `tests`, such as `add(2, 3) == 5`, holds. The right side is a literal."""

    tests: tuple[str, ...]


Grade = ByNumber | ByChoice | ByExact | ByRegex | ByJson | ByPython


class Task(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    kind: Kind
    language: TaskLanguage
    level: Level
    system: str
    prompt: str
    max_tokens: int
    grade: Grade

    def messages(self) -> list[dict[str, str]]:
        return [{"role": "system", "content": self.system}, {"role": "user", "content": self.prompt}]


class _Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    id: str
    level: Level
    prompt: str
    grade: Grade


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    kind: Kind
    language: TaskLanguage
    max_tokens: int
    system: str
    task: tuple[_Entry, ...]


class Halves(NamedTuple):
    learn: tuple[Task, ...]
    measure: tuple[Task, ...]


def load_tasks(folder: Path = DATA) -> tuple[Task, ...]:
    """All tasks, in the order of the files' names. Raises msgspec.ValidationError for a file of another shape."""
    tasks: list[Task] = []
    for path in sorted(folder.glob("*.toml")):
        file = msgspec.convert(tomllib.loads(path.read_text()), _File)
        tasks += (
            Task(
                id=entry.id,
                kind=file.kind,
                language=file.language,
                level=entry.level,
                system=file.system,
                prompt=entry.prompt,
                max_tokens=file.max_tokens,
                grade=entry.grade,
            )
            for entry in file.task
        )
    return tuple(tasks)


def halves(tasks: Iterable[Task], seed: int = 1) -> Halves:
    """Each kind, language and level split evenly by the hash of seed and id: the same halves on each machine."""
    strata: dict[tuple[str, str], dict[str, list[Task]]] = defaultdict(lambda: defaultdict(list))
    for task in tasks:
        strata[task.kind, task.language][task.level].append(task)
    learn: list[Task] = []
    measure: list[Task] = []
    for levels in strata.values():
        # An odd level gives one half a task more; the next level then begins with the other half.
        in_order = [task for level in sorted(levels) for task in shuffled(levels[level], seed)]
        learn += in_order[0::2]
        measure += in_order[1::2]
    return Halves(tuple(shuffled(learn, seed)), tuple(shuffled(measure, seed)))


def shuffled(tasks: Sequence[Task], seed: int) -> list[Task]:
    return sorted(tasks, key=lambda task: hashlib.sha256(f"{seed}:{task.id}".encode()).digest())
