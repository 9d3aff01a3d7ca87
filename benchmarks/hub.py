"""A hub as its users run it: `autoglm up` in a process of its own, the access log going to a file."""

import json
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from benchmarks.processes import running
from benchmarks.samples import now_s

START_TIMEOUT_S = 60.0


class RunningHub(NamedTuple):
    url: str
    pid: int
    admin_key: str
    start_s: float
    """From the start of the process to its line that it is ready."""

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])


@contextmanager
def running_hub(
    data_dir: Path, config: str = "", *, core: int | None = None, source: Path | None = None, is_fresh: bool = True
) -> Iterator[RunningHub]:  # fmt: skip
    """A hub with a new data folder on a free port; its log is `data_dir.log`. config: the text of autoglm.toml.

    is_fresh: False to go on with the folder of an earlier run. A port of the settings is kept.
    source: the folder of another version's package; without it the installed one runs.
    Raises RuntimeError with the log when it does not start.
    """
    if is_fresh:
        shutil.rmtree(data_dir, ignore_errors=True)
    data_dir.mkdir(parents=True, exist_ok=True)
    config_file = data_dir / "autoglm.toml"
    config_file.write_text(config)
    log_file = data_dir.with_suffix(".log")
    if is_fresh:
        log_file.unlink(missing_ok=True)
    command = [sys.executable, "-m", "autoglm", "up", "--json", "--data", str(data_dir)]
    command += [] if "\nport = " in config else ["--port", "0"]
    command += ["--config", str(config_file)]
    # Settings of whoever runs the benchmark must not change what is measured.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("AUTOGLM_")}  # noqa: TID251
    if source is not None:
        environ["PYTHONPATH"] = str(source)
    started_s = now_s()
    with running(command, log_file, core=core, environ=environ, stdout=-1) as process:
        assert process.stdout is not None
        line = _line(process.stdout)
        start_s = now_s() - started_s
        if not line:
            raise RuntimeError(f"the hub did not start:\n{log_file.read_text()}")
        ready = json.loads(line)
        yield RunningHub(ready["url"], process.pid, Path(ready["key_file"]).read_text().strip(), start_s)


def _line(stream: IO[str]) -> str:
    """One line; an empty string when none came in time."""
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.append(stream.readline()), daemon=True)
    reader.start()
    reader.join(START_TIMEOUT_S)
    return lines[0] if lines else ""
