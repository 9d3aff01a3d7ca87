"""Files for the owner alone, whole or not at all."""

import os
from pathlib import Path


def make_private_folder(path: Path) -> None:
    """With mode 0700, whoever made it. Raises OSError."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.chmod(0o700)


def write_private(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Put `content` in the place of what was there, on the disk when this returns. Raises OSError.

    Whoever reads meanwhile gets the old file or the new one.
    """
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)  # of a process that was killed; it might have another mode, or be a link
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with open(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
