"""Runs `autoglm` as a user does: in a process of its own, with pipes or on a terminal."""

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

TIMEOUT_S = 40.0
COMMAND = [sys.executable, "-m", "autoglm"]


class Finished(NamedTuple):
    status: int
    out: str
    err: str


def environment(data: Path | None, extra: dict[str, str] | None = None) -> dict[str, str]:
    """Ours, without settings for the hub; `data` is the data folder, one that does not exist when absent."""
    environ = os.environ  # noqa: TID251  # what the tests run in, handed on
    inherited = {name: value for name, value in environ.items() if not name.startswith("AUTOGLM_")}
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER", "PYTHONUNBUFFERED"):
        inherited.pop(name, None)
    return {**inherited, "AUTOGLM_DATA": str(data or "/nonexistent/autoglm"), "COLUMNS": "120", **(extra or {})}


def autoglm(
    *args: str | Path, data: Path | None = None, stdin: str | bytes = "", environ: dict[str, str] | None = None
) -> Finished:
    """Run a command to its end. `stdin` is what is piped in; nothing and its end when absent."""
    done = subprocess.run(
        [*COMMAND, *map(str, args)],
        input=stdin.encode() if isinstance(stdin, str) else stdin,
        capture_output=True,
        timeout=TIMEOUT_S,
        env=environment(data, environ),
        check=False,
    )
    return Finished(done.returncode, done.stdout.decode(), done.stderr.decode())


@contextmanager
def started(*args: str | Path, data: Path, cwd: Path | None = None) -> Iterator[subprocess.Popen[str]]:
    """A command that runs on, in the folder `cwd`; killed at the end of the block if it still does."""
    with subprocess.Popen(
        [*COMMAND, *map(str, args)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        bufsize=0,
        env=environment(data),
        cwd=cwd,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


class Terminal:
    """The other end of a pseudo-terminal on which a command runs."""

    def __init__(self, descriptor: int, process: subprocess.Popen[bytes]) -> None:
        self._descriptor = descriptor
        self._process = process
        self.shown = ""

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    def interrupt(self) -> None:
        """What Ctrl-C does."""
        self._process.send_signal(signal.SIGINT)

    def until(self, text: str) -> str:
        """Read until `text` has appeared; returns all that was shown so far."""
        ends_s = time.monotonic() + TIMEOUT_S
        while text not in self.shown:
            assert time.monotonic() < ends_s, f"{text!r} did not appear in {self.shown!r}"
            assert self._read(), f"the command ended without {text!r}: {self.shown!r}"
        return self.shown

    def end(self) -> int:
        """Read until the command ends; returns its exit status."""
        while self._read():
            pass
        return self._process.wait(TIMEOUT_S)

    def _read(self) -> bool:
        """False at the end."""
        if not select.select([self._descriptor], [], [], TIMEOUT_S)[0]:
            return False
        try:
            data = os.read(self._descriptor, 65_536)
        except OSError:  # EIO: the other side is closed
            return False
        self.shown += data.decode("utf-8", "replace").replace("\r\n", "\n")
        return bool(data)


@contextmanager
def on_terminal(*args: str | Path, data: Path, environ: dict[str, str] | None = None) -> Iterator[Terminal]:
    """A command with standard input, output and error on one terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *map(str, args)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment(data, environ),
        start_new_session=True,
    )
    os.close(theirs)
    try:
        yield Terminal(ours, process)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(TIMEOUT_S)
        os.close(ours)
