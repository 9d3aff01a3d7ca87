"""How this program is called, for hints that work when they are pasted: its name, and --data where that is needed.

Standard library only: the command line imports this on every start.
"""

import contextlib
import os
import shlex
import sys
from pathlib import Path


def default_data_dir() -> Path:
    """The user's own data folder (XDG Base Directory Specification)."""
    base = os.environ.get("XDG_DATA_HOME", "")  # noqa: TID251  # the platform's convention, not a setting of ours
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".local" / "share") / "autoglm"


def data_option(folder: Path | None) -> str:
    """' --data FOLDER', quoted for a shell; '' for the default folder, or when none is known."""
    return "" if folder is None or folder == default_data_dir() else f" --data {shlex.quote(str(folder))}"


def command(words: str, folder: Path | None = None) -> str:
    """`autoglm WORDS --data FOLDER`, as it can be typed in the working directory of this process."""
    return f"{program()} {words}{data_option(folder)}"


def program() -> str:
    """`autoglm` when the shell finds it, else the way to it: an environment need not be activated."""
    import shutil

    if shutil.which("autoglm"):
        return "autoglm"
    script = Path(sys.executable).with_name("autoglm")
    if not os.access(script, os.X_OK):
        return f"{shlex.quote(sys.executable)} -m autoglm"
    with contextlib.suppress(OSError, ValueError):  # no working directory any more, or the script lies outside it
        near = script.relative_to(Path.cwd())
        return shlex.quote(str(near) if len(near.parts) > 1 else f"./{near}")
    return shlex.quote(str(script))
