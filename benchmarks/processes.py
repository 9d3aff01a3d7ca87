"""Starts processes on chosen cores, reads from /proc what their whole trees cost, and never leaves one behind."""

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

END_GRACE_S = 10.0


class Usage(NamedTuple):
    """Of a process with all its descendants."""

    cpu_ns: int
    """Time on a processor, of all threads that still live."""
    rss_bytes: int


@contextmanager
def running(
    command: Sequence[str], log_file: Path, *, core: int | None = None, environ: Mapping[str, str] | None = None,
    cwd: Path | None = None, stdin: int = subprocess.DEVNULL, stdout: int | None = None,
) -> Iterator[subprocess.Popen[str]]:  # fmt: skip
    """A process in a group of its own, which gets SIGTERM on leaving, and SIGKILL when it does not heed it.

    core: the only one it may use. What it prints goes to the log file, but for what `stdout` catches.
    """
    pinned = list(command) if core is None else ["taskset", "-c", str(core), *command]
    log_file.parent.mkdir(parents=True, exist_ok=True)
    with log_file.open("ab") as log:
        process = subprocess.Popen(
            pinned, stdin=stdin, stdout=log if stdout is None else stdout, stderr=log, text=True,
            env=environ, cwd=cwd, process_group=0,
        )  # fmt: skip
    try:
        yield process
    finally:
        end(process)


def end(process: "subprocess.Popen[str]") -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(END_GRACE_S)
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()


@contextmanager
def priority() -> Iterator[None]:
    """Let our session go first, so that others at work on the machine blur the figures less. Root only.

    Sessions share the processor as groups do (sched(7), "The autogroup feature"), so all that is measured, and what
    loads it, must be in one: in two they starve each other in turns, and a gateway that works in batches looks cheap.
    """
    setting = Path("/proc/self/autogroup")
    try:
        nice = setting.read_text().rpartition("nice")[2].strip()
        setting.write_text("-20")
    except OSError:
        yield
        return
    try:
        yield
    finally:
        setting.write_text(nice)


def usage(pid: int) -> Usage:
    """Threads that ended meanwhile are missing, so compare figures of processes that keep theirs."""
    cpu_ns = rss_bytes = 0
    for member in tree(pid):
        with suppress(OSError):
            rss_bytes += int(Path(f"/proc/{member}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            for thread in Path(f"/proc/{member}/task").iterdir():
                with suppress(OSError):
                    cpu_ns += int((thread / "schedstat").read_text().split()[0])
    return Usage(cpu_ns, rss_bytes)


def tree(pid: int) -> list[int]:
    """The process and all its descendants that live."""
    found = [pid]
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in children.read_text().split():
                found += tree(int(child))
    return found
