"""A small file system of a test's own, which it can fill to the last byte."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_DISK_BYTES = 48 * 1024 * 1024


@contextmanager
def mounted_disk(folder: Path) -> Iterator[Path]:
    """Skips the test, with the reason, where nothing can be mounted."""
    disk = folder / "disk"
    disk.mkdir()
    if shutil.which("mount") is None:
        pytest.skip("a small file system cannot be mounted here: there is no mount(8)")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_BYTES}", "none", str(disk)]
    said = subprocess.run(mount, check=False, capture_output=True, text=True)
    if said.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {said.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@contextmanager
def filled(disk: Path) -> Iterator[None]:
    """Nothing is free; there is space again after the block."""
    ballast = disk / "ballast"
    with ballast.open("wb") as file:
        while free_bytes := shutil.disk_usage(disk).free:
            with contextlib.suppress(OSError):  # the hub took some of it in between
                os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), free_bytes)
    try:
        yield
    finally:
        ballast.unlink()
