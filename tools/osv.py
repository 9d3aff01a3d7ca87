"""Which published vulnerabilities concern a version, by an export of an OSV database: a zip file or a folder of JSON.

Source: ossf.github.io/osv-schema, version 1 (affected, ranges, events; "Evaluation" for the algorithm); PEP 440;
semver.org 2.0.0, section 11.
"""

import re
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
from packaging.version import InvalidVersion, Version
from tools.pinned import Pinned

MAX_RECORD_BYTES = 8 << 20
MAX_RECORDS = 2_000_000
"""All of npm is some 250,000."""


class BadRecord(Exception):
    """What was read is no record of OSV."""


class Event(msgspec.Struct, frozen=True):
    introduced: str = ""
    fixed: str = ""
    last_affected: str = ""
    limit: str = ""


class Range(msgspec.Struct, frozen=True):
    type: str
    events: list[Event] = []


class Package(msgspec.Struct, frozen=True):
    ecosystem: str = ""
    name: str = ""


class Affected(msgspec.Struct, frozen=True):
    package: Package = Package()
    ranges: list[Range] = []
    versions: list[str] = []


class Advisory(msgspec.Struct, frozen=True):
    """What is read of a record."""

    id: str
    modified: str = ""
    withdrawn: str | None = None
    schema_version: str = "1.0.0"
    summary: str = ""
    details: str = ""
    affected: list[Affected] = []


class Concern(NamedTuple):
    """An advisory that a pinned version must be looked at for."""

    id: str
    package: Pinned
    summary: str
    fixed: tuple[str, ...]
    is_certain: bool
    """False where the record's versions cannot be compared: a person must decide."""


class Export(NamedTuple):
    """What was found in a database, and what is known of the database itself."""

    concerns: list[Concern]
    records: dict[str, int]
    """By ecosystem: how many were read. None of an ecosystem: its packages were not checked."""
    unreadable: int
    newest: str
    """The latest `modified`: RFC 3339, or empty."""


_decode = msgspec.json.Decoder(Advisory).decode


def decode(data: bytes) -> Advisory:
    """Raises BadRecord."""
    try:
        advisory = _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRecord(str(error)) from None
    if not advisory.schema_version.startswith("1."):
        raise BadRecord(f"schema {advisory.schema_version[:20]!r} is not known here")
    return advisory


def check(packages: Iterable[Pinned], sources: Iterable[Path]) -> Export:
    """Read all records once, and compare them with the packages. Raises OSError, zipfile.BadZipFile."""
    wanted: dict[tuple[str, str], list[Pinned]] = {}
    for package in packages:
        wanted.setdefault((package.ecosystem, package.name), []).append(package)
    concerns: dict[tuple[str, Pinned], Concern] = {}
    records: dict[str, int] = {}
    unreadable, newest = 0, ""
    for data in (data for source in sources for data in records_in(source)):
        try:
            advisory = decode(data)
        except BadRecord:
            unreadable += 1
            continue
        newest = max(newest, advisory.modified)
        for ecosystem in {affected.package.ecosystem.partition(":")[0] for affected in advisory.affected}:
            records[ecosystem] = records.get(ecosystem, 0) + 1
        for concern in concerns_of(advisory, wanted):
            concerns[concern.id, concern.package] = concern
    return Export(sorted(concerns.values()), records, unreadable, newest)


def records_in(source: Path) -> Iterator[bytes]:
    """Each record's bytes; of one that is too large nothing, which makes it unreadable. Nothing is unpacked."""
    if source.is_dir():
        files = (path for path in sorted(source.rglob("*")) if path.is_file() and not path.is_symlink())
        yield from _limited(content for path in files for content in _contents(path))
    else:
        yield from _limited(_contents(source))


def _limited(records: Iterator[bytes]) -> Iterator[bytes]:
    for count, record in enumerate(records):
        if count >= MAX_RECORDS:
            raise OSError(f"there are more than {MAX_RECORDS} records")
        yield record


def _contents(path: Path) -> Iterator[bytes]:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if info.filename.endswith(".json"):
                    with archive.open(info) as member:
                        yield _bounded(member.read)
    elif path.suffix == ".json":
        with path.open("rb") as file:
            yield _bounded(file.read)


