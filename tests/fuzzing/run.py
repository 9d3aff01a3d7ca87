"""`make fuzz`: each target for its share of the time, in a process of its own; what fails is kept and named.

    python -m fuzzing.run --seconds 600             all targets
    python -m fuzzing.run --seconds 60 http mail    these
    python -m fuzzing.run --reproduce http FILE     one input, with the traceback

With atheris (requirements/fuzz.txt) inputs are found by coverage and kept below .fuzz/TARGET for the next run; without
it they are changed blindly, and the run says so. Exit status 1 when something was found.
"""

import argparse
import importlib.util
import subprocess
import sys
import time
from pathlib import Path

from fuzzing.mutation import MAX_BYTES, mutants
from fuzzing.table import targets
from fuzzing.target import Target, try_on

KEPT = Path(".fuzz")
INPUT_S = 10
"""An input that takes longer is a finding."""
MEMORY_MB = 2048
_START_S = 60
"""For loading and instrumenting, beside a target's share."""
_BATCH = 500


def main() -> int:
    parser = argparse.ArgumentParser(prog="fuzzing.run")
    parser.add_argument("names", nargs="*", metavar="TARGET")
    parser.add_argument("--seconds", type=float, default=600.0, help="for all targets together")
    parser.add_argument("--reproduce", nargs=2, metavar=("TARGET", "FILE"))
    asked = parser.parse_args()
    known = targets()
    if unknown := [name for name in asked.names if name not in known]:
        parser.error(f"no such target: {', '.join(unknown)}; there are {', '.join(known)}")
    if asked.reproduce:
        name, file = asked.reproduce
        print("taken" if try_on(known[name], Path(file).read_bytes()) else "refused")
        return 0
    names = asked.names or list(known)
    share_s = max(1.0, asked.seconds / len(names))
    has_atheris = importlib.util.find_spec("atheris") is not None
    how = "by coverage (atheris)" if has_atheris else "blindly: atheris is not installed (requirements/fuzz.txt)"
    print(f"{len(names)} targets, {share_s:.0f} s each, {how}", flush=True)
    fuzz = by_coverage if has_atheris else blindly
    failed = [name for name in names if not fuzz(known[name], share_s)]
    print(f"found something in: {', '.join(failed)}" if failed else "found nothing")
    return 1 if failed else 0


def by_coverage(target: Target, seconds: float) -> bool:
    """False when something was found."""
    corpus, found = KEPT / target.name, KEPT / "found" / target.name
    for folder in (corpus, found):
        folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    words = KEPT / f"{target.name}.words"
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in target.words if len(word) <= 128))
    before = set(found.iterdir())
    command = [
        sys.executable, "-m", "fuzzing.by_coverage", target.name, str(corpus), f"-artifact_prefix={found}/",
        f"-max_total_time={round(seconds)}", f"-timeout={INPUT_S}", f"-rss_limit_mb={MEMORY_MB}",
        f"-max_len={MAX_BYTES // 16}", *([f"-dict={words}"] if target.words else []), "-print_final_stats=1",
    ]  # fmt: skip
    try:
        done = subprocess.run(
            command, check=False, text=True, errors="replace", timeout=seconds + _START_S,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        print(f"{target.name}: did not end in time", flush=True)
        return False
    runs = [line.split()[-1] for line in done.stdout.splitlines() if line.startswith("stat::number_of_executed_units")]
    print(f"{target.name}: {runs[-1] if runs else 'no'} inputs", flush=True)
    if done.returncode == 0 and runs:
        return True
    print("\n".join(done.stdout.splitlines()[-40:]))
    for path in sorted(set(found.iterdir()) - before):
        _tell(target, path)
    return False


def blindly(target: Target, seconds: float) -> bool:
    """False when something was found."""
    end_s, count = time.monotonic() + seconds, 0
    while time.monotonic() < end_s:
        for data in mutants(target, _BATCH, seed=time.time_ns()):
            count += 1
            try:
                try_on(target, data)
            except Exception:  # noqa: BLE001  # whatever it is, it is the finding
                path = KEPT / "found" / target.name / f"blind-{time.time_ns()}"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
                _tell(target, path)
                return False
    print(f"{target.name}: {count} inputs", flush=True)
    return True


def _tell(target: Target, path: Path) -> None:
    print(f"FOUND in {target.name}: PYTHONPATH=tests .venv/bin/python -m fuzzing.run --reproduce {target.name} {path}")


def _escaped(word: bytes) -> str:
    """As libFuzzer's dictionaries have it."""
    return "".join(chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\x{byte:02x}" for byte in word)


if __name__ == "__main__":
    sys.exit(main())
