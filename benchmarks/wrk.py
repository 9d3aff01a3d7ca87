"""wrk drives HTTP from one core without being the bottleneck. https://github.com/wg/wrk"""

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


class Load(NamedTuple):
    """What wrk tells of one run."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    refused: int
    """Answers that were neither 2xx nor 3xx."""
    broken: int
    """Connections that failed, broke off or timed out."""

    @property
    def per_s(self) -> float:
        return (self.requests - self.refused) / self.seconds


def start(
    url: str, script: Path, arguments: Sequence[str], *, connections: int, seconds: int, core: int | None = None
) -> "subprocess.Popen[str]":
    """One thread of wrk, which knows whole seconds only. arguments: what the Lua script's `init` gets."""
    pinned = [] if core is None else ["taskset", "-c", str(core)]
    options = ["-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "--latency"]
    command = [*pinned, "wrk", *options, "-s", str(script), url, "--", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def finish(process: "subprocess.Popen[str]") -> Load:
    """Wait for its end. Raises RuntimeError when it failed."""
    printed, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"wrk ended with status {process.returncode}: {printed[-500:]}")
    return parse(printed)


def parse(printed: str) -> Load:
    """Raises ValueError when it is not what wrk prints."""
    total = re.search(r"(\d+) requests in ([\d.]+)(us|ms|s|m)\b", printed)
    if total is None:
        raise ValueError(f"wrk printed no total: {printed[-500:]!r}")
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", printed)
    broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", printed)
    return Load(
        requests=int(total[1]),
        seconds=float(total[2]) * _MS[total[3]] / 1000,
        p50_ms=_percentile_ms(printed, 50),
        p99_ms=_percentile_ms(printed, 99),
        refused=int(refused[1]) if refused else 0,
        broken=sum(map(int, broken.groups())) if broken else 0,
    )


def _percentile_ms(printed: str, share: int) -> float:
    found = re.search(rf"^\s+{share}%\s+([\d.]+)(us|ms|s|m)\s*$", printed, re.MULTILINE)
    if found is None:
        raise ValueError(f"wrk printed no {share}% percentile; it needs --latency")
    return round(float(found[1]) * _MS[found[2]], 3)
