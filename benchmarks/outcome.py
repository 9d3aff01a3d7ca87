"""What a benchmark says in the end: its figures, which targets they meet, and the exit status that follows."""

import argparse
import os
import platform
import signal
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

RESULTS = Path(__file__).parent / "results"
SCRATCH = Path(__file__).parents[1] / "build" / "benchmarks"
"""On the disk of the repository: what /tmp lies on may be memory, where a sync costs nothing."""

Verdict = Literal["met", "missed", "not checked"]


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """One claim. `measured` or `bound` is None when what it takes to measure them is not here."""

    claim: str
    measured: float | None
    bound: float | None
    unit: str
    relation: Literal["at most", "at least"] = "at most"
    verdict: Verdict = "not checked"

    def judged(self) -> "Target":
        if self.measured is None or self.bound is None:
            return msgspec.structs.replace(self, verdict="not checked")
        is_met = self.measured <= self.bound if self.relation == "at most" else self.measured >= self.bound
        return msgspec.structs.replace(self, verdict="met" if is_met else "missed")

    def __str__(self) -> str:
        measured = f"{_text(self.measured)} {self.unit}".rstrip()
        return f"{self.claim}: {measured}, wanted {self.relation} {_text(self.bound)}"


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Where the figures come from; without it they mean little."""

    processor: str
    cores: int
    memory_gb: int
    kernel: str
    python: str
    load: float
    """Of the last minute, when the run began: above 0.5 others were at work, too."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The JSON object on the last line of a benchmark, and in `results/NAME.json`."""

    benchmark: str
    at: str
    """The day and minute, UTC."""
    is_quick: bool
    machine: Machine
    figures: dict[str, Any]
    absent: tuple[str, ...] = ()
    """What would have been measured, too, were it here."""
    targets: tuple[Target, ...] = ()


class Options(NamedTuple):
    is_quick: bool
    is_checked: bool
    allows_absent: bool
    is_saved: bool
    models: Path


def options(about: str, arguments: Sequence[str] | None = None, *, needs_models: bool = False) -> Options:
    """The options of the command line. SIGTERM from now on ends the script in order, its children with it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="shorter: to see whether it works, not for the record")
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed or could not be checked")
    parser.add_argument("--allow-absent", action="store_true", help="with --check: pass what could not be checked")
    parser.add_argument("--save", action="store_true", help="keep the result for benchmarks/report.py")
    models = Path(__file__).parents[1] / "data" / "models"
    if needs_models:
        parser.add_argument("--models", type=Path, default=models, help="folder of model files (%(default)s)")
    read = parser.parse_args(arguments)
    return Options(read.quick, read.check, read.allow_absent, read.save, getattr(read, "models", models).resolve())


def conclude(
    benchmark: str, chosen: Options, machine: Machine, figures: dict[str, Any], targets: Sequence[Target],
    absent: Sequence[str] = (),
) -> int:  # fmt: skip
    """Print the outcome: verdicts to stderr, the JSON object as the last line of stdout. Returns the exit status."""
    outcome = Outcome(
        benchmark=benchmark,
        at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M"),
        is_quick=chosen.is_quick,
        machine=machine,
        figures=figures,
        absent=tuple(absent),
        targets=tuple(target.judged() for target in targets),
    )
    for target in outcome.targets:
        say(f"{target.verdict}: {target}")
    for name in outcome.absent:
        say(f"absent: {name}")
    if chosen.is_saved:
        RESULTS.mkdir(exist_ok=True)
        encoded = msgspec.json.format(msgspec.json.encode(outcome), indent=2)
        (RESULTS / f"{benchmark}.json").write_bytes(encoded + b"\n")
    print(msgspec.json.encode(outcome).decode(), flush=True)
    return status(outcome.targets, chosen)


def status(targets: Sequence[Target], chosen: Options) -> int:
    verdicts = {target.verdict for target in targets}
    fails = "missed" in verdicts or ("not checked" in verdicts and not chosen.allows_absent)
    return 1 if chosen.is_checked and fails else 0


def this_machine() -> Machine:
    """Call it before the work begins: it notes the load of the others."""
    processor = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.machine(),
    )
    return Machine(
        processor=processor,
        cores=os.cpu_count() or 1,
        memory_gb=round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30),
        kernel=platform.release().partition("-")[0],
        python=platform.python_version(),
        load=round(os.getloadavg()[0], 2),
    )


def say(line: str) -> None:
    """Progress, for people; stdout is for the result."""
    print(line, file=sys.stderr, flush=True)


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def _text(value: float | None) -> str:
    return "?" if value is None else f"{value:.4g}"
