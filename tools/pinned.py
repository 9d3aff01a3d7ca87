"""What this project installs, as requirements/*.txt and web/package-lock.json pin it."""

import base64
import json
import re
from pathlib import Path
from typing import Literal, NamedTuple

Ecosystem = Literal["PyPI", "npm"]
ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "web" / "package-lock.json"

_pin = re.compile(r"(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;\\]+)(?:\s*;\s*(?P<marker>[^\\]*))?").fullmatch
_hash = re.compile(r"--hash=(?P<algorithm>sha\d+):(?P<digest>[0-9a-f]+)").fullmatch


class Unpinned(Exception):
    """A lock file has an entry without a version or a hash, or one that names an address."""


class Pinned(NamedTuple):
    """One version of one package."""

    ecosystem: Ecosystem
    name: str
    version: str
    hashes: tuple[tuple[str, str], ...]
    """(algorithm, such as sha256; digest in hexadecimal): of PyPI, one for each file that this version has."""
    marker: str = ""
    """When it is installed at all (PEP 508); empty for always."""
    licence: str = ""
    """As the lock file says."""
    is_for_build: bool = False
    """It does not get into what is installed."""


def requirements() -> list[Path]:
    return sorted((ROOT / "requirements").glob("*.txt"))


def read_requirements(path: Path) -> list[Pinned]:
    """Raises Unpinned."""
    found: list[Pinned] = []
    for line in path.read_text().replace("\\\n", " ").splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        head, *options = line.split(" --hash=")
        pin = _pin(head.strip())
        hashes = [_hash(f"--hash={option.strip()}") for option in options]
        if pin is None or not hashes or None in hashes:
            raise Unpinned(f"{path.name}: {line[:80]!r} is not NAME==VERSION with hashes")
        known = tuple((one["algorithm"], one["digest"]) for one in hashes if one is not None)
        name = re.sub(r"[-_.]+", "-", pin["name"]).lower()  # PEP 503
        found.append(Pinned("PyPI", name, pin["version"], known, (pin["marker"] or "").strip()))
    return found


def read_lock(path: Path = LOCK) -> list[Pinned]:
    """Raises Unpinned: also for addresses, which would bind the project to one registry."""
    found: list[Pinned] = []
    for place, entry in json.loads(path.read_text())["packages"].items():
        if not place:
            continue  # the project itself
        algorithm, _, digest = entry.get("integrity", "").partition("-")
        if not digest or "version" not in entry or "resolved" in entry:
            raise Unpinned(f"{path.name}: {place} has no integrity or no version, or an address")
        found.append(
            Pinned(
                "npm", place.rpartition("node_modules/")[2], entry["version"],
                ((algorithm, base64.b64decode(digest, validate=True).hex()),), licence=entry.get("license", ""),
                is_for_build=bool(entry.get("dev")),
            )
        )  # fmt: skip
    return found
