"""`make audit` says "nothing is known" only when everything was compared with something."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tools.audit import FOUND, NOT_RUN, age_days, pinned
from tools.pinned import ROOT


def audit(*arguments: str | Path) -> tuple[int, str, str]:
    command = [sys.executable, "-m", "tools.audit", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr


def advisory(ecosystem: str, name: str, *events: dict[str, str]) -> dict[str, Any]:
    ranges = [{"type": "SEMVER" if ecosystem == "npm" else "ECOSYSTEM", "events": list(events)}]
    affected = [{"package": {"ecosystem": ecosystem, "name": name}, "ranges": ranges}]
    return {"id": f"T-{name}", "modified": "2026-01-01T00:00:00Z", "summary": "s", "affected": affected}


HARMLESS = (advisory("PyPI", "nobody-has-this", {"introduced": "0"}), advisory("npm", "nor-this", {"introduced": "0"}))


def database(folder: Path, *records: object) -> Path:
    folder.mkdir()
    for number, one in enumerate(records):
        (folder / f"{number}.json").write_text(one if isinstance(one, str) else json.dumps(one))
    return folder


def test_without_a_database_it_is_not_run(tmp_path: Path) -> None:
    for arguments in ((), (tmp_path / "nowhere",)):
        code, said, why = audit(*arguments)
        assert code == NOT_RUN
        assert "not run: no database" in why
        assert "How to get one" in why
        assert "nothing is known" not in said


def test_what_was_checked_and_is_clean_is_said_to_be(tmp_path: Path) -> None:
    code, said, why = audit(database(tmp_path / "osv", *HARMLESS))
    assert (code, "nothing is known against them" in said) == (0, True)
    assert f"{len(pinned())} packages, 2 records, the newest of 2026-01-01T00:00:00Z" in said
    assert "younger than 30 days" in why  # an old export says little


@pytest.mark.parametrize(("ecosystem", "name"), [("PyPI", "aiohttp"), ("npm", "react"), ("PyPI", "pip-audit")])
def test_a_known_flaw_is_named(ecosystem: str, name: str, tmp_path: Path) -> None:
    hit = advisory(ecosystem, name, {"introduced": "0"}, {"fixed": "999"})
    code, said, _ = audit(database(tmp_path / "osv", *HARMLESS, hit))
    assert code == FOUND
    assert f"T-{name}: {ecosystem} {name} " in said
    assert "fixed in 999" in said
    assert "nothing is known" not in said


@pytest.mark.parametrize(
    "records",
    [(), HARMLESS[:1], HARMLESS[1:], (*HARMLESS, "{broken"), (*HARMLESS, '{"id":"x","schema_version":"9"}')],
    ids=["empty", "only PyPI", "only npm", "a broken record", "a record of another schema"],
)
def test_half_a_check_is_none(records: tuple[object, ...], tmp_path: Path) -> None:
    code, said, why = audit(database(tmp_path / "osv", *records))
    assert code == NOT_RUN
    assert "not run: " in why
    assert "nothing is known" not in said


def test_a_broken_zip_is_not_a_clean_one(tmp_path: Path) -> None:
    path = tmp_path / "PyPI.zip"
    path.write_bytes(b"PK\x03\x04 and no more")
    assert audit(path)[0] == NOT_RUN


def test_wrong_usage_is_told() -> None:
    assert audit("--help")[0] == 2


def test_all_that_is_pinned_is_checked() -> None:
    names = {(one.ecosystem, one.name) for one in pinned()}
    assert {("PyPI", "uvloop"), ("PyPI", "hypothesis"), ("PyPI", "atheris"), ("npm", "react"), ("npm", "vite")} <= names
    assert len(names) > 250


@pytest.mark.parametrize("text", ["", "yesterday", "2026-01-01T00:00:00"])
def test_an_age_that_nobody_knows_is_none(text: str) -> None:
    assert age_days(text) is None
