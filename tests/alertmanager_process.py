"""The real prometheus-alertmanager in a process of its own, on a free port of 127.0.0.1."""

import json
import re
import shutil
import subprocess
import urllib.request
from pathlib import Path
from typing import Any, Self

import pytest

from eventually import wait_until

PROGRAM = "prometheus-alertmanager"
_ADDRESS = re.compile(r'"address":"(127\.0\.0\.1:\d+)".*"msg":"Listening on"')
QUIET: dict[str, Any] = {"route": {"receiver": "nobody"}, "receivers": [{"name": "nobody"}]}


class AlertmanagerProcess:
    """`with AlertmanagerProcess(folder) as alertmanager:` has its API at `alertmanager.url`. Skips where it is not
    installed.
    """

    def __init__(self, folder: Path, config: dict[str, Any] | None = None, web_config: str = "") -> None:
        """config: as its YAML file, of which JSON is a part. web_config: its own, for authentication."""
        self._folder = folder
        self._config = config or QUIET
        self._web_config = web_config
        self.url = ""

    def __enter__(self) -> Self:
        if shutil.which(PROGRAM) is None:
            pytest.skip(f"{PROGRAM} is not installed; python tools/system.py {PROGRAM}")
        self._folder.mkdir(exist_ok=True)
        (self._folder / "alertmanager.yml").write_text(json.dumps(self._config))
        options = ["--web.listen-address=127.0.0.1:0", "--cluster.listen-address=", "--log.format=json"]
        if self._web_config:
            (self._folder / "web.yml").write_text(self._web_config)
            options.append("--web.config.file=web.yml")
        log = self._folder / "log"
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                [PROGRAM, "--config.file=alertmanager.yml", "--storage.path=state", *options],
                cwd=self._folder, stderr=file, stdout=file,
            )  # fmt: skip
        wait_until(lambda: _ADDRESS.search(log.read_text()) or self._process.poll() is not None, 30)
        address = _ADDRESS.search(log.read_text())
        assert address is not None, log.read_text()[-2000:]
        self.url = f"http://{address[1]}"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def log(self) -> str:
        return (self._folder / "log").read_text()

    def alerts(self) -> list[dict[str, Any]]:
        """Those that are active."""
        with urllib.request.urlopen(f"{self.url}/api/v2/alerts", timeout=10) as answer:
            found: list[dict[str, Any]] = json.load(answer)
        return found

    def post(self, *alerts: dict[str, Any]) -> None:
        """As Prometheus does."""
        body = json.dumps(alerts).encode()
        request = urllib.request.Request(
            f"{self.url}/api/v2/alerts", data=body, headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status == 200
