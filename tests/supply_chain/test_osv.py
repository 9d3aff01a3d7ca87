"""Which advisories concern a version: by OSV's rules, and never "nothing" where nothing was compared."""

import contextlib
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version
from tools.osv import (
    MAX_RECORD_BYTES,
    Affected,
    BadRecord,
    Event,
    Package,
    Range,
    Verdict,
    check,
    decode,
    semver,
    verdict_on,
)
from tools.pinned import Ecosystem, Pinned


def pinned(version: str, name: str = "aiohttp", ecosystem: Ecosystem = "PyPI") -> Pinned:
    return Pinned(ecosystem, name, version, ())


def record(id: str, *, name: str = "aiohttp", ecosystem: str = "PyPI", **more: Any) -> dict[str, Any]:
    ranges = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "3.9"}]}]
    affected = [{"package": {"ecosystem": ecosystem, "name": name}, "ranges": ranges}]
    return {"id": id, "modified": "2026-11-01T00:00:00Z", "summary": "bad\nthing", "affected": affected, **more}


def verdict(version: str, *events: dict[str, str], ecosystem: Ecosystem = "PyPI") -> Verdict:
    kind = "ECOSYSTEM" if ecosystem == "PyPI" else "SEMVER"
    ranges = [Range(kind, [Event(**event) for event in events])]
    return verdict_on(pinned(version, ecosystem=ecosystem), Affected(Package(ecosystem, "aiohttp"), ranges))


TWICE = ({"introduced": "1.0"}, {"fixed": "1.5"}, {"introduced": "2.0"}, {"fixed": "2.1"})


@pytest.mark.parametrize(
    ("version", "events", "wanted"),
    [
        ("3.8", ({"introduced": "0"}, {"fixed": "3.9"}), "affected"),
        ("3.9", ({"introduced": "0"}, {"fixed": "3.9"}), "not affected"),
        ("3.9rc1", ({"introduced": "0"}, {"fixed": "3.9"}), "affected"),
        ("3.10", ({"introduced": "0"}, {"fixed": "3.9"}), "not affected"),  # not by its letters
        ("0.9", TWICE, "not affected"), ("1.0", TWICE, "affected"), ("1.5", TWICE, "not affected"),
        ("2.0.post1", TWICE, "affected"), ("2.1", TWICE, "not affected"), ("1.2", TWICE[::-1], "affected"),
        ("1.0", ({"introduced": "0"}, {"last_affected": "1.0"}), "affected"),
        ("1.0.1", ({"introduced": "0"}, {"last_affected": "1.0"}), "not affected"),
        ("1.0", ({"introduced": "1.0"}, {"last_affected": "1.0"}), "affected"),
        ("2.0", ({"introduced": "1.0"}, {"last_affected": "1.0"}), "not affected"),
        ("1.0", ({"introduced": "1.0"}, {"fixed": "1.0"}), "affected"),
        ("9", ({"introduced": "1.0"},), "affected"),
        ("3", ({"introduced": "0"}, {"limit": "2"}), "not affected"),
        ("1", ({"introduced": "0"}, {"limit": "2"}), "affected"),
        ("1", ({"introduced": "0"}, {"fixed": "one"}), "undecided"),
        ("one", ({"introduced": "0"}, {"fixed": "2"}), "undecided"),
        ("1", ({"fixed": "2"},), "not affected"),
    ],
)  # fmt: skip
def test_a_range_holds_a_version_or_not(version: str, events: tuple[dict[str, str], ...], wanted: str) -> None:
    assert verdict(version, *events) == wanted


@pytest.mark.parametrize(
    ("version", "wanted"),
    [("1.2.3", "affected"), ("1.2.3-beta.2", "affected"), ("1.2.4", "not affected"), ("1.2.4-rc.1", "affected")],
)
def test_npm_goes_by_semver(version: str, wanted: str) -> None:
    assert verdict(version, {"introduced": "0"}, {"fixed": "1.2.4"}, ecosystem="npm") == wanted


def test_semver_orders_as_its_page_says() -> None:
    """semver.org, section 11."""
    order = (
        "1.0.0-alpha 1.0.0-alpha.1 1.0.0-alpha.beta 1.0.0-beta 1.0.0-beta.2 1.0.0-beta.11 1.0.0-rc.1 1.0.0 1.0.1 1.10.0"
    )
    versions = order.split()
    assert sorted([*versions[4:], *versions[:4]], key=semver) == versions
    assert semver("1.0.0+build.5") == semver("1.0.0")
    for text in ("", "1.2.3.4", "01.2", "1.x", "9" * 5000):
        with pytest.raises(ValueError, match="no version"):
            semver(text)


