"""Is anything known against what the lock files pin? `make audit`

    python -m tools.audit ADVISORIES...   exports of an OSV database, as zip files or folders
    python -m tools.audit --online        asks pip-audit and npm audit, which need the network

Exit status 0: all was checked, and nothing is known. 1: something is known, or must be decided by a person.
3: not run, or not wholly: no database, one without records of PyPI or npm, records that cannot be read.
"""

import json
import subprocess
import sys
import tempfile
import zipfile
from datetime import UTC, datetime
from pathlib import Path

from tools.osv import Export, check
from tools.page import WEB, node_and_npm
from tools.pinned import LOCK, Pinned, read_lock, read_requirements, requirements

FOUND, NOT_RUN = 1, 3
STALE_DAYS = 30
ASK_S = 300
HOW = (
    "How to get one: on a machine with a network, fetch all.zip of the folders PyPI and npm from the bucket of osv.dev "
    '(osv.dev, "Data sources", "Data dumps"), carry both here, and run make audit ADVISORIES=\'PyPI.zip npm.zip\'. '
    "Or, with a network: make audit ONLINE=1"
)


def main() -> int:
    match sys.argv[1:]:
        case ["--online"]:
            return online()
        case [*names] if not any(name.startswith("-") for name in names):
            return offline([Path(name) for name in names])
        case _:
            sys.stderr.write(__doc__ or "")
            return 2


def offline(sources: list[Path]) -> int:
    here = [source for source in sources if source.exists()]
    if not here or len(here) < len(sources):
        missing = ", ".join(str(source) for source in sources if source not in here)
        return _not_run(f"no database of advisories here{f' ({missing})' if missing else ''}. {HOW}")
    packages = pinned()
    try:
        export = check(packages, here)
    except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:  # the last two: a zip of odd form
        return _not_run(f"the database cannot be read: {error}")
    for concern in export.concerns:
        fixed = f"; fixed in {', '.join(concern.fixed)}" if concern.fixed else ""
        doubt = "" if concern.is_certain else " (its versions cannot be compared: decide yourself)"
        package = concern.package
        print(f"{concern.id}: {package.ecosystem} {package.name} {package.version}{doubt}: {concern.summary}{fixed}")
    return _conclude(packages, export)


def _conclude(packages: list[Pinned], export: Export) -> int:
    print(f"{len(packages)} packages, {sum(export.records.values())} records, the newest of {export.newest or '?'}")
    if (age := age_days(export.newest)) is None or age > STALE_DAYS:
        print(f"warning: nothing in the database is younger than {STALE_DAYS} days", file=sys.stderr)
    absent = [name for name in ("PyPI", "npm") if not export.records.get(name)]
    if export.concerns:
        return FOUND
    if absent:
        return _not_run(f"the database has no records of {' and '.join(absent)}. {HOW}")
    if export.unreadable:
        return _not_run(f"{export.unreadable} records could not be read; of the others, none concerns these packages")
    print("nothing is known against them")
    return 0


def pinned() -> list[Pinned]:
    """Each version once, whatever installs it."""
    found = {(one.ecosystem, one.name, one.version): one for path in requirements() for one in read_requirements(path)}
    found |= {(one.ecosystem, one.name, one.version): one for one in read_lock(LOCK)}
    return [found[key] for key in sorted(found)]


def age_days(newest: str) -> float | None:
    try:
        return (datetime.now(UTC) - datetime.fromisoformat(newest)).total_seconds() / 86_400
    except (ValueError, TypeError):  # TypeError: without a zone
        return None


def online() -> int:
    """Each tool's JSON is believed, not its exit status: that is the same for a finding and for no network."""
    statuses = [_pip_audit(path) for path in requirements()] + [_npm_audit()]
    return FOUND if FOUND in statuses else max(statuses)


def _pip_audit(path: Path) -> int:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [
            sys.executable, "-m", "pip_audit", "-r", str(path), "--require-hashes", "--disable-pip", "--strict",
            "--progress-spinner", "off", "-f", "json", "-o", str(report),
        ]  # fmt: skip
        said = _asked(command, Path())
        try:
            found = json.loads(report.read_text())["dependencies"]
            known = [(one["name"], one["version"], flaw["id"]) for one in found for flaw in one["vulns"]]
        except (OSError, ValueError, KeyError, TypeError):
            return _not_run(f"pip-audit had no answer on {path.name}: {said}")
    for name, version, id in known:
        print(f"{id}: PyPI {name} {version}")
    print(f"pip-audit: {len(found)} packages of {path.name}, {len(known)} known flaws")
    return FOUND if known else 0


def _npm_audit() -> int:
    said = _asked([*node_and_npm(), "audit", "--json", "--package-lock-only"], WEB)
    try:
        known = json.loads(said)["vulnerabilities"]
    except (ValueError, KeyError, TypeError):
        return _not_run(f"npm audit had no answer: {said[:300]}")
    for name, flaw in known.items():
        print(f"npm {name}: {flaw.get('severity', '?')}")
    print(f"npm audit: {len(known)} packages with known flaws")
    return FOUND if known else 0


def _asked(command: list[str], folder: Path) -> str:
    """What it said; its errors where it said nothing."""
    try:
        done = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True, timeout=ASK_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{type(error).__name__}"
    return done.stdout or done.stderr[-300:]


def _not_run(why: str) -> int:
    print(f"not run: {why}", file=sys.stderr)
    return NOT_RUN


if __name__ == "__main__":
    sys.exit(main())
