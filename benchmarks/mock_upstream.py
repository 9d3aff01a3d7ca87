"""The model server behind every gateway that is measured: builds and runs mock_upstream.c."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import NamedTuple

from benchmarks.outcome import SCRATCH
from benchmarks.ports import free_port, wait_for_port
from benchmarks.processes import running

SOURCE = Path(__file__).with_suffix(".c")
CHUNKS = 100
"""In each streamed answer."""


class Sent(NamedTuple):
    """What the mock has answered since its start."""

    requests: int
    chunks: int


class MockUpstream(NamedTuple):
    port: int
    pid: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def sent(self) -> Sent:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", "/stats")
            requests, chunks = connection.getresponse().read().split()
        finally:
            connection.close()
        return Sent(int(requests), int(chunks))


def compiler() -> str | None:
    return shutil.which("gcc") or shutil.which("cc")


@contextmanager
def running_mock(core: int) -> Iterator[MockUpstream]:
    """Raises RuntimeError when there is no compiler or it fails."""
    SCRATCH.mkdir(parents=True, exist_ok=True)
    program = SCRATCH / "mock_upstream"
    found = compiler()
    if found is None:
        raise RuntimeError("there is no C compiler: apt-get install gcc libc6-dev")
    subprocess.run([found, "-O2", "-Wall", "-o", str(program), str(SOURCE)], check=True)
    port = free_port()
    with running([str(program), str(port)], SCRATCH / "mock_upstream.log", core=core) as process:
        wait_for_port(port, process)
        yield MockUpstream(port, process.pid)
