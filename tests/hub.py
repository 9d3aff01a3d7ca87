"""A real hub in a process of its own, for tests that talk to it from outside, kill it, and start it again."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import httpx2

START_TIMEOUT_S = 60.0


class HubProcess:
    """`autoglm up --json` on 127.0.0.1 with a free port. `start` after `kill` takes the same data folder and port."""

    def __init__(
        self, data_dir: Path, config: str = "", *, port: int = 0, environ: dict[str, str] | None = None
    ) -> None:
        self.data_dir = data_dir
        self.port = port
        self.config_file = data_dir / "autoglm.toml"
        # `auto` goes by the order of the settings until a test judges answers: none of them is about chance.
        self.environ = {"AUTOGLM_ENGINE__EXPLORE_SHARE": "0", **(environ or {})}
        self.url = ""
        self.log_file = data_dir.parent / f"{data_dir.name}.log"
        data_dir.mkdir(parents=True, exist_ok=True)
        self.config_file.write_text(config)
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> Self:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AUTOGLM_")}  # noqa: TID251
        command = [
            sys.executable,
            "-m",
            "autoglm",
            "up",
            "--json",
            "--data",
            str(self.data_dir),
            "--port",
            str(self.port),
        ]
        with self.log_file.open("a") as log:
            self._process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, text=True, env={**inherited, **self.environ}
            )
        assert self._process.stdout is not None
        line = _read_line(self._process.stdout, START_TIMEOUT_S)
        if not line:
            raise RuntimeError(f"the hub did not start:\n{self.log()}")
        ready = json.loads(line)
        self.url = ready["url"]
        self.port = int(self.url.rsplit(":", 1)[1])
        self.key_file = Path(ready["key_file"])
        return self

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def admin_key(self) -> str:
        return self.key_file.read_text().strip()

    @property
    def page_url(self) -> str:
        return f"{self.url}/#key={self.admin_key}"

    def client(self, **options: Any) -> httpx2.Client:
        """An HTTP client with the admin key."""
        headers = {"Authorization": f"Bearer {self.admin_key}"}
        return httpx2.Client(base_url=self.url, headers=headers, timeout=30.0, **options)

    def kill(self) -> None:
        """kill -9."""
        self._end(signal.SIGKILL)

    def stop(self, timeout_s: float = 40.0) -> int:
        """SIGTERM, and wait for the orderly end. Returns the exit status."""
        return self._end(signal.SIGTERM, timeout_s)

    def _end(self, number: signal.Signals, timeout_s: float = 40.0) -> int:
        assert self._process is not None
        self._process.send_signal(number)
        status = self._process.wait(timeout_s)
        assert self._process.stdout is not None
        self._process.stdout.close()
        return status

    def close(self) -> None:
        """Leave nothing behind, whatever became of the process."""
        if self.is_running:
            self.kill()
        if self._process is not None and self._process.stdout is not None:
            self._process.stdout.close()

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def log(self) -> str:
        return self.log_file.read_text()


def _read_line(stream: Any, timeout_s: float) -> str:
    """One line, or an empty string when none came in time."""
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.append(stream.readline()), daemon=True)
    reader.start()
    reader.join(timeout_s)
    return lines[0] if lines else ""


@contextmanager
def running_hub(data_dir: Path, config: str = "", **options: Any) -> Iterator[HubProcess]:
    hub = HubProcess(data_dir, config, **options).start()
    try:
        yield hub
    finally:
        hub.close()


def instance_config(name: str, url: str, models: tuple[str, ...] = ("echo-model",), **fields: Any) -> str:
    """An `[[instance]]` table for a model server at `url`."""
    values = {"name": name, "provider": "openai", "base_url": url, "models": list(models), **fields}
    return "[[instance]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