def _bounded(read: Callable[[int], bytes]) -> bytes:
    data = read(MAX_RECORD_BYTES + 1)
    return data if len(data) <= MAX_RECORD_BYTES else b""


def concerns_of(advisory: Advisory, wanted: dict[tuple[str, str], list[Pinned]]) -> Iterator[Concern]:
    """wanted: by ecosystem and name."""
    if advisory.withdrawn is not None:
        return
    for affected in advisory.affected:
        ecosystem = affected.package.ecosystem
        name = affected.package.name
        if ecosystem == "PyPI":
            name = re.sub(r"[-_.]+", "-", name).lower()
        for package in wanted.get((ecosystem, name), ()):
            verdict = verdict_on(package, affected)
            if verdict == "not affected":
                continue
            fixed = tuple(event.fixed for one in affected.ranges for event in one.events if event.fixed)
            words = " ".join((advisory.summary or advisory.details).split())[:200]
            yield Concern(advisory.id, package, words, fixed, verdict == "affected")


Verdict = Literal["affected", "not affected", "undecided"]


def verdict_on(package: Pinned, affected: Affected) -> Verdict:
    """By the listed versions and the ranges: one that holds is enough."""
    order: Callable[[str], Any] = Version if package.ecosystem == "PyPI" else semver
    if package.version in affected.versions:
        return "affected"
    undecided = not affected.versions and all(one.type == "GIT" for one in affected.ranges)
    try:
        version = order(package.version)
        if package.ecosystem == "PyPI" and version in {order(one) for one in affected.versions if _is_pep440(one)}:
            return "affected"
    except ValueError:  # InvalidVersion is one
        return "undecided"
    for one in affected.ranges:
        if one.type == "GIT":
            continue  # commits say nothing of a release
        try:
            if _is_in(version, one.events, order):
                return "affected"
        except ValueError:
            undecided = True
    return "undecided" if undecided else "not affected"


def _is_in(version: Any, events: list[Event], order: Callable[[str], Any]) -> bool:
    """OSV's "IncludedInRanges". Raises ValueError for a version that cannot be compared."""
    limits = [event.limit for event in events if event.limit and event.limit != "*"]
    if limits and not any(version < order(limit) for limit in limits):
        return False
    steps: list[tuple[tuple[Any, ...], int]] = []
    for event in events:
        for rank, text in enumerate((event.fixed, event.introduced, event.last_affected)):
            if text:
                steps.append(((0,) if text == "0" and rank == _INTRODUCED else (1, order(text)), rank))
    is_affected = False
    for place, rank in sorted(steps):
        if rank == _INTRODUCED and place <= (1, version):
            is_affected = True
        elif (rank == _FIXED and place <= (1, version)) or (rank == _LAST and place < (1, version)):
            is_affected = False
    return is_affected


_FIXED, _INTRODUCED, _LAST = range(3)
"""In this order where two are of one version: what was fixed in it may come back with it, and end after it."""


def _is_pep440(text: str) -> bool:
    try:
        Version(text)
    except InvalidVersion:
        return False
    return True


_semver = re.compile(
    r"v?(0|[1-9]\d{0,9})(?:\.(0|[1-9]\d{0,9}))?(?:\.(0|[1-9]\d{0,9}))?(?:-([0-9A-Za-z.-]{1,200}))?(?:\+[0-9A-Za-z.-]*)?"
).fullmatch


def semver(text: str) -> tuple[tuple[int, int, int], bool, tuple[tuple[bool, int, str], ...]]:
    """Orders versions of npm: a pre-release comes before its release. Raises ValueError."""
    found = _semver(text)
    if found is None:
        raise ValueError(f"{text[:40]!r} is no version of semver")
    major, minor, patch, pre = found.groups()
    words = pre.split(".") if pre else []
    # Numbers come before words, and a shorter list before a longer one: as tuples do.
    order = tuple((False, int(word), "") if word.isascii() and word.isdecimal() else (True, 0, word) for word in words)
    return (int(major), int(minor or 0), int(patch or 0)), not words, order
