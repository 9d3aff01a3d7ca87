"""Starts the programs that the hub runs beside itself: with nothing of our environment, and fenced in.

Our own environment may hold secrets (AUTOGLM_*, a proxy's password, a cloud's keys), and whatever reads a stranger's
model file or talks to devices should have none of them. So a child gets what its caller names, and nothing else.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import anyio
from anyio.abc import Process

from autoglm.core import launch

_PIP_NAMES = frozenset(
    {
        "HOME", "LANG", "LC_ALL", "PATH", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_CONFIG_DIRS",
        "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy",
        "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NETRC",
    }
)  # fmt: skip


def bare_environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The system's own PATH, and what `more` names."""
    return {"PATH": os.defpath, **(more or {})}


def python_environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The same, and where the packages are that we were loaded from."""
    return bare_environment({"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **(more or {})})


def pip_environment() -> dict[str, str]:
    """What pip is configured by: PIP_*, the way to its index, and where its own files are."""
    environ = os.environ  # noqa: TID251  # pip's settings, not ours
    return {name: value for name, value in environ.items() if name in _PIP_NAMES or name.startswith("PIP_")}


async def open_child(
    command: list[str], *, environment: Mapping[str, str], death_signal: signal.Signals = signal.SIGKILL,
    open_files: int = 0, stdin: int | IO[bytes] | None = subprocess.PIPE,
    stdout: int | IO[bytes] | None = subprocess.PIPE, stderr: int | IO[bytes] | None = subprocess.PIPE,
    cwd: str | Path = "/", shares_terminal: bool = False,
) -> Process:  # fmt: skip
    """Start a program; its pid is the process's own. The caller ends and closes it.

    command: the program's path and its arguments; everybody on the machine can read them. death_signal: what the kernel
    sends it when the thread that started it ends, so call this in one that lives as long as the child may (prctl(2)).
    open_files: the most that it may have open; 0 leaves our own bound. shares_terminal: Ctrl-C reaches it, too.
    It dumps no core, gains no privileges by what it runs, and what it writes is for its owner alone.
    Linux; elsewhere only the limits hold. Raises OSError.
    """
    launching = [str(os.getpid()), str(int(death_signal)), str(open_files)]
    with anyio.CancelScope(shield=True):  # broken off, it would leave a process that nobody owns
        process = await anyio.open_process(
            [sys.executable, "-I", "-S", launch.__file__, *launching, *command],
            stdin=stdin, stdout=stdout, stderr=stderr, env=dict(environment), cwd=cwd,
            start_new_session=not shares_terminal,
        )  # fmt: skip
    return process  # noqa: RET504  # within the scope, mypy would miss it
