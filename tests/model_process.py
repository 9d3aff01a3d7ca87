"""A scripted model in a process of its own, which a test can stop, continue, kill and start again."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eventually import wait_until

_PROGRAM = Path(__file__).with_name("scripted_model.py")


class ModelProcess:
    """Keeps its port over restarts."""

    def __init__(self) -> None:
        self.port = 0
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> None:
        command = [sys.executable, str(_PROGRAM), str(self.port)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def freeze(self) -> None:
        """SIGSTOP: it still accepts connections and answers none. Returns when it stands still."""
        self._signal(signal.SIGSTOP)
        wait_until(lambda: self._state() == "T")

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """kill -9; also one that is frozen."""
        self._signal(signal.SIGKILL)
        assert self._process is not None
        self._process.wait(10)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process = None

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def _state(self) -> str:
        assert self._process is not None
        return Path(f"/proc/{self._process.pid}/stat").read_text().rsplit(")", 1)[1].split()[0]

    @property
    def is_running(self) -> bool:
        return self._process is not None


@contextmanager
def model_process() -> Iterator[ModelProcess]:
    model = ModelProcess()
    model.start()
    try:
        yield model
    finally:
        if model.is_running:
            model.kill()