def test_listed_versions_count_however_they_are_written() -> None:
    listed = Affected(Package("PyPI", "aiohttp"), [], ["1.0.0", "odd one", "2.0-1"])
    assert verdict_on(pinned("1.0"), listed) == verdict_on(pinned("2.0.post1"), listed) == "affected"
    assert verdict_on(pinned("3.0"), listed) == "not affected"


def test_commits_alone_decide_nothing() -> None:
    by_commit = Affected(Package("PyPI", "aiohttp"), [Range("GIT", [Event(introduced="0")])])
    assert verdict_on(pinned("1.0"), by_commit) == "undecided"


@given(st.lists(st.integers(0, 30), min_size=1, max_size=6), st.integers(0, 30))
def test_ranges_mean_what_their_events_say_one_by_one(places: list[int], version: int) -> None:
    """Introduced and fixed in turn at rising versions: affected where an odd number of them lies at or below it."""
    rising = sorted(set(places))
    events = [{"introduced" if index % 2 == 0 else "fixed": f"{place}.0"} for index, place in enumerate(rising)]
    is_affected = sum(place <= version for place in rising) % 2 == 1
    assert verdict(f"{version}.0", *events) == ("affected" if is_affected else "not affected")


# --- a database ---


def write(folder: Path, *records: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, one in enumerate(records):
        content = one if isinstance(one, bytes) else json.dumps(one).encode()
        (folder / f"{number}.json").write_bytes(content)
    return folder


def packed(path: Path, folder: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in folder.iterdir():
            archive.write(file, f"../../{file.name}")
    return path


def test_a_folder_and_a_zip_say_the_same(tmp_path: Path) -> None:
    records = (
        record("GHSA-1"), record("GHSA-2", name="AioHttp"), record("GHSA-3", name="other"),
        record("GHSA-4", withdrawn="2026-01-01T00:00:00Z"), record("GHSA-5", name="marked", ecosystem="npm"),
    )  # fmt: skip
    folder = write(tmp_path / "osv", *records)
    export = check([pinned("3.8"), pinned("1.0.0", "marked", "npm")], [folder])
    assert [(one.id, one.package.name, one.fixed, one.is_certain) for one in export.concerns] == [
        ("GHSA-1", "aiohttp", ("3.9",), True), ("GHSA-2", "aiohttp", ("3.9",), True),
        ("GHSA-5", "marked", ("3.9",), True),
    ]  # fmt: skip
    assert export.concerns[0].summary == "bad thing"
    assert export.records == {"PyPI": 4, "npm": 1}
    assert check([pinned("3.8"), pinned("1.0.0", "marked", "npm")], [packed(tmp_path / "a.zip", folder)]) == export
    assert not (tmp_path.parent / "0.json").exists()


@pytest.mark.parametrize(
    "bad", [b"", b"[]", b"{}", b"{" * 100_000, b"\xff", b'{"id":1}', b'{"id":"x","schema_version":"2.0.0"}',
            b'{"id":"x"}' + b" " * MAX_RECORD_BYTES]
)  # fmt: skip
def test_what_cannot_be_read_is_counted(bad: bytes, tmp_path: Path) -> None:
    export = check([pinned("3.8")], [write(tmp_path / "osv", record("GHSA-1"), bad)])
    assert (len(export.concerns), export.unreadable) == (1, 1)


@pytest.mark.attack("decompression bomb")
def test_a_record_that_unpacks_to_gigabytes_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("a.json", "w", force_zip64=True) as one,
    ):
        for _ in range(64):
            one.write(bytes(1 << 20))
    assert path.stat().st_size < 100_000
    assert check([pinned("3.8")], [path]).unreadable == 1


def test_links_in_a_folder_are_not_followed(tmp_path: Path) -> None:
    outside = write(tmp_path / "outside", record("GHSA-1"))
    folder = write(tmp_path / "osv")
    (folder / "a.json").symlink_to(outside / "0.json")
    assert check([pinned("3.8")], [folder]).records == {}


@given(st.binary(max_size=300))
def test_any_bytes_are_a_record_or_none(data: bytes) -> None:
    with contextlib.suppress(BadRecord):
        decode(data)


@given(st.from_regex(r"[0-9]{1,3}(\.[0-9]{1,3}){0,3}((a|b|rc)[0-9])?(\.post[0-9])?(\.dev[0-9])?", fullmatch=True))
def test_everything_up_to_a_version_holds_it(version: str) -> None:
    assert verdict(version, {"introduced": "0"}, {"last_affected": version}) == "affected"
    assert verdict(version, {"introduced": "0"}, {"fixed": version}) == "not affected"
    assert str(Version(version))
