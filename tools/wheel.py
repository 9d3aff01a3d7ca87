"""Builds the wheel, page included: the same sources give the same bytes, wherever and whenever.

    python -m tools.wheel FOLDER

hatchling sorts the members, sets their times to SOURCE_DATE_EPOCH (else to a fixed day) and their rights to 644 or 755;
the page's build names its files by their contents. Source: reproducible-builds.org.
"""

import hashlib
import subprocess
import sys
from pathlib import Path

from tools.page import build
from tools.pinned import ROOT


def main() -> int:
    match sys.argv[1:]:
        case [folder]:
            return build() or wheel(ROOT, Path(folder).absolute())
        case _:
            sys.stderr.write(__doc__ or "")
            return 2


def wheel(root: Path, folder: Path) -> int:
    """root: where pyproject.toml lies. 0 when it is built."""
    before = set(folder.glob("*.whl"))
    for path in before:
        path.unlink()
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(command, cwd=root, check=False, capture_output=True, text=True)
    if done.returncode:
        sys.stderr.write(done.stdout[-2000:] + done.stderr[-2000:])
        return 1
    for path in folder.glob("*.whl"):
        print(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
